//! What a pool says of itself in few words, for those who report the state of many.

use super::failures::StartFailures;
use super::pod::PodState;
use super::pool::Pool;
use std::sync::Arc;

/// A pool's state in few words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolSummary {
    /// Pods there are, or will be; probes are none.
    pub pods: usize,
    /// Of these, pods that take work.
    pub ready: usize,
    /// Of these, pods in which nothing runs.
    pub idle: usize,
    /// Pods that are to be kept ready.
    pub wanted: usize,
    /// Digest of the image that its newest ready pod runs.
    pub digest: Option<String>,
}

impl Pool {
    /// The pool's state in few words.
    #[must_use]
    pub fn summary(&self) -> PoolSummary {
        let state = self.state.lock();
        let mut newest = state.pods.iter().rev().filter(|e| e.state.takes_work());
        PoolSummary {
            pods: state.alive(),
            ready: state.ready(),
            idle: state
                .pods
                .iter()
                .filter(|entry| entry.state == PodState::Idle)
                .count(),
            wanted: self.standby(&state).min as usize,
            digest: newest.find_map(|entry| entry.pod.as_ref()?.digest.clone()),
        }
    }

    /// The tries to start a pod that failed since one succeeded last.
    #[must_use]
    pub fn trouble(&self) -> Option<StartFailures> {
        self.state.lock().trouble.clone()
    }

    /// Keeps as many pods as was declared again.
    pub fn unscale(self: &Arc<Self>) {
        let was = self.state.lock().scaled.take();
        if was.is_some() {
            self.maintain();
        }
    }
}
