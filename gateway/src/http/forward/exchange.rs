//! One request to one pod: on a kept connection where there is one, else on a new one.

use super::connections::{self, Sender, Unsent};
use super::upload::Upload;
use crate::failure::Failure;
use bytes::Bytes;
use http::{Request, Response, request};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// A kept connection that the pod was closing breaks at once; what breaks later is the pod's doing.
const AT_ONCE: Duration = Duration::from_millis(250);

/// What a connection has to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request in HTTP/1.1.
    Plain,
    /// A request that may change the protocol.
    Upgrade,
    /// A request in HTTP/2.
    Http2,
}

/// A request that can be sent once more.
#[derive(Debug)]
pub(super) struct Replay {
    head: request::Parts,
    body: Bytes,
}

impl Replay {
    /// Keeps what is needed of a request.
    pub(super) fn of(head: &request::Parts, body: Bytes) -> Self {
        let mut kept = Request::new(()).into_parts().0;
        kept.method = head.method.clone();
        kept.uri = head.uri.clone();
        kept.version = head.version;
        kept.headers = head.headers.clone();
        Self { head: kept, body }
    }

    /// The request again.
    pub(super) fn request(&self) -> Request<Upload> {
        let head = Self::of(&self.head, Bytes::new()).head;
        Request::from_parts(head, Upload::whole(self.body.clone()))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Silence {
    /// The pod takes no connection, or broke it.
    Died(String),
    /// What it sent is no HTTP.
    Garbled(String),
    /// It does not speak HTTP/2, or broke that off.
    NoHttp2(String),
}

impl Silence {
    fn of(kind: Kind, error: &hyper::Error) -> Self {
        let text = chain(error);
        match kind {
            Kind::Http2 => Self::NoHttp2(text),
            Kind::Plain | Kind::Upgrade if error.is_parse() => Self::Garbled(text),
            Kind::Plain | Kind::Upgrade => Self::Died(text),
        }
    }

    /// Whether the pod is to be ended and replaced.
    pub(super) fn condemns(&self) -> bool {
        match self {
            Self::Died(_) | Self::Garbled(_) => true,
            Self::NoHttp2(_) => false,
        }
    }

    pub(super) fn failure(self) -> Failure {
        match self {
            Self::Died(why) => Failure::new(502, "pod_died", format!("the pod died: {why}")),
            Self::Garbled(why) => {
                let detail = format!("what the pod answered is no HTTP: {why}");
                Failure::new(502, "pod_answer_invalid", detail)
            }
            Self::NoHttp2(why) => {
                let detail = format!(
                    "gRPC is passed on in HTTP/2 (h2c), which the pod does not speak, or broke off: {why}"
                );
                Failure::new(502, "pod_http2_failed", detail)
            }
        }
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Sends a request to the pod that is reached there, and returns when the head of its answer has come.
pub(super) async fn exchange(
    reach: SocketAddr,
    kind: Kind,
    request: Request<Upload>,
    replay: Option<&Replay>,
) -> Result<(Sender, Response<Incoming>), Silence> {
    let used = match kind {
        Kind::Plain => connections::kept(reach, replay.is_some()),
        Kind::Upgrade => None,
        Kind::Http2 => connections::shared(reach),
    };
    // A kept connection may have been closed by the pod meanwhile. A request that never left is sent on a
    // new one, and so is one that can be sent twice, when it was lost at once.
    let request = match used {
        None => request,
        Some(mut sender) => {
            let begun = Instant::now();
            match sender.try_send(request).await {
                Ok(answer) => return Ok((sender, answer)),
                Err(Unsent::Back(request)) => *request,
                Err(Unsent::Lost(error)) => match replay {
                    Some(replay) if !error.is_parse() && begun.elapsed() < AT_ONCE => {
                        replay.request()
                    }
                    _ => return Err(Silence::of(kind, &error)),
                },
            }
        }
    };
    let opened = match kind {
        Kind::Plain => connections::connect(reach, false).await,
        Kind::Upgrade => connections::connect(reach, true).await,
        Kind::Http2 => connections::connect_http2(reach).await,
    };
    let mut sender = opened.map_err(|error| Silence::Died(chain(&*error)))?;
    match sender.send(request).await {
        Ok(answer) => Ok((sender, answer)),
        Err(error) => {
            if kind == Kind::Http2 {
                connections::forget_shared(reach);
            }
            Err(Silence::of(kind, &error))
        }
    }
}
