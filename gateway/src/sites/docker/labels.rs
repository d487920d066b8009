//! What a container of ours says of itself: how it is found again, and told from others'.

use crate::sites::PodSpec;
use std::collections::HashMap;

/// Identity of the gateway.
pub(super) const GATEWAY: &str = "dev.stoic.gateway";
/// Site of the pod.
pub(super) const SITE: &str = "dev.stoic.site";
/// Name of the pod.
pub(super) const POD: &str = "dev.stoic.pod";
/// Function that it serves.
pub(super) const FUNCTION: &str = "dev.stoic.function";
/// Version of that function.
pub(super) const VERSION: &str = "dev.stoic.version";
/// Runtime that it belongs to.
pub(super) const RUNTIME: &str = "dev.stoic.runtime";
/// Port that it listens on.
pub(super) const PORT: &str = "dev.stoic.port";
/// Path of its health.
pub(super) const HEALTH: &str = "dev.stoic.health";

/// The labels of a pod.
pub(super) fn of(gateway: &str, site: &str, spec: &PodSpec) -> HashMap<String, String> {
    let port = spec.port.to_string();
    [
        (GATEWAY, gateway),
        (SITE, site),
        (POD, &spec.name),
        (FUNCTION, &spec.function),
        (VERSION, &spec.version),
        (RUNTIME, &spec.runtime),
        (PORT, &port),
        (HEALTH, &spec.health),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// A filter for what this gateway owns at a site.
pub(super) fn filter(gateway: &str, site: &str) -> HashMap<String, Vec<String>> {
    let labels = vec![format!("{GATEWAY}={gateway}"), format!("{SITE}={site}")];
    HashMap::from([("label".to_owned(), labels)])
}
