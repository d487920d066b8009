//! One request and its answer, as a function sees them: whole bodies, no streams.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use serde::Serialize;
use stoic_protocol::Problem;

/// A request with its whole body.
#[derive(Debug, Clone)]
pub struct Request {
    /// Verb.
    pub method: Method,
    /// Path and query as the client sent them behind the function's name.
    pub uri: Uri,
    /// Headers as they came.
    pub headers: HeaderMap,
    /// The whole body, at most as large as the pod's limit.
    pub body: Bytes,
}

impl Request {
    /// The content type as it came; empty where there is none.
    #[must_use]
    pub fn content_type(&self) -> &str {
        self.header(CONTENT_TYPE.as_str())
    }

    /// A header's value; empty where there is none, or where it is no text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The first value of a query parameter, decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        query_pairs(self.uri.query().unwrap_or_default())
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// All query parameters, decoded, in order.
    #[must_use]
    pub fn query_pairs(&self) -> Vec<(String, String)> {
        query_pairs(self.uri.query().unwrap_or_default()).collect()
    }
}

/// The pairs of a query string, decoded as forms are (`+` is a space).
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    form_urlencoded::parse(query.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned()))
}

/// An answer with its whole body.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// Status; 200 by default.
    pub status: StatusCode,
    /// Headers. Length and connection are added by the server.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Response {
    /// A 200 of this type. A type that is no valid header value is left out.
    #[must_use]
    pub fn new(content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut response = Self {
            body: body.into(),
            ..Self::default()
        };
        if let Ok(value) = HeaderValue::from_str(content_type) {
            response.headers.insert(CONTENT_TYPE, value);
        }
        response
    }

    /// A 200 with a value as JSON.
    ///
    /// # Errors
    /// 500 `answer_not_json` where the value cannot be written as JSON.
    pub fn json(value: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(value)
            .map_err(|error| Problem::new(500, "answer_not_json", error.to_string()))?;
        Ok(Self::new("application/json", body))
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }
}
