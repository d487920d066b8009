//! Functions that are declared as resources of a Kubernetes cluster.

use super::TlsConfig;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The controller: it makes functions of this gateway of the resources of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControllerConfig {
    /// Whether it works. The cluster is that of `$KUBECONFIG` or `~/.kube/config`, or the one that the
    /// gateway runs in.
    pub enabled: bool,
    /// Namespace whose functions are taken; absent: that of the kubeconfig's context, or the gateway's
    /// own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig; absent: the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Whether functions of kubeless (`functions.kubeless.io`) are taken over, too.
    pub kubeless: bool,
    /// What the `kubeless` command asks of a cluster for `function update`; absent: not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v1beta1: Option<V1beta1Config>,
}

/// Where `apiextensions.k8s.io/v1beta1` is answered for: an `APIService` of that version leads here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct V1beta1Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Its certificate, for the name of the Service; the `APIService` names the authority.
    pub tls: TlsConfig,
    /// The ConfigMap with kubeless' `runtime-images`, as `NAMESPACE/NAME`.
    pub config_map: String,
}

impl ControllerConfig {
    /// What the types cannot say: the key, and what is wrong with it.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str)> {
        let old = self.v1beta1.as_ref()?;
        if !(self.enabled && self.kubeless) {
            return Some((
                "v1beta1",
                "is for controllers with enabled = true and kubeless = true",
            ));
        }
        let parts: Vec<&str> = old.config_map.split('/').collect();
        let named = parts.len() == 2 && parts.iter().all(|part| !part.is_empty());
        (!named).then_some(("v1beta1.config_map", "must be NAMESPACE/NAME"))
    }
}
