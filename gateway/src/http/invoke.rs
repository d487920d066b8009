//! Invocations: what the headers ask for, and the way of a batch through HTTP.

use super::Body;
use super::answer::{failure, typed};
use super::arriving::{Arriving, Broken};
use super::caller::Caller;
use super::forward::{self, Stamp, stamp};
use crate::config::nearest;
use crate::failure::Failure;
use crate::function::Input;
use crate::gateway::{Gateway, new_id};
use crate::mode::Mode;
use crate::requester::batch::{self, BatchAnswer, BatchJob};
use crate::requester::events::{Event, Events};
use crate::requester::package;
use crate::runnable::Deployed;
use crate::scheduler::unix_now;
use crate::storage::result_key;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyDataStream, Limited};
use hyper::body::Incoming;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use stoic_protocol::{NDJSON_MEDIA_TYPE, headers};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Longest deadline that may be asked for.
const LONGEST_DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Types that curl sends when it is told none; no function takes them.
const FORM: &str = "application/x-www-form-urlencoded";

/// Most of a refused body that is read, and for how long, so that its sender gets the answer.
const DISCARD_LIMIT: usize = 64 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// What the headers of an invocation ask for.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) invocation: String,
    /// The mode, where one was asked for; a runtime alone pins.
    pub(super) mode: Option<Mode>,
    pub(super) runtime: Option<String>,
    /// Time from the arrival by which the answer is wanted.
    pub(super) deadline: Option<Duration>,
    pub(super) items: Option<u64>,
    pub(super) action: Option<String>,
    /// Size of the body, where it was told; else zero.
    pub(super) bytes: u64,
}

impl Wanted {
    /// Reads and checks the headers.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Failure> {
        let invocation = new_id();
        // Most requests ask for nothing: one look at what is there costs less than looking for each.
        if !headers.keys().any(is_ours) {
            return Ok(Self {
                invocation,
                ..Self::default()
            });
        }
        let text = |name: &'static str| match headers.get(name) {
            None => Ok(None),
            Some(value) => match value.to_str().map(str::trim) {
                Ok(value) if !value.is_empty() => Ok(Some(value)),
                _ => Err(Failure::new(
                    400,
                    "header_invalid",
                    format!("header {name} must be plain text"),
                )),
            },
        };
        let runtime = text(headers::RUNTIME)?;
        let mode = text(headers::MODE)?
            .map(|text| mode(text, runtime))
            .transpose()?;
        let deadline = text(headers::DEADLINE)?.map(deadline).transpose()?;
        let items = match text(headers::ITEMS)? {
            None => None,
            Some(value) => Some(
                value
                    .parse::<u64>()
                    .ok()
                    .filter(|items| (1..=100_000_000).contains(items))
                    .ok_or_else(|| {
                        Failure::new(
                            400,
                            "header_invalid",
                            format!(
                                "header {} must be a number of items from 1 on, not `{value}`",
                                headers::ITEMS
                            ),
                        )
                    })?,
            ),
        };
        let action = text(headers::ACTION)?;
        if let Some(action) = action
            && (action.len() > 32
                || !action.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_'
                }))
        {
            return Err(Failure::new(
                400,
                "header_invalid",
                format!("header {} must be a word in lower case", headers::ACTION),
            ));
        }
        Ok(Self {
            invocation,
            mode: mode.or(runtime.map(|_| Mode::Pinned)),
            runtime: runtime.map(str::to_owned),
            deadline,
            items,
            action: action.map(str::to_owned),
            bytes: 0,
        })
    }

    pub(super) fn action(&self) -> &str {
        self.action.as_deref().unwrap_or("infer")
    }

    /// The mode of an invocation that passes straight through: it is on one runtime.
    pub(super) fn single_mode(&self) -> Mode {
        match self.mode {
            Some(Mode::Pinned) => Mode::Pinned,
            _ => Mode::Selector,
        }
    }

    /// Seconds that are left until the deadline, from now, where there is one.
    pub(super) fn deadline_s(&self) -> Option<f64> {
        self.deadline.map(|deadline| deadline.as_secs_f64())
    }
}

/// Whether a header is one of those that say what is wanted.
fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with(headers::PREFIX)
}

/// Reads a mode, and whether a runtime may be named beside it.
fn mode(text: &str, runtime: Option<&str>) -> Result<Mode, Failure> {
    let names = Mode::ALL.map(Mode::name);
    let Ok(mode) = text.parse::<Mode>() else {
        let hint = nearest::nearest(text, names.into_iter())
            .map_or_else(String::new, |best| format!("; did you mean `{best}`?"));
        let all = names.join(", ");
        let detail = format!("there is no mode `{text}`; there are: {all}{hint}");
        return Err(Failure::new(400, "unknown_mode", detail));
    };
    match mode {
        Mode::Pinned if runtime.is_none() => {
            let detail = format!("mode pinned needs a runtime in header {}", headers::RUNTIME);
            Err(Failure::new(400, "runtime_missing", detail))
        }
        Mode::Selector | Mode::Auto if runtime.is_some() => {
            let detail = format!(
                "mode {mode} chooses the runtime itself: leave header {} out",
                headers::RUNTIME
            );
            Err(Failure::new(400, "mode_conflict", detail))
        }
        mode => Ok(mode),
    }
}

/// Reads a deadline such as `30s`.
fn deadline(text: &str) -> Result<Duration, Failure> {
    let parsed = humantime::parse_duration(text).ok();
    let sane = parsed.filter(|time| !time.is_zero() && *time <= LONGEST_DEADLINE);
    sane.ok_or_else(|| {
        let name = headers::DEADLINE;
        let detail =
            format!("header {name} must be a time from now such as 30s or 2m, not `{text}`");
        Failure::new(400, "header_invalid", detail)
    })
}

/// Whether the function can be run in a mode that takes several runtimes.
fn possible(
    gateway: &Gateway,
    deployed: &Deployed,
    wanted: &Wanted,
    mode: Mode,
) -> Result<(), Failure> {
    let spec = &deployed.function.object.spec;
    let impossible = |detail: String| Err(Failure::new(400, "mode_impossible", detail));
    let name = deployed.function.name();
    if spec.input == Input::Request {
        return match mode.several() {
            true => impossible(format!(
                "mode {mode} works batches, and {name} has `input: request`"
            )),
            false => Ok(()),
        };
    }
    if !mode.several() {
        return Ok(());
    }
    let runtimes = gateway.scheduler.runtimes().iter().enumerate();
    let allowed = runtimes.filter(|(index, _)| deployed.pool(*index).is_some());
    let (remote, home): (Vec<_>, Vec<_>) = allowed.partition(|(_, info)| info.remote);
    if let Some(runtime) = &wanted.runtime
        && home.iter().any(|(_, info)| info.name == *runtime)
    {
        return impossible(format!(
            "mode {mode} takes a cloud runtime in header {}, and `{runtime}` is at the edge",
            headers::RUNTIME
        ));
    }
    if remote.is_empty() {
        return impossible(format!(
            "mode {mode} needs a cloud runtime, and {name} has none"
        ));
    }
    if mode == Mode::Hedged {
        return Ok(());
    }
    if home.is_empty() {
        return impossible(format!(
            "mode {mode} needs an edge runtime, and {name} has none"
        ));
    }
    if wanted.action() != "infer" {
        return impossible(format!(
            "mode {mode} is for inference; action `{}` runs in one place",
            wanted.action()
        ));
    }
    if mode == Mode::Cooperative && !spec.divisible {
        let detail = format!(
            "the batches of {name} cannot be divided: its function.yaml does not say `divisible: true`"
        );
        return Err(Failure::new(400, "function_indivisible", detail));
    }
    Ok(())
}

/// An invocation that may go in.
pub(super) struct Admitted {
    pub(super) deployed: Arc<Deployed>,
    wanted: Wanted,
    /// Media type of the body, without parameters.
    pub(super) content_type: String,
}

/// `/function/{name}[/path]`.
pub(super) async fn invoke(
    gateway: &Arc<Gateway>,
    name: &str,
    path: PathAndQuery,
    request: Request<Incoming>,
    caller: &Caller,
) -> Response<Body> {
    let Admitted {
        deployed,
        wanted,
        content_type,
    } = match admit(gateway, name, &request) {
        Ok(admitted) => admitted,
        Err(refused) => {
            Box::pin(discard(request)).await;
            return failure(&refused);
        }
    };
    let answered = match deployed.function.object.spec.input {
        Input::Request => {
            forward::forward(gateway, &deployed, request, path, &wanted, caller).await
        }
        // Boxed: it is much larger than what a request that passes through needs.
        Input::Batch => {
            Box::pin(run_batch(
                gateway,
                &deployed,
                request,
                &wanted,
                content_type,
            ))
            .await
        }
    };
    answered.unwrap_or_else(|failed| {
        gateway.metrics.failed(name, &failed.problem.code);
        failure(&failed.of(&wanted.invocation))
    })
}

/// Checks all that can be checked before the body arrives.
pub(super) fn admit(
    gateway: &Gateway,
    name: &str,
    request: &Request<Incoming>,
) -> Result<Admitted, Failure> {
    let deployed = gateway.functions.get(name);
    let deployed = deployed.ok_or_else(|| Failure::unknown_function(name))?;
    let mut wanted = Wanted::read(request.headers())?;
    wanted.bytes = request.body().size_hint().exact().unwrap_or(0);
    if let Some(runtime) = &wanted.runtime {
        let index = gateway.scheduler.runtime(runtime);
        if index.and_then(|index| deployed.pool(index)).is_none() {
            let allowed = gateway.scheduler.runtimes().iter().map(|info| &*info.name);
            let allowed: Vec<&str> = allowed.filter(|r| deployed.function.allows(r)).collect();
            let detail = format!(
                "{name} has no runtime `{runtime}`; it has: {}",
                allowed.join(", ")
            );
            return Err(Failure::new(400, "unknown_runtime", detail));
        }
    }
    match wanted.mode {
        Some(mode) => possible(gateway, &deployed, &wanted, mode)?,
        None => {
            // A default is a wish: what a function cannot do, it is not asked for.
            let mode = gateway.config.placement.mode;
            let can = possible(gateway, &deployed, &wanted, mode).is_ok();
            wanted.mode = Some(if can { mode } else { Mode::Selector });
        }
    }
    let limit = gateway.config.body_limit;
    if wanted.bytes > limit.as_u64() {
        let detail = format!("the body is over the limit of {limit}");
        return Err(Failure::new(413, "body_too_large", detail));
    }
    let mut content_type = String::new();
    if deployed.function.object.spec.input == Input::Batch {
        if request.method() != Method::POST {
            let detail = "a batch function is invoked with POST";
            return Err(Failure::new(405, "method_not_allowed", detail));
        }
        let value = request.headers().get(header::CONTENT_TYPE);
        let value = value.and_then(|value| value.to_str().ok()).unwrap_or("");
        let kind = value.split(';').next().unwrap_or_default();
        content_type = kind.trim().to_ascii_lowercase();
        if content_type.is_empty() || content_type == FORM {
            let detail = "say what the body is: content-type application/zip, application/x-tar, image/jpeg, ...";
            return Err(Failure::new(415, "unsupported_media_type", detail));
        }
    }
    Ok(Admitted {
        deployed,
        wanted,
        content_type,
    })
}

/// Reads what is left of a refused body, within bounds: a connection that is closed with bytes unread
/// is reset, and the client would lose the answer that says why.
pub(super) async fn discard(request: Request<Incoming>) {
    // A client that waits for `100 Continue` has sent nothing yet.
    if request.headers().contains_key(header::EXPECT) {
        return;
    }
    let body = Limited::new(request.into_body(), DISCARD_LIMIT);
    let read = BodyDataStream::new(body).for_each(|_| std::future::ready(()));
    let _ = tokio::time::timeout(DISCARD_TIME, read).await;
}

async fn run_batch(
    gateway: &Arc<Gateway>,
    deployed: &Arc<Deployed>,
    request: Request<Incoming>,
    wanted: &Wanted,
    content_type: String,
) -> Result<Response<Body>, Failure> {
    let (head, body) = request.into_parts();
    let limit = gateway.config.body_limit.as_u64();
    let length = body.size_hint().exact();
    let job = BatchJob {
        invocation: wanted.invocation.clone(),
        deployed: Arc::clone(deployed),
        action: wanted.action().to_owned(),
        mode: wanted.mode.unwrap_or_default(),
        runtime: wanted.runtime.clone(),
        bootstrap: false,
        deadline: wanted.deadline,
        parameters: query(&head.uri)?,
        at: unix_now(),
    };
    // The work runs on the gateway's own async runtime and ends with this request.
    let staging = {
        let (gateway, invocation) = (Arc::clone(gateway), job.invocation.clone());
        let body = Arriving::new(body, gateway.config.http.body_timeout);
        // What broke the body is told as it is: a store would only say that it did.
        let broken = Arc::new(OnceLock::new());
        let noted = Arc::clone(&broken);
        let body = BodyDataStream::new(body).inspect_err(move |Broken(failure)| {
            let _ = noted.set(failure.clone());
        });
        async move {
            let staged = package::stage(
                &gateway.stores,
                &invocation,
                body,
                length,
                &content_type,
                limit,
            )
            .await;
            staged.map_err(|failed| broken.get().cloned().unwrap_or(failed))
        }
    };
    let staged = AbortOnDropHandle::new(gateway.runtime.spawn(staging))
        .await
        .map_err(internal)??;
    if wants_events(&head.headers) {
        return Ok(event_stream(gateway, job, staged));
    }
    let work = {
        let gateway = Arc::clone(gateway);
        let job = job.clone();
        async move { batch::run(&gateway, &job, &staged, &Events::default()).await }
    };
    let answer = AbortOnDropHandle::new(gateway.runtime.spawn(work))
        .await
        .map_err(internal)??;
    plain(gateway, &answer).await
}

fn wants_events(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(NDJSON_MEDIA_TYPE))
}

/// The result itself, with what is to be said of it in the headers.
async fn plain(gateway: &Gateway, answer: &BatchAnswer) -> Result<Response<Body>, Failure> {
    let mut response = result(gateway, &answer.measurement.invocation).await?;
    let m = &answer.measurement;
    let start = if m.start == "cold" { "cold" } else { "warm" };
    let all = response.headers_mut();
    stamp(
        all,
        &Stamp {
            invocation: HeaderValue::from_str(&m.invocation)
                .unwrap_or(HeaderValue::from_static("")),
            runtime: &m.runtime,
            site: &m.site,
            start,
            pod: &answer.pod,
            predicted: m.predicted.map(|parts| (parts, m.predicted_90)),
            actual: &m.actual,
            emulated: &m.emulated,
            started: &answer.started,
        },
    );
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            all.insert(HeaderName::from_static(name), value);
        }
    };
    put(headers::REASON, &answer.reason);
    put(headers::MODE, &m.mode);
    if !m.items_by.is_empty() {
        let by: Vec<String> = m.items_by.iter().map(|(r, n)| format!("{r}={n}")).collect();
        put(headers::ITEMS_BY, &by.join(";"));
    }
    if let Some(race) = &m.race {
        put(headers::CLOUD_SAVED, &format!("{:.4}", race.saved_s));
        put(headers::CLOUD_LOST, &format!("{:.4}", race.lost_s));
    }
    put(headers::ITEMS, &answer.done.items.to_string());
    if let Some(model) = &m.model {
        put(headers::MODEL, model);
    }
    Ok(response)
}

/// The stored result of an invocation.
pub(super) async fn result(gateway: &Gateway, invocation: &str) -> Result<Response<Body>, Failure> {
    let key = result_key(invocation);
    let object = match gateway.stores.home()?.get(&key).await {
        Ok(object) => object,
        Err(stoic_store::StoreError::NotFound { .. }) => {
            return Err(Failure::new(
                404,
                "unknown_result",
                format!("there is no result of invocation `{invocation}`; results expire"),
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let content_type = HeaderValue::from_str(&object.content_type)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let mut response = Response::new(Body::stream(object.body, Some(object.bytes)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// The way of the batch as lines, ended by `result` or `error`. A client that leaves ends the work.
fn event_stream(gateway: &Arc<Gateway>, job: BatchJob, staged: package::Staged) -> Response<Body> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let invocation = job.invocation.clone();
    let work = {
        let gateway = Arc::clone(gateway);
        async move {
            let ended = batch::run(&gateway, &job, &staged, &Events::to(sender.clone())).await;
            let last = match ended {
                Ok(BatchAnswer {
                    measurement, done, ..
                }) => Event::Result {
                    result: format!("/v1/invocations/{}/result", measurement.invocation),
                    content_type: done.content_type,
                    items: done.items,
                    failed_items: done.failed_items,
                    measurement: Box::new(measurement),
                    stages_s: done.stages_s,
                },
                Err(failed) => {
                    gateway
                        .metrics
                        .failed(job.deployed.function.name(), &failed.problem.code);
                    Event::Error {
                        problem: failed.problem,
                    }
                }
            };
            let _ = sender.send(last);
        }
    };
    let work = AbortOnDropHandle::new(gateway.runtime.spawn(work));
    let lines = stream::unfold((receiver, work), |(mut receiver, work)| async move {
        let event = receiver.recv().await?;
        Some((line(&event), (receiver, work)))
    });
    let mut response = typed(StatusCode::OK, NDJSON_MEDIA_TYPE, Bytes::new());
    *response.body_mut() = Body::stream(lines.map(Ok::<_, std::convert::Infallible>), None);
    if let Ok(value) = HeaderValue::from_str(&invocation) {
        response
            .headers_mut()
            .insert(HeaderName::from_static(headers::INVOCATION), value);
    }
    response
}

fn line(event: &Event) -> Bytes {
    let mut text = serde_json::to_vec(event).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
pub(super) fn internal(error: tokio::task::JoinError) -> Failure {
    Failure::new(
        500,
        "internal",
        format!("the work ended unexpectedly: {error}"),
    )
}

/// Query parameters, decoded.
pub(super) fn query(uri: &http::Uri) -> Result<BTreeMap<String, String>, Failure> {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let all: BTreeMap<String, String> = pairs
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    if all.len() > 64 {
        return Err(Failure::new(
            400,
            "query_invalid",
            "more than 64 query parameters",
        ));
    }
    Ok(all)
}
