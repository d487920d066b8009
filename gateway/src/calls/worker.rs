//! Runs calls: takes those whose turn it is, sends each to the front, and writes down what came of it.

use super::record::{Attempt, CallState, Job, Outcome, Stored};
use super::{INLINE, OBJECTS, Running, names, remove, table};
use crate::failure::innermost;
use crate::gateway::Gateway;
use crate::scheduler::unix_now;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyDataStream, BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stoic_protocol::{PROBLEM_MEDIA_TYPE, Problem, headers};
use tracing::{error, warn};

/// Wait of a call whose function is busy with synchronous callers, or whose pools are full. Pools tell
/// nobody when their queue grows short, so that is looked at again.
const GIVE_WAY: Duration = Duration::from_millis(50);
/// Wait after the database refused to write.
const REFUSED: Duration = Duration::from_secs(1);
/// Largest problem that is read to learn why an attempt failed.
const PROBLEM_LIMIT: usize = 64 << 10;
/// Largest result.
const RESULT_LIMIT: u64 = 1 << 40;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Payload = UnsyncBoxBody<Bytes, BoxError>;
type Front = Client<HttpConnector, Payload>;

/// Works until the gateway stops.
pub(super) async fn run(gateway: Arc<Gateway>, address: SocketAddr) {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    let client: Front = Client::builder(TokioExecutor::new()).build(tcp);
    let calls = &gateway.calls;
    loop {
        if calls.stopped() {
            return;
        }
        let woken = calls.work.notified();
        let held_back = fill(&gateway, &client, address);
        let due = calls.queue.lock().next_due();
        let mut wait =
            due.map(|due| Duration::from_secs_f64((due - unix_now()).clamp(0.0, 3600.0)));
        if held_back {
            wait = Some(wait.map_or(GIVE_WAY, |wait| wait.min(GIVE_WAY)));
        }
        match wait {
            // A little late rather than early: what is due is due.
            Some(wait) => {
                let _ = tokio::time::timeout(wait + Duration::from_millis(1), woken).await;
            }
            None => woken.await,
        }
    }
}

/// Starts attempts up to the bounds; whether calls are held back by their functions alone.
fn fill(gateway: &Arc<Gateway>, client: &Front, address: SocketAddr) -> bool {
    let calls = &gateway.calls;
    let most = gateway.config.calls.concurrency as usize;
    calls.queue.lock().ripen(unix_now());
    let mut running = calls.running.lock();
    let mut by_function: HashMap<String, usize> = HashMap::new();
    for one in running.values() {
        *by_function.entry(one.function.clone()).or_default() += 1;
    }
    while running.len() < most {
        let taken = calls.queue.lock().take(|function| {
            let own = by_function.get(function).copied().unwrap_or(0);
            has_room(gateway, function, own)
        });
        let Some((function, id)) = taken else {
            return calls.queue.lock().ripe();
        };
        *by_function.entry(function.clone()).or_default() += 1;
        let work = {
            let (gateway, client, id) = (Arc::clone(gateway), client.clone(), id.clone());
            let function = function.clone();
            async move {
                attempt(&gateway, &client, address, &function, id.clone()).await;
                gateway.calls.running.lock().remove(&id);
                gateway.calls.work.notify_one();
                gateway.calls.ended.notify_waiters();
            }
        };
        // The lock is held: the task cannot take itself out before it is in.
        let abort = gateway.runtime.spawn(work).abort_handle();
        running.insert(id, Running { function, abort });
    }
    false
}

/// Whether one more call of a function may run beside `own` of them: one place of its pools is left to
/// synchronous callers, and while any of those wait, they go first.
fn has_room(gateway: &Gateway, function: &str, own: usize) -> bool {
    let Some(deployed) = gateway.functions.get(function) else {
        // It is gone: the front says so.
        return true;
    };
    let (mut places, mut waiting) = (0, 0);
    for pool in deployed.pools().iter().flatten() {
        let options = pool.options();
        places += options.standby.max as usize * options.concurrency as usize;
        waiting += pool.load().waiting.len();
    }
    own < places.saturating_sub(1).max(1) && waiting <= own
}

/// What is to become of a call after an attempt.
enum Verdict {
    Ended(CallState, Outcome),
    /// Again, after a failure.
    Failed(Outcome),
    /// Again, and it does not count: the function had no place for it.
    Full,
}

async fn attempt(
    gateway: &Arc<Gateway>,
    client: &Front,
    address: SocketAddr,
    function: &str,
    id: String,
) {
    let calls = &gateway.calls;
    let begun = unix_now();
    let job = match table::begin(&gateway.history, id.clone(), begun).await {
        Ok(Some(job)) => job,
        Ok(None) => return,
        Err(error) => {
            error!(call = %id, "an attempt cannot be written down: {error}");
            let due = unix_now() + REFUSED.as_secs_f64();
            return calls.enqueue_at(function, id, due);
        }
    };
    let mut log = Attempt {
        at: begun,
        seconds: 0.0,
        reason: String::new(),
        status: None,
        runtime: None,
        site: None,
        pod: None,
        start: None,
        predicted: None,
        actual: None,
    };
    let verdict = match send(gateway, client, address, &job).await {
        Ok(answer) => judge(gateway, &job, answer, &mut log).await,
        Err(reason) => {
            log.reason = reason;
            Verdict::Failed(Outcome::default())
        }
    };
    let now = unix_now();
    log.seconds = now - begun;
    // A front that takes no more connections says nothing of the function: the next life tries again.
    if calls.stopped() && log.status.is_none() {
        return;
    }
    let config = &gateway.config.calls;
    let failures = job.failures + 1;
    let (state, outcome, failed) = match verdict {
        Verdict::Ended(state, outcome) => (state, outcome, state != CallState::Succeeded),
        Verdict::Failed(outcome) if failures >= config.attempts => (CallState::Dead, outcome, true),
        Verdict::Failed(_) => {
            let wait = backoff(config.backoff, config.backoff_max, failures);
            return wait_again(gateway, &job, &log, true, now + wait.as_secs_f64()).await;
        }
        Verdict::Full => {
            let due = now + GIVE_WAY.as_secs_f64();
            return wait_again(gateway, &job, &log, false, due).await;
        }
    };
    let result = outcome.body.key.clone();
    loop {
        let ended = table::finish(
            &gateway.history,
            id.clone(),
            state,
            &log,
            outcome.clone(),
            failed,
            unix_now(),
        );
        match ended.await {
            Ok(true) => break,
            // It was taken back.
            Ok(false) => return remove(gateway, result).await,
            Err(crate::history::HistoryError::Closed) => return,
            Err(error) => {
                error!(call = %id, "the end of a call cannot be written down yet: {error}");
                tokio::time::sleep(REFUSED).await;
            }
        }
    }
    gateway.metrics.call_ended(function, state.name());
    calls.tell_at(id, 0.0);
    if state == CallState::Succeeded {
        remove(gateway, job.body.key).await;
    }
}

async fn wait_again(gateway: &Gateway, job: &Job, log: &Attempt, failed: bool, due: f64) {
    loop {
        match table::again(&gateway.history, job.id.clone(), log, failed, due).await {
            Ok(true) => break,
            Ok(false) | Err(crate::history::HistoryError::Closed) => return,
            Err(error) => {
                error!(call = %job.id, "an attempt cannot be written down yet: {error}");
                tokio::time::sleep(REFUSED).await;
            }
        }
    }
    if failed {
        gateway.metrics.call_ended(&job.function, "retried");
    }
    gateway.calls.enqueue_at(&job.function, job.id.clone(), due);
}

/// The wait after so many failures.
pub(super) fn backoff(first: Duration, most: Duration, failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    first.saturating_mul(doubled).min(most)
}

/// A body that was kept, to be sent.
pub(super) async fn payload(gateway: &Gateway, body: &Stored) -> Result<Payload, String> {
    let Some(key) = &body.key else {
        let bytes = Bytes::from(body.inline.clone().unwrap_or_default());
        return Ok(Full::new(bytes)
            .map_err(|never| match never {})
            .boxed_unsync());
    };
    let store = gateway.stores.home().map_err(|e| e.to_string())?;
    let object = store.get(key).await.map_err(|e| e.to_string())?;
    let frames = object.body.map_ok(Frame::data).map_err(BoxError::from);
    Ok(StreamBody::new(frames).boxed_unsync())
}

async fn send(
    gateway: &Gateway,
    client: &Front,
    address: SocketAddr,
    job: &Job,
) -> Result<Response<Incoming>, String> {
    let mut request = Request::new(payload(gateway, &job.body).await?);
    *request.method_mut() = Method::from_bytes(job.method.as_bytes()).map_err(|e| e.to_string())?;
    let uri = format!("http://{address}/function/{}{}", job.function, job.path);
    *request.uri_mut() = uri.parse().map_err(|e| format!("{e}"))?;
    let named: Vec<(String, String)> = serde_json::from_str(&job.headers).unwrap_or_default();
    let all = request.headers_mut();
    for (name, value) in named {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            all.append(name, value);
        }
    }
    if job.body.bytes > 0 {
        all.insert(header::CONTENT_LENGTH, HeaderValue::from(job.body.bytes));
    }
    all.insert(names::ATTEMPT, HeaderValue::from(job.attempt));
    // It was let in once: what carried its token then was not kept.
    let mut own = HeaderValue::try_from(gateway.auth.own().text()).map_err(|e| e.to_string())?;
    own.set_sensitive(true);
    all.insert(headers::TOKEN, own);
    if let Ok(id) = HeaderValue::from_str(&job.id) {
        all.insert(names::CALL_ID, id);
    }
    client
        .request(request)
        .await
        .map_err(|error| innermost(&error))
}

/// Reads an answer, keeps it where it is the last, and says what it means.
async fn judge(
    gateway: &Gateway,
    job: &Job,
    answer: Response<Incoming>,
    log: &mut Attempt,
) -> Verdict {
    let (head, body) = answer.into_parts();
    let of = |name: &str| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
    log.runtime = of(headers::RUNTIME);
    log.site = of(headers::SITE);
    log.pod = of(headers::POD);
    log.start = of(headers::START);
    log.predicted = of(headers::PREDICTED);
    log.actual = of(headers::ACTUAL);
    let status = head.status.as_u16();
    log.status = Some(status);
    let own = log.pod.is_none()
        && of("content-type").is_some_and(|kind| kind.starts_with(PROBLEM_MEDIA_TYPE));
    let state = match status {
        ..400 => Some(CallState::Succeeded),
        // Time-outs and full queues pass.
        400..500 if !matches!(status, 408 | 429) => Some(CallState::Failed),
        _ if job.failures + 1 >= gateway.config.calls.attempts && !(own && status == 429) => {
            Some(CallState::Dead)
        }
        _ => None,
    };
    log.reason = match state {
        Some(CallState::Succeeded) => "succeeded".to_owned(),
        _ => format!("status {status}"),
    };
    let body = match own {
        false => body.map_err(BoxError::from).boxed_unsync(),
        true => {
            let limited = http_body_util::Limited::new(body, PROBLEM_LIMIT);
            let read = limited.collect().await.map(|body| body.to_bytes());
            let read = read.unwrap_or_default();
            if let Ok(problem) = serde_json::from_slice::<Problem>(&read) {
                log.reason = problem.to_string();
            }
            Full::new(read)
                .map_err(|never| match never {})
                .boxed_unsync()
        }
    };
    let Some(state) = state else {
        return if own && status == 429 {
            Verdict::Full
        } else {
            Verdict::Failed(Outcome::default())
        };
    };
    match keep(gateway, job, body).await {
        Ok(body) => {
            let outcome = Outcome {
                status: Some(status),
                headers: kept(&head.headers),
                body,
            };
            match state {
                CallState::Dead => Verdict::Failed(outcome),
                state => Verdict::Ended(state, outcome),
            }
        }
        Err(reason) => {
            warn!(call = %job.id, "an answer was not kept: {reason}");
            log.reason = reason;
            Verdict::Failed(Outcome::default())
        }
    }
}

/// The answer's body: in the row if it is small, else in the home store.
async fn keep(gateway: &Gateway, job: &Job, body: Payload) -> Result<Stored, String> {
    let mut pieces = BodyDataStream::new(body);
    let mut first: Vec<Bytes> = Vec::new();
    let mut size = 0;
    while size <= INLINE {
        match pieces.next().await {
            Some(Ok(piece)) => {
                size += piece.len();
                first.push(piece);
            }
            Some(Err(error)) => return Err(format!("the answer broke off: {error}")),
            None => {
                return Ok(Stored {
                    inline: (size > 0).then(|| first.concat()),
                    key: None,
                    bytes: size as u64,
                });
            }
        }
    }
    let key = format!("{OBJECTS}{}/result-{}", job.id, job.attempt);
    let all = stream::iter(first.into_iter().map(Ok)).chain(pieces);
    let store = gateway.stores.home().map_err(|e| e.to_string())?;
    let stored = store
        .put_stream(&key, all, None, "application/octet-stream", RESULT_LIMIT)
        .await
        .map_err(|e| e.to_string())?;
    Ok(Stored {
        inline: None,
        key: Some(key),
        bytes: stored.bytes,
    })
}

/// The answer's headers as JSON, without those of its connection.
fn kept(headers: &HeaderMap) -> String {
    let left = |name: &HeaderName| {
        [
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::TRAILER,
            header::UPGRADE,
            header::DATE,
        ]
        .contains(name)
            || name == "keep-alive"
    };
    let named: Vec<(&str, &str)> = headers
        .iter()
        .filter(|(name, _)| !left(name))
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    serde_json::to_string(&named).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let wait =
            |failures| backoff(Duration::from_secs(1), Duration::from_secs(10), failures).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(wait), [1, 2, 4, 8, 10, 10]);
    }
}
