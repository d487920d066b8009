//! What a pool is made of.

use super::Pace;
use crate::clock::Clock;
use crate::function::{Standby, Warmup};
use crate::link::EmulatedLink;
use crate::sites::{PodSpec, Site};
use std::sync::Arc;
use std::time::Duration;
use stoic_placement::availability::ProbeConfig;

/// What a pool is made of.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Function it serves.
    pub function: String,
    /// Version of that function.
    pub version: String,
    /// Runtime it runs on.
    pub runtime: String,
    /// Name of the runtime's site.
    pub site_name: String,
    /// The site itself.
    pub site: Arc<dyn Site>,
    /// The emulated link to it.
    pub link: Option<Arc<EmulatedLink>>,
    /// What its pods are, but for their names.
    pub pod: PodSpec,
    /// Invocations that one pod works at the same time.
    pub concurrency: u32,
    /// How many pods are kept.
    pub standby: Standby,
    /// Most invocations that wait.
    pub queue_length: u32,
    /// Longest wait of one.
    pub queue_wait: Duration,
    /// Failed starts in a row after which those who wait are told.
    pub attempts: u32,
    /// Wait after the first failed start; it doubles with every further one.
    pub backoff: Duration,
    /// Time to finish for pods that are told to stop.
    pub grace: Duration,
    /// How the inquisitor watches it; none where it does not.
    pub watch: Option<ProbeConfig>,
    /// The request that each pod answers before it counts as ready.
    pub warmup: Option<Warmup>,
    /// How many pods start at the same time on the site's machine; none where it is no matter.
    pub pace: Option<Arc<Pace>>,
    /// The clock of its watch.
    pub clock: Clock,
}
