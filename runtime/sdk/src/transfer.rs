//! Bytes to and from presigned URLs: ranges, whole objects and uploads, over HTTP and HTTPS, with a
//! few retries. Blocking forms are for a function's threads; the I/O itself runs on the I/O thread.
//!
//! A presigned URL's query is a secret: it stands in no error and in no log line.

use crate::call::Call;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use stoic_protocol::Problem;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio_util::io::ReaderStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer, or the next piece of one, may take.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Waits before the second, third and fourth attempt.
const BACK_OFF: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1600),
];

type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

/// The clients of a pod; clones share their connections.
#[derive(Clone)]
pub(crate) struct Transfer {
    inner: Arc<Inner>,
}

struct Inner {
    handle: Handle,
    plain: Client<HttpConnector, Outgoing>,
    /// Made when the first HTTPS URL comes: reading the certificates takes milliseconds.
    secure: OnceLock<Result<Client<HttpsConnector<HttpConnector>, Outgoing>, String>>,
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").finish_non_exhaustive()
    }
}

/// One attempt's failure, and whether another one may help.
struct Failure {
    detail: String,
    retry: bool,
}

impl Failure {
    fn passing(detail: impl fmt::Display) -> Self {
        Self {
            detail: detail.to_string(),
            retry: true,
        }
    }

    fn lasting(detail: impl fmt::Display) -> Self {
        Self {
            detail: detail.to_string(),
            retry: false,
        }
    }
}

/// A URL without its query and user.
pub(crate) fn redacted(url: &str) -> String {
    match url.parse::<Uri>() {
        Ok(uri) => format!(
            "{}://{}{}",
            uri.scheme_str().unwrap_or("?"),
            uri.authority()
                .map_or("?", |a| a.as_str().rsplit('@').next().unwrap_or("?")),
            uri.path()
        ),
        Err(_) => "a URL that is none".to_owned(),
    }
}

/// The chain of causes, which in HTTP clients holds what really happened.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn connector() -> HttpConnector {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http
}

fn secure_connector() -> Result<HttpsConnector<HttpConnector>, String> {
    // Named here, so that it does not hang on which features other crates switch on.
    let provider = rustls::crypto::ring::default_provider;
    // The system's certificates know a private authority; an image without any still works.
    let builder = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider());
    let secure = match builder {
        Ok(builder) => Ok(builder),
        Err(_) => HttpsConnectorBuilder::new().with_provider_and_webpki_roots(provider()),
    };
    secure
        .map(|builder| {
            builder
                .https_or_http()
                .enable_http1()
                .wrap_connector(connector())
        })
        .map_err(|error| error.to_string())
}

fn client_builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new());
    builder.pool_idle_timeout(Duration::from_secs(30));
    builder
}

impl Transfer {
    /// Clients whose I/O runs on this runtime.
    pub(crate) fn new(handle: Handle) -> Self {
        Self {
            inner: Arc::new(Inner {
                handle,
                plain: client_builder().build(connector()),
                secure: OnceLock::new(),
            }),
        }
    }

    /// The runtime that does the I/O.
    pub(crate) fn handle(&self) -> &Handle {
        &self.inner.handle
    }

    async fn send(&self, request: Request<Outgoing>) -> Result<Response<Incoming>, Failure> {
        let answer = match request.uri().scheme_str() {
            Some("https") => self
                .inner
                .secure
                .get_or_init(|| secure_connector().map(|secure| client_builder().build(secure)))
                .as_ref()
                .map_err(Failure::lasting)?
                .request(request),
            Some("http") => self.inner.plain.request(request),
            _ => return Err(Failure::lasting("only http and https URLs are fetched")),
        };
        match tokio::time::timeout(STALL_TIMEOUT, answer).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failure::passing(causes(&error))),
            Err(_) => Err(Failure::passing("no answer in 60 s")),
        }
    }

    /// Bytes `range` of an object of `total` bytes; 502 `input_unavailable` where they are not to
    /// be had.
    pub(crate) async fn fetch(
        &self,
        url: &str,
        range: Range<u64>,
        total: u64,
    ) -> Result<Bytes, Problem> {
        retried("GET", url, "input_unavailable", || {
            self.fetch_once(url, &range, total)
        })
        .await
    }

    async fn fetch_once(
        &self,
        url: &str,
        range: &Range<u64>,
        total: u64,
    ) -> Result<Bytes, Failure> {
        let length = range.end.saturating_sub(range.start);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let whole = length == total;
        let mut request = Request::get(url);
        if !whole {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        let request = request.body(empty()).map_err(Failure::lasting)?;
        let response = self.send(request).await?;
        check_status(response.status())?;
        if !whole && response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(Failure::lasting(
                "the server does not answer range requests (wanted 206)",
            ));
        }
        if let Some(stated) = stated_total(&response)
            && stated != total
        {
            return Err(Failure::lasting(format!(
                "the object has {stated} bytes, the request said {total}"
            )));
        }
        let room = usize::try_from(length).map_err(Failure::lasting)?;
        let mut bytes = BytesMut::with_capacity(room);
        let mut body = response.into_body();
        while let Some(data) = next_data(&mut body).await? {
            if bytes.len() + data.len() > room {
                return Err(Failure::lasting("more bytes came than were asked for"));
            }
            bytes.extend_from_slice(&data);
        }
        if bytes.len() != room {
            return Err(Failure::passing(format!(
                "{} of {room} bytes came",
                bytes.len()
            )));
        }
        Ok(bytes.freeze())
    }

    /// Downloads a whole object into an open file; 502 with `code` where it is not to be had.
    pub(crate) async fn download(
        &self,
        url: &str,
        path: &Path,
        code: &str,
    ) -> Result<u64, Problem> {
        retried("GET", url, code, || async {
            let request = Request::get(url).body(empty()).map_err(Failure::lasting)?;
            let response = self.send(request).await?;
            check_status(response.status())?;
            let mut file = tokio::fs::File::create(path)
                .await
                .map_err(Failure::lasting)?;
            let mut body = response.into_body();
            let mut length = 0;
            while let Some(data) = next_data(&mut body).await? {
                length += data.len() as u64;
                file.write_all(&data).await.map_err(Failure::lasting)?;
            }
            file.flush().await.map_err(Failure::lasting)?;
            Ok(length)
        })
        .await
    }

    /// Puts bytes; 502 `output_failed` where that does not work.
    pub(crate) async fn put(
        &self,
        url: &str,
        content_type: &str,
        bytes: Bytes,
    ) -> Result<(), Problem> {
        retried("PUT", url, "output_failed", || {
            let body = Full::new(bytes.clone())
                .map_err(|never| match never {})
                .boxed_unsync();
            self.put_once(url, Some(content_type), bytes.len() as u64, body)
        })
        .await
    }

    async fn put_once(
        &self,
        url: &str,
        content_type: Option<&str>,
        length: u64,
        body: Outgoing,
    ) -> Result<(), Failure> {
        let mut request = Request::builder()
            .method(Method::PUT)
            .uri(url)
            .header(CONTENT_LENGTH, length);
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let request = request.body(body).map_err(Failure::lasting)?;
        let response = self.send(request).await?;
        let status = response.status();
        // Read to the end, so that the connection is used again.
        let mut body = response.into_body();
        while next_data(&mut body).await?.is_some() {}
        check_status(status)
    }

    async fn put_file(&self, url: &str, path: &Path) -> Result<(), Problem> {
        retried("PUT", url, "output_failed", || async {
            let unreadable = |error: io::Error| {
                Failure::lasting(format!("{} cannot be read: {error}", path.display()))
            };
            let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
            let length = file.metadata().await.map_err(unreadable)?.len();
            let stream = ReaderStream::with_capacity(file, 256 * 1024).map_ok(Frame::data);
            let body = BodyExt::boxed_unsync(StreamBody::new(stream));
            self.put_once(url, None, length, body).await
        })
        .await
    }

    /// [`put`](Self::put) from a function's thread; ends when the call does.
    pub(crate) fn put_blocking(
        &self,
        url: &str,
        content_type: &str,
        bytes: Bytes,
        call: &Call,
    ) -> Result<(), Problem> {
        let (this, url, content_type) = (self.clone(), url.to_owned(), content_type.to_owned());
        self.wait(
            call,
            async move { this.put(&url, &content_type, bytes).await },
        )
    }

    /// Puts a file from a function's thread; ends when the call does.
    pub(crate) fn put_file_blocking(
        &self,
        url: &str,
        path: &Path,
        call: &Call,
    ) -> Result<(), Problem> {
        let (this, url, path) = (self.clone(), url.to_owned(), path.to_owned());
        self.wait(call, async move { this.put_file(&url, &path).await })
    }

    /// [`fetch`](Self::fetch) from a function's thread; ends when the call does.
    pub(crate) fn fetch_blocking(
        &self,
        url: &str,
        range: Range<u64>,
        total: u64,
        call: &Call,
    ) -> Result<Bytes, Problem> {
        let (this, url) = (self.clone(), url.to_owned());
        let began = Instant::now();
        let fetched = self.wait(call, async move { this.fetch(&url, range, total).await });
        call.stage("fetch", began.elapsed());
        fetched
    }

    /// Runs a transfer on the I/O thread and waits for it here.
    fn wait<T: Send + 'static>(
        &self,
        call: &Call,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let token = call.token().clone();
        self.inner.handle.spawn(async move {
            let done = tokio::select! {
                done = work => done,
                () = token.cancelled() => Err(cancelled()),
            };
            // The receiver waits until it gets this.
            let _ = answer.send(done);
        });
        answered
            .blocking_recv()
            .unwrap_or_else(|_| Err(cancelled()))
    }
}

/// The answer of whatever is given up because nobody waits for it.
pub(crate) fn cancelled() -> Problem {
    Problem::new(
        499,
        "cancelled",
        "the caller is gone or the pod is stopping",
    )
}

fn empty() -> Outgoing {
    Full::new(Bytes::new())
        .map_err(|never| match never {})
        .boxed_unsync()
}

async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, Failure> {
    loop {
        match tokio::time::timeout(STALL_TIMEOUT, body.frame()).await {
            Err(_) => return Err(Failure::passing("nothing came for 60 s")),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(Failure::passing(causes(&error))),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn check_status(status: StatusCode) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    let hint = match status.as_u16() {
        401 | 403 => "; the presigned URL may have expired",
        404 | 410 => "; the object is not there",
        416 => "; the object is smaller than the request said",
        _ => "",
    };
    Err(Failure {
        detail: format!("the store answered {status}{hint}"),
        retry: status.is_server_error() || matches!(status.as_u16(), 408 | 429),
    })
}

/// Size of the object as the answer states it.
fn stated_total(response: &Response<Incoming>) -> Option<u64> {
    let header = |name| response.headers().get(name)?.to_str().ok();
    match response.status() {
        StatusCode::PARTIAL_CONTENT => header(CONTENT_RANGE)?.rsplit('/').next()?.parse().ok(),
        _ => header(CONTENT_LENGTH)?.parse().ok(),
    }
}

async fn retried<T, W: Future<Output = Result<T, Failure>>>(
    verb: &str,
    url: &str,
    code: &str,
    attempt: impl Fn() -> W,
) -> Result<T, Problem> {
    let mut waits = BACK_OFF.iter();
    loop {
        let failure = match attempt().await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        match waits.next() {
            Some(wait) if failure.retry => tokio::time::sleep(*wait).await,
            _ => {
                let detail = format!("{verb} {}: {}", redacted(url), failure.detail);
                return Err(Problem::new(502, code, detail));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_cut_from_urls() {
        let url = "https://user:pw@s3.example/bucket/key.zip?X-Amz-Signature=abc";
        assert_eq!(redacted(url), "https://s3.example/bucket/key.zip");
        assert!(!redacted("::::?secret").contains("secret"));
    }
}
