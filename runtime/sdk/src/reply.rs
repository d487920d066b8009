//! Answers as they go over the wire: whole bodies, streams of lines, and problems.

use crate::Response;
use bytes::Bytes;
use futures_util::Stream;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use stoic_protocol::{PROBLEM_MEDIA_TYPE, Problem};

/// Body of an answer.
pub(crate) enum Reply {
    /// Known as a whole; none once it was sent.
    Whole(Option<Bytes>),
    /// Comes line by line. Dropped where the caller leaves.
    Lines(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl Reply {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Lines(lines) => lines
                .as_mut()
                .poll_next(cx)
                .map(|line| line.map(|line| Ok(Frame::data(line)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Lines(_) => SizeHint::default(),
        }
    }
}

/// A function's answer as hyper sends it; nothing is copied.
pub(crate) fn answer(response: Response) -> http::Response<Reply> {
    let mut answer = http::Response::new(Reply::whole(response.body));
    *answer.status_mut() = response.status;
    *answer.headers_mut() = response.headers;
    answer
}

/// A short text.
pub(crate) fn text(
    status: http::StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> http::Response<Reply> {
    let mut answer = http::Response::new(Reply::whole(body.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// A problem as `application/problem+json`. 499 goes out as 503: whoever still reads it did not leave.
pub(crate) fn problem(problem: &Problem) -> http::Response<Reply> {
    let status = match problem.status {
        499 => http::StatusCode::SERVICE_UNAVAILABLE,
        status => http::StatusCode::from_u16(status)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error())
            .unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR),
    };
    let body = serde_json::to_vec(problem).unwrap_or_default();
    text(status, PROBLEM_MEDIA_TYPE, body)
}
