//! The inquisitor's probe: a pod that is deployed to learn how long that takes, and taken down at once
//! (paper, section 3.4.2).
//!
//! It counts neither as standby nor against the pool's limit, and it never serves. It steals nothing
//! either: an invocation that would have a pod started gets the probe's instead, which from then on is
//! real work.

use super::pod::{Pod, PodState};
use super::pool::Pool;
use super::state::State;
use std::sync::Arc;
use stoic_placement::availability::Event;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How a probe ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Probed {
    /// The pod was ready after so many seconds, and was taken down.
    Ready {
        /// Seconds from the order until it could have worked, its model loaded.
        seconds: f64,
    },
    /// It could not be started.
    Failed {
        /// Why.
        reason: String,
    },
    /// It was not ready within the time-out, and was taken down: the runtime is unavailable.
    TimedOut,
    /// The day's budget ended before it was ready.
    OutOfBudget,
    /// An invocation needed a pod and got this one.
    HandedOver,
    /// It gave way to work before its time was known.
    GaveWay,
    /// The function was removed, or the gateway stops.
    Closed,
}

impl Probed {
    /// A stable word, for metrics and views.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::Failed { .. } => "failed",
            Self::TimedOut => "timed_out",
            Self::OutOfBudget => "out_of_budget",
            Self::HandedOver => "handed_over",
            Self::GaveWay => "gave_way",
            Self::Closed => "closed",
        }
    }
}

/// What a pod that is a probe carries.
#[derive(Debug)]
pub(super) struct Probe {
    answer: oneshot::Sender<Probed>,
}

impl Probe {
    pub(super) fn new() -> (Self, oneshot::Receiver<Probed>) {
        let (answer, answered) = oneshot::channel();
        (Self { answer }, answered)
    }

    pub(super) fn end(self, how: Probed) {
        // The inquisitor may have left.
        let _ = self.answer.send(how);
    }
}

impl State {
    /// Gives a probe that is on its way to those who wait; whether there was one.
    pub(super) fn hand_over_probe(&mut self, now: f64) -> bool {
        let coming = self.pods.iter_mut().filter(|entry| entry.is_coming());
        let Some(probe) = coming.filter_map(|entry| entry.probe.take()).next() else {
            return false;
        };
        self.watch
            .probed(Event::ProbeFailed, &Probed::HandedOver, now);
        probe.end(Probed::HandedOver);
        true
    }
}

impl Pool {
    /// Ends a probe that is on its way, so that work has the machine to itself.
    pub fn abandon_probe(self: &Arc<Self>) {
        let now = self.options.clock.now();
        self.state
            .lock()
            .watch
            .probed(Event::ProbeFailed, &Probed::GaveWay, now);
        self.end_probe(Probed::GaveWay);
    }

    /// Ends the probe on its way, if there is one.
    pub(super) fn end_probe(self: &Arc<Self>, how: Probed) {
        let mut stop = None;
        let (standby, took) = {
            let mut state = self.state.lock();
            let Some(at) = state.pods.iter().position(|e| e.probe.is_some()) else {
                return;
            };
            let entry = &mut state.pods[at];
            let told = (entry.standby, entry.created.elapsed());
            // Whoever starts it lets go of it, which ends what was started.
            entry.ended.cancel();
            if let Some(probe) = entry.probe.take() {
                probe.end(how.clone());
            }
            match entry.pod.clone() {
                Some(pod) => {
                    entry.enter(PodState::Draining, Instant::now());
                    stop = Some(pod);
                }
                None => drop(state.pods.remove(at)),
            }
            told
        };
        if how == Probed::TimedOut {
            let reason = format!("not ready within {:.1} s", took.as_secs_f64());
            self.tell(took, 0.0, true, standby, Err(reason));
        }
        if let Some(pod) = stop {
            self.runtime.spawn(Arc::clone(self).stop(pod));
        }
    }

    /// The start of a pod failed: if it is a probe, that is its end; whether it is one. One failure is no
    /// verdict, but that there is no room is one: the runtime is unavailable until there is.
    pub(super) fn fail_probe(
        &self,
        name: &str,
        begun: Instant,
        reason: &str,
        no_room: bool,
    ) -> bool {
        let standby = {
            let mut state = self.state.lock();
            let Some(at) = state
                .pods
                .iter()
                .position(|e| &*e.name == name && e.probe.is_some())
            else {
                return false;
            };
            let entry = state.pods.remove(at);
            let how = Probed::Failed {
                reason: reason.to_owned(),
            };
            let now = self.options.clock.now();
            state.watch.probed(Event::ProbeFailed, &how, now);
            if no_room {
                state.watch.timed_out(reason, now);
            }
            if let Some(probe) = entry.probe {
                probe.end(how);
            }
            entry.standby
        };
        self.tell(begun.elapsed(), 0.0, true, standby, Err(reason.to_owned()));
        true
    }

    /// A pod is up, its model loaded: if it is still a probe, its time is recorded and it is taken
    /// down; whether it was one.
    pub(super) fn conclude_probe(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
        ordered: Instant,
        emulated_s: f64,
    ) -> bool {
        let took = ordered.elapsed();
        let standby = {
            let mut state = self.state.lock();
            let Some(entry) = state.entry(&pod.name).filter(|e| e.probe.is_some()) else {
                return false;
            };
            let seconds = took.as_secs_f64();
            let how = Probed::Ready { seconds };
            let probe = entry.probe.take();
            entry.enter(PodState::Draining, Instant::now());
            let standby = entry.standby;
            state
                .watch
                .probed(Event::ProbeUp { seconds }, &how, self.options.clock.now());
            if let Some(probe) = probe {
                probe.end(how);
            }
            standby
        };
        self.tell(took, emulated_s, true, standby, Ok(pod));
        self.runtime.spawn(Arc::clone(self).stop(Arc::clone(pod)));
        true
    }
}
