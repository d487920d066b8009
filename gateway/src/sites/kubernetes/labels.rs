//! What an object of ours says of itself: how it is found again, and told from others'.

use crate::config::KubernetesConfig;
use crate::sites::PodSpec;
use std::collections::BTreeMap;

/// Who made it, as Kubernetes' own tools ask.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Identity of the gateway.
const GATEWAY: &str = "stoic.dev/gateway";
/// Site of the pod.
const SITE: &str = "stoic.dev/site";
/// Function that it serves.
pub(super) const FUNCTION: &str = "stoic.dev/function";
/// The same as kubeless' command line has it: its `logs` finds a function's pods by this label.
const OF_KUBELESS: &str = "function";
/// Version of that function.
pub(super) const VERSION: &str = "stoic.dev/version";
/// Runtime that it belongs to.
pub(super) const RUNTIME: &str = "stoic.dev/runtime";
/// Name of the pod in its pool: annotations may be longer than labels.
pub(super) const POD: &str = "stoic.dev/pod";
/// Port that it listens on.
pub(super) const PORT: &str = "stoic.dev/port";
/// Path of its health.
pub(super) const HEALTH: &str = "stoic.dev/health";

fn owned<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The labels of a pod, and of what belongs to it. What the configuration adds takes none of ours away.
pub(super) fn of(
    gateway: &str,
    site: &str,
    spec: &PodSpec,
    config: &KubernetesConfig,
) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    labels.extend(owned([
        (MANAGED_BY, "stoic"),
        (GATEWAY, gateway),
        (SITE, site),
        (FUNCTION, &spec.function),
        (OF_KUBELESS, &spec.function),
        (VERSION, &spec.version),
        (RUNTIME, &spec.runtime),
    ]));
    labels
}

/// The annotations of a pod: with these a later life of the gateway knows it.
pub(super) fn annotations(spec: &PodSpec, config: &KubernetesConfig) -> BTreeMap<String, String> {
    let mut annotations = config.annotations.clone();
    let port = spec.port.to_string();
    annotations.extend(owned([
        (POD, &spec.name),
        (PORT, &port),
        (HEALTH, &spec.health),
    ]));
    annotations
}

/// Selects what this gateway owns at a site.
pub(super) fn selector(gateway: &str, site: &str) -> String {
    format!("{MANAGED_BY}=stoic,{GATEWAY}={gateway},{SITE}={site}")
}

/// Whether labels are of this gateway's at this site.
pub(super) fn is_ours(
    labels: Option<&BTreeMap<String, String>>,
    gateway: &str,
    site: &str,
) -> bool {
    let has = |key: &str, value: &str| {
        labels
            .and_then(|labels| labels.get(key))
            .is_some_and(|found| found == value)
    };
    has(MANAGED_BY, "stoic") && has(GATEWAY, gateway) && has(SITE, site)
}
