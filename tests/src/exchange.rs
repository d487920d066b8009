//! Clients: a whole exchange, an answer read line by line, and bytes as they are.

use http::{HeaderMap, Request, Response, header};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use ureq::{Agent, Body, SendBody};

/// Longest any exchange may take: a test fails rather than hang.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A request that is being put together.
#[derive(Debug)]
pub struct Call {
    builder: http::request::Builder,
    body: Option<Vec<u8>>,
    chunked: bool,
    timeout: Duration,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// All of the body.
    pub body: Vec<u8>,
}

/// An answer on its way, read line by line. Dropped, the connection is closed: the caller left.
pub struct Lines {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    reader: BufReader<ureq::BodyReader<'static>>,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl Call {
    /// A request to a whole URL.
    #[must_use]
    pub fn new(method: &str, url: &str) -> Self {
        Self {
            builder: Request::builder().method(method).uri(url),
            body: None,
            chunked: false,
            timeout: TIMEOUT,
        }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    /// With a body of a type; an empty type sends none.
    #[must_use]
    pub fn body(mut self, content_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        if !content_type.is_empty() {
            self.builder = self.builder.header(header::CONTENT_TYPE, content_type);
        }
        self.body = Some(bytes.into());
        self
    }

    /// Sends the body in chunks, its length unsaid.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Pinned to a runtime.
    #[must_use]
    pub fn on(self, runtime: &str) -> Self {
        self.header(stoic_protocol::headers::RUNTIME, runtime)
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Panics
    /// There was none.
    #[track_caller]
    #[must_use]
    pub fn send(self) -> Answer {
        self.try_send()
            .unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Errors
    /// There was none, or it broke off.
    pub fn try_send(self) -> Result<Answer, ureq::Error> {
        let (head, body) = self.run()?.into_parts();
        let mut bytes = Vec::new();
        body.into_reader().read_to_end(&mut bytes)?;
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: bytes,
        })
    }

    /// Sends it and returns when the head of the answer is there.
    ///
    /// # Panics
    /// There was none.
    #[track_caller]
    #[must_use]
    pub fn open(self) -> Lines {
        let answer = self
            .run()
            .unwrap_or_else(|error| panic!("no answer: {error}"));
        let (head, body) = answer.into_parts();
        Lines {
            status: head.status.as_u16(),
            headers: head.headers,
            reader: BufReader::new(body.into_reader()),
        }
    }

    /// Sends it and leaves when there is no answer after this time; says whether it left.
    #[must_use]
    pub fn give_up_after(mut self, patience: Duration) -> bool {
        self.timeout = patience;
        matches!(self.try_send(), Err(ureq::Error::Timeout(_)))
    }

    fn run(self) -> Result<Response<Body>, ureq::Error> {
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(self.timeout))
            .allow_non_standard_methods(true)
            // A connection of its own for each, which dropping the answer closes.
            .max_idle_connections(0)
            .build()
            .into();
        let chunked = self.chunked;
        match self.body {
            None => agent.run(self.builder.body(SendBody::none())?),
            Some(bytes) if chunked => {
                let bytes = std::io::Cursor::new(bytes);
                agent.run(self.builder.body(SendBody::from_owned_reader(bytes))?)
            }
            Some(bytes) => agent.run(self.builder.body(bytes)?),
        }
    }
}

impl Answer {
    /// A header as text; empty where it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {} {}", self.status, self.text()))
    }

    /// Checks that this is a success, and returns it.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> Self {
        assert!(
            (200..300).contains(&self.status),
            "{}: {}",
            self.status,
            self.text()
        );
        self
    }

    /// Checks that this is a problem of this status and code, whole and of its media type; returns its
    /// detail.
    ///
    /// # Panics
    /// It is something else.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> String {
        let shown = format!("{} {:?} {}", self.status, self.headers, self.text());
        assert_eq!(self.status, status, "{shown}");
        assert_eq!(
            self.header("content-type"),
            stoic_protocol::PROBLEM_MEDIA_TYPE,
            "{shown}"
        );
        let problem = self.json();
        assert_eq!(problem["code"], code, "{shown}");
        assert_eq!(problem["status"], status, "{shown}");
        assert!(
            problem["title"]
                .as_str()
                .is_some_and(|title| !title.is_empty()),
            "{shown}"
        );
        let detail = problem["detail"].as_str().unwrap_or_default().to_owned();
        assert!(!detail.is_empty(), "a problem says what to do: {shown}");
        detail
    }
}

impl Lines {
    /// The next line, with its end.
    ///
    /// # Panics
    /// The answer broke off.
    #[track_caller]
    pub fn next_line(&mut self) -> String {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line);
        read.unwrap_or_else(|error| panic!("the answer broke off: {error}"));
        line
    }

    /// The next line as JSON, or none at the end.
    ///
    /// # Panics
    /// The answer broke off, or the line is no JSON.
    #[track_caller]
    pub fn next_event(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self
            .reader
            .read_line(&mut line)
            .unwrap_or_else(|error| panic!("the answer broke off: {error}"));
        (read > 0).then(|| {
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
        })
    }

    /// Reads on until an event of this type; returns it.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn event(&mut self, kind: &str) -> Value {
        let mut seen = Vec::new();
        while let Some(event) = self.next_event() {
            if event["type"] == kind {
                return event;
            }
            seen.push(event);
        }
        panic!("no event `{kind}`, but {seen:?}");
    }

    /// All events that are left.
    ///
    /// # Panics
    /// The answer broke off.
    #[track_caller]
    #[must_use]
    pub fn rest(mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.next_event()).collect()
    }
}

/// Opens a connection and sends bytes as they are.
///
/// # Panics
/// There is no connection.
#[must_use]
pub fn raw(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the gateway accepts");
    stream
        .set_read_timeout(Some(TIMEOUT))
        .expect("a time-out can be set");
    // The other side may have answered and closed already; the answer tells.
    let _ = stream.write_all(bytes);
    stream
}

/// Reads the head of an answer and what its `content-length` says of its body.
///
/// # Panics
/// The answer broke off.
#[must_use]
pub fn raw_head(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            ended => panic!(
                "the head broke off ({ended:?}): {:?}",
                String::from_utf8_lossy(&head)
            ),
        }
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the body is whole");
    (head, body)
}
