//! A pod as users see it.

use super::PoolOptions;
use super::pod::Entry;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// One row of `stoic pods`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodView {
    /// Name of the pod.
    pub name: String,
    /// Function it serves.
    pub function: String,
    /// Version of the function.
    pub version: String,
    /// Runtime it belongs to.
    pub runtime: String,
    /// Site it runs at.
    pub site: String,
    /// `deploying`, `warming`, `idle`, `busy`, `draining`.
    pub state: String,
    /// Where it listens, once it does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// Process id, on process sites.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// Digest of the image that it runs, at sites that run containers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<String>,
    /// Version of the model it serves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// Invocations that run in it now.
    pub running: usize,
    /// Invocations it has served.
    pub served: u64,
    /// Whether it is a probe of the inquisitor's, which serves nobody.
    #[serde(default)]
    pub probe: bool,
    /// Seconds since it was ordered.
    pub age_s: f64,
    /// Seconds it has been in its state.
    pub state_age_s: f64,
}

impl PodView {
    pub(super) fn of(options: &PoolOptions, entry: &Entry, now: Instant) -> Self {
        let pod = entry.pod.as_ref();
        Self {
            name: entry.name.to_string(),
            function: options.function.clone(),
            version: options.version.clone(),
            runtime: options.runtime.clone(),
            site: options.site_name.clone(),
            state: entry.state.name().to_owned(),
            address: pod.map(|pod| pod.address.to_string()),
            pid: pod.and_then(|pod| pod.id.parse().ok()),
            digest: pod.and_then(|pod| pod.digest.clone()),
            model: entry.model.clone(),
            running: entry.running.len(),
            served: entry.served,
            probe: entry.probe.is_some(),
            age_s: (now - entry.created).as_secs_f64(),
            state_age_s: (now - entry.since).as_secs_f64(),
        }
    }
}
