//! What a pool knows of its runtime's deployments: the inquisitor's watch over its availability
//! (`stoic_placement::availability`), where it has one, and what was measured last.

use super::probe::Probed;
use crate::history::DeploymentRecord;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use stoic_placement::availability::{Action, Event, ProbeConfig, Standing as Known, Watch};

/// The deployment that was measured last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LastDeployment {
    /// When it was ready, seconds since the Unix epoch.
    pub at: f64,
    /// Seconds it took.
    pub seconds: f64,
    /// Whether it was a probe.
    pub probe: bool,
}

/// The probe that ended last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastProbe {
    /// When it ended, seconds since the Unix epoch.
    pub at: f64,
    /// How: `ready`, `failed`, `timed_out`, `out_of_budget`, `handed_over`, `gave_way`.
    pub outcome: String,
    /// Seconds it took, where it came up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is known of a function's deployments on a runtime, as users see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether work may be placed there.
    pub available: bool,
    /// Whether the inquisitor watches it.
    pub watched: bool,
    /// Whether a probe is on its way.
    pub probing: bool,
    /// Why no probe is begun though one may be due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
    /// Since when it is unavailable, seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable_since: Option<f64>,
    /// Why it is unavailable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The deployment that was measured last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_deployment: Option<LastDeployment>,
    /// The probe that ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe: Option<LastProbe>,
    /// Probes begun today (UTC).
    pub probes_today: u32,
    /// Seconds that they took.
    pub probed_today_s: f64,
    /// When the next probe is due, seconds since the Unix epoch, if one may be made at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_probe: Option<f64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Watched {
    watch: Option<Watch>,
    config: ProbeConfig,
    /// No probe is begun before: what was just deployed is about to be measured by its first tasks.
    not_before: f64,
    last_deployment: Option<LastDeployment>,
    last_probe: Option<LastProbe>,
    trouble: Option<String>,
    start_s: Option<f64>,
}

/// Weight of the newest start among those before.
const NEWEST: f64 = 0.3;

impl Watched {
    pub(super) fn new(config: Option<ProbeConfig>, now: f64) -> Self {
        Self {
            watch: config.map(Watch::new),
            not_before: now + config.unwrap_or_default().every_s,
            config: config.unwrap_or_default(),
            last_deployment: None,
            last_probe: None,
            trouble: None,
            start_s: None,
        }
    }

    fn on(&mut self, event: Event, now: f64) -> Action {
        self.watch
            .as_mut()
            .map_or(Action::None, |watch| watch.on(event, now))
    }

    /// Lets time pass. Without `may_begin`, no probe is begun.
    pub(super) fn tick(&mut self, may_begin: bool, now: f64) -> Action {
        if !self.probing() && (!may_begin || now < self.not_before) {
            return Action::None;
        }
        let action = self.on(Event::Tick, now);
        match action {
            Action::StopProbe { timed_out: true } => {
                let limit = Duration::from_secs_f64(self.config.timeout_s);
                let reason = format!(
                    "a probe was not ready within {}",
                    humantime::format_duration(limit)
                );
                self.note_probe(&Probed::TimedOut, Some(reason.clone()), now);
                self.trouble = Some(reason);
            }
            Action::StopProbe { timed_out: false } => {
                self.note_probe(&Probed::OutOfBudget, None, now);
            }
            Action::None | Action::StartProbe | Action::TakeDown { .. } => {}
        }
        action
    }

    /// A probe ended by itself, or was ended by work.
    pub(super) fn probed(&mut self, event: Event, how: &Probed, now: f64) {
        if !self.probing() {
            return;
        }
        self.on(event, now);
        let reason = match how {
            Probed::Ready { seconds } => {
                self.note_deployment(*seconds, true, now);
                None
            }
            Probed::Failed { reason } => Some(reason.clone()),
            _ => None,
        };
        self.note_probe(how, reason, now);
    }

    /// Real work deployed a pod.
    pub(super) fn deployed(&mut self, seconds: f64, now: f64) {
        let before = self.start_s.unwrap_or(seconds);
        self.start_s = Some(before + NEWEST * (seconds - before));
        self.on(Event::Deployed, now);
        self.note_deployment(seconds, false, now);
    }

    /// Seconds that starts for real work took lately; none before the first.
    pub(super) fn start_s(&self) -> Option<f64> {
        self.start_s
    }

    /// Real work saw a start fail.
    pub(super) fn failed(&mut self, now: f64) {
        self.on(Event::Failed, now);
    }

    /// Real work gave up, or waited until the time-out.
    pub(super) fn timed_out(&mut self, reason: &str, now: f64) {
        self.on(Event::TimedOut, now);
        self.trouble = Some(reason.to_owned());
    }

    /// Takes in a record of an earlier life. Its probes count against the day's budget as they did.
    pub(super) fn recall(&mut self, d: &DeploymentRecord) {
        match (d.probe, d.ok) {
            (false, true) => self.deployed(d.seconds, d.at),
            (false, false) => self.failed(d.at),
            (true, ok) => {
                let begun = self.on(Event::Tick, d.at - d.seconds);
                if begun != Action::StartProbe {
                    return;
                }
                let seconds = d.seconds;
                if ok {
                    let how = Probed::Ready { seconds };
                    self.probed(Event::ProbeUp { seconds }, &how, d.at);
                } else if self.on(Event::Tick, d.at) == Action::None {
                    let reason = d.failure.clone().unwrap_or_default();
                    self.probed(Event::ProbeFailed, &Probed::Failed { reason }, d.at);
                } else {
                    self.trouble.clone_from(&d.failure);
                    self.note_probe(&Probed::TimedOut, d.failure.clone(), d.at);
                }
            }
        }
    }

    fn note_deployment(&mut self, seconds: f64, probe: bool, at: f64) {
        self.trouble = None;
        self.last_deployment = Some(LastDeployment { at, seconds, probe });
    }

    fn note_probe(&mut self, how: &Probed, reason: Option<String>, at: f64) {
        self.last_probe = Some(LastProbe {
            at,
            outcome: how.word().to_owned(),
            seconds: match how {
                Probed::Ready { seconds } => Some(*seconds),
                _ => None,
            },
            reason,
        });
    }

    fn probing(&self) -> bool {
        let state = self.watch.as_ref().map(Watch::state);
        matches!(
            state,
            Some(stoic_placement::availability::State::Probing { .. })
        )
    }

    /// The time-out of deployments.
    pub(super) fn timeout(&self) -> Duration {
        Duration::try_from_secs_f64(self.config.timeout_s).unwrap_or(Duration::MAX)
    }

    /// Whether nothing speaks against the runtime, and somebody watches it.
    pub(super) fn is_up(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::available)
    }

    /// Whether work may be placed here. A runtime that was found unavailable and that will not be
    /// probed soon, because the day's budget is spent, may be tried by work instead.
    pub(super) fn available(&self, now: f64) -> bool {
        let Some(watch) = &self.watch else {
            return true;
        };
        watch.available()
            || match (watch.standing(), watch.next_tick(now)) {
                (Known::Unavailable { since }, next) => {
                    let patience = self.config.timeout_s.max(self.config.every_s);
                    now - since > patience && next.is_none_or(|next| next - now > patience)
                }
                _ => true,
            }
    }

    pub(super) fn standing(&self, any_ready: bool, now: f64) -> Standing {
        let since = match self.watch.as_ref().map(Watch::standing) {
            Some(Known::Unavailable { since }) => Some(since),
            _ => None,
        };
        let (probes_today, probed_today_s) =
            self.watch.as_ref().map_or((0, 0.0), Watch::spent_today);
        let next = self.watch.as_ref().and_then(|watch| watch.next_tick(now));
        Standing {
            available: any_ready || self.available(now),
            watched: self.watch.is_some(),
            probing: self.probing(),
            withheld: None,
            unavailable_since: since,
            reason: self.trouble.clone(),
            last_deployment: self.last_deployment,
            last_probe: self.last_probe.clone(),
            probes_today,
            probed_today_s,
            next_probe: next
                .filter(|_| !self.probing())
                .map(|at| at.max(self.not_before)),
        }
    }
}
