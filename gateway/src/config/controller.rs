//! Functions that are declared as resources of a Kubernetes cluster.

use serde::{Deserialize, Serialize};

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
}
