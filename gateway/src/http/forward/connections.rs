//! Connections to pods. They belong to the thread that opened them and go back to it when an answer ends.
//!
//! One of HTTP/1.1 carries one request at a time; one of HTTP/2, for gRPC, carries many, so each thread
//! has one of those per pod.

use super::upload::Upload;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Idle connections kept per pod and thread: as many as a crowd of callers brings, or each of them would
/// cost a new one.
const IDLE_CONNECTIONS: usize = 1024;
/// What a crowd left behind goes when it was not needed for so long.
const RESTED: Duration = Duration::from_secs(20);
/// Servers close connections that were idle for some seconds (2 s are common). A request that cannot be
/// sent again takes none that has rested for longer than this.
const FRESH: Duration = Duration::from_secs(1);
/// Pods with kept connections, beyond which those of pods that are gone are looked for.
const MANY: usize = 64;

/// What goes wrong on a connection, as text.
type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// A connection to a pod, to send requests on.
#[derive(Debug)]
pub(super) enum Sender {
    /// HTTP/1.1.
    One(http1::SendRequest<Upload>),
    /// HTTP/2.
    Many(http2::SendRequest<Upload>),
}

/// The connections of this thread to one pod.
#[derive(Default)]
struct Kept {
    /// The one used last at the back.
    idle: VecDeque<(http1::SendRequest<Upload>, Instant)>,
    shared: Option<http2::SendRequest<Upload>>,
}

thread_local! {
    static KEPT: RefCell<HashMap<SocketAddr, Kept>> = RefCell::default();
}

/// Why a request on a kept connection got no answer.
pub(super) enum Unsent {
    /// It never left: here it is again.
    Back(Box<Request<Upload>>),
    /// It may have arrived.
    Lost(hyper::Error),
}

impl Sender {
    /// Sends a request on a connection that was used before.
    pub(super) async fn try_send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, Unsent> {
        let sent = match self {
            Self::One(sender) => sender.try_send_request(request).await,
            Self::Many(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| match error.take_message() {
            Some(request) => Unsent::Back(Box::new(request)),
            None => Unsent::Lost(error.into_error()),
        })
    }

    /// Sends a request on a new connection.
    pub(super) async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        match self {
            Self::One(sender) => sender.send_request(request).await,
            Self::Many(sender) => sender.send_request(request).await,
        }
    }
}

/// A connection to a pod that was kept, if any. `replayable`: the request can be sent once more.
pub(super) fn kept(reach: SocketAddr, replayable: bool) -> Option<Sender> {
    KEPT.with_borrow_mut(|all| {
        let idle = &mut all.get_mut(&reach)?.idle;
        let (sender, since) = idle.pop_back()?;
        if !replayable && since.elapsed() > FRESH {
            // Those below have rested for even longer.
            idle.clear();
            return None;
        }
        Some(Sender::One(sender))
    })
}

/// The HTTP/2 connection to a pod, if there is one.
pub(super) fn shared(reach: SocketAddr) -> Option<Sender> {
    KEPT.with_borrow(|all| {
        let sender = all.get(&reach)?.shared.as_ref()?;
        (!sender.is_closed()).then(|| Sender::Many(sender.clone()))
    })
}

/// Keeps a connection whose answer has ended.
pub(super) fn keep(reach: SocketAddr, sender: Sender, now: Instant) {
    let Sender::One(sender) = sender else { return };
    KEPT.with_borrow_mut(|all| {
        if all.len() > MANY && !all.contains_key(&reach) {
            forget_the_gone(all);
        }
        let idle = &mut all.entry(reach).or_default().idle;
        let rested = |(_, since): &(_, Instant)| now.saturating_duration_since(*since) > RESTED;
        if idle.front().is_some_and(rested) || idle.len() >= IDLE_CONNECTIONS {
            idle.pop_front();
        }
        idle.push_back((sender, now));
    });
}

/// Pods come and go: connections that they closed are let go of.
fn forget_the_gone(all: &mut HashMap<SocketAddr, Kept>) {
    all.retain(|_, kept| {
        kept.idle.retain(|(sender, _)| !sender.is_closed());
        kept.shared = kept.shared.take().filter(|sender| !sender.is_closed());
        !kept.idle.is_empty() || kept.shared.is_some()
    });
}

async fn open(reach: SocketAddr) -> std::io::Result<TokioIo<TcpStream>> {
    let stream = TcpStream::connect(reach).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

/// Opens a connection to a pod; one that may be upgraded is driven so that it can.
pub(super) async fn connect(reach: SocketAddr, upgrade: bool) -> Result<Sender, Trouble> {
    let io = open(reach).await?;
    let (sender, connection) = http1::Builder::new().handshake(io).await?;
    if upgrade {
        tokio::task::spawn_local(connection.with_upgrades());
    } else {
        tokio::task::spawn_local(connection);
    }
    Ok(Sender::One(sender))
}

/// Opens an HTTP/2 connection to a pod, which has to speak it without being asked, and shares it.
pub(super) async fn connect_http2(reach: SocketAddr) -> Result<Sender, Trouble> {
    let io = open(reach).await?;
    let (sender, connection) = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .handshake(io)
        .await?;
    tokio::task::spawn_local(connection);
    let shared = sender.clone();
    KEPT.with_borrow_mut(|all| all.entry(reach).or_default().shared = Some(shared));
    Ok(Sender::Many(sender))
}

/// Forgets the HTTP/2 connection to a pod.
pub(super) fn forget_shared(reach: SocketAddr) {
    KEPT.with_borrow_mut(|all| {
        if let Some(kept) = all.get_mut(&reach) {
            kept.shared = None;
        }
    });
}

/// Runs the tasks of a connection on its thread.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
