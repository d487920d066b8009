//! The pool of one function version on one runtime: what it is, and what is started in it. Who waits is
//! in [`queue`](super::queue), who gets a pod in [`lease`](super::lease).
//!
//! One lock guards the state; nothing is awaited under it. A lease that is dropped gives its place
//! back and serves the next in the queue.

use super::deployment::DeploymentSink;
use super::options::PoolOptions;
use super::pod::Entry;
use super::probe::Probe;
use super::settle::Sample;
use super::state::State;
use super::watch::Watched;
use super::{PodView, Warmer};
use crate::function::{PublishedModel, Standby};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::{Notify, OnceCell};
use tokio::time::Instant;

/// See the module.
pub struct Pool {
    pub(super) options: PoolOptions,
    pub(super) state: Mutex<State>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) warmer: Arc<dyn Warmer>,
    pub(super) recorded: DeploymentSink,
    pub(super) leases: AtomicU64,
    /// Told when an invocation begins to wait.
    pub(super) wanted: Notify,
    /// The function's sample, once a pod was asked for it.
    pub(super) sample: OnceCell<Option<Sample>>,
    /// Told when a pod became ready, failed or is gone.
    pub(super) changed: Notify,
    /// Sets its pods apart from those of another life of the gateway, or of the same version before.
    tag: String,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("function", &self.options.function)
            .field("runtime", &self.options.runtime)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool with no pods yet; its keeper starts the standbys. Pods live on the given async runtime.
    pub fn new(
        options: PoolOptions,
        model: Option<PublishedModel>,
        runtime: tokio::runtime::Handle,
        warmer: Arc<dyn Warmer>,
        recorded: DeploymentSink,
    ) -> Arc<Self> {
        let watch = Watched::new(options.watch, options.clock.now());
        let window = options.standby.window.unwrap_or(options.standby.idle);
        let state = Mutex::new(State::new(model, watch, window));
        Arc::new(Self {
            options,
            state,
            runtime,
            warmer,
            recorded,
            leases: AtomicU64::new(0),
            wanted: Notify::new(),
            sample: OnceCell::new(),
            changed: Notify::new(),
            tag: tag(rand::random()),
        })
    }

    /// What the pool was made of.
    #[must_use]
    pub fn options(&self) -> &PoolOptions {
        &self.options
    }

    /// Starts pods while more invocations wait than the pods on their way will serve; where pods share
    /// this machine, only those that will be up before the work is done.
    pub(super) fn grow(self: &Arc<Self>, state: &mut State, now: Instant) {
        let place = self.options.concurrency as usize;
        loop {
            let coming = state.coming().count();
            if state.waiting.len() <= coming * place || !self.may_grow(state) {
                return;
            }
            if self.options.pace.is_some() && state.one_more_comes_too_late(place, now) {
                return;
            }
            self.order(state, now);
        }
    }

    pub(super) fn may_grow(&self, state: &State) -> bool {
        !state.closed && state.alive() < self.standby(state).max as usize
    }

    /// The standbys that are wanted now: as declared, unless it was scaled or is about to take over.
    pub(super) fn standby(&self, state: &State) -> Standby {
        let declared = self.options.standby;
        let min = state.scaled.unwrap_or(declared.min).max(state.raised);
        Standby {
            min,
            max: declared.max.max(min),
            ..declared
        }
    }

    /// One more pod that works: the inquisitor's, if one is on its way, else a new one.
    pub(super) fn order(self: &Arc<Self>, state: &mut State, now: Instant) {
        if !state.hand_over_probe(self.options.clock.now()) {
            self.add(state, now, None);
        }
    }

    /// Starts one more pod.
    pub(super) fn add(self: &Arc<Self>, state: &mut State, now: Instant, probe: Option<Probe>) {
        state.next_pod += 1;
        let number = state.next_pod;
        let name: Arc<str> = format!("{}{}-{number}", self.name_prefix(), self.tag).into();
        let mut entry = Entry::new(name.clone(), state.any_ready(), now);
        let ended = entry.ended.clone();
        entry.probe = probe;
        state.pods.push(entry);
        self.runtime.spawn(Arc::clone(self).deploy(name, ended));
    }

    /// What the names of its pods begin with; a number follows.
    #[must_use]
    pub fn name_prefix(&self) -> String {
        let version = &self.options.version;
        format!(
            "{}-{}-{}-",
            self.options.function,
            self.options.runtime,
            &version[..6.min(version.len())]
        )
    }

    /// The pods as users see them.
    #[must_use]
    pub fn view(&self) -> Vec<PodView> {
        let state = self.state.lock();
        let now = Instant::now();
        let pods = state.pods.iter();
        let pods = pods.map(|entry| PodView::of(&self.options, entry, now));
        let missing = state.withheld.iter();
        let missing = missing.map(|withheld| PodView::withheld(&self.options, withheld, now));
        pods.chain(missing).collect()
    }
}

/// Four letters of these bits.
fn tag(bits: u32) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    (0..4)
        .map(|n| LETTERS[(bits >> (5 * n)) as usize % 32] as char)
        .collect()
}
