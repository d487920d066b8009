//! A pool under the inquisitor's eyes: when a probe is begun and ended there, and what is known of its
//! deployments.

use super::pod::Entry;
use super::pool::Pool;
use super::probe::{Probe, Probed};
use super::queue::{AcquireError, Waiter};
use super::state::State;
use super::watch::Standing;
use crate::history::DeploymentRecord;
use std::collections::VecDeque;
use std::sync::Arc;
use stoic_placement::availability::Action;
use tokio::sync::oneshot;
use tokio::time::Instant;

impl Pool {
    /// Lets time pass for the inquisitor's watch: begins a probe when one is due and `may_begin`, ends
    /// one that takes too long, and notices real work that waits too long. Gives the end of a probe
    /// that was begun.
    pub fn inquire(self: &Arc<Self>, may_begin: bool) -> Option<oneshot::Receiver<Probed>> {
        let now = self.options.clock.now();
        let mut failed: VecDeque<Waiter> = VecDeque::new();
        let mut reason = String::new();
        let mut end = None;
        let begun = {
            let mut state = self.state.lock();
            if state.closed {
                return None;
            }
            let timeout = state.watch.timeout();
            let waited_in_vain = |e: &Entry| e.created.elapsed() >= timeout;
            if !state.any_ready()
                && !state.waiting.is_empty()
                && state.coming().any(waited_in_vain)
                && state.watch.is_up()
            {
                reason = format!(
                    "no pod was ready within {}",
                    humantime::format_duration(timeout)
                );
                state.watch.timed_out(&reason, now);
                failed = std::mem::take(&mut state.waiting);
            }
            let room = self.withheld(&state).is_none();
            match state.watch.tick(may_begin && room, now) {
                Action::StartProbe => {
                    let (probe, answer) = Probe::new();
                    self.add(&mut state, Instant::now(), Some(probe));
                    Some(answer)
                }
                Action::StopProbe { timed_out: true } => {
                    end = Some(Probed::TimedOut);
                    None
                }
                Action::StopProbe { timed_out: false } => {
                    end = Some(Probed::OutOfBudget);
                    None
                }
                Action::None | Action::TakeDown { .. } => None,
            }
        };
        if let Some(how) = end {
            self.end_probe(how);
        }
        for waiter in failed {
            let reason = reason.clone();
            let _ = waiter
                .answer
                .send(Err(AcquireError::Unavailable { reason }));
        }
        begun
    }

    /// What is known of deployments here.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let state = self.state.lock();
        let standing = state
            .watch
            .standing(state.any_ready(), self.options.clock.now());
        let withheld = match self.withheld(&state) {
            Some(why) if standing.watched && !standing.probing => Some(why.to_owned()),
            _ => None,
        };
        let trouble = self.options.site.trouble();
        Standing {
            withheld,
            available: standing.available && (trouble.is_none() || state.any_ready()),
            reason: trouble.or(standing.reason),
            ..standing
        }
    }

    /// Why no probe may be begun now.
    fn withheld(&self, state: &State) -> Option<&'static str> {
        if state.pods.iter().any(Entry::is_coming) {
            Some("a pod is on its way, and will be measured")
        } else if !self.may_grow(state) {
            Some("all pods that it may have are up: none will be deployed")
        } else {
            None
        }
    }

    /// Takes in what an earlier life of the gateway recorded of deployments here, the oldest first.
    pub fn recall<'a>(&self, deployments: impl Iterator<Item = &'a DeploymentRecord>) {
        let mut state = self.state.lock();
        for deployment in deployments {
            state.watch.recall(deployment);
        }
    }
}
