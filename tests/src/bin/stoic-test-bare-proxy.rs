//! What a proxy costs that is hyper and nothing else: the floor under the gateway's warm path, beside nginx
//! (`tests/bench/proxy.py`).
//!
//! `stoic-test-bare-proxy POD` passes every request on to the one pod, on connections that it keeps, and says
//! its own address in its first line. It chooses, counts and measures nothing. With `--headers` it adds as many
//! headers as the gateway does, which say nothing: they are always the same.

use http::{HeaderName, HeaderValue, Request, Response, Uri};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

/// What a pod is told, as long as what the gateway tells it.
const TOLD: [(&str, &str); 6] = [
    ("x-forwarded-host", "127.0.0.1:8080"),
    ("x-forwarded-proto", "http"),
    ("event-id", "01kbcs1f4qj5th4cwbvz4w2rv5"),
    ("event-type", "application/octet-stream"),
    ("event-time", "2026-01-01T00:00:00Z"),
    ("event-namespace", "http.stoic.dev"),
];
/// What an answer says, as long as what the gateway's say.
const SAID: [(&str, &str); 8] = [
    ("x-stoic-runtime", "edge"),
    ("x-stoic-site", "edge"),
    ("x-stoic-pod", "echo-edge-abcdef"),
    (
        "x-stoic-actual",
        "queueing=0.0000;transfer=0.0000;deployment=0.0000;processing=0.0001;response=0.0001",
    ),
    (
        "server-timing",
        "queueing;dur=0.0000, transfer;dur=0.0000, deployment;dur=0.0000, processing;dur=0.1000, total;dur=0.1000",
    ),
    (
        "x-stoic-predicted",
        "queueing=0.0000;transfer=0.0000;deployment=0.0000;processing=0.0001;response=0.0001;low90=0.0000;high90=0.0002",
    ),
    ("x-stoic-invocation", "01kbcs1f4qj5th4cwbvz4w2rv5"),
    ("x-stoic-start", "warm"),
];

type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// The pod, and the connections to it that are free.
struct Pod {
    address: SocketAddr,
    headers: bool,
    free: RefCell<Vec<SendRequest<Incoming>>>,
}

impl Pod {
    async fn connection(&self) -> Result<SendRequest<Incoming>, Trouble> {
        let free = self.free.borrow_mut().pop();
        if let Some(mut sender) = free {
            sender.ready().await?;
            return Ok(sender);
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        spawn_local(connection);
        Ok(sender)
    }

    async fn pass(
        self: Rc<Self>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Passing>, Trouble> {
        *request.uri_mut() = Uri::from_static("/");
        let told = request.headers_mut();
        told.insert("x-forwarded-for", HeaderValue::from_static("127.0.0.1"));
        if self.headers {
            told.extend(TOLD.map(fixed));
        }
        let mut sender = self.connection().await?;
        let mut answer = sender.send_request(request).await?;
        if self.headers {
            answer.headers_mut().extend(SAID.map(fixed));
        }
        Ok(answer.map(|body| {
            let mut passing = Passing {
                body,
                held: Some((sender, self)),
            };
            // An empty one is not asked for what it holds.
            if passing.body.is_end_stream() {
                passing.end();
            }
            passing
        }))
    }
}

/// An answer on its way: its connection is free again when it has ended.
struct Passing {
    body: Incoming,
    held: Option<(SendRequest<Incoming>, Rc<Pod>)>,
}

impl Passing {
    fn end(&mut self) {
        if let Some((sender, pod)) = self.held.take() {
            pod.free.borrow_mut().push(sender);
        }
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if self.body.is_end_stream() || matches!(polled, Poll::Ready(None)) {
            self.end();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn fixed((name, value): (&'static str, &'static str)) -> (HeaderName, HeaderValue) {
    (
        HeaderName::from_static(name),
        HeaderValue::from_static(value),
    )
}

async fn serve(pod: Rc<Pod>) -> Result<(), Trouble> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let pod = Rc::clone(&pod);
        spawn_local(async move {
            let answers = service_fn(move |request| Rc::clone(&pod).pass(request));
            let connection = Builder::new().serve_connection(TokioIo::new(stream), answers);
            if let Err(error) = connection.await {
                eprintln!("{error}");
            }
        });
    }
}

fn main() -> Result<(), Trouble> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("which pod?")?.parse()?;
    let pod = Rc::new(Pod {
        address,
        headers: arguments.next().as_deref() == Some("--headers"),
        free: RefCell::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(pod))
}
