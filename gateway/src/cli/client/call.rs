//! Calls of functions: what is sent, and the events and results that come back.

use super::{Client, Payload, encoded, read};
use crate::calls::names;
use crate::cli::failed::Failed;
use crate::requester::events::Event;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use std::io;
use stoic_protocol::{NDJSON_MEDIA_TYPE, headers};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

/// Longest line of an event stream.
const LINE_LIMIT: usize = 16 << 20;

/// How a call that nobody waits for is told of.
#[derive(Debug, Default)]
pub(in crate::cli) struct Unwaited {
    /// Where its result is posted.
    pub(in crate::cli) callback_url: Option<String>,
    /// What makes the same request, sent again, the same call.
    pub(in crate::cli) idempotency_key: Option<String>,
}

/// What the gateway says of a call that it accepted.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::cli) struct AcceptedCall {
    /// Its identity.
    pub(in crate::cli) id: String,
    /// Whether it was accepted before, under its idempotency key.
    pub(in crate::cli) known: bool,
}

/// One call of a function.
#[derive(Debug)]
pub(in crate::cli) struct Call {
    /// The function.
    pub(in crate::cli) function: String,
    /// Path inside the function, with its query if any; empty or from `/` on.
    pub(in crate::cli) path: String,
    /// Query parameters.
    pub(in crate::cli) parameters: Vec<(String, String)>,
    /// `POST`, save for requests without a body.
    pub(in crate::cli) method: Method,
    /// Runtime to pin.
    pub(in crate::cli) runtime: Option<String>,
    /// Placement mode.
    pub(in crate::cli) mode: Option<String>,
    /// Time from now by which the answer is wanted.
    pub(in crate::cli) deadline: Option<String>,
    /// `infer`, `train`, ...
    pub(in crate::cli) action: Option<String>,
    /// Items in the body, where the caller knows.
    pub(in crate::cli) items: Option<u64>,
    /// Media type of the body.
    pub(in crate::cli) content_type: Option<String>,
    /// Set where nobody waits for the answer.
    pub(in crate::cli) unwaited: Option<Unwaited>,
    /// The body.
    pub(in crate::cli) body: Payload,
}

impl Call {
    /// A call with a body, placed by the gateway.
    pub(in crate::cli) fn new(function: &str, content_type: &str, body: Payload) -> Self {
        Self {
            function: function.to_owned(),
            path: String::new(),
            parameters: Vec::new(),
            method: Method::POST,
            runtime: None,
            mode: None,
            deadline: None,
            action: None,
            items: None,
            content_type: Some(content_type.to_owned()),
            unwaited: None,
            body,
        }
    }

    fn target(&self) -> String {
        let slash = if self.path.is_empty() || self.path.starts_with('/') {
            ""
        } else {
            "/"
        };
        let surface = match self.unwaited {
            Some(_) => "async-function",
            None => "function",
        };
        let name = encoded(&self.function);
        let mut target = format!("/{surface}/{name}{slash}{}", self.path);
        if !self.parameters.is_empty() {
            target.push(if self.path.contains('?') { '&' } else { '?' });
            let mut query = form_urlencoded::Serializer::new(String::new());
            target.push_str(&query.extend_pairs(&self.parameters).finish());
        }
        target
    }

    fn into_request(
        self,
        client: &Client,
        accept: &'static str,
    ) -> Result<Request<Payload>, Failed> {
        let uri = client.uri(&self.target())?;
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        let all = request.headers_mut();
        all.insert(header::ACCEPT, HeaderValue::from_static(accept));
        let items = self.items.map(|items| items.to_string());
        let unwaited = self.unwaited.unwrap_or_default();
        for (name, value) in [
            (HeaderName::from_static(headers::RUNTIME), self.runtime),
            (HeaderName::from_static(headers::MODE), self.mode),
            (HeaderName::from_static(headers::DEADLINE), self.deadline),
            (HeaderName::from_static(headers::ACTION), self.action),
            (HeaderName::from_static(headers::ITEMS), items),
            (header::CONTENT_TYPE, self.content_type),
            (
                HeaderName::from_static(names::CALLBACK_URL),
                unwaited.callback_url,
            ),
            (
                HeaderName::from_static(names::IDEMPOTENCY_KEY),
                unwaited.idempotency_key,
            ),
        ] {
            if let Some(value) = value {
                let value = HeaderValue::from_str(&value).map_err(|_| {
                    Failed::Input(format!("`{value}` cannot stand in header {name}"))
                })?;
                all.insert(name, value);
            }
        }
        Ok(request)
    }
}

impl Client {
    /// Passes a request to a function and gives its answer, whatever its status. Dropping the answer
    /// drops the connection.
    pub(in crate::cli) async fn call(&self, call: Call) -> Result<Response<Incoming>, Failed> {
        self.send(call.into_request(self, "*/*")?).await
    }

    /// Hands in a call that nobody waits for: it is on the gateway's disk when this returns.
    pub(in crate::cli) async fn hand_in(&self, call: Call) -> Result<AcceptedCall, Failed> {
        read(self.accepted(call.into_request(self, "*/*")?).await?).await
    }

    /// Sends a batch and gives its events: the last is `result`. Dropping the stream drops the
    /// connection, which ends the work.
    pub(in crate::cli) async fn batch(
        &self,
        call: Call,
    ) -> Result<impl Stream<Item = Result<Event, Failed>> + Unpin + use<>, Failed> {
        let request = call.into_request(self, NDJSON_MEDIA_TYPE)?;
        let answer = self.accepted(request).await?;
        let pieces = answer
            .into_body()
            .into_data_stream()
            .map_err(io::Error::other);
        let lines = FramedRead::new(
            StreamReader::new(pieces),
            LinesCodec::new_with_max_length(LINE_LIMIT),
        );
        Ok(lines.map(event))
    }

    /// A result by the path that its event names.
    pub(in crate::cli) async fn result(&self, path: &str) -> Result<Response<Incoming>, Failed> {
        self.accepted(self.request(Method::GET, path, Payload::Whole(None))?)
            .await
    }
}

fn event(line: Result<String, LinesCodecError>) -> Result<Event, Failed> {
    let line =
        line.map_err(|e| Failed::Machine(format!("the connection to the gateway broke off: {e}")))?;
    match serde_json::from_str(&line) {
        Ok(Event::Error { problem }) => Err(Failed::Problem {
            problem: Box::new(problem),
            retry_after_s: None,
        }),
        Ok(event) => Ok(event),
        Err(e) => Err(Failed::Machine(format!(
            "the gateway sent a line that is no event: {e}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_parameters_make_one_target() {
        let mut call = Call::new("a b", "text/plain", Payload::Whole(None));
        assert_eq!(call.target(), "/function/a%20b");
        call.parameters = vec![("format".to_owned(), "mega detector&".to_owned())];
        assert_eq!(call.target(), "/function/a%20b?format=mega+detector%26");
        call.path = "x/y?z=1".to_owned();
        assert_eq!(
            call.target(),
            "/function/a%20b/x/y?z=1&format=mega+detector%26"
        );
        call.unwaited = Some(Unwaited::default());
        assert!(call.target().starts_with("/async-function/a%20b/x/y?"));
    }

    #[test]
    fn an_error_event_is_a_failure_with_its_problem() {
        let line =
            r#"{"type":"error","problem":{"code":"pod_died","title":"pod died","status":502}}"#;
        let failed = event(Ok(line.to_owned())).expect_err("an error");
        assert_eq!((failed.code(), failed.status()), (Some("pod_died"), 1));
        assert!(event(Ok("{".to_owned())).is_err());
    }
}
