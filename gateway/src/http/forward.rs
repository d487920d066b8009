//! A request that passes straight through to a pod: the hot path.
//!
//! Connections to pods belong to the thread that opened them and go back to it when the answer ends.

use super::Body;
use super::invoke::Wanted;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::history::{Measurement, Parts};
use crate::pods::{AcquireError, Expected, Lease};
use crate::requester::{emulated, parts_header};
use crate::runnable::Deployed;
use crate::scheduler::{Ask, Placed, unix_now};
use bytes::Bytes;
use http::header::{self, HeaderName};
use http::request;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use stoic_placement::Features;
use stoic_protocol::headers;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Bodies up to this size are kept until the answer begins, so that they can be sent once more.
const REPLAYABLE: u64 = 256 * 1024;
/// Idle connections kept per pod and thread.
const IDLE_CONNECTIONS: usize = 64;

type Sender = SendRequest<Upload>;

thread_local! {
    static IDLE: RefCell<HashMap<SocketAddr, Vec<Sender>>> = RefCell::default();
}

/// The body of a request on its way to a pod.
#[derive(Debug)]
pub(super) enum Upload {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes, no more than so many bytes; what breaks it is told apart from what ails the pod.
    Streaming(Incoming, u64, Arc<OnceLock<Failure>>),
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streaming(incoming, left, broken) => {
                Pin::new(incoming).poll_frame(cx).map(|frame| {
                    frame.map(|frame| {
                        let broke = |failure: Failure| {
                            let text = failure.problem.to_string();
                            let _ = broken.set(failure);
                            text
                        };
                        let frame = frame.map_err(|e| broke(incomplete(&e)))?;
                        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                        *left = left.checked_sub(size).ok_or_else(|| broke(too_large()))?;
                        Ok(frame)
                    })
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streaming(incoming, ..) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Streaming(incoming, ..) => incoming.size_hint(),
        }
    }
}

/// What an answer on its way through holds: the pod's place, the connection, and what is to be recorded.
pub struct Held {
    sender: Sender,
    reach: SocketAddr,
    lease: Lease,
    gateway: Arc<Gateway>,
    deployed: Arc<Deployed>,
    runtime: usize,
    sent: Instant,
    waited: Parts,
    record: Option<Box<Measurement>>,
    ok: bool,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl Held {
    /// The answer ended: the connection goes back, the invocation is counted.
    pub(super) fn finish(self) {
        let Self {
            sender,
            reach,
            lease,
            gateway,
            deployed,
            runtime,
            sent,
            waited,
            record,
            ok,
        } = self;
        IDLE.with_borrow_mut(|idle| {
            let senders = idle.entry(reach).or_default();
            if senders.len() < IDLE_CONNECTIONS {
                senders.push(sender);
            }
        });
        let parts = Parts {
            processing: sent.elapsed().as_secs_f64(),
            ..waited
        };
        match record {
            Some(mut measurement) => {
                measurement.actual = parts;
                gateway.record(&deployed, runtime, &measurement);
            }
            None if ok => {
                if let Some(meters) = deployed.meters(runtime) {
                    meters.count(lease.start, &parts);
                }
            }
            None => {}
        }
    }
}

/// How one try failed.
struct Failed {
    failure: Failure,
    /// The runtime to avoid when it is worth one more try.
    again: Option<usize>,
}

impl<E: Into<Failure>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self {
            failure: error.into(),
            again: None,
        }
    }
}

fn too_large() -> Failure {
    Failure::new(413, "body_too_large", "the body is over the limit")
}

fn incomplete(error: &hyper::Error) -> Failure {
    Failure::new(400, "body_incomplete", error.to_string())
}

/// Sends a request to a pod of the function and passes its answer on.
pub(super) async fn forward(
    gateway: &Arc<Gateway>,
    deployed: &Arc<Deployed>,
    request: Request<Incoming>,
    path: &str,
    wanted: &Wanted,
) -> Result<Response<Body>, Failure> {
    let (mut head, body) = request.into_parts();
    let limit = gateway.config.body_limit.as_u64();
    let length = body.size_hint().exact();
    head.uri = path
        .parse::<Uri>()
        .map_err(|e| Failure::new(400, "path_invalid", e.to_string()))?;
    remove_hop_by_hop(&mut head.headers);

    let ask = Ask {
        action: wanted.action(),
        features: Features::new(wanted.items.unwrap_or(1) as f64, wanted.bytes as f64),
        pinned: wanted.runtime.as_deref(),
        avoid: &[],
        deadline_s: wanted.deadline_s(),
    };
    if length.is_none_or(|length| length > REPLAYABLE) {
        let upload = Upload::Streaming(body, limit, Arc::default());
        let sent = send(gateway, deployed, head, upload, &ask, wanted).await;
        return sent.map_err(|failed| failed.failure);
    }
    let bytes = if body.is_end_stream() {
        Bytes::new()
    } else {
        let body = body.collect().await;
        body.map_err(|e| incomplete(&e))?.to_bytes()
    };
    let upload = || Upload::Whole(Some(bytes.clone()).filter(|bytes| !bytes.is_empty()));
    // The head is only kept where it can be needed again: cloning it for every request costs.
    let again = copy(&head);
    match send(gateway, deployed, head, upload(), &ask, wanted).await {
        Ok(response) => Ok(response),
        Err(Failed {
            failure,
            again: None,
        }) => Err(failure),
        Err(Failed {
            again: Some(failed),
            ..
        }) => {
            let avoid = [failed];
            let ask = Ask {
                avoid: &avoid,
                ..ask
            };
            send(gateway, deployed, again, upload(), &ask, wanted)
                .await
                .map_err(|failed| failed.failure)
        }
    }
}

/// A place in a pod, of the version that is in force by then: one that was replaced meanwhile hands the
/// request on to the next. Where a runtime gives none, the request is placed on another, if any is left.
async fn acquire(
    gateway: &Gateway,
    deployed: &mut Arc<Deployed>,
    ask: &Ask<'_>,
) -> Result<(Placed, Lease), Failed> {
    let mut avoid = ask.avoid.to_vec();
    loop {
        let ask = Ask {
            avoid: &avoid,
            ..*ask
        };
        let placed = gateway.scheduler.place(deployed, &ask)?;
        let pool = deployed
            .pool(placed.runtime)
            .ok_or_else(|| Failure::new(503, "runtime_unavailable", "the runtime has no pool"))?;
        let expected = Expected {
            processing_s: placed.estimate.processing.mean,
        };
        let elsewhere = || ask.pinned.is_none() && deployed.elsewhere(placed.runtime);
        let error = match pool.acquire_or_give_way(expected, elsewhere).await {
            Ok(lease) => return Ok((placed, lease)),
            Err(error) => error,
        };
        let newer = gateway.functions.get(deployed.function.name());
        match newer.filter(|newer| !Arc::ptr_eq(newer, deployed)) {
            Some(newer) if matches!(error, AcquireError::Closed) => *deployed = newer,
            _ if elsewhere() && !avoid.contains(&placed.runtime) => avoid.push(placed.runtime),
            _ => return Err(error.into()),
        }
    }
}

async fn send(
    gateway: &Arc<Gateway>,
    deployed: &Arc<Deployed>,
    head: request::Parts,
    upload: Upload,
    ask: &Ask<'_>,
    wanted: &Wanted,
) -> Result<Response<Body>, Failed> {
    let mut deployed = Arc::clone(deployed);
    let (placed, lease) = acquire(gateway, &mut deployed, ask).await?;
    let reach = lease.pod.reach;
    let broken = match &upload {
        Upload::Whole(_) => None,
        Upload::Streaming(_, _, broken) => Some(Arc::clone(broken)),
    };
    let idle = IDLE.with_borrow_mut(|idle| idle.get_mut(&reach).and_then(Vec::pop));
    let timeout = deployed.function.object.spec.timeout;
    let sent = Instant::now();
    let died = |error: &dyn std::fmt::Display| Failed {
        failure: Failure::new(502, "pod_died", format!("the pod died: {error}")),
        again: broken.is_none().then_some(placed.runtime),
    };

    let exchange = async {
        // A kept connection may have been closed by the pod meanwhile; a request that never left is
        // sent on a new one.
        let request = Request::from_parts(head, upload);
        let request = match idle {
            Some(mut sender) => match sender.try_send_request(request).await {
                Ok(answer) => return Ok((sender, answer)),
                Err(mut error) => match error.take_message() {
                    Some(request) => request,
                    None => return Err(error.into_error().to_string()),
                },
            },
            None => request,
        };
        let mut sender = connect(reach).await.map_err(|e| e.to_string())?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|e| e.to_string())?;
        Ok((sender, answer))
    };
    let (sender, answer) = match tokio::time::timeout(timeout, exchange).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            // A body that broke off, or grew too long, is no fault of the pod.
            if let Some(failure) = broken.as_ref().and_then(|broken| broken.get()) {
                return Err(failure.clone().into());
            }
            lease.condemn();
            return Err(died(&error));
        }
        Err(_) => {
            let text = format!("no answer within {}", humantime::format_duration(timeout));
            return Err(Failure::new(504, "invocation_timeout", text).into());
        }
    };
    Ok(respond(
        gateway, &deployed, &placed, wanted, sender, lease, sent, answer,
    ))
}

#[expect(
    clippy::too_many_arguments,
    reason = "the pieces of one answer, gathered in its only caller"
)]
fn respond(
    gateway: &Arc<Gateway>,
    deployed: &Arc<Deployed>,
    placed: &Placed,
    wanted: &Wanted,
    sender: Sender,
    lease: Lease,
    sent: Instant,
    answer: Response<Incoming>,
) -> Response<Body> {
    let info = &gateway.scheduler.runtimes()[placed.runtime];
    let cold = lease.start == crate::pods::Start::Cold;
    let mut waited = Parts::default();
    if cold {
        waited.deployment = lease.waited_s
    } else {
        waited.queueing = lease.waited_s
    }
    let parts = Parts {
        processing: sent.elapsed().as_secs_f64(),
        ..waited
    };
    let label = emulated(info.link_emulated, cold && info.deployment_emulated);

    let (mut head, incoming) = answer.into_parts();
    remove_hop_by_hop(&mut head.headers);
    let ok = !head.status.is_server_error();
    stamp(
        &mut head.headers,
        &Stamp {
            invocation: &wanted.invocation,
            runtime: &info.name,
            site: &info.site,
            start: lease.start.name(),
            pod: &lease.pod.name,
            predicted: placed.parts().map(|parts| (parts, placed.interval_90())),
            actual: &parts,
            emulated: &label,
        },
    );
    let record = deployed.sample_due().then(|| {
        Box::new(Measurement {
            invocation: wanted.invocation.clone(),
            at: unix_now() - parts.response(),
            function: deployed.function.name().to_owned(),
            version: deployed.function.version.clone(),
            action: wanted.action().to_owned(),
            runtime: info.name.clone(),
            site: info.site.clone(),
            mode: wanted.single_mode().name().to_owned(),
            items: wanted.items.unwrap_or(1),
            bytes: wanted.bytes,
            start: lease.start.name().to_owned(),
            predicted: placed.parts(),
            predicted_90: placed.interval_90(),
            predicted_50: placed.interval_50(),
            outcome: if ok {
                "ok".to_owned()
            } else {
                format!("status_{}", head.status.as_u16())
            },
            emulated: label.clone(),
            ..Measurement::default()
        })
    });
    let held = Box::new(Held {
        sender,
        reach: lease.pod.reach,
        lease,
        gateway: Arc::clone(gateway),
        deployed: Arc::clone(deployed),
        runtime: placed.runtime,
        sent,
        waited,
        record,
        ok,
    });
    if incoming.is_end_stream() {
        held.finish();
        return Response::from_parts(head, Body::empty());
    }
    Response::from_parts(
        head,
        Body::Proxied {
            incoming,
            held: Some(held),
        },
    )
}

/// What every answer of an invocation says of it.
pub(super) struct Stamp<'a> {
    pub(super) invocation: &'a str,
    pub(super) runtime: &'a str,
    pub(super) site: &'a str,
    pub(super) start: &'static str,
    pub(super) pod: &'a str,
    pub(super) predicted: Option<(Parts, Option<(f64, f64)>)>,
    pub(super) actual: &'a Parts,
    pub(super) emulated: &'a str,
}

/// Writes the `X-Stoic-*` headers and `Server-Timing`.
pub(super) fn stamp(headers: &mut HeaderMap, stamp: &Stamp<'_>) {
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put(headers::INVOCATION, stamp.invocation);
    put(headers::RUNTIME, stamp.runtime);
    put(headers::SITE, stamp.site);
    put(headers::POD, stamp.pod);
    put(headers::ACTUAL, &parts_header(stamp.actual, None));
    put(
        "server-timing",
        &crate::metrics::server_timing(stamp.actual),
    );
    if let Some((parts, interval)) = &stamp.predicted {
        put(headers::PREDICTED, &parts_header(parts, *interval));
    }
    if !stamp.emulated.is_empty() {
        put(headers::EMULATED, stamp.emulated);
    }
    headers.insert(
        HeaderName::from_static(headers::START),
        HeaderValue::from_static(stamp.start),
    );
}

async fn connect(reach: SocketAddr) -> Result<Sender, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(reach).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

fn copy(head: &request::Parts) -> request::Parts {
    let mut again = Request::new(()).into_parts().0;
    again.method = head.method.clone();
    again.uri = head.uri.clone();
    again.headers = head.headers.clone();
    again
}

/// Headers that belong to one connection (RFC 9110, section 7.6.1), and those they name.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(connection) = headers.remove(header::CONNECTION) {
        for name in connection.to_str().unwrap_or_default().split(',') {
            if let Ok(name) = HeaderName::try_from(name.trim()) {
                headers.remove(name);
            }
        }
    }
    for name in [
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
    ] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}
