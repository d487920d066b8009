//! A request that passes straight through to a pod: the hot path.
//!
//! Any verb, path, query, header and body passes as it came, both ways, and so do trailers and upgrades;
//! what is of one connection stays on it ([`heads`]). A pod that dies of a request, or answers that it is
//! full, is not the end of it where the request can be sent once more.

mod connections;
mod exchange;
mod heads;
mod held;
mod respond;
mod stamp;
mod tunnel;
mod upload;

pub(super) use connections::Local;
pub(super) use held::Held;
pub(super) use stamp::{Stamp, stamp};

use self::exchange::{Kind, Replay, exchange};
use self::respond::Answered;
use self::tunnel::Upgrade;
use self::upload::Upload;
use super::Body;
use super::arriving::{Arriving, Broken, Course};
use super::caller::Caller;
use super::invoke::Wanted;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::pods::{AcquireError, Expected, Lease};
use crate::runnable::Deployed;
use crate::scheduler::{Ask, Placed};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, Version, request};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use stoic_placement::Features;
use tokio::time::Instant;

/// A pod that broke its connection tells within this time how it died, if it did.
const DEATH_IS_TOLD: Duration = Duration::from_millis(400);

/// Bodies up to this size are kept until the answer begins, so that they can be sent once more.
const REPLAYABLE: u64 = 256 * 1024;

/// A place for a request.
struct Place {
    deployed: Arc<Deployed>,
    placed: Placed,
    lease: Lease,
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

/// Sends a request to a pod of the function and passes its answer on.
pub(super) async fn forward(
    gateway: &Arc<Gateway>,
    deployed: &Arc<Deployed>,
    mut request: Request<Incoming>,
    path: PathAndQuery,
    wanted: &Wanted,
    caller: &Caller,
) -> Result<Response<Body>, Failure> {
    let upgrade = Upgrade::of(&mut request);
    let (mut head, body) = request.into_parts();
    let invocation = HeaderValue::from_str(&wanted.invocation)
        .map_err(|e| Failure::new(500, "internal", e.to_string()))?;
    let kind = match &upgrade {
        Some(_) => Kind::Upgrade,
        None if is_grpc(&head) => Kind::Http2,
        None => Kind::Plain,
    };
    rewrite(&mut head, path)?;
    heads::for_pod(&mut head, caller);
    if deployed.function.object.spec.tells_events() {
        heads::tell_event(&mut head.headers, &invocation);
    }
    match (&upgrade, kind) {
        (Some(upgrade), _) => upgrade.ask(&mut head.headers),
        (None, Kind::Http2) => for_http2(&mut head)?,
        (None, _) => {}
    }

    let length = body.size_hint().exact();
    let (course, replay, request);
    if length.is_none_or(|length| length > REPLAYABLE) {
        let limit = gateway.config.body_limit.as_u64();
        let body = Arriving::new(body, gateway.config.http.body_timeout);
        let followed = Arc::new(Course::default());
        let upload = Upload::streaming(body, limit, Arc::clone(&followed));
        (course, replay) = (Some(followed), None);
        request = Request::from_parts(head, upload);
    } else {
        let bytes = if body.is_end_stream() {
            Bytes::new()
        } else {
            let body = Arriving::new(body, gateway.config.http.body_timeout);
            let body = body.collect().await;
            body.map_err(|Broken(failure)| failure)?.to_bytes()
        };
        (course, replay) = (None, Some(Replay::of(&head, bytes.clone())));
        request = Request::from_parts(head, Upload::whole(bytes));
    }

    let ask = Ask {
        action: wanted.action(),
        features: Features::new(wanted.items.unwrap_or(1) as f64, wanted.bytes as f64),
        pinned: wanted.runtime.as_deref(),
        avoid: &[],
        deadline_s: wanted.deadline_s(),
    };
    let tries = Tries {
        gateway,
        ask,
        kind,
        course,
        replay,
    };
    let (place, answered) = tries.run(deployed, request).await?;
    Ok(answered.respond(gateway, place, wanted, invocation, caller, upgrade))
}

/// The tries of one request.
struct Tries<'a> {
    gateway: &'a Arc<Gateway>,
    ask: Ask<'a>,
    kind: Kind,
    /// Of a body that is passed on as it comes.
    course: Option<Arc<Course>>,
    /// Of a request that can be sent once more.
    replay: Option<Replay>,
}

impl Tries<'_> {
    /// One pod; another when it says that it is full; once more, elsewhere, when it dies.
    async fn run(
        &self,
        deployed: &Arc<Deployed>,
        mut request: Request<Upload>,
    ) -> Result<(Place, Answered), Failure> {
        let first = self.acquire(Arc::clone(deployed), &self.ask).await;
        let mut place = first.map_err(|failed| failed.failure)?;
        let mut full = Vec::new();
        let mut died = false;
        loop {
            let failed = match self.send(&place, request).await {
                Ok(answered) => {
                    if answered.status() == StatusCode::TOO_MANY_REQUESTS
                        && let Some(replay) = &self.replay
                    {
                        full.push(Arc::clone(&place.lease.pod.name));
                        if let Some(other) = self.another(&place, &full) {
                            (place, request) = (other, replay.request());
                            continue;
                        }
                    }
                    return Ok((place, answered));
                }
                Err(failed) => failed,
            };
            let (Some(runtime), Some(replay), false) = (failed.again, &self.replay, died) else {
                return Err(failed.failure);
            };
            died = true;
            let ask = Ask {
                avoid: &[runtime],
                ..self.ask
            };
            // The dead pod's place is given back before another is asked for.
            let deployed = Arc::clone(&place.deployed);
            drop(place);
            let next = self.acquire(deployed, &ask).await;
            place = next.map_err(|failed| failed.failure)?;
            request = replay.request();
        }
    }

    /// A place in a pod, of the version that is in force by then: one that was replaced meanwhile hands
    /// the request on to the next. Where a runtime gives none, the request is placed on another, if any
    /// is left.
    async fn acquire(&self, mut deployed: Arc<Deployed>, ask: &Ask<'_>) -> Result<Place, Failed> {
        let mut avoid = ask.avoid.to_vec();
        loop {
            let ask = Ask {
                avoid: &avoid,
                ..*ask
            };
            let placed = self.gateway.scheduler.place(&deployed, &ask);
            let placed = placed.map_err(|e| self.gateway.unplaced(&deployed, e))?;
            let pool = deployed.pool(placed.runtime).ok_or_else(|| {
                Failure::new(503, "runtime_unavailable", "the runtime has no pool")
            })?;
            let elsewhere = || ask.pinned.is_none() && deployed.elsewhere(placed.runtime);
            let error = match pool.acquire_or_give_way(expected(&placed), elsewhere).await {
                Ok(lease) => {
                    return Ok(Place {
                        deployed,
                        placed,
                        lease,
                    });
                }
                Err(error) => error,
            };
            let newer = self.gateway.functions.get(deployed.function.name());
            match newer.filter(|newer| !Arc::ptr_eq(newer, &deployed)) {
                Some(newer) if matches!(error, AcquireError::Closed) => deployed = newer,
                _ if elsewhere() && !avoid.contains(&placed.runtime) => avoid.push(placed.runtime),
                _ => return Err(error.into()),
            }
        }
    }

    /// A place in another pod than those that are full, if one is free now: the same runtime's first.
    fn another(&self, place: &Place, full: &[Arc<str>]) -> Option<Place> {
        let deployed = &place.deployed;
        let mut placed = place.placed.clone();
        let mut tried = Vec::new();
        loop {
            let pool = deployed.pool(placed.runtime)?;
            if let Some(lease) = pool.take_another(expected(&placed), full) {
                return Some(Place {
                    deployed: Arc::clone(deployed),
                    placed,
                    lease,
                });
            }
            tried.push(placed.runtime);
            if self.ask.pinned.is_some() {
                return None;
            }
            let ask = Ask {
                avoid: &tried,
                ..self.ask
            };
            let next = self.gateway.scheduler.choose(deployed, &ask).ok()?;
            if tried.contains(&next.runtime) {
                return None;
            }
            placed = next;
        }
    }

    /// One try: returns when the head of the answer has come.
    async fn send(&self, place: &Place, request: Request<Upload>) -> Result<Answered, Failed> {
        let timeout = place.deployed.function.object.spec.timeout;
        let sent = Instant::now();
        let exchange = exchange(
            place.lease.pod.reach,
            self.kind,
            request,
            self.replay.as_ref(),
        );
        match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok((sender, answer))) => {
                if let Some(course) = &self.course {
                    course.answered.store(true, Relaxed);
                }
                Ok(Answered {
                    sender,
                    sent,
                    answer,
                })
            }
            Ok(Err(silence)) => {
                // A body that broke off, grew too long or came too slowly is no fault of the pod.
                let broken = self.course.as_ref().and_then(|course| course.broken.get());
                if let Some(failure) = broken {
                    return Err(failure.clone().into());
                }
                let condemned = silence.condemns();
                let mut failure = silence.failure();
                if condemned {
                    place.lease.condemn();
                    if let Some(how) = place.lease.pod.death(DEATH_IS_TOLD).await {
                        let what = failure.problem.detail.take().unwrap_or_default();
                        failure.problem.detail = Some(format!("{what}; the pod ended: {how}"));
                    }
                }
                Err(Failed {
                    failure,
                    again: condemned.then_some(place.placed.runtime),
                })
            }
            Err(_) => {
                let text = format!("no answer within {}", humantime::format_duration(timeout));
                Err(Failure::new(504, "invocation_timeout", text).into())
            }
        }
    }
}

fn expected(placed: &Placed) -> Expected {
    Expected {
        processing_s: placed.estimate.processing.mean,
    }
}

/// Whether a request is gRPC: that is HTTP/2 from end to end.
fn is_grpc(head: &request::Parts) -> bool {
    let grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    head.version == Version::HTTP_2 && head.headers.get(header::CONTENT_TYPE).is_some_and(grpc)
}

/// Puts the path in that the pod is to see, and the host where HTTP/1.1 has it.
fn rewrite(head: &mut request::Parts, path: PathAndQuery) -> Result<(), Failure> {
    let invalid = |e: &dyn std::fmt::Display| Failure::new(400, "path_invalid", e.to_string());
    if let Some(authority) = head.uri.authority()
        && !head.headers.contains_key(header::HOST)
    {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|e| invalid(&e))?;
        head.headers.insert(header::HOST, host);
    }
    head.uri = Uri::from(path);
    Ok(())
}

/// HTTP/2 has host and scheme in the address.
fn for_http2(head: &mut request::Parts) -> Result<(), Failure> {
    let host = head.headers.remove(header::HOST);
    let host = host
        .as_ref()
        .map_or(&b"localhost"[..], HeaderValue::as_bytes);
    let invalid = |e: &dyn std::fmt::Display| Failure::new(400, "path_invalid", e.to_string());
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::try_from(host).map_err(|e| invalid(&e))?);
    head.uri = Uri::from_parts(parts).map_err(|e| invalid(&e))?;
    head.version = Version::HTTP_2;
    Ok(())
}
