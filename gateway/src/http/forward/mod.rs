//! A request that passes straight through to a pod: the hot path.

mod connections;
mod held;
mod hops;
mod respond;
mod stamp;
mod upload;

pub(super) use held::Held;
pub(super) use stamp::{Stamp, stamp};

use self::connections::{connect, kept};
use self::hops::remove_hop_by_hop;
use self::respond::respond;
use self::upload::{Upload, incomplete};
use super::Body;
use super::invoke::Wanted;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::pods::{AcquireError, Expected, Lease};
use crate::runnable::Deployed;
use crate::scheduler::{Ask, Placed};
use bytes::Bytes;
use http::request;
use http::{Request, Response, Uri};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::sync::Arc;
use stoic_placement::Features;
use tokio::time::Instant;

/// Bodies up to this size are kept until the answer begins, so that they can be sent once more.
const REPLAYABLE: u64 = 256 * 1024;

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
    let idle = kept(reach);
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

fn copy(head: &request::Parts) -> request::Parts {
    let mut again = Request::new(()).into_parts().0;
    again.method = head.method.clone();
    again.uri = head.uri.clone();
    again.headers = head.headers.clone();
    again
}
