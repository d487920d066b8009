//! A pod as users see it.

use super::PoolOptions;
use super::pod::Entry;
use super::state::Withheld;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// State of a standby that should be there and is not.
const WITHHELD: &str = "withheld";

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
    /// `deploying`, `warming`, `idle`, `busy`, `draining`; `withheld` for a standby of the `min` that is
    /// not kept because of the memory of all of them.
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
    /// Where the time of its start went, in seconds by stage; empty for one that is not up yet, or that
    /// was adopted.
    #[serde(default)]
    pub stages: BTreeMap<String, f64>,
    /// Bytes of memory that it holds, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_bytes: Option<u64>,
    /// What is to be said beside its state: why it is ended, or not kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
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
            stages: pod.map_or_else(BTreeMap::new, |pod| {
                let stages = pod.stages.iter();
                stages.map(|(k, v)| ((*k).to_owned(), *v)).collect()
            }),
            memory_bytes: entry.memory.map(|(bytes, _)| bytes),
            note: entry.note.clone(),
            age_s: (now - entry.created).as_secs_f64(),
            state_age_s: (now - entry.since).as_secs_f64(),
        }
    }

    /// A standby that is missing: it was ended, and is not started again as long as there is no memory
    /// for it.
    pub(super) fn withheld(options: &PoolOptions, withheld: &Withheld, now: Instant) -> Self {
        let mut entry = Entry::new(withheld.name.clone(), false, withheld.since);
        entry.note = Some(withheld.note.clone());
        Self {
            state: WITHHELD.to_owned(),
            memory_bytes: Some(withheld.bytes),
            ..Self::of(options, &entry, now)
        }
    }

    /// Whether there is such a pod: it is no standby that is missing.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.state != WITHHELD
    }
}
