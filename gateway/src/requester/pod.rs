//! Batches sent to one pod: progress lines until the result. Dropping the connection tells the pod to
//! stop between two items.

use crate::link;
use crate::pods::Pod;
use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::time::Duration;
use stoic_protocol::{
    BATCH_MEDIA_TYPE, BatchRequest, LimitRequest, MergeRequest, NDJSON_MEDIA_TYPE, Problem,
    ProgressLine,
};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// Longest line a pod may send.
const LINE_LIMIT: usize = 64 << 20;

/// Longest that a pod may take to hear that less is wanted of it.
const LIMIT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a pod says when it is done.
#[derive(Debug)]
pub struct Done {
    /// Media type of the result, which is in the store.
    pub content_type: String,
    /// Items worked.
    pub items: u64,
    /// Of these, items that carry an error.
    pub failed_items: u64,
    /// Seconds by stage.
    pub stages_s: BTreeMap<String, f64>,
    /// Version of the model that did the work, or that was made.
    pub model: Option<String>,
}

/// Why a pod did not do it.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// It is gone, or broke its contract: another may do the work.
    #[error("the pod died: {0}")]
    Died(String),
    /// It takes nothing now: another may do the work.
    #[error("the pod is full: {0}")]
    Busy(Problem),
    /// It took longer than the function may.
    #[error("the invocation took longer than {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The function's own verdict.
    #[error("{0}")]
    Problem(Problem),
}

/// A connection to one pod, for one request after the other. Dropping it while a batch runs tells the
/// pod to stop between two items.
#[derive(Debug)]
pub struct Session {
    sender: SendRequest<Full<Bytes>>,
    // Ends the connection with the session, even while a request is on its way.
    _connection: AbortOnDropHandle<()>,
    host: String,
}

/// How far a pod is with a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Units done: items, or steps where an action has phases of its own.
    pub done: u64,
    /// Units in all.
    pub total: u64,
    /// Seconds since the pod began.
    pub elapsed_s: f64,
    /// What is being done, where it is not plain inference.
    pub stage: Option<String>,
}

impl Session {
    /// Connects to a pod.
    ///
    /// # Errors
    /// [`PodError::Died`] where it does not answer.
    pub async fn open(pod: &Pod) -> Result<Self, PodError> {
        let stream = TcpStream::connect(pod.reach).await.map_err(died)?;
        stream.set_nodelay(true).map_err(died)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(died)?;
        let connection = tokio::spawn(async move {
            // Whoever waits for an answer learns of it there.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            _connection: AbortOnDropHandle::new(connection),
            host: pod.address.to_string(),
        })
    }

    /// Sends a batch and follows it to its end.
    ///
    /// # Errors
    /// See [`PodError`].
    pub async fn work(
        &mut self,
        request: &BatchRequest,
        timeout: Duration,
        step: impl FnMut(Step),
    ) -> Result<Done, PodError> {
        let body = serde_json::to_vec(request).map_err(died)?;
        let (path, media) = ("/", BATCH_MEDIA_TYPE);
        let talk = async {
            let answer = self.post(path, media, &request.invocation, body).await?;
            read(answer, step).await
        };
        tokio::time::timeout(timeout, talk)
            .await
            .unwrap_or(Err(PodError::TimedOut(timeout)))
    }

    /// Has the pod put the results of the parts of a batch together.
    ///
    /// # Errors
    /// See [`PodError`].
    pub async fn merge(
        &mut self,
        request: &MergeRequest,
        timeout: Duration,
    ) -> Result<Done, PodError> {
        let body = serde_json::to_vec(request).map_err(died)?;
        let (path, media) = (stoic_protocol::paths::MERGE, "application/json");
        let talk = async {
            let answer = self.post(path, media, &request.invocation, body).await?;
            read(answer, |_| {}).await
        };
        tokio::time::timeout(timeout, talk)
            .await
            .unwrap_or(Err(PodError::TimedOut(timeout)))
    }

    async fn post(
        &mut self,
        path: &str,
        media: &str,
        invocation: &str,
        body: Vec<u8>,
    ) -> Result<http::Response<Incoming>, PodError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, media)
            .header(header::ACCEPT, NDJSON_MEDIA_TYPE)
            .header(stoic_protocol::headers::INVOCATION, invocation)
            .body(Full::new(Bytes::from(body)))
            .map_err(died)?;
        self.sender.ready().await.map_err(died)?;
        self.sender.send_request(request).await.map_err(died)
    }
}

/// Sends a batch on a connection of its own and follows it to its end.
///
/// # Errors
/// See [`PodError`].
pub async fn work(
    pod: &Pod,
    request: &BatchRequest,
    timeout: Duration,
    step: impl FnMut(Step),
) -> Result<Done, PodError> {
    Session::open(pod).await?.work(request, timeout, step).await
}

/// Returns as soon as an invocation no longer runs in a pod, or after `within`, and says whether it does
/// not. Two round trips of the link to it come on top. A pod that cannot be asked says no.
pub async fn ended(pod: &Pod, invocation: &str, within: Duration, rtt: Duration) -> bool {
    let path = format!(
        "{}?invocation={invocation}&within_ms={}",
        stoic_protocol::paths::ENDED,
        within.as_millis()
    );
    let asked = link::exchange(pod.reach, Method::GET, &path, None, Bytes::new(), 1 << 16);
    let answered = tokio::time::timeout(within + 2 * rtt, asked).await;
    matches!(answered, Ok(Ok(answer)) if answer.status() == 204)
}

/// Tells a pod that of a part that it works only so many items are still wanted. One that does not hear
/// it works the others in vain.
pub async fn limit(pod: &Pod, invocation: &str, first: u64, items: u64) {
    let request = LimitRequest {
        invocation: invocation.to_owned(),
        first,
        items,
    };
    let Ok(body) = serde_json::to_vec(&request) else {
        return;
    };
    let told = link::exchange(
        pod.reach,
        Method::PUT,
        stoic_protocol::paths::LIMIT,
        Some("application/json"),
        body.into(),
        1 << 16,
    );
    let _ = tokio::time::timeout(LIMIT_TIMEOUT, told).await;
}

fn died(error: impl std::fmt::Display) -> PodError {
    PodError::Died(error.to_string())
}

async fn read(
    answer: http::Response<Incoming>,
    mut step: impl FnMut(Step),
) -> Result<Done, PodError> {
    let status = answer.status();
    let mut body = answer.into_body();
    let mut buffer = BytesMut::new();
    let mut searched = 0;
    loop {
        let Some(frame) = body.frame().await else {
            if !status.is_success() {
                return Err(refusal(status.as_u16(), &buffer));
            }
            // The last line need not be ended.
            return match line(&buffer, &mut step)? {
                Some(done) => Ok(done),
                None => Err(died("the answer ended without a result")),
            };
        };
        let Ok(data) = frame.map_err(died)?.into_data() else {
            continue;
        };
        buffer.extend_from_slice(&data);
        if buffer.len() > LINE_LIMIT {
            return Err(died("the pod sent a line over the limit"));
        }
        while let Some(end) = buffer[searched..]
            .iter()
            .position(|byte| *byte == b'\n')
            .filter(|_| status.is_success())
        {
            let text = buffer.split_to(searched + end);
            buffer.advance(1);
            searched = 0;
            if let Some(done) = line(&text, &mut step)? {
                // To its end, so that the connection can be used again.
                while let Some(Ok(_)) = body.frame().await {}
                return Ok(done);
            }
        }
        searched = buffer.len();
    }
}

/// One line of a pod's answer; the result if it is that.
fn line(text: &[u8], step: &mut impl FnMut(Step)) -> Result<Option<Done>, PodError> {
    if text.is_empty() {
        return Ok(None);
    }
    let line = serde_json::from_slice(text)
        .map_err(|e| died(format!("the pod sent no progress line: {e}")))?;
    match line {
        ProgressLine::Started { .. } => Ok(None),
        ProgressLine::Progress {
            done,
            total,
            elapsed_s,
            stage,
        } => {
            step(Step {
                done,
                total,
                elapsed_s,
                stage,
            });
            Ok(None)
        }
        ProgressLine::Result {
            content_type,
            items,
            failed_items,
            stages_s,
            model,
            ..
        } => Ok(Some(Done {
            content_type,
            items,
            failed_items,
            stages_s,
            model,
        })),
        ProgressLine::Error { problem } => Err(judge(problem)),
    }
}

/// An answer that is no success: the pod's own problem where it sent one.
fn refusal(status: u16, body: &[u8]) -> PodError {
    let problem = serde_json::from_slice::<Problem>(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        Problem::new(
            502,
            "function_failed",
            format!("the function answered {status}: {text}"),
        )
    });
    judge(problem)
}

/// A problem that says that this pod takes nothing now is no verdict on the work.
fn judge(problem: Problem) -> PodError {
    match problem.code.as_str() {
        "pod_full" | "pod_draining" | "pod_loading" => PodError::Busy(problem),
        _ => PodError::Problem(problem),
    }
}
