//! The peer's store, over its HTTP: the client's keys lie there under a name of its own.

use super::client::{BoxError, Peer, PeerError, whole};
use super::protocol::{PresignReply, PresignRequest, paths};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, Method, Response, header};
use http_body::Frame;
use http_body_util::{BodyDataStream, BodyExt, StreamBody};
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::sync::Arc;
use std::time::Duration;
use stoic_store::{Found, Objects, ObjectsFuture, Pieces, StoreError};

/// A transfer that moves nothing for so long counts as broken.
const STALL: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub struct PeerObjects {
    peer: Arc<Peer>,
}

impl PeerObjects {
    /// Those of this peer.
    #[must_use]
    pub fn new(peer: Arc<Peer>) -> Self {
        Self { peer }
    }

    fn path(key: &str) -> String {
        let key = utf8_percent_encode(key, NON_ALPHANUMERIC);
        format!("{}{key}", paths::OBJECTS)
    }

    fn error(&self, key: &str, error: PeerError) -> StoreError {
        let what = || format!("object {key} at {}", self.peer.url());
        match error {
            PeerError::Unreachable { url, cause } => StoreError::Unreachable {
                endpoint: url,
                cause,
            },
            PeerError::Refused { status: 404, .. } => StoreError::NotFound { what: what() },
            PeerError::Refused { status: 413, .. } => StoreError::TooLarge { limit: 0 },
            PeerError::Refused { status: 507, .. } => StoreError::Full { what: what() },
            PeerError::Refused {
                status: 401 | 403, ..
            } => StoreError::Denied { what: what() },
            other => StoreError::Other {
                what: what(),
                cause: other.to_string(),
            },
        }
    }

    async fn read(
        &self,
        method: Method,
        key: &str,
        range: Option<(u64, u64)>,
    ) -> Result<Response<Incoming>, PeerError> {
        let path = Self::path(key);
        let mut request = self.peer.request(method, &path, whole(Bytes::new()))?;
        if let Some((from, count)) = range {
            let last = from.saturating_add(count.max(1) - 1);
            let range = HeaderValue::try_from(format!("bytes={from}-{last}"));
            let range = range.map_err(|e| PeerError::Here(e.to_string()))?;
            request.headers_mut().insert(header::RANGE, range);
        }
        match tokio::time::timeout(STALL, self.peer.accepted(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.peer.unreachable("no answer in time")),
        }
    }
}

/// Length and media type of what an answer is about.
fn told(headers: &HeaderMap) -> (u64, String) {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let bytes = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let kind = text(header::CONTENT_TYPE).unwrap_or("application/octet-stream");
    (bytes.unwrap_or(0), kind.to_owned())
}

impl Objects for PeerObjects {
    fn endpoint(&self) -> &str {
        self.peer.url()
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Pieces,
        length: Option<u64>,
        content_type: &'a str,
    ) -> ObjectsFuture<'a, ()> {
        Box::pin(async move {
            let frames = body.map_ok(Frame::data).map_err(BoxError::from);
            let body = StreamBody::new(frames).boxed_unsync();
            let mut request = self
                .peer
                .request(Method::PUT, &Self::path(key), body)
                .map_err(|e| self.error(key, e))?;
            let headers = request.headers_mut();
            if let Some(length) = length {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            if let Ok(kind) = HeaderValue::try_from(content_type) {
                headers.insert(header::CONTENT_TYPE, kind);
            }
            let sent = self.peer.accepted(request).await;
            sent.map(drop).map_err(|e| self.error(key, e))
        })
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<(u64, u64)>) -> ObjectsFuture<'a, Found> {
        Box::pin(async move {
            let answer = self.read(Method::GET, key, range).await;
            let answer = answer.map_err(|e| self.error(key, e))?;
            let (bytes, content_type) = told(answer.headers());
            let endpoint = self.peer.url().to_owned();
            let broken = move |cause: String| StoreError::Unreachable {
                endpoint: endpoint.clone(),
                cause,
            };
            let late = broken.clone();
            let pieces = BodyDataStream::new(answer.into_body())
                .map_err(move |error| broken(error.to_string()));
            let pieces = Box::pin(pieces);
            let pieces = futures_util::stream::unfold(Some(pieces), move |pieces| {
                let late = late.clone();
                async move {
                    let mut pieces = pieces?;
                    match tokio::time::timeout(STALL, pieces.next()).await {
                        Ok(piece) => Some((piece?, Some(pieces))),
                        Err(_) => Some((Err(late("nothing came any more".to_owned())), None)),
                    }
                }
            });
            Ok(Found {
                bytes,
                content_type,
                // Readers may ask once more after the end.
                pieces: pieces.fuse().boxed(),
            })
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> ObjectsFuture<'a, Option<(u64, String)>> {
        Box::pin(async move {
            match self.read(Method::HEAD, key, None).await {
                Ok(answer) => Ok(Some(told(answer.headers()))),
                Err(error) => match self.error(key, error) {
                    StoreError::NotFound { .. } => Ok(None),
                    other => Err(other),
                },
            }
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> ObjectsFuture<'a, ()> {
        Box::pin(async move {
            match self.read(Method::DELETE, key, None).await {
                Ok(_) => Ok(()),
                Err(error) => match self.error(key, error) {
                    StoreError::NotFound { .. } => Ok(()),
                    other => Err(other),
                },
            }
        })
    }

    fn presign<'a>(
        &'a self,
        key: &'a str,
        write: bool,
        expires: Duration,
    ) -> ObjectsFuture<'a, String> {
        Box::pin(async move {
            let request = PresignRequest {
                key: key.to_owned(),
                write,
                seconds: expires.as_secs(),
            };
            let reply: Result<PresignReply, PeerError> =
                self.peer.post(paths::PRESIGN, &request).await;
            reply.map(|reply| reply.url).map_err(|e| self.error(key, e))
        })
    }
}
