//! A deployed function as OpenFaaS' clients read it.

use super::NAMESPACE;
use super::deployment::{FunctionResources, without_process};
use crate::gateway::Gateway;
use crate::runnable::Deployed;
use serde::Serialize;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One function of `GET /system/functions`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FunctionStatus {
    name: String,
    /// Empty where a function is an executable alone.
    image: String,
    namespace: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    env_process: Option<String>,
    env_vars: BTreeMap<String, String>,
    secrets: Vec<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<FunctionResources>,
    read_only_root_filesystem: bool,
    /// Since the gateway started.
    invocation_count: u64,
    replicas: usize,
    available_replicas: usize,
    created_at: String,
}

impl FunctionStatus {
    pub(super) fn of(gateway: &Gateway, deployed: &Deployed) -> Self {
        let object = &deployed.function.object;
        let (env_process, env_vars) = without_process(&object.spec.env);
        let mut pods = deployed.pods();
        // Probes serve nobody, and what drains has been replaced.
        pods.retain(|pod| !pod.probe && pod.state != "draining" && pod.state != "gone");
        let ready = |state: &str| state == "idle" || state == "busy";
        let metered: u64 = (0..gateway.scheduler.runtimes().len())
            .filter_map(|runtime| deployed.meters(runtime))
            .map(crate::metrics::Meters::total)
            .sum();
        let name = object.metadata.name.clone();
        Self {
            image: object.spec.image.clone().unwrap_or_default(),
            namespace: NAMESPACE,
            env_process,
            env_vars,
            secrets: object.spec.secrets.clone(),
            labels: object.metadata.labels.clone(),
            annotations: object.metadata.annotations.clone(),
            limits: object.spec.resources.as_ref().map(FunctionResources::of),
            read_only_root_filesystem: object.spec.read_only_root,
            invocation_count: metered + gateway.metrics.beside_meters(&name),
            replicas: pods.len(),
            available_replicas: pods.iter().filter(|pod| ready(&pod.state)).count(),
            created_at: timestamp(deployed.function.created),
            name,
        }
    }
}

/// A moment, seconds since the Unix epoch, as Go's JSON has it.
pub(super) fn timestamp(unix: f64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos((unix * 1e9) as i128)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}
