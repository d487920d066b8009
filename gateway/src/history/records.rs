//! Rows as the rest of the gateway sees them.

use crate::function::FunctionObject;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A deployed function.
#[derive(Debug, Clone)]
pub struct FunctionRecord {
    /// The object as deployed.
    pub object: FunctionObject,
    /// When it was deployed first, seconds since the Unix epoch.
    pub created: f64,
}

/// How many pods of a version of a function somebody wanted ready, whatever it declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleRecord {
    /// The function.
    pub function: String,
    /// The version that was in force.
    pub version: String,
    /// The runtime.
    pub runtime: String,
    /// Pods.
    pub replicas: u32,
}

/// A published model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Function it belongs to.
    pub function: String,
    /// `v1`, `v2`, ...
    pub version: String,
    /// Key in the store of every site.
    pub key: String,
    /// Size.
    pub bytes: u64,
    /// When it was published, seconds since the Unix epoch.
    pub created: f64,
    /// The invocation that trained it.
    pub invocation: String,
}

/// The parts of a response time, in seconds (paper, section 3.4; T_q is ours).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// T_q: waiting for a pod that was busy.
    pub queueing: f64,
    /// T_t: moving the package to the site.
    pub transfer: f64,
    /// T_d: waiting for a pod to be deployed.
    pub deployment: f64,
    /// T_p: from sending the work to having the result.
    pub processing: f64,
}

impl Parts {
    /// T_s: the sum.
    #[must_use]
    pub fn response(&self) -> f64 {
        self.queueing + self.transfer + self.deployment + self.processing
    }
}

/// What an invocation that used the edge and the cloud together cost the cloud, in seconds of its
/// runtime; those of a runtime with two GPUs count twice (paper, table 5).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Race {
    /// The cloud runtime.
    pub runtime: String,
    /// Given back, since the edge did the work.
    pub saved_s: f64,
    /// Spent in vain.
    pub lost_s: f64,
    /// Spent on what counted.
    pub used_s: f64,
}

/// Sums over the races of a function against one cloud runtime.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AccountRow {
    /// Function.
    pub function: String,
    /// Mode of the races.
    pub mode: String,
    /// The cloud runtime.
    pub runtime: String,
    /// How many.
    pub races: u64,
    /// Those in which the edge did all of the work that counted.
    pub edge_wins: u64,
    /// Cloud seconds given back.
    pub saved_s: f64,
    /// Cloud seconds spent in vain.
    pub lost_s: f64,
    /// Cloud seconds spent on what counted.
    pub used_s: f64,
}

/// One invocation, as it was predicted and as it went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Identity of the invocation.
    pub invocation: String,
    /// When it arrived, seconds since the Unix epoch.
    pub at: f64,
    /// Function invoked.
    pub function: String,
    /// Version of the function.
    pub version: String,
    /// `infer`, `train`, ...
    pub action: String,
    /// Runtime that did the work; those that shared it joined by `+`.
    pub runtime: String,
    /// Its site, or theirs.
    pub site: String,
    /// The mode of placement, or `bootstrap`.
    pub mode: String,
    /// Items in the package; 1 for a request.
    pub items: u64,
    /// Bytes of the input.
    pub bytes: u64,
    /// `cold` or `warm`.
    pub start: String,
    /// What was predicted, where something could be.
    pub predicted: Option<Parts>,
    /// 90 % interval of the predicted response time, in seconds.
    pub predicted_90: Option<(f64, f64)>,
    /// 50 % interval of it; told to the learner, not stored.
    #[serde(skip)]
    pub predicted_50: Option<(f64, f64)>,
    /// What the fluid view said of a batch that two runtimes shared, in seconds: what sharing costs beyond it is
    /// learned. Stored, not shown.
    #[serde(skip)]
    pub fluid_s: Option<f64>,
    /// What was measured.
    pub actual: Parts,
    /// `ok`, or the code of the error.
    pub outcome: String,
    /// Version of the model that served.
    pub model: Option<String>,
    /// What was emulated: `link`, `deployment`, `link,deployment`, or nothing.
    pub emulated: String,
    /// Items done by each runtime, where more than one could have a part.
    #[serde(default)]
    pub items_by: BTreeMap<String, u64>,
    /// What it cost the cloud, where the edge and the cloud were used together.
    #[serde(default)]
    pub race: Option<Race>,
}

/// One deployment of a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeploymentRecord {
    /// When it ended, seconds since the Unix epoch.
    pub at: f64,
    /// Function deployed.
    pub function: String,
    /// Runtime it was deployed on.
    pub runtime: String,
    /// Seconds until it was ready.
    pub seconds: f64,
    /// Of these, emulated.
    pub emulated_s: f64,
    /// Whether it succeeded.
    pub ok: bool,
    /// Version of the function; empty in records of older gateways.
    pub version: String,
    /// Whether it was the inquisitor's: deployed to be measured, and taken down.
    pub probe: bool,
    /// Whether a ready pod stood by on the runtime when it was ordered.
    pub standby: bool,
    /// Why it failed.
    pub failure: Option<String>,
}

/// One transfer to a site.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TransferRecord {
    /// When it ended, seconds since the Unix epoch.
    pub at: f64,
    /// The site.
    pub site: String,
    /// Bytes moved.
    pub bytes: u64,
    /// Seconds it took.
    pub seconds: f64,
}

/// A probe of the link to a site: a small object that was nobody's, and a tiny request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LinkProbe {
    /// The object's way.
    pub transfer: TransferRecord,
    /// Seconds of a round trip.
    pub rtt_s: f64,
}
