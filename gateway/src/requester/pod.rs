//! One batch sent to one pod: a connection of its own, progress lines until the result. Dropping the
//! future drops the connection, which tells the pod to stop between two items.

use super::events::{Event, Events};
use crate::pods::Pod;
use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::time::Duration;
use stoic_protocol::{BATCH_MEDIA_TYPE, BatchRequest, NDJSON_MEDIA_TYPE, Problem, ProgressLine};
use tokio::net::TcpStream;

/// Longest line a pod may send.
const LINE_LIMIT: usize = 64 << 20;

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

/// Sends a batch and follows it to its end.
///
/// # Errors
/// See [`PodError`].
pub async fn work(
    pod: &Pod,
    request: &BatchRequest,
    timeout: Duration,
    events: &Events,
) -> Result<Done, PodError> {
    let talk = async {
        let body = serde_json::to_vec(request).map_err(|e| PodError::Died(e.to_string()))?;
        let stream = TcpStream::connect(pod.reach).await.map_err(died)?;
        stream.set_nodelay(true).map_err(died)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(died)?;
        let request = Request::builder()
            .method(Method::POST)
            .uri("/")
            .header(header::HOST, pod.address.to_string())
            .header(header::CONTENT_TYPE, BATCH_MEDIA_TYPE)
            .header(header::ACCEPT, NDJSON_MEDIA_TYPE)
            .header(stoic_protocol::headers::INVOCATION, &request.invocation)
            .body(Full::new(Bytes::from(body)))
            .map_err(died)?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(died)?;
            read(answer, events).await
        };
        tokio::pin!(connection);
        tokio::pin!(exchange);
        tokio::select! {
            done = &mut exchange => done,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(e) => Err(died(e)),
            },
        }
    };
    tokio::time::timeout(timeout, talk)
        .await
        .unwrap_or(Err(PodError::TimedOut(timeout)))
}

fn died(error: impl std::fmt::Display) -> PodError {
    PodError::Died(error.to_string())
}

async fn read(answer: http::Response<Incoming>, events: &Events) -> Result<Done, PodError> {
    let status = answer.status();
    let mut body = answer.into_body();
    let mut buffer = BytesMut::new();
    let mut searched = 0;
    loop {
        let frame = match body.frame().await {
            Some(frame) => frame.map_err(died)?,
            None if status.is_success() => {
                return Err(PodError::Died(
                    "the answer ended without a result".to_owned(),
                ));
            }
            None => return Err(refusal(status.as_u16(), &buffer)),
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        buffer.extend_from_slice(&data);
        if buffer.len() > LINE_LIMIT {
            return Err(PodError::Died(
                "the pod sent a line over the limit".to_owned(),
            ));
        }
        while let Some(end) = buffer[searched..]
            .iter()
            .position(|byte| *byte == b'\n')
            .filter(|_| status.is_success())
        {
            let line = buffer.split_to(searched + end);
            buffer.advance(1);
            searched = 0;
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice(&line)
                .map_err(|e| PodError::Died(format!("the pod sent no progress line: {e}")))?
            {
                ProgressLine::Started { .. } => {}
                ProgressLine::Progress {
                    done,
                    total,
                    elapsed_s,
                    stage,
                } => {
                    events.tell(|| Event::Progress {
                        done,
                        total,
                        elapsed_s,
                        stage,
                    });
                }
                ProgressLine::Result {
                    content_type,
                    items,
                    failed_items,
                    stages_s,
                    model,
                    ..
                } => {
                    return Ok(Done {
                        content_type,
                        items,
                        failed_items,
                        stages_s,
                        model,
                    });
                }
                ProgressLine::Error { problem } => return Err(judge(problem)),
            }
        }
        searched = buffer.len();
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
