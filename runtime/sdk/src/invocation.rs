//! One invocation in the pod: from the request on the wire, through the function on its thread, to the
//! answer. Errors become answers here, and are logged here, once.

use crate::batch::{Batch, BatchOutcome, is_item_type};
use crate::call::Call;
use crate::exchange::query_pairs;
use crate::pod_state::{Ended, Pod, Running, RunningBatch};
use crate::reply::{self, Reply};
use crate::{Function, Request, Response};
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_LENGTH, HeaderName, HeaderValue};
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stoic_package::Kind;
use stoic_protocol::{
    BATCH_MEDIA_TYPE, BatchRequest, NDJSON_MEDIA_TYPE, Problem, ProgressLine, headers,
};
use tokio::sync::oneshot;

/// How long the next piece of a body may take.
const BODY_STALL: Duration = Duration::from_secs(60);

pub(crate) type Answer = http::Response<Reply>;

/// Takes one request that is none of the pod's own.
pub(crate) async fn invoke<F: Function>(
    pod: &Arc<Pod<F>>,
    request: http::Request<Incoming>,
) -> Answer {
    let (parts, body) = request.into_parts();
    let result = run(pod, parts, body).await;
    match result {
        Ok(answer) => answer,
        Err(problem) => refuse(pod, &problem),
    }
}

/// Logs and counts a problem and makes it an answer.
pub(crate) fn refuse<F: Function>(pod: &Arc<Pod<F>>, problem: &Problem) -> Answer {
    note(pod, problem);
    reply::problem(problem)
}

fn note<F: Function>(pod: &Arc<Pod<F>>, problem: &Problem) {
    let invocation = problem.invocation.as_deref().unwrap_or_default();
    let ended = match problem.status {
        499 => Ended::Cancelled,
        400..500 => Ended::Refused,
        _ => Ended::Failed,
    };
    match ended {
        Ended::Failed => tracing::warn!(invocation, status = problem.status, "{problem}"),
        Ended::Cancelled | Ended::Refused | Ended::Done => {
            tracing::info!(invocation, status = problem.status, "{problem}");
        }
    }
    pod.count(ended);
}

async fn run<F: Function>(
    pod: &Arc<Pod<F>>,
    parts: Parts,
    body: Incoming,
) -> Result<Answer, Problem> {
    let function = pod.serving()?;
    let content_type = header(&parts, http::header::CONTENT_TYPE.as_str());
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let by_url = essence.eq_ignore_ascii_case(BATCH_MEDIA_TYPE);
    let inline_batch = !by_url
        && !F::ITEM_TYPES.is_empty()
        && (Kind::of(essence).is_some() || is_item_type(essence, F::ITEM_TYPES));

    if !by_url && !inline_batch && function.inline(&parts) {
        let body = read_body(body, &parts, pod.context.body_limit).await?;
        let call = Call::new(invocation_of(&parts), pod.stop.clone());
        let response = guarded(|| function.invoke(request(parts, body), &call));
        let response = response.map_err(|problem| named(problem, &call))?;
        pod.count(Ended::Done);
        return Ok(reply::answer(response));
    }

    let running = pod.admit()?;
    let content_type = content_type.to_owned();
    let body = read_body(body, &parts, pod.context.body_limit).await?;
    let cancel = pod.stop.child_token();
    // Dropped with this future when the caller's connection closes.
    let caller = cancel.clone().drop_guard();
    if !by_url && !inline_batch {
        let call = Call::new(invocation_of(&parts), cancel);
        let (worker, theirs) = (Arc::clone(pod), call.clone());
        let work = move || {
            let _running = running;
            let outcome = guarded(|| worker.loaded()?.invoke(request(parts, body), &theirs));
            count_unheard(&worker, &theirs);
            outcome
        };
        let outcome = on_thread(work)
            .await
            .map_err(|problem| named(problem, &call))?;
        caller.disarm();
        pod.count(Ended::Done);
        return Ok(reply::answer(outcome));
    }

    let lines = header(&parts, ACCEPT.as_str()).contains(NDJSON_MEDIA_TYPE);
    let mut invocation = invocation_of(&parts);
    let source = if by_url {
        let request: BatchRequest = serde_json::from_slice(&body).map_err(|error| {
            let detail = format!("the body is not a batch request: {error}");
            Problem::new(400, "batch_invalid", detail)
        })?;
        invocation.get_or_insert_with(|| request.invocation.clone());
        BatchSource::Url(Box::new(request))
    } else {
        let action = match header(&parts, headers::ACTION) {
            "" => "infer",
            action => action,
        };
        BatchSource::Body {
            action: action.to_owned(),
            parameters: query_pairs(parts.uri.query().unwrap_or_default()).collect(),
            content_type,
            body,
        }
    };
    let call = Call::new(invocation, cancel);
    let progress = lines.then(|| call.lines());
    let (started, has_started) = oneshot::channel();
    let job = BatchJob {
        pod: Arc::clone(pod),
        batch: call.invocation().map(|id| pod.runs(id)),
        _running: running,
        call: call.clone(),
        source,
        lines,
    };
    let task = tokio::task::spawn_blocking(move || job.run(started));
    let Some(progress) = progress else {
        let worked = joined(task.await).map_err(|problem| named(problem, &call))?;
        caller.disarm();
        pod.count(Ended::Done);
        return worked.into_answer();
    };
    // A batch that fails before its work begins is a plain problem, with its status.
    let Ok(items) = has_started.await else {
        let failed = joined(task.await).map(|_| ());
        failed.map_err(|problem| named(problem, &call))?;
        return Err(Problem::new(
            500,
            "batch_unstarted",
            "the batch ended before it began",
        ));
    };
    let stream = LineStream {
        pod: Arc::clone(pod),
        first: Some(ProgressLine::Started { items }),
        progress,
        task: Some(task),
        call,
        caller: Some(caller),
    };
    let mut answer = http::Response::new(Reply::Lines(Box::pin(futures_util::stream::unfold(
        stream,
        async |mut stream| stream.next().await.map(|line| (line, stream)),
    ))));
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static(NDJSON_MEDIA_TYPE),
    );
    Ok(answer)
}

fn header<'a>(parts: &'a Parts, name: &str) -> &'a str {
    parts
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn invocation_of(parts: &Parts) -> Option<String> {
    match header(parts, headers::INVOCATION) {
        "" => None,
        invocation => Some(invocation.to_owned()),
    }
}

fn request(parts: Parts, body: Bytes) -> Request {
    Request {
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        body,
    }
}

/// A problem with the invocation's identity.
fn named(mut problem: Problem, call: &Call) -> Problem {
    if problem.invocation.is_none() {
        problem.invocation = call.invocation().map(str::to_owned);
    }
    problem
}

/// Reads a whole body up to the limit; one that comes in one piece is not copied.
async fn read_body(mut body: Incoming, parts: &Parts, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            413,
            "body_too_large",
            format!("the body is over the pod's limit of {limit} bytes; send a batch by URL"),
        )
    };
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let stated: Option<usize> = header(parts, CONTENT_LENGTH.as_str()).parse().ok();
    if stated.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(BODY_STALL, body.frame())
            .await
            .map_err(|_| Problem::new(408, "body_stalled", "no byte of the body came for 60 s"))?;
        let data = match frame {
            None => break,
            Some(Err(error)) => {
                return Err(Problem::new(400, "body_incomplete", error.to_string()));
            }
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        if first.len() + all.len() + data.len() > limit {
            return Err(too_large());
        }
        if first.is_empty() && all.is_empty() {
            first = data;
            if body.is_end_stream() {
                break;
            }
            continue;
        }
        if all.is_empty() {
            all.reserve(stated.unwrap_or(0).max(first.len() + data.len()));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Runs a function's code; a panic is a problem.
pub(crate) fn guarded<T>(code: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "of unknown cause".to_owned());
        Err(Problem::new(
            500,
            "function_panicked",
            format!("the function panicked: {text}"),
        ))
    })
}

/// Runs blocking code on a thread of its own.
pub(crate) async fn on_thread<T: Send + 'static>(
    code: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    joined(tokio::task::spawn_blocking(code).await)
}

fn joined<T>(joined: Result<Result<T, Problem>, tokio::task::JoinError>) -> Result<T, Problem> {
    joined.unwrap_or_else(|error| {
        Err(Problem::new(
            500,
            "function_panicked",
            format!("the function's thread ended: {error}"),
        ))
    })
}

/// Counts an invocation whose caller left: nobody else hears how it ends.
fn count_unheard<F: Function>(pod: &Arc<Pod<F>>, call: &Call) {
    if call.token().is_cancelled() && !pod.stop.is_cancelled() {
        pod.count(Ended::Cancelled);
        tracing::info!(invocation = call.invocation(), "the caller left");
    }
}

enum BatchSource {
    Url(Box<BatchRequest>),
    Body {
        action: String,
        parameters: BTreeMap<String, String>,
        content_type: String,
        body: Bytes,
    },
}

/// A batch on its thread.
struct BatchJob<F: Function> {
    pod: Arc<Pod<F>>,
    batch: Option<RunningBatch<F>>,
    _running: Running<F>,
    call: Call,
    source: BatchSource,
    /// Whether the answer is lines of JSON.
    lines: bool,
}

/// A batch that was worked, and how its answer looks.
struct Worked {
    outcome: BatchOutcome,
    /// Whether the body stays here, or was put where the request said.
    stored: bool,
    stages_s: BTreeMap<String, f64>,
}

impl<F: Function> BatchJob<F> {
    fn run(self, started: oneshot::Sender<u64>) -> Result<Worked, Problem> {
        let Self {
            pod,
            call,
            source,
            lines,
            batch,
            _running,
        } = self;
        let worked = guarded(|| work(&pod, &call, source, started, lines, batch.as_ref()));
        count_unheard(&pod, &call);
        drop(batch);
        worked
    }
}

fn work<F: Function>(
    pod: &Arc<Pod<F>>,
    call: &Call,
    source: BatchSource,
    started: oneshot::Sender<u64>,
    lines: bool,
    running: Option<&RunningBatch<F>>,
) -> Result<Worked, Problem> {
    let function = pod.loaded()?;
    let (batch, output) = match source {
        BatchSource::Url(mut request) => {
            let output = request.output.take();
            let part = request.part;
            let transfer = pod.transfer.clone();
            let batch = Batch::remote(*request, transfer, call, F::ITEM_TYPES)?;
            if let (Some(part), Some(running)) = (part, running) {
                running.is_part(part.first, batch.limiter());
            }
            (batch, output)
        }
        BatchSource::Body {
            action,
            parameters,
            content_type,
            body,
        } => {
            let batch = Batch::local(&action, parameters, &content_type, body, F::ITEM_TYPES)?;
            (batch, None)
        }
    };
    // Nobody listens where the answer is no stream.
    let _ = started.send(batch.items().len() as u64);
    let outcome = function.batch(&batch, call);
    // An input that broke off explains a failure better than what came of it.
    if let Some(failure) = call.failure() {
        return Err(failure);
    }
    let mut outcome = outcome?;
    call.check()?;
    if lines && output.is_none() && std::str::from_utf8(&outcome.body).is_err() {
        return Err(Problem::new(
            406,
            "output_required",
            "the result is binary: name an output, or do not ask for lines of JSON",
        ));
    }
    let stored = output.is_some();
    if let Some(output) = output {
        let began = Instant::now();
        let body = Bytes::from(std::mem::take(&mut outcome.body));
        pod.transfer
            .put_blocking(&output.url, &outcome.content_type, body, call)?;
        call.stage("store", began.elapsed());
    }
    pod.count_batch(outcome.items, outcome.failed_items, call);
    Ok(Worked {
        outcome,
        stored,
        stages_s: call.stages(),
    })
}

impl Worked {
    fn into_line(self) -> ProgressLine {
        let body = self.outcome.body;
        let value = (!self.stored).then(|| {
            serde_json::from_slice(&body).unwrap_or_else(|_| {
                serde_json::Value::String(String::from_utf8_lossy(&body).into_owned())
            })
        });
        ProgressLine::Result {
            value,
            content_type: self.outcome.content_type,
            items: self.outcome.items,
            failed_items: self.outcome.failed_items,
            stages_s: self.stages_s,
            model: self.outcome.model,
        }
    }

    /// The result itself; where it was stored, the line that says so.
    fn into_answer(self) -> Result<Answer, Problem> {
        if self.stored {
            return Response::json(&self.into_line()).map(reply::answer);
        }
        let timing: Vec<String> = self
            .stages_s
            .iter()
            .map(|(stage, seconds)| format!("{stage};dur={:.3}", seconds * 1000.0))
            .collect();
        let outcome = self.outcome;
        let mut response = Response::new(&outcome.content_type, outcome.body);
        let texts = [
            (headers::ITEMS, outcome.items.to_string()),
            (headers::MODEL, outcome.model.unwrap_or_default()),
            ("server-timing", timing.join(", ")),
        ];
        for (name, text) in texts {
            if let Ok(value) = HeaderValue::from_str(&text)
                && !text.is_empty()
            {
                response = response.with_header(HeaderName::from_static(name), value);
            }
        }
        Ok(reply::answer(response))
    }
}

/// The lines of a running batch. Dropping it cancels the batch.
struct LineStream<F: Function> {
    pod: Arc<Pod<F>>,
    first: Option<ProgressLine>,
    progress: tokio::sync::watch::Receiver<Option<ProgressLine>>,
    task: Option<tokio::task::JoinHandle<Result<Worked, Problem>>>,
    call: Call,
    caller: Option<tokio_util::sync::DropGuard>,
}

impl<F: Function> LineStream<F> {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(line(&first));
        }
        let task = self.task.as_mut()?;
        tokio::select! {
            biased;
            Ok(()) = self.progress.changed() => {
                let newest = self.progress.borrow_and_update().clone();
                newest.as_ref().map(line)
            }
            worked = task => {
                self.task = None;
                if let Some(caller) = self.caller.take() {
                    caller.disarm();
                }
                Some(line(&match joined(worked) {
                    Ok(worked) => {
                        self.pod.count(Ended::Done);
                        worked.into_line()
                    }
                    Err(problem) => {
                        let problem = named(problem, &self.call);
                        note(&self.pod, &problem);
                        ProgressLine::Error { problem }
                    }
                }))
            }
        }
    }
}

fn line(line: &ProgressLine) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    Bytes::from(text)
}
