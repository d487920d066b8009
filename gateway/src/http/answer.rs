//! Answers of the gateway itself: JSON, and failures as `application/problem+json`.

use super::Body;
use crate::failure::Failure;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use stoic_protocol::PROBLEM_MEDIA_TYPE;

/// A JSON answer.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            typed(status, "application/json", text.into())
        }
        Err(error) => failure(&Failure::new(500, "internal", error.to_string())),
    }
}

/// An answer of any type.
pub(super) fn typed(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The answer to a failure: the one place where they become HTTP.
pub(super) fn failure(failure: &Failure) -> Response<Body> {
    let status =
        StatusCode::from_u16(failure.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = serde_json::to_vec(&failure.problem).unwrap_or_default();
    let mut response = typed(status, PROBLEM_MEDIA_TYPE, text.into());
    if let Some(seconds) = failure.retry_after_s {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
