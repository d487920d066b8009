//! Whether a cloud runtime can be counted on, and when to try it: the
//! inquisitor's decisions (the paper's sections 3.1 and 3.7) without its pods.
//!
//! The inquisitor deploys each runtime every minute, runs nothing in it, takes
//! it down and records how long it took. A deployment that passes the time-out
//! marks the runtime unavailable; a later success brings it back. A measurement
//! from real work counts as a probe, so a busy runtime is not probed. A daily
//! budget bounds what probing costs.
//!
//! Events go in with the time, actions come out; [`Watch::on`] is the only way
//! to change. Time is any number of seconds that does not go back; a day is
//! 86,400 of them from zero.
//!
//! # Transitions
//!
//! "budget" stands for: a probe and a second of probing are left today.
//!
//! | state | event | next state | action |
//! |---|---|---|---|
//! | untried | tick, due, budget | probing | start a probe |
//! | untried | tick otherwise | untried | |
//! | untried | deployed (real work) | available | |
//! | untried | timed out (real work) | unavailable | |
//! | untried | failed (real work) | untried | |
//! | available | tick, due, budget | probing | start a probe |
//! | available | tick otherwise | available | |
//! | available | deployed | available | |
//! | available | timed out | unavailable | |
//! | available | failed | available | |
//! | probing | tick past the time-out | unavailable | stop the probe |
//! | probing | tick past today's seconds | as before the probe | stop the probe |
//! | probing | tick otherwise | probing | |
//! | probing | probe up | available | take the pod down, record |
//! | probing | probe failed | as before the probe | |
//! | probing | deployed | probing, but available before | |
//! | probing | timed out | probing, but unavailable before | |
//! | probing | failed | probing | |
//! | unavailable | tick, due, budget | probing | start a probe |
//! | unavailable | tick otherwise | unavailable | |
//! | unavailable | deployed | available | |
//! | unavailable | timed out | unavailable, since before | |
//! | unavailable | failed | unavailable | |
//! | untried, available, unavailable | probe up, probe failed | unchanged (a late word of a stopped probe) | take the pod down, if up |
//!
//! While a runtime is probed it stays as available as it was before.

use serde::{Deserialize, Serialize};

use crate::estimate::sane_seconds;

/// Seconds in a day.
const DAY_S: f64 = 86_400.0;

/// How a runtime is probed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeConfig {
    /// Seconds from one measurement, probed or real, to the next probe.
    pub every_s: f64,
    /// Seconds after which a deployment makes its runtime unavailable.
    pub timeout_s: f64,
    /// Probes a day at most.
    pub probes_per_day: u32,
    /// Seconds of probing a day at most, from order to end.
    pub seconds_per_day: f64,
}

impl Default for ProbeConfig {
    /// The paper's minute and ten minutes, with room for a probe in each minute
    /// and for a third of the day under way.
    fn default() -> Self {
        Self {
            every_s: 60.0,
            timeout_s: 600.0,
            probes_per_day: 1440,
            seconds_per_day: 28_800.0,
        }
    }
}

/// What is known of a runtime apart from a probe under way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "standing")]
pub enum Standing {
    /// Neither a deployment nor a time-out was seen.
    Untried,
    /// Its last deployment succeeded.
    Available,
    /// A deployment timed out, and none has succeeded since.
    Unavailable {
        /// Since when, on the clock of the events.
        since: f64,
    },
}

/// The state of a watched runtime.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// No probe is under way.
    Resting {
        /// What is known of it.
        known: Standing,
    },
    /// A probe is under way.
    Probing {
        /// When it was ordered.
        since: f64,
        /// What was known before, and holds meanwhile.
        before: Standing,
    },
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// Time passed; see [`Watch::next_tick`].
    Tick,
    /// The probe's pod is up. Its deployment took so many seconds.
    ProbeUp {
        /// Seconds.
        seconds: f64,
    },
    /// The probe's deployment failed before the time-out. One failure is no
    /// verdict: real work retries.
    ProbeFailed,
    /// Real work deployed a pod on the runtime.
    Deployed,
    /// Real work waited for a pod until the time-out, or gave up after all its
    /// retries.
    TimedOut,
    /// Real work saw a deployment fail, and retries.
    Failed,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Action {
    /// Nothing.
    None,
    /// Deploy a pod, run nothing in it, and tell when it is up.
    StartProbe,
    /// End the probe under way, and take down what there is of it.
    StopProbe {
        /// Whether it passed the time-out, which made the runtime unavailable;
        /// otherwise today's budget was spent and nothing was learned.
        timed_out: bool,
    },
    /// Take the probe's pod down.
    TakeDown {
        /// Deployment seconds to record; `None` when the probe had been stopped.
        record_s: Option<f64>,
    },
}

/// A runtime under watch: its state, the clock of its probes, and the budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Watch {
    #[serde(skip)]
    config: ProbeConfig,
    #[serde(flatten)]
    state: State,
    /// When it was last measured, or a probe of it last ended.
    measured_at: Option<f64>,
    day: u64,
    probes_today: u32,
    probed_today_s: f64,
}

impl Watch {
    /// A runtime of which nothing is known; its first probe is due at once.
    #[must_use]
    pub fn new(config: ProbeConfig) -> Self {
        let sane = |value: f64, otherwise: f64| sane_seconds(value).unwrap_or(otherwise);
        let default = ProbeConfig::default();
        Self {
            config: ProbeConfig {
                every_s: sane(config.every_s, default.every_s),
                timeout_s: sane(config.timeout_s, default.timeout_s),
                probes_per_day: config.probes_per_day,
                seconds_per_day: sane(config.seconds_per_day, 0.0),
            },
            state: State::Resting {
                known: Standing::Untried,
            },
            measured_at: None,
            day: 0,
            probes_today: 0,
            probed_today_s: 0.0,
        }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// What is known of the runtime, a probe under way or not.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.state {
            State::Resting { known } => known,
            State::Probing { before, .. } => before,
        }
    }

    /// Whether work may be placed on the runtime. An untried one may be: nothing
    /// speaks against it.
    #[must_use]
    pub fn available(&self) -> bool {
        match self.standing() {
            Standing::Untried | Standing::Available => true,
            Standing::Unavailable { .. } => false,
        }
    }

    /// Probes begun and seconds of ended probes on the day of the last event.
    #[must_use]
    pub fn spent_today(&self) -> (u32, f64) {
        (self.probes_today, self.probed_today_s)
    }

    /// When the next [`Event::Tick`] can change something, on the clock of the
    /// events; earlier ones do nothing. `None` when no probe is allowed ever.
    #[must_use]
    pub fn next_tick(&self, now: f64) -> Option<f64> {
        match self.state {
            State::Probing { since, .. } => Some(since + self.probe_limit().0),
            State::Resting { .. } => {
                if self.config.probes_per_day == 0 || self.config.seconds_per_day <= 0.0 {
                    return None;
                }
                let due = self.due_at().max(now);
                let spent = due < (self.day + 1) as f64 * DAY_S && !self.budget_left();
                Some(if spent {
                    (self.day + 1) as f64 * DAY_S
                } else {
                    due
                })
            }
        }
    }

    /// Takes in an event and says what is to be done.
    pub fn on(&mut self, event: Event, now: f64) -> Action {
        let now = sane_seconds(now).unwrap_or(0.0);
        self.turn_day(now);
        match (self.state, event) {
            (State::Resting { known }, Event::Tick) => {
                if now < self.due_at() || !self.budget_left() {
                    return Action::None;
                }
                self.probes_today += 1;
                self.state = State::Probing {
                    since: now,
                    before: known,
                };
                Action::StartProbe
            }
            (State::Resting { .. }, Event::Deployed) => {
                self.measured(now);
                self.rest(Standing::Available)
            }
            (State::Resting { known }, Event::TimedOut) => {
                self.measured(now);
                self.rest(fallen(known, now))
            }
            (State::Resting { .. }, Event::Failed | Event::ProbeFailed) => Action::None,
            (State::Resting { .. }, Event::ProbeUp { .. }) => Action::TakeDown { record_s: None },
            (State::Probing { since, before }, Event::Tick) => {
                let (limit, is_timeout) = self.probe_limit();
                // The same sum as in `next_tick`, so that its tick is not early.
                if now < since + limit {
                    return Action::None;
                }
                self.probe_over(since, now);
                self.rest(if is_timeout {
                    fallen(before, now)
                } else {
                    before
                });
                Action::StopProbe {
                    timed_out: is_timeout,
                }
            }
            (State::Probing { since, .. }, Event::ProbeUp { seconds }) => {
                self.probe_over(since, now);
                self.rest(Standing::Available);
                Action::TakeDown {
                    record_s: sane_seconds(seconds),
                }
            }
            (State::Probing { since, before }, Event::ProbeFailed) => {
                self.probe_over(since, now);
                self.rest(before)
            }
            (State::Probing { since, .. }, Event::Deployed) => {
                self.state = State::Probing {
                    since,
                    before: Standing::Available,
                };
                Action::None
            }
            (State::Probing { since, before }, Event::TimedOut) => {
                self.state = State::Probing {
                    since,
                    before: fallen(before, now),
                };
                Action::None
            }
            (State::Probing { .. }, Event::Failed) => Action::None,
        }
    }

    fn rest(&mut self, known: Standing) -> Action {
        self.state = State::Resting { known };
        Action::None
    }

    fn measured(&mut self, now: f64) {
        self.measured_at = Some(self.measured_at.map_or(now, |before| before.max(now)));
    }

    /// A probe ended: it is paid for, by the day it ends on, and the next one is
    /// due a period later.
    fn probe_over(&mut self, since: f64, now: f64) {
        let began = since.max(self.day as f64 * DAY_S);
        self.probed_today_s += (now - began).max(0.0);
        self.measured(now);
    }

    fn due_at(&self) -> f64 {
        self.measured_at.map_or(0.0, |at| at + self.config.every_s)
    }

    fn budget_left(&self) -> bool {
        self.probes_today < self.config.probes_per_day
            && self.probed_today_s < self.config.seconds_per_day
    }

    /// How long the probe under way may take, and whether that is the time-out
    /// rather than the budget.
    fn probe_limit(&self) -> (f64, bool) {
        let left = (self.config.seconds_per_day - self.probed_today_s).max(0.0);
        if self.config.timeout_s <= left {
            (self.config.timeout_s, true)
        } else {
            (left, false)
        }
    }

    fn turn_day(&mut self, now: f64) {
        let day = (now / DAY_S) as u64;
        if day > self.day {
            self.day = day;
            self.probes_today = 0;
            self.probed_today_s = 0.0;
        }
    }
}

/// Unavailable from now on, or since it has been.
fn fallen(known: Standing, now: f64) -> Standing {
    match known {
        Standing::Untried | Standing::Available => Standing::Unavailable { since: now },
        Standing::Unavailable { since } => Standing::Unavailable { since },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resting(known: Standing) -> State {
        State::Resting { known }
    }

    const STOPPED: Action = Action::StopProbe { timed_out: true };

    #[test]
    fn a_day_in_minutes_probe_time_out_and_return() {
        let mut watch = Watch::new(ProbeConfig::default());
        assert!(watch.available());
        assert_eq!(watch.next_tick(5.0), Some(5.0));
        assert_eq!(watch.on(Event::Tick, 5.0), Action::StartProbe);
        assert_eq!(watch.on(Event::Tick, 6.0), Action::None);
        let up = Event::ProbeUp { seconds: 24.4 };
        assert_eq!(
            watch.on(up, 29.4),
            Action::TakeDown {
                record_s: Some(24.4)
            }
        );
        assert_eq!(watch.state(), resting(Standing::Available));
        // A minute after it ended, not before.
        assert_eq!(watch.next_tick(30.0), Some(89.4));
        assert_eq!(watch.on(Event::Tick, 89.0), Action::None);
        assert_eq!(watch.on(Event::Tick, 89.4), Action::StartProbe);
        // It hangs; it is available until the time-out and not after.
        assert_eq!(watch.next_tick(90.0), Some(689.4));
        assert_eq!(watch.on(Event::Tick, 689.3), Action::None);
        assert!(watch.available());
        assert_eq!(watch.on(Event::Tick, 689.4), STOPPED);
        assert_eq!(watch.standing(), Standing::Unavailable { since: 689.4 });
        assert!(!watch.available());
        // It is tried again, stays unavailable meanwhile, and hangs again.
        assert_eq!(watch.on(Event::Tick, 749.4), Action::StartProbe);
        assert!(!watch.available());
        assert_eq!(watch.on(Event::Tick, 1349.4), STOPPED);
        assert_eq!(watch.standing(), Standing::Unavailable { since: 689.4 });
        // A late word of the stopped probe changes nothing but its pod goes.
        assert_eq!(watch.on(up, 1350.0), Action::TakeDown { record_s: None });
        assert!(!watch.available());
        assert_eq!(watch.on(Event::Tick, 1409.4), Action::StartProbe);
        watch.on(up, 1440.0);
        assert!(watch.available());
    }

    #[test]
    fn real_work_is_as_good_as_a_probe() {
        let mut watch = Watch::new(ProbeConfig::default());
        assert_eq!(watch.on(Event::Deployed, 10.0), Action::None);
        assert_eq!(watch.on(Event::Tick, 60.0), Action::None);
        watch.on(Event::Deployed, 65.0);
        assert_eq!(watch.on(Event::Tick, 120.0), Action::None);
        assert_eq!(watch.next_tick(120.0), Some(125.0));
        watch.on(Event::TimedOut, 700.0);
        assert!(!watch.available());
        watch.on(Event::Failed, 701.0);
        assert!(!watch.available());
        watch.on(Event::Deployed, 702.0);
        assert!(watch.available());
    }

    #[test]
    fn every_state_meets_every_event() {
        let at = 1000.0;
        let unavailable = Standing::Unavailable { since: 1.0 };
        let events = [
            Event::Tick,
            Event::ProbeUp { seconds: 9.0 },
            Event::ProbeFailed,
            Event::Deployed,
            Event::TimedOut,
            Event::Failed,
        ];
        let fallen = |known| match known {
            Standing::Unavailable { since } => Standing::Unavailable { since },
            Standing::Untried | Standing::Available => Standing::Unavailable { since: at },
        };
        for known in [Standing::Untried, Standing::Available, unavailable] {
            for event in events {
                let mut watch = Watch::new(ProbeConfig::default());
                watch.state = resting(known);
                let action = watch.on(event, at);
                let probing = State::Probing {
                    since: at,
                    before: known,
                };
                let expected = match event {
                    Event::Tick => (probing, Action::StartProbe),
                    Event::ProbeUp { .. } => (resting(known), Action::TakeDown { record_s: None }),
                    Event::ProbeFailed | Event::Failed => (resting(known), Action::None),
                    Event::Deployed => (resting(Standing::Available), Action::None),
                    Event::TimedOut => (resting(fallen(known)), Action::None),
                };
                assert_eq!((watch.state, action), expected, "{known:?} {event:?}");

                let mut watch = Watch::new(ProbeConfig::default());
                watch.state = State::Probing {
                    since: 300.0,
                    before: known,
                };
                let action = watch.on(event, at);
                let probing = |before| State::Probing {
                    since: 300.0,
                    before,
                };
                let expected = match event {
                    Event::Tick => (resting(fallen(known)), STOPPED),
                    Event::ProbeUp { seconds } => (
                        resting(Standing::Available),
                        Action::TakeDown {
                            record_s: Some(seconds),
                        },
                    ),
                    Event::ProbeFailed => (resting(known), Action::None),
                    Event::Deployed => (probing(Standing::Available), Action::None),
                    Event::TimedOut => (probing(fallen(known)), Action::None),
                    Event::Failed => (probing(known), Action::None),
                };
                assert_eq!(
                    (watch.state, action),
                    expected,
                    "probing, {known:?} {event:?}"
                );
            }
        }
    }

    #[test]
    fn the_budget_of_probes_is_a_day_s() {
        let config = ProbeConfig {
            probes_per_day: 3,
            ..ProbeConfig::default()
        };
        let mut watch = Watch::new(config);
        let mut began = 0;
        for minute in 0..(2 * 1440) {
            let now = 60.0 * f64::from(minute);
            if watch.on(Event::Tick, now) == Action::StartProbe {
                began += 1;
                watch.on(Event::ProbeUp { seconds: 10.0 }, now + 10.0);
            }
            if minute == 1439 {
                assert_eq!(began, 3);
                assert_eq!(watch.next_tick(now), Some(DAY_S));
            }
        }
        assert_eq!(began, 6);
    }

    #[test]
    fn a_probe_that_the_budget_cuts_short_is_no_verdict() {
        let config = ProbeConfig {
            seconds_per_day: 100.0,
            ..ProbeConfig::default()
        };
        let mut watch = Watch::new(config);
        watch.on(Event::Tick, 0.0);
        watch.on(Event::ProbeUp { seconds: 70.0 }, 70.0);
        assert_eq!(watch.on(Event::Tick, 130.0), Action::StartProbe);
        assert_eq!(watch.next_tick(131.0), Some(160.0));
        assert_eq!(
            watch.on(Event::Tick, 160.0),
            Action::StopProbe { timed_out: false }
        );
        assert!(watch.available());
        assert_eq!(watch.spent_today(), (2, 100.0));
        assert_eq!(watch.on(Event::Tick, 500.0), Action::None);
        assert_eq!(watch.next_tick(500.0), Some(DAY_S));
        assert_eq!(watch.on(Event::Tick, DAY_S), Action::StartProbe);
    }

    #[test]
    fn without_a_budget_nothing_is_probed() {
        let none = ProbeConfig {
            probes_per_day: 0,
            ..ProbeConfig::default()
        };
        let mut watch = Watch::new(none);
        assert_eq!(watch.next_tick(0.0), None);
        assert_eq!(watch.on(Event::Tick, 1e6), Action::None);
        let absurd = ProbeConfig {
            every_s: f64::NAN,
            timeout_s: -1.0,
            seconds_per_day: f64::NAN,
            ..none
        };
        assert_eq!(Watch::new(absurd).on(Event::Tick, f64::NAN), Action::None);
    }
}
