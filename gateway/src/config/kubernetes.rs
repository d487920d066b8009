//! `[sites.NAME.kubernetes]`: the cluster of a site, and what its pods are there.

use super::InvalidConfig;
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Longest wait for a node, or for the start of a container.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Smallest `/tmp`.
const SMALLEST_TMP: u64 = 4096;

/// A site's cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesConfig {
    /// File that says how the cluster is reached; absent: the gateway's own account inside a cluster,
    /// else `$KUBECONFIG`, else `~/.kube/config`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of that file; absent: its current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Namespace of the pods, which has to be there; absent: that of the context or of the gateway's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// How the gateway reaches its pods.
    pub reach: PodReach,
    /// Address of this machine at which pods reach it: there the site's embedded store listens. Absent:
    /// the address from which the API server, or else a node, is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// Whether images that run as root are refused (the restricted pod security standard).
    pub run_as_non_root: bool,
    /// User that pods run as, where the image does not say or says it by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<i64>,
    /// Size of `/tmp` where the root cannot be written.
    pub tmp: ByteSize,
    /// What a GPU is called among the resources of a node.
    pub gpu_resource: String,
    /// A pod for which there is no room waits so long for a node; then the runtime counts as
    /// unavailable. More where nodes are made on demand.
    #[serde(with = "humantime_serde")]
    pub room_timeout: Duration,
    /// Longest time from a pod's order until its container runs: its image is fetched in it.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
    /// More labels of pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// More annotations of pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that pods bear.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<TolerationConfig>,
    /// Runtime class of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class: Option<String>,
    /// Priority class of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// Service account of pods; they never get its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Secrets of the namespace with which images are fetched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    /// When images are fetched, whatever functions say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Whether pods belong to the gateway's own pod and go with it, instead of to what made that pod: for a gateway
    /// in the cluster whose data folder does not outlast its pod, so that nobody would adopt them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pods_go_with_gateway: bool,
    /// What is different for the pods of single runtimes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub runtimes: BTreeMap<String, KubernetesRuntime>,
}

/// What is different for the pods of one runtime: what is said here stands instead of the site's, and
/// maps and lists are added to the site's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesRuntime {
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that pods bear.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<TolerationConfig>,
    /// Runtime class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class: Option<String>,
    /// Priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// Service account; its token is never given to pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Secrets of the namespace with which images are fetched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    /// When images are fetched, whatever functions say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
}

/// A taint that is borne, in the words of Kubernetes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TolerationConfig {
    /// Key of the taint; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Equal` or `Exists`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Value of the taint, for `Equal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}

/// How the gateway reaches the pods of a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PodReach {
    /// By their addresses inside a cluster; outside, whichever the first pod answers by.
    #[default]
    Auto,
    /// By their addresses.
    Ip,
    /// Through the API server.
    PortForward,
}

/// When a node fetches an image, in the words of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImagePullPolicy {
    /// Before every start, where its tag has moved.
    Always,
    /// Where it is absent.
    IfNotPresent,
    /// Never.
    Never,
}

impl ImagePullPolicy {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            namespace: None,
            reach: PodReach::Auto,
            host: None,
            run_as_non_root: true,
            run_as_user: None,
            tmp: ByteSize::mib(64),
            gpu_resource: "nvidia.com/gpu".to_owned(),
            room_timeout: Duration::from_secs(10),
            start_timeout: Duration::from_secs(600),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            runtime_class: None,
            priority_class: None,
            service_account: None,
            image_pull_secrets: Vec::new(),
            image_pull_policy: None,
            pods_go_with_gateway: false,
            runtimes: BTreeMap::new(),
        }
    }
}

impl KubernetesConfig {
    /// What holds for the pods of a runtime: its own words over the site's.
    #[must_use]
    pub fn of_runtime(&self, runtime: &str) -> KubernetesRuntime {
        let own = self.runtimes.get(runtime).cloned().unwrap_or_default();
        let mut node_selector = self.node_selector.clone();
        node_selector.extend(own.node_selector);
        let both = |mut ours: Vec<String>, own: Vec<String>| {
            ours.extend(own);
            ours
        };
        let mut tolerations = self.tolerations.clone();
        tolerations.extend(own.tolerations);
        KubernetesRuntime {
            node_selector,
            tolerations,
            runtime_class: own.runtime_class.or_else(|| self.runtime_class.clone()),
            priority_class: own.priority_class.or_else(|| self.priority_class.clone()),
            service_account: own.service_account.or_else(|| self.service_account.clone()),
            image_pull_secrets: both(self.image_pull_secrets.clone(), own.image_pull_secrets),
            image_pull_policy: own.image_pull_policy.or(self.image_pull_policy),
        }
    }

    /// Checks what the types cannot say. `known` are the runtimes of the site.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub(super) fn validate(&self, site: &str, known: &[&str]) -> Result<(), InvalidConfig> {
        let refuse = |text: String| Err(InvalidConfig(format!("sites.{site}.kubernetes.{text}")));
        if self.tmp.as_u64() < SMALLEST_TMP {
            return refuse("tmp: must be at least 4 KiB".to_owned());
        }
        if self.run_as_user.is_some_and(|user| user < 0) {
            return refuse("run_as_user: must be zero or more".to_owned());
        }
        if self.run_as_user == Some(0) && self.run_as_non_root {
            return refuse("run_as_user: 0 is root; set run_as_non_root = false for it".to_owned());
        }
        if self.gpu_resource.is_empty() {
            return refuse("gpu_resource: must be a name, as in nvidia.com/gpu".to_owned());
        }
        for (key, length) in [
            ("room_timeout", self.room_timeout),
            ("start_timeout", self.start_timeout),
        ] {
            if length > LONGEST {
                return refuse(format!("{key}: more than a day"));
            }
        }
        if self.start_timeout.is_zero() {
            return refuse("start_timeout: must be more than zero".to_owned());
        }
        for runtime in self.runtimes.keys() {
            if !known.contains(&runtime.as_str()) {
                return refuse(format!(
                    "runtimes.{runtime}: the site has no such runtime; it has: {}",
                    known.join(", ")
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn a_runtime_says_what_is_different_for_its_pods() {
        let text = r#"
            [sites.cloud]
            backend = "kubernetes"
            [sites.cloud.kubernetes]
            namespace = "stoic"
            node_selector = { disk = "ssd" }
            service_account = "pods"
            [sites.cloud.kubernetes.runtimes.gpu1]
            node_selector = { gpu = "a100" }
            tolerations = [{ key = "nvidia.com/gpu", operator = "Exists" }]
            image_pull_policy = "IfNotPresent"
            [runtimes.cpu]
            site = "cloud"
            [runtimes.gpu1]
            site = "cloud"
            gpus = 1
        "#;
        let config = Config::parse(text).expect("valid");
        let kubernetes = config.sites["cloud"].kubernetes.clone().expect("is there");
        let cpu = kubernetes.of_runtime("cpu");
        let gpu = kubernetes.of_runtime("gpu1");
        assert_eq!((cpu.node_selector.len(), gpu.node_selector.len()), (1, 2));
        assert_eq!((cpu.tolerations.len(), gpu.tolerations.len()), (0, 1));
        assert_eq!(gpu.service_account.as_deref(), Some("pods"));
        assert_eq!(cpu.image_pull_policy, None);
        assert!(gpu.image_pull_policy.is_some());
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        for (tables, says) in [
            ("run_as_user = 0", "run_as_user"),
            ("start_timeout = \"0s\"", "start_timeout"),
            ("room_timeout = \"2days\"", "room_timeout"),
            ("tmp = \"1 KiB\"", "tmp"),
            ("namespaces = \"x\"", "namespaces"),
            ("reach = \"proxy\"", "port-forward"),
            ("runtimes = { gpu9 = {} }", "gpu9"),
        ] {
            let text = format!(
                "[sites.cloud]\nbackend = \"kubernetes\"\n[sites.cloud.kubernetes]\n{tables}\n[runtimes.cpu]\nsite = \"cloud\"\n"
            );
            let error = Config::parse(&text).and_then(|config| config.validate());
            let said = error.expect_err(says).to_string();
            assert!(said.contains(says), "{said}");
        }
        let misplaced =
            "[sites.cloud]\n[sites.cloud.kubernetes]\n[runtimes.cpu]\nsite = \"cloud\"\n";
        let error = Config::parse(misplaced).and_then(|config| config.validate());
        let said = error.expect_err("misplaced").to_string();
        assert!(said.contains("sites.cloud.kubernetes"), "{said}");
    }
}
