//! One pod and the states of its life.

use super::probe::Probe;
use crate::sites::StartedPod;
use slab::Slab;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The states of a pod. Transitions:
///
/// - `Deploying -> Warming`: the site says that it answers, and it has answered its first request where
///   its function declares one; or it was found up, from an earlier life of the gateway.
/// - `Deploying -> Gone`: it could not be started, or was ended before it answered.
/// - `Warming -> Idle`: the newest model is loaded, the function has run once.
/// - `Idle -> Busy`: a lease was given; `Busy -> Idle`: the last lease came back.
/// - `Idle -> Warming`: a newer model was published.
/// - `Idle | Busy | Warming -> Draining`: scaled down, ended for the memory it holds, replaced or removed;
///   takes nothing new.
/// - `Draining -> Gone`: its last lease came back and it was stopped.
/// - `Warming -> Draining`: it was the inquisitor's probe, and its time is known; a probe never serves.
/// - any `-> Gone`: it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodState {
    /// Being started by its site.
    Deploying,
    /// Answers; is loading a model.
    Warming,
    /// Ready, and nothing runs: a standby.
    Idle,
    /// Runs at least one invocation.
    Busy,
    /// Finishes what runs and takes nothing new.
    Draining,
    /// No more.
    Gone,
}

impl PodState {
    /// The state in lower case, as users see it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deploying => "deploying",
            Self::Warming => "warming",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Gone => "gone",
        }
    }

    /// Whether a pod in this state may take an invocation when it has room.
    #[must_use]
    pub fn takes_work(self) -> bool {
        match self {
            Self::Idle | Self::Busy => true,
            Self::Deploying | Self::Warming | Self::Draining | Self::Gone => false,
        }
    }
}

/// Where a ready pod is.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Name of the pod.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where the gateway reaches it: the same, or a relay over the emulated link.
    pub reach: SocketAddr,
    /// Its identity at the site.
    pub id: String,
    /// Digest of the image that it runs, at sites that run containers.
    pub digest: Option<String>,
    /// Becomes `Some` with a line that says how, when the pod is gone.
    pub exited: watch::Receiver<Option<String>>,
    /// Where the time of its start went, in seconds: [`stoic_protocol::stages`].
    pub stages: Vec<(&'static str, f64)>,
}

impl Pod {
    /// How it ended, if it has ended or does so within this time: what a caller is told whose
    /// connection broke.
    pub async fn death(&self, within: Duration) -> Option<String> {
        let mut exited = self.exited.clone();
        let told = exited.wait_for(Option::is_some);
        let how = tokio::time::timeout(within, told).await.ok()?.ok()?;
        how.clone()
    }
}

/// An invocation that runs in a pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub(super) begun: Instant,
    /// Predicted seconds of processing.
    pub(super) predicted_s: f64,
}

/// A pod as its pool keeps it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Arc<str>,
    pub(super) state: PodState,
    pub(super) pod: Option<Arc<Pod>>,
    /// When it entered its state.
    pub(super) since: Instant,
    pub(super) created: Instant,
    /// When it became ready for the first time.
    pub(super) ready: Option<Instant>,
    /// Running invocations, each under the key that its lease has.
    pub(super) running: Slab<Running>,
    /// Version of the model it has loaded.
    pub(super) model: Option<String>,
    pub(super) served: u64,
    /// Failed tries to start it.
    pub(super) failed_tries: u32,
    /// Whether the pool had a ready pod when this one was ordered.
    pub(super) standby: bool,
    /// The inquisitor's claim, as long as no invocation took the pod over.
    pub(super) probe: Option<Probe>,
    /// On its way, and nobody wants it any more.
    pub(super) unwanted: bool,
    /// Cancelled when it is ended before it is ready: whoever starts it lets go of it.
    pub(super) ended: CancellationToken,
    /// When it last was useful: became ready, or ended an invocation.
    pub(super) useful: Instant,
    /// Bytes that it holds, and when that was measured.
    pub(super) memory: Option<(u64, Instant)>,
    /// What is to be said of it beside its state.
    pub(super) note: Option<String>,
}

impl Entry {
    pub(super) fn new(name: Arc<str>, standby: bool, now: Instant) -> Self {
        Self {
            name,
            state: PodState::Deploying,
            pod: None,
            since: now,
            created: now,
            ready: None,
            running: Slab::new(),
            model: None,
            served: 0,
            failed_tries: 0,
            standby,
            probe: None,
            unwanted: false,
            ended: CancellationToken::new(),
            useful: now,
            memory: None,
            note: None,
        }
    }

    /// Whether it is on its way.
    pub(super) fn is_coming(&self) -> bool {
        matches!(self.state, PodState::Deploying | PodState::Warming)
    }

    pub(super) fn enter(&mut self, state: PodState, now: Instant) {
        self.state = state;
        self.since = now;
    }

    pub(super) fn started(&mut self, started: &StartedPod, reach: SocketAddr) -> Arc<Pod> {
        let pod = Arc::new(Pod {
            name: self.name.clone(),
            address: started.address,
            reach,
            id: started.id.clone(),
            digest: started.digest.clone(),
            exited: started.exited.clone(),
            stages: started.stages.clone(),
        });
        self.pod = Some(Arc::clone(&pod));
        self.model.clone_from(&started.model);
        pod
    }
}
