//! Places where pods run. One trait for every backend; the pool above knows only that.
//!
//! May not know functions, pools or predictions: a site starts, stops and lists what it is told.

mod delays;
mod orphans;
mod process;

pub use delays::DelayTrace;
pub use process::ProcessSite;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::watch;

/// A future of a site's trait.
pub type SiteFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a pod is to be.
#[derive(Debug, Clone)]
pub struct PodSpec {
    /// Unique name of the pod.
    pub name: String,
    /// Function it serves.
    pub function: String,
    /// Runtime it belongs to.
    pub runtime: String,
    /// Executable and arguments.
    pub command: Vec<String>,
    /// Environment, complete but for what the site itself adds (`PORT`, `HOST`, identity).
    pub env: BTreeMap<String, String>,
    /// Path that answers 200 when the pod is ready.
    pub health: String,
    /// Longest time until it is ready.
    pub ready_timeout: Duration,
}

/// A pod that answers.
#[derive(Debug)]
pub struct StartedPod {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its identity at the site: a process id.
    pub id: String,
    /// Becomes `Some` with a line that says how, when the pod is gone.
    pub exited: watch::Receiver<Option<String>>,
    /// Seconds of emulated deployment delay that its start had.
    pub emulated_s: f64,
}

/// Why a pod did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// It cannot be started at all: the executable is absent, the site refuses.
    #[error("{0}")]
    Refused(String),
    /// It started and exited before it was ready.
    #[error("{0}")]
    Exited(String),
    /// It started and was not ready in time.
    #[error("{0}")]
    NeverReady(String),
}

impl StartError {
    /// Stable code of the error as clients see it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "pod_refused",
            Self::Exited(_) => "pod_exited",
            Self::NeverReady(_) => "pod_never_ready",
        }
    }
}

/// A place where pods run.
pub trait Site: Send + Sync + std::fmt::Debug {
    /// Starts a pod and returns when it is ready. Dropping the future ends the pod.
    fn start(&self, spec: PodSpec) -> SiteFuture<'_, Result<StartedPod, StartError>>;

    /// Tells a pod to finish (`SIGTERM`) and ends it when the grace has passed.
    fn stop(&self, id: &str, grace: Duration) -> SiteFuture<'_, ()>;

    /// Ends what is left of pods of an earlier life of this gateway; says how many there were.
    fn remove_orphans(&self) -> SiteFuture<'_, usize>;

    /// Checks that this command could be started here.
    ///
    /// # Errors
    /// Says what is missing.
    fn check(&self, command: &[String]) -> Result<(), StartError>;
}

/// NVIDIA GPUs on this machine, by their device files: the gateway itself links no CUDA.
#[must_use]
pub fn gpus_present() -> u32 {
    let count = (0..16)
        .take_while(|n| std::path::Path::new(&format!("/dev/nvidia{n}")).exists())
        .count();
    u32::try_from(count).unwrap_or(0)
}
