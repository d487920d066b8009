//! A peer as its client sees it: one pool of connections, and whether it can be used at the moment.

use super::protocol::{Hello, paths};
use crate::failure::innermost;
use crate::tls::{self, ClientFiles};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;
use stoic_protocol::{Problem, headers};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

/// Longest time to connect, TLS included, and for a small answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// Connections rest no longer than the other side keeps them.
const REST: Duration = Duration::from_secs(20);
/// Largest small answer.
const ANSWER_LIMIT: usize = 1 << 20;
/// A link on which nothing arrives for so long is broken.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);
/// How often the peer is greeted: while all is well, and while it is not.
const GREET_EVERY: Duration = Duration::from_secs(15);
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What goes wrong with a body that is sent.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// What a request carries.
pub(super) type Payload = UnsyncBoxBody<Bytes, BoxError>;

/// Where a peer is, and what is shown to it.
#[derive(Debug, Clone, Default)]
pub struct PeerOptions {
    /// Its URL.
    pub url: String,
    /// File with the token that it asks for.
    pub token_file: Option<PathBuf>,
    /// Certificates.
    pub tls: ClientFiles,
}

/// Why a peer did not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// It does not answer.
    #[error("the gateway at {url} cannot be reached: {cause}")]
    Unreachable {
        /// Its URL.
        url: String,
        /// Why.
        cause: String,
    },
    /// It answered with a problem.
    #[error("the gateway at {url} answered {status}: {detail} ({code})")]
    Refused {
        /// Its URL.
        url: String,
        /// Status of the answer.
        status: u16,
        /// Stable code.
        code: String,
        /// In words.
        detail: String,
    },
    /// It cannot be used: another version, or no gateway.
    #[error("the gateway at {url} cannot be used: {why}")]
    Unusable {
        /// Its URL.
        url: String,
        /// Why.
        why: String,
    },
    /// Something here is wrong: the token's file, for example.
    #[error("{0}")]
    Here(String),
}

impl PeerError {
    /// Whether trying again is of no use until somebody has changed something.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Unreachable { .. } => false,
            Self::Refused { status, .. } => (400..500).contains(status) && *status != 429,
            Self::Unusable { .. } | Self::Here(_) => true,
        }
    }
}

/// What is known of a peer.
#[derive(Debug, Clone)]
enum Known {
    /// Nothing yet.
    Unmet,
    /// It answers, and this version of the protocol is agreed on.
    Fine(u32),
    /// It cannot be used.
    Trouble(PeerError),
}

/// See the module.
#[derive(Debug)]
pub struct Peer {
    url: String,
    token_file: Option<PathBuf>,
    token: RwLock<Option<HeaderValue>>,
    client: Client<HttpsConnector<HttpConnector>, Payload>,
    known: watch::Sender<Known>,
    nudge: Notify,
}

impl Peer {
    /// A peer; nothing is connected yet.
    ///
    /// # Errors
    /// A file is not what it should be: says which.
    pub fn new(options: &PeerOptions) -> Result<Arc<Self>, PeerError> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_keepalive(Some(Duration::from_secs(10)));
        tcp.set_keepalive_interval(Some(Duration::from_secs(5)));
        tcp.set_keepalive_retries(Some(2));
        // What was sent and is not acknowledged: keep-alive does not mind that.
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client(&options.tls).map_err(PeerError::Here)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(REST)
            .build(connector);
        let peer = Self {
            url: options.url.trim_end_matches('/').to_owned(),
            token_file: options.token_file.clone(),
            token: RwLock::default(),
            client,
            known: watch::Sender::new(Known::Unmet),
            nudge: Notify::new(),
        };
        peer.read_token()?;
        Ok(Arc::new(peer))
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Why it cannot be used now, if it cannot.
    #[must_use]
    pub fn trouble(&self) -> Option<PeerError> {
        match &*self.known.borrow() {
            Known::Trouble(error) => Some(error.clone()),
            Known::Unmet | Known::Fine(_) => None,
        }
    }

    /// Returns when it can be used again; never, where it can be now.
    pub async fn mended(&self) {
        let mut known = self.known.subscribe();
        if !matches!(*known.borrow(), Known::Trouble(_)) {
            return std::future::pending().await;
        }
        let fine = |known: &Known| matches!(known, Known::Fine(_));
        if known.wait_for(fine).await.is_err() {
            std::future::pending().await
        }
    }

    /// The version of the protocol that is agreed on; greets the peer first where it never was.
    ///
    /// # Errors
    /// It cannot be used.
    pub async fn agreed(&self) -> Result<u32, PeerError> {
        let known = self.known.borrow().clone();
        match known {
            Known::Fine(version) => Ok(version),
            // It is greeted every second then: nobody has to wait here.
            Known::Trouble(error) => Err(error),
            Known::Unmet => self.greet().await.map(|(_, version)| version),
        }
    }

    /// Asks who it is and what it has, and notes whether it can be used.
    ///
    /// # Errors
    /// It cannot be used.
    pub async fn greet(&self) -> Result<(Hello, u32), PeerError> {
        let asked = async {
            // It may have been replaced.
            self.read_token()?;
            let hello: Hello = self.get(paths::HELLO).await?;
            let version = hello.agree().map_err(|why| self.unusable(why))?;
            Ok((hello, version))
        };
        let greeted: Result<(Hello, u32), PeerError> = asked.await;
        self.note(match &greeted {
            Ok((_, version)) => Known::Fine(*version),
            Err(error) => Known::Trouble(error.clone()),
        });
        greeted
    }

    /// What it has, whatever version it speaks: for what is to be shown of it.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn introduce(&self) -> Result<Hello, PeerError> {
        let hello: Result<Hello, PeerError> = self.get(paths::HELLO).await;
        self.note(match &hello {
            Ok(hello) => match hello.agree() {
                Ok(version) => Known::Fine(version),
                Err(why) => Known::Trouble(self.unusable(why)),
            },
            Err(error) => Known::Trouble(error.clone()),
        });
        hello
    }

    /// Greets it now and then, and at once when somebody noticed that something is wrong.
    pub async fn watch(peer: Weak<Self>) {
        loop {
            let Some(peer) = peer.upgrade() else { return };
            let every = match peer.greet().await {
                Ok(_) => GREET_EVERY,
                Err(_) => ASK_AGAIN,
            };
            let nudged = peer.nudge.notified();
            let _ = tokio::time::timeout(every, nudged).await;
        }
    }

    /// Somebody noticed that something is wrong: it is looked at now.
    pub fn doubt(&self) {
        self.nudge.notify_one();
    }

    fn note(&self, now: Known) {
        let url = &self.url;
        self.known.send_if_modified(|known| {
            let text = |known: &Known| match known {
                Known::Trouble(error) => Some(error.to_string()),
                Known::Unmet | Known::Fine(_) => None,
            };
            let (before, after) = (text(known), text(&now));
            match &after {
                Some(why) if before != after => warn!("{why}"),
                None if before.is_some() => info!(url, "the gateway can be used again"),
                _ => {}
            }
            *known = now;
            before != after
        });
    }

    fn read_token(&self) -> Result<(), PeerError> {
        let Some(file) = &self.token_file else {
            return Ok(());
        };
        let wrong = |why: String| PeerError::Here(format!("token_file {}: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|e| wrong(e.to_string()))?;
        let mut value = HeaderValue::try_from(text.trim())
            .ok()
            .filter(|value| !value.is_empty())
            .ok_or_else(|| wrong("what it holds is no token".to_owned()))?;
        value.set_sensitive(true);
        *self.token.write() = Some(value);
        Ok(())
    }

    fn unusable(&self, why: impl ToString) -> PeerError {
        PeerError::Unusable {
            url: self.url.clone(),
            why: why.to_string(),
        }
    }

    pub(super) fn unreachable(&self, cause: impl ToString) -> PeerError {
        PeerError::Unreachable {
            url: self.url.clone(),
            cause: cause.to_string(),
        }
    }

    /// A request for a path of the peer's, with the token.
    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        body: Payload,
    ) -> Result<Request<Payload>, PeerError> {
        let uri: Uri = format!("{}{path}", self.url)
            .parse()
            .map_err(|e| self.unusable(format!("{path}: {e}")))?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        if let Some(token) = &*self.token.read() {
            request.headers_mut().insert(headers::TOKEN, token.clone());
        }
        Ok(request)
    }

    /// Sends a request; whatever it is answered.
    pub(super) async fn send(
        &self,
        request: Request<Payload>,
    ) -> Result<Response<Incoming>, PeerError> {
        self.client.request(request).await.map_err(|error| {
            self.doubt();
            self.unreachable(innermost(&error))
        })
    }

    /// Sends a request; an answer that is no success is an error.
    pub(super) async fn accepted(
        &self,
        request: Request<Payload>,
    ) -> Result<Response<Incoming>, PeerError> {
        let answer = self.send(request).await?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        Err(self.refusal(answer).await)
    }

    async fn refusal(&self, answer: Response<Incoming>) -> PeerError {
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_LIMIT).collect();
        let body = tokio::time::timeout(ANSWER, body).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes());
        let body = body.unwrap_or_default();
        if body.is_empty() {
            // Answers to `HEAD` say no more than this.
            return PeerError::Refused {
                url: self.url.clone(),
                status,
                code: "no_problem".to_owned(),
                detail: "it says no more".to_owned(),
            };
        }
        match serde_json::from_slice::<Problem>(&body) {
            // A gateway from before there were peers.
            Ok(problem) if problem.code == "unknown_path" => self.unusable(
                "it is older than this protocol between gateways: bring it to the version of this one",
            ),
            Ok(problem) => PeerError::Refused {
                url: self.url.clone(),
                status,
                detail: problem.detail.unwrap_or(problem.title),
                code: problem.code,
            },
            Err(_) => self.unusable(format!("it is no STOIC gateway: it answered {status}")),
        }
    }

    /// The JSON at a path.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, PeerError> {
        let request = self.request(Method::GET, path, whole(Bytes::new()))?;
        self.small(request).await
    }

    /// Posts JSON and reads JSON.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        value: &impl Serialize,
    ) -> Result<T, PeerError> {
        self.small(self.json(path, value)?).await
    }

    /// Posts JSON, for an answer that has none.
    ///
    /// # Errors
    /// It is refused, or nobody answers.
    pub async fn tell(&self, path: &str, value: &impl Serialize) -> Result<(), PeerError> {
        let answer = self.accepted(self.json(path, value)?);
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(self.unreachable("no answer in time")),
        }
    }

    /// Posts JSON and follows the answer.
    ///
    /// # Errors
    /// It is refused, or nobody answers.
    pub async fn follow(&self, path: &str, value: &impl Serialize) -> Result<Incoming, PeerError> {
        let answer = self.accepted(self.json(path, value)?);
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(answer) => answer.map(Response::into_body),
            Err(_) => Err(self.unreachable("no answer in time")),
        }
    }

    fn json(&self, path: &str, value: &impl Serialize) -> Result<Request<Payload>, PeerError> {
        let text = serde_json::to_vec(value).map_err(|e| PeerError::Here(e.to_string()))?;
        let mut request = self.request(Method::POST, path, whole(text.into()))?;
        let kind = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(request)
    }

    async fn small<T: DeserializeOwned>(&self, request: Request<Payload>) -> Result<T, PeerError> {
        let asked = async {
            let answer = self.accepted(request).await?;
            let body = Limited::new(answer.into_body(), ANSWER_LIMIT).collect();
            let body = body.await.map_err(|e| self.unreachable(e))?.to_bytes();
            serde_json::from_slice(&body)
                .map_err(|e| self.unusable(format!("its answer cannot be read: {e}")))
        };
        match tokio::time::timeout(ANSWER, asked).await {
            Ok(answered) => answered,
            Err(_) => Err(self.unreachable("no answer in time")),
        }
    }
}

/// A body that is at hand.
pub(super) fn whole(bytes: Bytes) -> Payload {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}
