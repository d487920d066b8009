//! What runs and waits at a pool: for the prediction of queueing time, and for those who must not
//! disturb it.

use super::pod::Entry;
use super::pool::Pool;
use super::queue::GIVE_WAY_AFTER;
use std::sync::atomic::Ordering;
use stoic_placement::load;
use tokio::time::Instant;

/// What goes on at a pool, for those who must not disturb it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// An invocation runs or waits.
    pub busy: bool,
    /// A probe is on its way.
    pub probing: bool,
    /// Invocations that were given a pod so far.
    pub served: u64,
}

/// What runs and waits at a pool, for the prediction of queueing time.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Places free in ready pods.
    pub free: u32,
    /// Places in ready pods, free or not.
    pub places: u32,
    /// Running invocations: predicted and elapsed seconds of each.
    pub running: Vec<(f64, f64)>,
    /// Waiting invocations: predicted seconds of each.
    pub waiting: Vec<f64>,
    /// Seconds since the oldest pod that is still being deployed, a probe included, was ordered.
    pub deploying_s: Option<f64>,
    /// Whether one more pod may be started.
    pub may_grow: bool,
    /// Whether pods failed to start a moment ago or the inquisitor found the runtime unavailable, and
    /// none is ready.
    pub failing: bool,
}

impl Load {
    /// The same in the words of the placement.
    #[must_use]
    pub fn borrowed(&self) -> load::Load<'_> {
        load::Load {
            free: self.free as usize,
            places: self.places as usize,
            running: &self.running,
            waiting: &self.waiting,
            deploying_s: self.deploying_s,
            may_grow: self.may_grow,
        }
    }
}

impl Pool {
    /// What runs and waits now.
    #[must_use]
    pub fn load(&self) -> Load {
        let state = self.state.lock();
        let now = Instant::now();
        let limit = self.options.concurrency;
        let mut load = Load {
            may_grow: self.may_grow(&state),
            ..Load::default()
        };
        for entry in state.pods.iter().filter(|entry| entry.state.takes_work()) {
            load.places += limit;
            load.free +=
                limit.saturating_sub(u32::try_from(entry.running.len()).unwrap_or(u32::MAX));
        }
        let tried_in_vain = |e: &Entry| e.failed_tries >= GIVE_WAY_AFTER;
        load.failing = load.places == 0
            && (state.retry_at.is_some_and(|at| now < at)
                || state.coming().any(tried_in_vain)
                || !state.watch.available(self.options.clock.now())
                || self.options.site.trouble().is_some());
        if load.free > 0 && state.waiting.is_empty() {
            return load;
        }
        let pods = state.pods.iter().filter(|entry| entry.state.takes_work());
        load.running = pods
            .flat_map(|e| &e.running)
            .map(|(_, r)| (r.predicted_s, (now - r.begun).as_secs_f64()))
            .collect();
        load.waiting = state
            .waiting
            .iter()
            .filter(|w| !w.answer.is_closed())
            .map(|w| w.predicted_s)
            .collect();
        // A probe on its way would be handed over to whoever asks first.
        let probes = state.pods.iter().filter(|e| e.is_coming() && load.may_grow);
        load.deploying_s = state
            .coming()
            .chain(probes)
            .map(|e| (now - e.created).as_secs_f64())
            .reduce(f64::max);
        load
    }

    /// Whether anything runs or waits here, and whether a probe is on its way.
    #[must_use]
    pub fn activity(&self) -> Activity {
        let state = self.state.lock();
        Activity {
            busy: !state.waiting.is_empty() || state.pods.iter().any(|e| !e.running.is_empty()),
            probing: state.pods.iter().any(|e| e.probe.is_some()),
            served: self.leases.load(Ordering::Relaxed),
        }
    }
}
