//! The inquisitor's probe: a pod that is deployed to learn how long that takes, and taken down at once
//! (paper, section 3.4.2).
//!
//! It counts neither as standby nor against the pool's limit, and it never serves. It steals nothing
//! either: an invocation that would have a pod started gets the probe's instead, which from then on is
//! real work.

use super::pod::{Pod, PodState};
use super::pool::{Pool, State};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

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
    /// It was not ready within the time-out, and was taken down.
    TimedOut {
        /// The time-out.
        after: Duration,
    },
    /// An invocation needed a pod and got this one.
    HandedOver,
    /// It gave way to work before its time was known.
    GaveWay,
    /// It was not begun.
    Skipped(Skipped),
}

/// Why a probe was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// A pod is on its way already, and will be measured.
    Coming,
    /// The pool has all the pods it may have: the next invocation will not deploy one.
    Full,
    /// The function was removed, or the gateway stops.
    Closed,
}

/// What a pod that is a probe carries.
#[derive(Debug)]
pub(super) struct Probe {
    answer: oneshot::Sender<Probed>,
    limits: Limits,
}

/// What ends a probe early.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    gave_way: CancellationToken,
    deadline: Instant,
    timeout: Duration,
}

impl Probe {
    pub(super) fn limits(&self) -> Limits {
        self.limits.clone()
    }

    pub(super) fn end(self, how: Probed) {
        // The inquisitor may have left.
        let _ = self.answer.send(how);
    }
}

impl State {
    /// Gives a probe that is on its way to those who wait; whether there was one.
    pub(super) fn hand_over_probe(&mut self) -> bool {
        let coming = self.pods.iter_mut().filter(|entry| entry.is_coming());
        let Some(probe) = coming.filter_map(|entry| entry.probe.take()).next() else {
            return false;
        };
        probe.end(Probed::HandedOver);
        true
    }
}

impl Pool {
    /// Deploys a pod that serves nobody and takes it down when it is ready; says how long it took.
    /// `timeout` is the longest it may take.
    pub async fn probe(self: &Arc<Self>, timeout: Duration) -> Probed {
        let answer = {
            let mut state = self.state.lock();
            let skipped = if state.closed {
                Some(Skipped::Closed)
            } else if state.pods.iter().any(|entry| entry.is_coming()) {
                Some(Skipped::Coming)
            } else if !self.may_grow(&state) {
                Some(Skipped::Full)
            } else {
                None
            };
            if let Some(skipped) = skipped {
                return Probed::Skipped(skipped);
            }
            let now = Instant::now();
            let (sender, answer) = oneshot::channel();
            let probe = Probe {
                answer: sender,
                limits: Limits {
                    gave_way: CancellationToken::new(),
                    deadline: now + timeout,
                    timeout,
                },
            };
            self.add(&mut state, now, Some(probe));
            answer
        };
        answer.await.unwrap_or(Probed::Skipped(Skipped::Closed))
    }

    /// Ends a probe that is on its way, so that work has the machine to itself.
    pub fn abandon_probe(self: &Arc<Self>) {
        self.end_probe(None, &Probed::GaveWay);
    }

    /// Ends the probe of this name, or any, unless it was handed over meanwhile; whether it did.
    fn end_probe(self: &Arc<Self>, name: Option<&str>, how: &Probed) -> bool {
        let mut stop = None;
        let standby = {
            let mut state = self.state.lock();
            let is_meant = |of: &str| name.is_none_or(|name| name == of);
            let Some(at) = state
                .pods
                .iter()
                .position(|e| e.probe.is_some() && is_meant(&e.name))
            else {
                return false;
            };
            let entry = &mut state.pods[at];
            let standby = entry.standby;
            if let Some(probe) = entry.probe.take() {
                // Whoever starts it lets go of it, which ends what was started.
                probe.limits.gave_way.cancel();
                probe.end(how.clone());
            }
            match entry.pod.clone() {
                Some(pod) => {
                    entry.enter(PodState::Draining, Instant::now());
                    stop = Some(pod);
                }
                None => drop(state.pods.remove(at)),
            }
            standby
        };
        if let Probed::TimedOut { after } = how {
            let reason = format!("not ready within {}", humantime::format_duration(*after));
            self.tell(*after, 0.0, true, standby, Some(reason));
        }
        if let Some(pod) = stop {
            self.runtime.spawn(Arc::clone(self).stop(pod));
        }
        true
    }

    /// The start of a pod failed: if it is a probe, that is its end; whether it is one.
    pub(super) fn fail_probe(&self, name: &str, begun: Instant, reason: &str) -> bool {
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
            if let Some(probe) = entry.probe {
                probe.end(Probed::Failed {
                    reason: reason.to_owned(),
                });
            }
            entry.standby
        };
        self.tell(begun.elapsed(), 0.0, true, standby, Some(reason.to_owned()));
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
            if let Some(probe) = entry.probe.take() {
                probe.end(Probed::Ready {
                    seconds: took.as_secs_f64(),
                });
            }
            entry.enter(PodState::Draining, Instant::now());
            entry.standby
        };
        self.tell(took, emulated_s, true, standby, None);
        self.runtime
            .spawn(Arc::clone(self).stop(Arc::clone(pod)));
        true
    }

    /// Drives a step of a pod's start to its end; none when the pod is a probe that ended before.
    pub(super) async fn within<T>(
        self: &Arc<Self>,
        name: &str,
        limits: Option<&Limits>,
        step: impl Future<Output = T>,
    ) -> Option<T> {
        let Some(limits) = limits else {
            return Some(step.await);
        };
        tokio::pin!(step);
        tokio::select! {
            done = &mut step => return Some(done),
            () = limits.gave_way.cancelled() => return None,
            () = tokio::time::sleep_until(limits.deadline) => {}
        }
        let timed_out = Probed::TimedOut {
            after: limits.timeout,
        };
        if self.end_probe(Some(name), &timed_out) {
            return None;
        }
        // An invocation has taken it over and waits for it, however long.
        Some(step.await)
    }
}
