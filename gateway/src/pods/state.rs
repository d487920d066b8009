//! The state of a pool, which its lock guards: its pods, who waits for them, and what is known of how
//! they start.

use super::pod::{Entry, PodState};
use super::queue::Waiter;
use super::watch::Watched;
use crate::function::PublishedModel;
use std::collections::VecDeque;
use tokio::time::Instant;

pub(super) struct State {
    pub(super) pods: Vec<Entry>,
    pub(super) waiting: VecDeque<Waiter>,
    pub(super) model: Option<PublishedModel>,
    pub(super) closed: bool,
    /// Failed starts in a row, over all deployments.
    pub(super) failures: u32,
    /// No standby is started before this.
    pub(super) retry_at: Option<Instant>,
    /// What is known of the runtime's deployments.
    pub(super) watch: Watched,
    pub(super) next_pod: u64,
}

impl State {
    pub(super) fn new(model: Option<PublishedModel>, watch: Watched) -> Self {
        Self {
            pods: Vec::new(),
            waiting: VecDeque::new(),
            model,
            closed: false,
            failures: 0,
            retry_at: None,
            watch,
            next_pod: 0,
        }
    }

    /// Pods that work, or will; probes are none of them.
    pub(super) fn alive(&self) -> usize {
        let ending = |e: &Entry| matches!(e.state, PodState::Draining | PodState::Gone);
        self.pods
            .iter()
            .filter(|entry| !ending(entry) && entry.probe.is_none())
            .count()
    }

    /// Pods on their way that will work.
    pub(super) fn coming(&self) -> impl Iterator<Item = &Entry> {
        self.pods
            .iter()
            .filter(|entry| entry.is_coming() && entry.probe.is_none())
    }

    /// Whether any pod takes work.
    pub(super) fn any_ready(&self) -> bool {
        self.pods.iter().any(|entry| entry.state.takes_work())
    }

    /// The entry of a pod.
    pub(super) fn entry(&mut self, name: &str) -> Option<&mut Entry> {
        self.pods.iter_mut().find(|entry| &*entry.name == name)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("pods", &self.pods)
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}
