//! The state of a pool, which its lock guards: its pods, who waits for them, and what is known of how
//! they start.

use super::demand::Demand;
use super::failures::StartFailures;
use super::pod::{Entry, PodState};
use super::queue::Waiter;
use super::watch::Watched;
use crate::function::PublishedModel;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A standby of the `min` that is not kept, because the host has no memory for it.
#[derive(Debug, Clone)]
pub(super) struct Withheld {
    /// Name of the pod that was ended.
    pub(super) name: Arc<str>,
    /// Bytes that it held.
    pub(super) bytes: u64,
    pub(super) since: Instant,
    /// Why it is not kept.
    pub(super) note: String,
}

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
    /// Places that are taken.
    pub(super) running: usize,
    /// What ran and waited lately.
    pub(super) demand: Demand,
    /// Pods to keep ready instead of the declared `min`.
    pub(super) scaled: Option<u32>,
    /// Pods to have ready before the pool takes over from that of another version.
    pub(super) raised: u32,
    /// Standbys of the `min` that are not kept.
    pub(super) withheld: Vec<Withheld>,
    /// Most bytes that one of its pods was seen to hold.
    pub(super) size: u64,
    /// Failed tries of a start, as long as none has succeeded since.
    pub(super) trouble: Option<StartFailures>,
}

impl State {
    pub(super) fn new(model: Option<PublishedModel>, watch: Watched, window: Duration) -> Self {
        Self {
            pods: Vec::new(),
            waiting: VecDeque::new(),
            model,
            closed: false,
            failures: 0,
            retry_at: None,
            watch,
            next_pod: 0,
            running: 0,
            demand: Demand::new(window),
            scaled: None,
            raised: 0,
            withheld: Vec::new(),
            size: 0,
            trouble: None,
        }
    }

    /// Whether the pods that there are or that are on their way, of so many places each, will have done
    /// what runs and waits before one more could be up. A start takes the cores that they work on, so one
    /// that comes too late makes all of them later. Says no where nothing is known, and as soon as what
    /// was expected has not come true.
    pub(super) fn one_more_comes_too_late(&self, place: usize, now: Instant) -> bool {
        let (Some(start_s), places) = (self.watch.start_s(), self.alive() * place) else {
            return false;
        };
        let mut work_s = 0.0;
        for waiter in &self.waiting {
            if waiter.predicted_s <= 0.0 {
                return false;
            }
            work_s += waiter.predicted_s;
        }
        for (_, running) in self.pods.iter().flat_map(|pod| &pod.running) {
            let rest_s = running.predicted_s - (now - running.begun).as_secs_f64();
            if running.predicted_s <= 0.0 || rest_s < -start_s.max(running.predicted_s) {
                return false;
            }
            work_s += rest_s.max(0.0);
        }
        let done_s = work_s / places as f64;
        let waited_s = self
            .waiting
            .front()
            .map_or(0.0, |waiter| (now - waiter.since).as_secs_f64());
        places > 0 && done_s < start_s && waited_s < 2.0 * (start_s + done_s)
    }

    /// Notes what runs and waits now.
    pub(super) fn note_demand(&mut self, now: Instant) {
        self.demand.note(self.running + self.waiting.len(), now);
    }

    /// Pods that take work now.
    pub(super) fn ready(&self) -> usize {
        let ready = |e: &&Entry| e.state.takes_work();
        self.pods.iter().filter(ready).count()
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
