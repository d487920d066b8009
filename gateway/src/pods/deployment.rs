//! How a deployment went, for whoever records it.

use std::sync::Arc;

/// Told by the pool to whoever records deployments.
pub type DeploymentSink = Arc<dyn Fn(Deployment) + Send + Sync>;

/// A finished deployment.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Function of the pod.
    pub function: String,
    /// Version of that function.
    pub version: String,
    /// Runtime of the pod.
    pub runtime: String,
    /// Seconds from the order to the first answer, model included.
    pub seconds: f64,
    /// Of these, emulated.
    pub emulated_s: f64,
    /// Whether it was the inquisitor's: no invocation waited for it.
    pub probe: bool,
    /// Whether the pool had a ready pod when it was ordered.
    pub standby: bool,
    /// Why it failed; none when it succeeded.
    pub failure: Option<String>,
    /// Where its time went, in seconds by stage; empty when it failed.
    pub stages: Vec<(&'static str, f64)>,
}
