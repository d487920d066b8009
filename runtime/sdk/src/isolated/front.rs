//! The front's side: has children forked, sends each its invocation, and passes the answer on.

use super::{Ask, Tell};
use crate::Function;
use crate::invocation::Answer;
use crate::pod_state::{Ended, Pod, Running, RunningBatch};
use crate::reply::Reply;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustix::fd::{AsFd, OwnedFd};
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stoic_protocol::zygote::packets;
use stoic_protocol::{NDJSON_MEDIA_TYPE, Problem, ProgressLine, headers};
use tokio::sync::oneshot;

/// What a child gets to end by itself when its caller has left or has its answer.
const GRACE: Duration = Duration::from_secs(2);

/// The way to the holder.
#[derive(Debug)]
pub(crate) struct Front {
    control: OwnedFd,
    next: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// Those who wait for something that the holder is going to tell.
#[derive(Debug, Default)]
struct Waiting {
    children: HashMap<u64, oneshot::Sender<Result<Child, String>>>,
    ends: HashMap<u32, oneshot::Sender<String>>,
    model: Option<oneshot::Sender<Option<Problem>>>,
}

/// A child that runs.
#[derive(Debug)]
struct Child {
    pid: u32,
    /// How it ended, when it did.
    ended: oneshot::Receiver<String>,
}

fn lost(detail: impl std::fmt::Display) -> Problem {
    let detail = format!("no process could be forked for this invocation: {detail}");
    Problem::new(500, "isolation_failed", detail)
}

impl Front {
    /// Starts listening to the holder, on a thread.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn new(control: OwnedFd) -> std::io::Result<Arc<Self>> {
        let front = Arc::new(Self {
            control,
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
        });
        let listener = Arc::clone(&front);
        std::thread::Builder::new()
            .name("holder".to_owned())
            .spawn(move || {
                while let Ok(Some((tell, _))) = packets::receive::<Tell>(&listener.control) {
                    listener.hear(tell);
                }
                // The holder is gone, and this process is going to be.
                *listener.waiting() = Waiting::default();
            })?;
        Ok(front)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, tell: Tell) {
        let mut waiting = self.waiting();
        // Whoever left does not listen.
        match tell {
            Tell::Child { number, pid } => {
                let child = pid.map(|pid| {
                    let (end, ended) = oneshot::channel();
                    waiting.ends.insert(pid, end);
                    Child { pid, ended }
                });
                if let Some(asked) = waiting.children.remove(&number)
                    && let Err(Ok(child)) = asked.send(child)
                {
                    drop(waiting);
                    self.kill(child.pid);
                }
            }
            Tell::Ended { pid, how } => {
                if let Some(end) = waiting.ends.remove(&pid) {
                    let _ = end.send(how);
                }
            }
            Tell::Model { problem } => {
                if let Some(asked) = waiting.model.take() {
                    let _ = asked.send(problem);
                }
            }
        }
    }

    fn kill(&self, pid: u32) {
        // Without a holder there is no child.
        let _ = packets::send(&self.control, &Ask::Kill { pid }, &[]);
    }

    async fn fork(&self, stream: UnixStream) -> Result<Child, Problem> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (asked, told) = oneshot::channel();
        self.waiting().children.insert(number, asked);
        packets::send(&self.control, &Ask::Child { number }, &[stream.as_fd()]).map_err(lost)?;
        told.await
            .map_err(|_| lost("the pod is ending"))?
            .map_err(lost)
    }

    /// Has the holder take a model into use.
    ///
    /// # Errors
    /// The function's problem with it.
    pub(crate) async fn use_model(&self, version: &str, path: &Path) -> Result<(), Problem> {
        let (asked, told) = oneshot::channel();
        self.waiting().model = Some(asked);
        let ask = Ask::Model {
            version: version.to_owned(),
            path: path.to_path_buf(),
        };
        packets::send(&self.control, &ask, &[]).map_err(lost)?;
        match told.await.map_err(|_| lost("the pod is ending"))? {
            None => Ok(()),
            Some(problem) => Err(problem),
        }
    }
}

/// Has an invocation done in a child of its own.
///
/// # Errors
/// The pod takes none now, there is no child, or it ended without an answer: `function_crashed`.
pub(crate) async fn forward<F: Function>(
    pod: &Arc<Pod<F>>,
    front: &Arc<Front>,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    pod.serving()?;
    let running = pod.admit()?;
    let invocation = request.headers().get(headers::INVOCATION);
    let invocation = invocation
        .and_then(|id| id.to_str().ok())
        .map(str::to_owned);
    let (ours, theirs) = UnixStream::pair().map_err(lost)?;
    let child = front.fork(theirs).await?;
    let mut held = HeldChild {
        front: Arc::clone(front),
        child: Some(child),
        batch: invocation.as_deref().map(|id| pod.runs(id)),
        running: Some(running),
        pod: Arc::clone(pod),
        counted: false,
    };
    ours.set_nonblocking(true).map_err(lost)?;
    let stream = tokio::net::UnixStream::from_std(ours).map_err(lost)?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .handshake::<_, Incoming>(TokioIo::new(stream))
        .await
        .map_err(lost)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a child ended");
        }
    });
    let answer = match sender.send_request(request).await {
        Ok(answer) => answer,
        Err(_) => return Err(held.crashed(invocation).await),
    };
    let (head, body) = answer.into_parts();
    held.count(match head.status.as_u16() {
        0..400 => Ended::Done,
        400..500 => Ended::Refused,
        _ => Ended::Failed,
    });
    let kind = head.headers.get(http::header::CONTENT_TYPE);
    let passing = Passing {
        body,
        lines: kind.is_some_and(|kind| kind == NDJSON_MEDIA_TYPE),
        invocation,
        // Dropped with the answer: then the child sees that nobody waits any more.
        _sender: Box::new(sender),
        held: Some(held),
    };
    let stream = futures_util::stream::unfold(passing, async |mut passing| {
        passing.next().await.map(|bytes| (bytes, passing))
    });
    Ok(http::Response::from_parts(
        head,
        Reply::Lines(Box::pin(stream)),
    ))
}

/// A child and what its invocation holds of the pod, until the child is gone.
struct HeldChild<F: Function> {
    front: Arc<Front>,
    child: Option<Child>,
    batch: Option<RunningBatch<F>>,
    running: Option<Running<F>>,
    pod: Arc<Pod<F>>,
    counted: bool,
}

impl<F: Function> HeldChild<F> {
    fn count(&mut self, ended: Ended) {
        if !std::mem::replace(&mut self.counted, true) {
            self.pod.count(ended);
        }
    }

    /// The problem of a child that is gone without having answered.
    async fn crashed(&mut self, invocation: Option<String>) -> Problem {
        // Whoever makes an answer of the problem counts it.
        self.counted = true;
        let how = match self.child.take() {
            Some(child) => match tokio::time::timeout(GRACE, child.ended).await {
                Ok(how) => how.unwrap_or_default(),
                Err(_) => {
                    self.front.kill(child.pid);
                    "it closed its connection".to_owned()
                }
            },
            None => String::new(),
        };
        let detail = format!("the process of this invocation ended without an answer: {how}");
        let mut problem = Problem::new(500, "function_crashed", detail);
        problem.invocation = invocation;
        problem
    }
}

impl<F: Function> Drop for HeldChild<F> {
    fn drop(&mut self) {
        if !self.counted {
            self.pod.count(Ended::Cancelled);
        }
        let (batch, running) = (self.batch.take(), self.running.take());
        let Some(mut child) = self.child.take() else {
            return;
        };
        let front = Arc::clone(&self.front);
        // What was dropped after the async runtime has no child any more: it dies with this process.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if tokio::time::timeout(GRACE, &mut child.ended).await.is_err() {
                    front.kill(child.pid);
                    let _ = child.ended.await;
                }
                drop((batch, running));
            });
        }
    }
}

/// An answer on its way from a child to the caller.
struct Passing<F: Function> {
    body: Incoming,
    /// Whether it is lines, of which the last says how it ended.
    lines: bool,
    invocation: Option<String>,
    _sender: Box<dyn std::any::Any + Send>,
    held: Option<HeldChild<F>>,
}

impl<F: Function> Passing<F> {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Some(bytes);
                    }
                }
                Some(Err(_)) => {
                    let mut held = self.held.take()?;
                    let problem = held.crashed(self.invocation.take()).await;
                    tracing::warn!(status = problem.status, "{problem}");
                    if !self.lines {
                        // The connection ends short of the length that was said.
                        return None;
                    }
                    let mut line = serde_json::to_vec(&ProgressLine::Error { problem }).ok()?;
                    line.push(b'\n');
                    return Some(Bytes::from(line));
                }
                None => return None,
            }
        }
    }
}
