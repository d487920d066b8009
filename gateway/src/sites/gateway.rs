//! Pods of another gateway, used under leases: see [`crate::peer`].

use super::ready::known;
use super::{Adoption, LogAsk, LogStream, PodSpec, Site, SiteFuture, StartError, StartedPod};
use crate::function::FunctionSpec;
use crate::peer::{Entrance, Line, Peer, PeerError, PodOrder, Trouble, paths};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use stoic_protocol::stages;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

/// A lease of which nothing is heard for so long has ended: the link broke.
const SILENCE: Duration = Duration::from_secs(7);
/// Codes that say of a pod itself why it cannot be started.
const OF_PODS: [&str; 2] = ["pod_refused", "image_unavailable"];
/// Longest line.
const LINE_LIMIT: usize = 1 << 20;

/// A runtime of this gateway's, as its peer has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    /// Its name there.
    pub name: String,
    /// What runs its pods there, where that is known: `process`, `docker`.
    pub backend: Option<String>,
}

/// A site whose pods another gateway runs.
#[derive(Debug)]
pub struct GatewaySite {
    peer: Arc<Peer>,
    runtimes: HashMap<String, There>,
    pods: Pods,
    watch: AbortOnDropHandle<()>,
}

type Pods = Arc<Mutex<HashMap<String, Held>>>;

/// A pod that is leased. Dropped, it is given back.
#[derive(Debug)]
struct Held {
    exit: watch::Sender<Option<String>>,
    _entrance: Entrance,
    _lease: AbortOnDropHandle<()>,
}

impl GatewaySite {
    /// A site at this peer: the runtimes here, by what they are there.
    #[must_use]
    pub fn new(peer: Arc<Peer>, runtimes: HashMap<String, There>) -> Arc<Self> {
        let watched: Weak<Peer> = Arc::downgrade(&peer);
        Arc::new(Self {
            peer,
            runtimes,
            pods: Pods::default(),
            watch: AbortOnDropHandle::new(tokio::spawn(Peer::watch(watched))),
        })
    }

    fn there<'a>(&'a self, runtime: &'a str) -> &'a str {
        self.runtimes
            .get(runtime)
            .map_or(runtime, |there| there.name.as_str())
    }

    /// Keeps a pod until it is stopped, or its lease ends.
    fn hold(
        &self,
        lease: String,
        exit: watch::Sender<Option<String>>,
        entrance: Entrance,
        follow: impl Future<Output = ()> + Send + 'static,
    ) {
        // Locked before the lease is followed: it may end at once, and then is to be found.
        let mut pods = self.pods.lock();
        let held = Held {
            exit,
            _entrance: entrance,
            _lease: AbortOnDropHandle::new(tokio::spawn(follow)),
        };
        pods.insert(lease, held);
    }

    async fn check_pod(&self, spec: &PodSpec) -> Result<(), StartError> {
        let asked = async {
            let protocol = self.peer.agreed().await?;
            let order = PodOrder::of(spec, self.there(&spec.runtime), protocol);
            self.peer.tell(paths::CHECK, &order).await
        };
        match asked.await {
            Ok(()) => Ok(()),
            Err(PeerError::Refused { code, detail, .. }) if OF_PODS.contains(&code.as_str()) => {
                let url = self.peer.url();
                Err(Trouble {
                    detail: format!("the gateway at {url} says: {detail}"),
                    code,
                }
                .into())
            }
            Err(error) if error.is_lasting() && self.peer.trouble().is_none() => {
                Err(StartError::Refused(error.to_string()))
            }
            // The function can be deployed all the same: it runs elsewhere until the peer is back.
            Err(error) => {
                warn!(runtime = %spec.runtime, "not checked: {error}");
                Ok(())
            }
        }
    }

    async fn start_pod(&self, spec: PodSpec) -> Result<StartedPod, StartError> {
        let begun = Instant::now();
        let protocol = self.peer.agreed().await.map_err(failed)?;
        let order = PodOrder::of(&spec, self.there(&spec.runtime), protocol);
        let answer = self.peer.follow(paths::LEASES, &order).await;
        let mut lines = Lines::new(answer.map_err(failed)?);
        let url = self.peer.url();
        loop {
            match lines.next().await {
                Ok(Line::Ready {
                    lease,
                    pod,
                    emulated_s,
                    stages: told,
                    model,
                    digest,
                }) => {
                    let entrance = Entrance::open(Arc::clone(&self.peer), lease.clone())
                        .await
                        .map_err(|e| StartError::Refused(format!("no free port: {e}")))?;
                    let address = entrance.address;
                    debug!(pod = %spec.name, there = %pod, %address, "pod is leased");
                    let (exit, exited) = watch::channel(None);
                    let follow = follow(
                        lines,
                        lease.clone(),
                        Arc::downgrade(&self.pods),
                        Arc::clone(&self.peer),
                    );
                    self.hold(lease.clone(), exit, entrance, follow);
                    let told = told.iter().map(|(name, seconds)| (name.as_str(), *seconds));
                    let mut stages: Vec<(&'static str, f64)> = known(told).collect();
                    let sum: f64 = stages.iter().map(|(_, seconds)| seconds).sum();
                    let took_s = begun.elapsed().as_secs_f64() - emulated_s;
                    stages.push((stages::LINK, (took_s - sum).max(0.0)));
                    return Ok(StartedPod {
                        address,
                        id: lease,
                        exited,
                        emulated_s,
                        stages,
                        model,
                        digest,
                    });
                }
                Ok(Line::Failed(trouble)) => {
                    return Err(Trouble {
                        detail: format!("at {url}: {}", trouble.detail),
                        ..trouble
                    }
                    .into());
                }
                Ok(Line::Exited { how }) => {
                    return Err(StartError::Exited(format!("at {url}: {how}")));
                }
                Ok(Line::Beat | Line::Unknown) => {}
                Err(why) => {
                    self.peer.doubt();
                    return Err(StartError::Engine(format!(
                        "the link to the gateway at {url} broke while the pod came up: {why}"
                    )));
                }
            }
        }
    }
}

/// Listens to a lease until it ends, and gives the pod up then.
async fn follow(
    mut lines: Lines,
    lease: String,
    pods: Weak<Mutex<HashMap<String, Held>>>,
    peer: Arc<Peer>,
) {
    let how = loop {
        match lines.next().await {
            Ok(Line::Exited { how }) => break how,
            Ok(Line::Failed(trouble)) => break trouble.detail,
            Ok(_) => {}
            Err(why) => {
                peer.doubt();
                break format!("the link to the gateway at {} broke: {why}", peer.url());
            }
        }
    };
    let held = pods.upgrade().and_then(|pods| pods.lock().remove(&lease));
    if let Some(held) = held {
        let _ = held.exit.send(Some(how));
        // This task is held there: it ends here anyway.
        drop(held);
    }
}

/// What a peer's error is for a start.
fn failed(error: PeerError) -> StartError {
    match error.is_lasting() {
        true => StartError::Refused(error.to_string()),
        false => StartError::Engine(error.to_string()),
    }
}

/// The lines of a lease.
struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
        }
    }

    async fn next(&mut self) -> Result<Line, String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return serde_json::from_slice(&line).map_err(|e| e.to_string());
            }
            if self.buffer.len() > LINE_LIMIT {
                return Err("it sent a line over the limit".to_owned());
            }
            match tokio::time::timeout(SILENCE, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Ok(Some(Err(error))) => return Err(crate::failure::innermost(&error)),
                Ok(None) => return Err("it ended the lease".to_owned()),
                Err(_) => {
                    return Err(format!(
                        "nothing was heard for {}",
                        humantime::format_duration(SILENCE)
                    ));
                }
            }
        }
    }
}

impl Site for GatewaySite {
    fn backend(&self) -> &'static str {
        "gateway"
    }

    fn here(&self) -> bool {
        false
    }

    fn can_run(&self, spec: &FunctionSpec) -> Result<(), &'static str> {
        let backends = self.runtimes.values().map(|there| there.backend.as_deref());
        let mut lacks = None;
        for backend in backends {
            match backend {
                Some("process") if spec.command.is_empty() => lacks = Some("command"),
                Some("docker" | "kubernetes") if spec.image.is_none() => lacks = Some("image"),
                _ => return Ok(()),
            }
        }
        lacks.map_or(Ok(()), Err)
    }

    fn trouble(&self) -> Option<String> {
        self.peer.trouble().map(|error| error.to_string())
    }

    fn mended(&self) -> SiteFuture<'_, ()> {
        Box::pin(self.peer.mended())
    }

    fn check<'a>(&'a self, spec: &'a PodSpec) -> SiteFuture<'a, Result<(), StartError>> {
        Box::pin(self.check_pod(spec))
    }

    fn start(&self, spec: PodSpec) -> SiteFuture<'_, Result<StartedPod, StartError>> {
        Box::pin(self.start_pod(spec))
    }

    /// The peer ends the pod when its lease is given back; it has the grace that is configured there.
    fn stop(&self, id: &str, _grace: Duration) -> SiteFuture<'_, ()> {
        let held = self.pods.lock().remove(id);
        Box::pin(async move {
            if let Some(held) = held {
                let _ = held.exit.send(Some("stopped".to_owned()));
            }
        })
    }

    /// A lease ends with the gateway that has it.
    fn adopt(&self) -> SiteFuture<'_, Adoption> {
        Box::pin(async { Adoption::default() })
    }

    fn remove_orphans(&self) -> SiteFuture<'_, usize> {
        self.watch.abort();
        let all = std::mem::take(&mut *self.pods.lock());
        Box::pin(async move { all.len() })
    }

    fn logs<'a>(
        &'a self,
        _pod: &'a str,
        _ask: LogAsk,
    ) -> SiteFuture<'a, std::io::Result<Option<LogStream>>> {
        Box::pin(async { Ok(None) })
    }
}
