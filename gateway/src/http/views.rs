//! What `/v1/...` answers, as types: the command line reads them with the same ones.

use crate::function::FunctionObject;
use crate::history::ModelRecord;
use crate::pods::{PodView, Standing};
use crate::runnable::{Bootstrap, Deployed, Rollout};
use crate::scheduler::{LinkView, ModeForecast, RuntimeEstimate};
use serde::{Deserialize, Serialize};

/// A deployed function: `GET /v1/functions/{name}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionView {
    /// The object as declared.
    #[serde(flatten)]
    pub object: FunctionObject,
    /// What became of it.
    pub status: FunctionStatus,
}

/// What became of a function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionStatus {
    /// Version of the declared spec.
    pub version: String,
    /// Newest published model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Ready pods.
    pub ready: usize,
    /// All pods.
    pub pods: usize,
    /// When it was deployed first, seconds since the Unix epoch.
    pub created: f64,
    /// The version that was to take over from this one, and did not, or not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Representative tasks of this version.
    pub bootstrap: Bootstrap,
}

impl FunctionView {
    pub(super) fn of(deployed: &Deployed) -> Self {
        let pods: Vec<PodView> = deployed.pods();
        let ready = pods
            .iter()
            .filter(|pod| pod.state == "idle" || pod.state == "busy")
            .count();
        let status = FunctionStatus {
            version: deployed.function.version.clone(),
            model: deployed.model().map(|model| model.version.clone()),
            ready,
            pods: pods.iter().filter(|pod| pod.exists()).count(),
            created: deployed.function.created,
            rollout: deployed.rollout.lock().clone(),
            bootstrap: deployed.bootstrap.lock().clone(),
        };
        Self {
            object: deployed.function.object.clone(),
            status,
        }
    }
}

/// A runtime: `GET /v1/runtimes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeView {
    /// Name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// What runs pods there: `process`, `docker`.
    #[serde(default)]
    pub backend: String,
    /// Threads a pod computes with.
    pub threads: u32,
    /// `fp32`, `bf16`, `auto`.
    pub precision: String,
    /// GPUs a pod gets.
    pub gpus: u32,
    /// Bandwidth to the site as it is known now, bytes a second; none for a site without a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_bytes_per_s: Option<f64>,
    /// Round trip to the site, in seconds.
    pub rtt_s: f64,
    /// What is emulated: `link`, `deployment`, both, or nothing.
    pub emulated: String,
    /// What a second of one of its pods costs, where that is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// Whether every function that is deployed may be placed on it.
    #[serde(default = "yes")]
    pub available: bool,
    /// Why none may, where that has nothing to do with any function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The link to its site, and when it was measured; none for a site without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkView>,
    /// What is known of the deployments of each function there.
    #[serde(default)]
    pub functions: Vec<RuntimeFunction>,
}

fn yes() -> bool {
    true
}

/// A function on a runtime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeFunction {
    /// The function.
    pub function: String,
    /// What is known of its deployments there.
    pub standing: Standing,
}

/// A prediction: `GET /v1/functions/{name}/predict`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictView {
    /// Function asked about.
    pub function: String,
    /// Action asked about.
    pub action: String,
    /// Items asked about.
    pub items: u64,
    /// Bytes asked about.
    pub bytes: u64,
    /// Seconds within which the answer is wanted, where that was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<f64>,
    /// The mode asked about.
    #[serde(default = "selector")]
    pub mode: String,
    /// What every possible mode is predicted to take, where that was asked about: simplest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modes: Vec<ModeForecast>,
    /// Estimates for every runtime that the function may use.
    pub runtimes: Vec<RuntimeEstimate>,
    /// The runtime that would be taken, if any; of a mode that uses several, all of them, with a `+`
    /// between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// Why, in one line.
    pub reason: String,
}

fn selector() -> String {
    "selector".to_owned()
}

/// Published models of a function: `GET /v1/functions/{name}/models`.
pub type ModelsView = Vec<ModelRecord>;

/// The gateway itself: `GET /v1/info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewayInfo {
    /// Version of the binary.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Data folder.
    pub data: String,
}
