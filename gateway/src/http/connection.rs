//! One connection of a caller, from its first byte to its last: HTTP/1.1 or HTTP/2 (prior knowledge),
//! how long it may take over a head, and what it becomes after an upgrade.

use super::answer::failure;
use super::caller::{Busy, Caller, Heard};
use super::forward::Local;
use super::lookout::{Lookout, Order, Watched};
use super::server::Door;
use super::wire::Wire;
use super::{Body, routes};
use crate::failure::Failure;
use crate::gateway::Gateway;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::debug;

/// Largest head of a request.
const HEAD_LIMIT: usize = 64 * 1024;
/// Requests on one connection of HTTP/2 at the same time.
const STREAMS: u32 = 256;
/// Connections of HTTP/2 are asked so often whether they still are there, and given so long to answer.
const PING: Duration = Duration::from_secs(20);
/// What a client sends first that speaks HTTP/2 without having asked.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest time that a last word to a client may take.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Becomes the grace that requests have when the gateway stops.
pub(super) type Stopped = watch::Receiver<Option<Duration>>;

/// Serves one connection to its end.
pub(super) async fn connection(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    peer: SocketAddr,
    door: Door,
    lookout: Rc<Lookout>,
    mut stopped: Stopped,
) {
    let _ = stream.set_nodelay(true);
    let caller = Caller::new(peer, door.inside(), door.secure());
    let patience = gateway.config.http.head_timeout;
    let asked = tokio::select! {
        asked = tokio::time::timeout(patience, greet(stream, &door)) => asked,
        // Nothing is owed to a connection that has asked for nothing.
        _ = stopped.wait_for(Option::is_some) => return,
    };
    // One that says nothing is closed without a word.
    let Ok(Ok((stream, http2))) = asked else {
        return;
    };
    let io = TokioIo::new(Heard {
        stream,
        caller: Arc::clone(&caller),
    });
    let watched = lookout.watch(&caller);
    if http2 {
        serve_http2(gateway, io, caller, &watched).await;
    } else {
        serve_http1(gateway, io, caller, &watched).await;
    }
}

/// Agrees with a caller on what is spoken: the stream, and whether that is HTTP/2.
async fn greet(stream: TcpStream, door: &Door) -> std::io::Result<(Wire, bool)> {
    let Some(acceptor) = door.acceptor() else {
        let http2 = speaks_http2(&stream).await?;
        return Ok((Wire::Plain(stream), http2));
    };
    let stream = acceptor
        .accept(stream)
        .await
        .inspect_err(|error| debug!("TLS: {error}"))?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Wire::Tls(Box::new(stream)), http2))
}

/// Whether the first bytes are those of HTTP/2. They stay where they are.
async fn speaks_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        if count == 0 || first[..count] != PREFACE[..count] {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        // A part of it, which is rare: the rest is not waited for by readiness, since what is there
        // already makes the socket ready.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn serve_http1(
    gateway: Arc<Gateway>,
    io: TokioIo<Heard>,
    caller: Arc<Caller>,
    watched: &Watched,
) {
    let answers = {
        let caller = Arc::clone(&caller);
        service_fn(move |request| answer(Arc::clone(&gateway), Arc::clone(&caller), request))
    };
    let mut connection = http1::Builder::new()
        // How long a head may take is looked at now and then, below: a timer for each would cost.
        .header_read_timeout(None)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(io, answers)
        .with_upgrades();
    let ended = loop {
        match watched.drive(&mut connection).await {
            Ok(ended) => break ended,
            // Nothing is owed to a connection that has asked for nothing.
            Err(Order::Stop) if caller.requests() == 0 => return,
            Err(Order::Stop) => Pin::new(&mut connection).graceful_shutdown(),
            Err(Order::Idle) => return,
            Err(Order::Late) => {
                if let Some(parts) = connection.into_parts() {
                    refuse_late(parts.io.into_inner().stream).await;
                }
                return;
            }
        }
    };
    if let Err(error) = ended {
        debug!("connection: {error}");
    }
    if let Some(tunnel) = caller.take_tunnel() {
        tunnel.await;
    }
}

async fn serve_http2(
    gateway: Arc<Gateway>,
    io: TokioIo<Heard>,
    caller: Arc<Caller>,
    watched: &Watched,
) {
    let answers = {
        let caller = Arc::clone(&caller);
        service_fn(move |request| answer(Arc::clone(&gateway), Arc::clone(&caller), request))
    };
    let mut connection = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_LIMIT as u32)
        .adaptive_window(true)
        .keep_alive_interval(Some(PING))
        .keep_alive_timeout(PING)
        .serve_connection(io, answers);
    let ended = loop {
        match watched.drive(&mut connection).await {
            Ok(ended) => break ended,
            Err(Order::Stop) => Pin::new(&mut connection).graceful_shutdown(),
            Err(Order::Idle | Order::Late) => {
                Pin::new(&mut connection).graceful_shutdown();
                let _ = tokio::time::timeout(LAST_WORD, &mut connection).await;
                return;
            }
        }
    };
    if let Err(error) = ended {
        debug!("connection: {error}");
    }
}

/// Answers one request of a connection.
async fn answer(
    gateway: Arc<Gateway>,
    caller: Arc<Caller>,
    request: Request<Incoming>,
) -> Result<Response<Counted>, Infallible> {
    let busy = caller.begin();
    let answer = routes::route(&gateway, request, &caller).await;
    Ok(answer.map(|body| Counted { body, _busy: busy }))
}

/// The body of an answer: until it has ended, its connection is busy.
struct Counted {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Tells a client that its head took too long.
async fn refuse_late(mut stream: Wire) {
    let detail = "the head of the request did not come in time";
    let response = failure(&Failure::new(408, "head_timeout", detail));
    let (head, body) = response.into_parts();
    let Body::Whole(Some(body)) = body else {
        return;
    };
    let mut text = format!("HTTP/1.1 {}\r\nconnection: close\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    text.extend_from_slice(&body);
    let said = async {
        stream.write_all(&text).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(LAST_WORD, said).await;
}
