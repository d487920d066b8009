//! Measures in the background what real work does not: how long deployments take and whether they
//! succeed, and what the links carry (paper, sections 3.1, 3.4.2 and 3.7).
//!
//! Every runtime of every deployed function that is not at home is deployed once a period, unless real
//! work was measured there meanwhile; nothing is run in it, and it is taken down. What follows from how
//! that ends is decided by [`stoic_placement::availability`]; the pools hold its state and start the
//! pods. Here is the clock, and the care that nothing is disturbed: on a machine that the pods share
//! with work, a probe waits until nothing was done for a while, and gives way when some arrives.

mod links;
#[cfg(test)]
mod tests;

pub use links::watch_links;

use crate::config::InquisitorConfig;
use crate::metrics::Metrics;
use crate::pods::{Pool, Probed};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, info, warn};

/// Longest time between two looks: a probe gives way within it.
const LOOK: Duration = Duration::from_millis(250);
/// Most probes on their way at the same time: each is a pod's worth of load.
const TOGETHER: usize = 4;

/// A pool, and whether its pods share the machine with the gateway and its other pods.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The pool.
    pub pool: Arc<Pool>,
    /// Whether its pods run on this machine.
    pub here: bool,
}

/// See the module.
pub struct Inquisitor<S> {
    config: InquisitorConfig,
    subjects: S,
    metrics: Arc<Metrics>,
    /// When work was seen on this machine last.
    worked: Instant,
    /// Invocations that the pools here were seen to have served.
    served: u64,
}

impl<S> std::fmt::Debug for Inquisitor<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inquisitor")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl<S: FnMut() -> Vec<Subject>> Inquisitor<S> {
    /// An inquisitor over all pools that `subjects` names, at home or not: those at home are not probed,
    /// but their work counts as work on this machine.
    pub fn new(config: InquisitorConfig, metrics: Arc<Metrics>, subjects: S) -> Self {
        Self {
            config,
            subjects,
            metrics,
            worked: Instant::now(),
            served: 0,
        }
    }

    /// Looks after the pools until it is dropped.
    pub async fn run(mut self) {
        let every = LOOK
            .min(self.config.every / 4)
            .max(Duration::from_millis(10));
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.look();
        }
    }

    /// One look at every pool.
    fn look(&mut self) {
        let subjects = (self.subjects)();
        let quiet = self.quiet(&subjects);
        let mut under_way = 0;
        for subject in &subjects {
            if !subject.pool.activity().probing {
                continue;
            }
            if subject.here && !quiet {
                subject.pool.abandon_probe();
            } else {
                under_way += 1;
            }
        }
        let mut begun = false;
        for Subject { pool, here } in subjects {
            // One after the other: two that start at once would slow each other down.
            let may_begin = !begun && under_way < TOGETHER && (quiet || !here);
            if let Some(answer) = pool.inquire(may_begin) {
                begun = true;
                let metrics = Arc::clone(&self.metrics);
                tokio::spawn(async move {
                    let how = answer.await.unwrap_or(Probed::Closed);
                    note(&pool, &how, &metrics);
                });
            }
        }
    }

    /// Whether no work was done on this machine for a while.
    fn quiet(&mut self, subjects: &[Subject]) -> bool {
        let here = subjects.iter().filter(|subject| subject.here);
        let (mut busy, mut served) = (false, 0_u64);
        for activity in here.map(|subject| subject.pool.activity()) {
            busy |= activity.busy;
            served = served.wrapping_add(activity.served);
        }
        // Short requests are over between two looks, but were counted.
        if busy || served != self.served {
            self.served = served;
            self.worked = Instant::now();
        }
        self.worked.elapsed() >= self.config.quiet && !busy
    }
}

fn note(pool: &Pool, how: &Probed, metrics: &Metrics) {
    let options = pool.options();
    let (function, runtime) = (&*options.function, &*options.runtime);
    metrics.probed(function, runtime, how.word());
    match how {
        Probed::Ready { seconds } => debug!(function, runtime, seconds, "probe"),
        Probed::TimedOut => {
            warn!(
                function,
                runtime, "unavailable: a probe passed the time-out"
            );
        }
        Probed::Failed { reason } => info!(function, runtime, "probe failed: {reason}"),
        Probed::OutOfBudget | Probed::HandedOver | Probed::GaveWay | Probed::Closed => {
            debug!(function, runtime, how = how.word(), "probe ended");
        }
    }
}
