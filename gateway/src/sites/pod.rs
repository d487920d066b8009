//! What a site is told of a pod, and what it tells of one.

use crate::function::{FileSpec, Isolation, Pull, Resources};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;

/// What a pod is to be.
#[derive(Debug, Clone, Default)]
pub struct PodSpec {
    /// Unique name of the pod; in the template that a pool keeps, empty.
    pub name: String,
    /// Function it serves.
    pub function: String,
    /// Version of that function.
    pub version: String,
    /// Runtime it belongs to.
    pub runtime: String,
    /// Container image, for sites that run containers.
    pub image: Option<String>,
    /// Executable and arguments, for sites that run processes; may be empty.
    pub command: Vec<String>,
    /// Arguments of the image's entry point; empty: the image's own.
    pub args: Vec<String>,
    /// Port that the image listens on.
    pub port: u16,
    /// When the image is fetched.
    pub pull: Pull,
    /// Environment, complete but for what the site itself adds (`PORT`, `HOST`, identity).
    pub env: BTreeMap<String, String>,
    /// Names of the secrets that it finds as files.
    pub secrets: Vec<String>,
    /// Files that a container finds and can only read.
    pub files: Vec<FileSpec>,
    /// Whether a container gets a root that cannot be written.
    pub read_only_root: bool,
    /// What it needs of memory and CPU.
    pub resources: Option<Resources>,
    /// GPUs it gets.
    pub gpus: u32,
    /// What one invocation may leave behind for the next.
    pub isolation: Isolation,
    /// Path that answers 200 when the pod is ready.
    pub health: String,
    /// Longest time until it is ready.
    pub ready_timeout: Duration,
}

/// A pod that answers.
#[derive(Debug, Clone)]
pub struct StartedPod {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its identity at the site: a process id, the id of a container, or the name of a pod's object.
    pub id: String,
    /// Becomes `Some` with a line that says how, when the pod is gone.
    pub exited: watch::Receiver<Option<String>>,
    /// Seconds of emulated deployment delay that its start had.
    pub emulated_s: f64,
    /// Where the time of its start went, in seconds, in order: [`stoic_protocol::stages`] has the names.
    /// Empty for a pod that was adopted.
    pub stages: Vec<(&'static str, f64)>,
    /// Version of the model that it had loaded when it answered; none where it is not known.
    pub model: Option<String>,
    /// Digest of the image that it runs, `sha256:...`, at sites that run containers.
    pub digest: Option<String>,
}

/// A pod of an earlier life of the gateway that is still up.
#[derive(Debug, Clone)]
pub struct AdoptedPod {
    /// Name of the pod.
    pub name: String,
    /// Function it serves.
    pub function: String,
    /// Version of that function.
    pub version: String,
    /// Runtime it belongs to.
    pub runtime: String,
    /// The pod itself.
    pub started: StartedPod,
}

/// What a site found of an earlier life of the gateway.
#[derive(Debug, Default)]
pub struct Adoption {
    /// Pods that are up and can serve on. Those that nobody takes have to be stopped.
    pub pods: Vec<AdoptedPod>,
    /// Pods that could not, and were ended.
    pub ended: usize,
}

/// Why a pod did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// It cannot be started at all: the executable is absent, the site refuses.
    #[error("{0}")]
    Refused(String),
    /// The image is absent, or cannot be fetched now: its registry may be down.
    #[error("{0}")]
    Image(String),
    /// There is no such image, or it may not be fetched: trying again at once is no use.
    #[error("{0}")]
    ImageAbsent(String),
    /// The site has no room for the pod now: no node that it may run on has what it asks for.
    #[error("{0}")]
    NoRoom(String),
    /// The site's engine cannot be reached now.
    #[error("{0}")]
    Engine(String),
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
            Self::Image(_) | Self::ImageAbsent(_) => "image_unavailable",
            Self::NoRoom(_) => "no_room",
            Self::Engine(_) => "engine_unavailable",
            Self::Exited(_) => "pod_exited",
            Self::NeverReady(_) => "pod_never_ready",
        }
    }
}
