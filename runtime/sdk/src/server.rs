//! The pod's server: order of start and stop, connections, and the paths that are the pod's own.

use crate::context::Context;
use crate::exchange::query_pairs;
use crate::invocation::{self, Answer, guarded, on_thread};
use crate::isolated::{self, Front, Held, hold};
use crate::merge;
use crate::model;
use crate::pod_state::{Phase, Pod};
use crate::reply::{self, Reply};
use crate::started;
use crate::transfer::Transfer;
use crate::zygote::{self, Parked, note_load};
use crate::{Function, Response, Sample};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stoic_protocol::{LimitRequest, Problem, headers, paths, stages};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A head has to be there within this time; an unused connection is closed after it, too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest head taken, in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// Largest body of the pod's own paths, in bytes.
const OWN_BODY_BYTES: usize = 64 * 1024;
/// Longest time that somebody may wait for the end of an invocation.
const LONGEST_LOOK: Duration = Duration::from_secs(10);
/// Largest list of parts, in bytes: some ten thousand presigned URLs.
const MERGE_BODY_BYTES: usize = 16 * 1024 * 1024;
/// What cancelled work gets to notice that it is.
const LAST_GRACE: Duration = Duration::from_secs(5);
/// Most items of a sample.
const SAMPLE_ITEMS: usize = 10_000;

/// Serves a function until `SIGTERM`: reads the environment, binds, loads, answers, drains. The
/// status is 0 after a drain, and 1 where the pod could not start or stop in order.
///
/// Where the site asks for a zygote, the function is loaded first and pods are forked from it; where it
/// asks for isolation, each invocation runs in a fresh child. Call it on the program's only thread.
#[must_use]
pub fn serve<F: Function>() -> ExitCode {
    let (start_s, began) = started::before_main();
    zygote::note::keep();
    log_to_stderr();
    let context = match Context::from_env() {
        Ok(context) => context,
        Err(problem) => return failed(&problem),
    };
    let origin = Origin {
        began,
        function: None,
        role: Role::Binds,
        start_s,
    };
    if !zygote::wanted() {
        return serve_pod::<F>(context, origin);
    }
    match zygote::park::<F>(context, origin.start_s) {
        Err(problem) => failed(&problem),
        Ok(Parked::Ended(status)) => status,
        Ok(Parked::Pod(pod)) => {
            let origin = Origin {
                began: started::now(),
                function: pod.function,
                role: Role::Serves(pod.listener),
                start_s: pod.start_s,
            };
            serve_pod::<F>(pod.context, origin)
        }
    }
}

/// What a pod begins with.
struct Origin<F> {
    /// When its own code began, as [`started::now`] says it.
    began: u64,
    /// Loaded already, in the process that this one was forked from.
    function: Option<F>,
    role: Role,
    /// Stages of its start so far.
    start_s: BTreeMap<String, f64>,
}

/// Which connections a process serves.
enum Role {
    /// Those to the port of its environment, which it has to bind.
    Binds,
    /// Those to a socket that was bound for it.
    Serves(std::net::TcpListener),
    /// This one, of a single invocation.
    Child(UnixStream),
}

fn serve_pod<F: Function>(mut context: Context, mut origin: Origin<F>) -> ExitCode {
    if !context.isolated {
        let was_forked = matches!(origin.role, Role::Serves(_));
        return serve_on(was_forked, context, origin, None);
    }
    match hold(&mut context, origin.function.take(), &mut origin.start_s) {
        Err(problem) => failed(&problem),
        Ok(Held::Ended(status)) => status,
        Ok(Held::Front(function, control)) => {
            let origin = Origin {
                began: started::now(),
                function,
                ..origin
            };
            serve_on(true, context, origin, Some(control))
        }
        Ok(Held::Child(function, stream)) => {
            let origin = Origin {
                began: started::now(),
                function,
                role: Role::Child(stream),
                start_s: BTreeMap::new(),
            };
            context.isolated = false;
            let status = serve_on(true, context, origin, None);
            // What functions print stands in buffers; nothing else is to be done at the end.
            let _ = std::io::Write::flush(&mut std::io::stdout());
            zygote::fork::end(i32::from(status != ExitCode::SUCCESS))
        }
    }
}

/// Serves; on a thread of its own where the process was forked: what is kept per thread is new on that.
fn serve_on<F: Function>(
    new_thread: bool,
    context: Context,
    origin: Origin<F>,
    control: Option<OwnedFd>,
) -> ExitCode {
    let serve = move || {
        let front = control.map(Front::new).transpose();
        let failed = |error: std::io::Error| Problem::new(500, "runtime_failed", error.to_string());
        match front.map_err(failed) {
            Ok(front) => serve_here(context, origin, front),
            Err(problem) => self::failed(&problem),
        }
    };
    if !new_thread {
        return serve();
    }
    let thread = std::thread::Builder::new()
        .name("pod".to_owned())
        .spawn(serve);
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(status)) => status,
        Ok(Err(_)) => ExitCode::FAILURE,
        Err(error) => failed(&Problem::new(500, "runtime_failed", error.to_string())),
    }
}

fn serve_here<F: Function>(
    context: Context,
    origin: Origin<F>,
    front: Option<Arc<Front>>,
) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(context.concurrency.saturating_add(16))
        .thread_keep_alive(Duration::from_secs(60))
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return failed(&Problem::new(500, "runtime_failed", error.to_string()));
        }
    };
    let ended = runtime.block_on(async {
        match origin.role {
            Role::Child(stream) => serve_one(context, origin.function, stream).await,
            role => run(context, Origin { role, ..origin }, front).await,
        }
    });
    // Work that did not notice its cancellation is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => failed(&problem),
    }
}

fn failed(problem: &Problem) -> ExitCode {
    tracing::error!(code = problem.code, "{problem}");
    ExitCode::FAILURE
}

fn log_to_stderr() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_env("STOIC_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A function may have set up a log of its own; then that is used.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
}

async fn bind(
    context: &Context,
    bound: Option<std::net::TcpListener>,
) -> Result<TcpListener, Problem> {
    let failed = |error: std::io::Error| {
        let place = format!("{}:{}", context.host, context.port);
        Problem::new(
            500,
            "port_in_use",
            format!("{place} cannot be bound: {error}"),
        )
    };
    match bound {
        None => TcpListener::bind((context.host, context.port))
            .await
            .map_err(failed),
        Some(bound) => {
            bound.set_nonblocking(true).map_err(failed)?;
            TcpListener::from_std(bound).map_err(failed)
        }
    }
}

/// Serves one connection, in a process that was forked for it.
async fn serve_one<F: Function>(
    context: Context,
    function: Option<F>,
    stream: UnixStream,
) -> Result<(), Problem> {
    let failed = |error: std::io::Error| Problem::new(500, "runtime_failed", error.to_string());
    stream.set_nonblocking(true).map_err(failed)?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(failed)?;
    let transfer = Transfer::new(tokio::runtime::Handle::current());
    let pod = Arc::new(Pod::<F>::new(context, transfer, None));
    load(&pod, function).await?;
    if let Err(error) = connection(stream, &pod).await {
        tracing::debug!(%error, "connection ended");
    }
    Ok(())
}

async fn run<F: Function>(
    context: Context,
    origin: Origin<F>,
    front: Option<Arc<Front>>,
) -> Result<(), Problem> {
    let Origin {
        began,
        function,
        role,
        mut start_s,
    } = origin;
    let mut signals = Signals::listen()?;
    let listener = match role {
        Role::Serves(listener) => Some(listener),
        Role::Binds | Role::Child(_) => None,
    };
    let was_bound = listener.is_some();
    let listener = bind(&context, listener).await?;
    let address = listener
        .local_addr()
        .map_err(|error| Problem::new(500, "port_in_use", error.to_string()))?;
    if !was_bound {
        let took = started::between(began, started::now());
        start_s.insert(stages::BIND.to_owned(), took);
    }
    tracing::info!(pod = context.pod, function = context.function, %address, "listening");
    let transfer = Transfer::new(tokio::runtime::Handle::current());
    let pod = Arc::new(Pod::<F>::new(context, transfer, front));
    pod.started(start_s);
    let graceful = GracefulShutdown::new();
    let loaded = {
        let mut accepting = pin!(accept(&listener, &pod, Some(&graceful)));
        let mut loading = pin!(load(&pod, function));
        let mut loaded = false;
        loop {
            tokio::select! {
                outcome = &mut loading, if !loaded => {
                    outcome?;
                    loaded = true;
                    let seconds = started::between(began, started::now());
                    tracing::info!(seconds, "ready");
                }
                () = signals.next() => break loaded,
                () = &mut accepting => {}
            }
        }
    };
    if !loaded {
        tracing::info!("stopped before it was ready");
        return Ok(());
    }
    drain(&pod, &listener, graceful, &mut signals).await
}

/// Finishes what runs. Health and refusals are answered meanwhile.
async fn drain<F: Function>(
    pod: &Arc<Pod<F>>,
    listener: &TcpListener,
    graceful: GracefulShutdown,
    signals: &mut Signals,
) -> Result<(), Problem> {
    pod.drain();
    tracing::info!("draining");
    let limit = Duration::from_secs(pod.context.drain_s);
    let mut finished = pin!(async {
        graceful.shutdown().await;
        pod.until_idle().await;
    });
    tokio::select! {
        () = &mut finished => {
            tracing::info!("drained");
            return Ok(());
        }
        () = accept(listener, pod, None) => {}
        () = tokio::time::sleep(limit) => {}
        () = signals.next() => {}
    }
    pod.stop.cancel();
    tokio::time::timeout(LAST_GRACE, finished)
        .await
        .map_err(|_| {
            Problem::new(
                500,
                "drain_overrun",
                "work did not end in time and was given up",
            )
        })
}

/// The signals that end a pod.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Problem> {
        let listen = |kind| {
            signal(kind).map_err(|error| Problem::new(500, "signals_failed", error.to_string()))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Loads the function on a thread, or makes one that was loaded elsewhere this process's own; the pod is
/// ready afterwards.
async fn load<F: Function>(pod: &Arc<Pod<F>>, loaded: Option<F>) -> Result<(), Problem> {
    let began = Instant::now();
    let mut context = pod.context.clone();
    let mut start_s = BTreeMap::new();
    let function = if let Some(mut function) = loaded {
        pod.was_forked();
        let renew = move || {
            guarded(|| {
                function.forked(&context, random()?)?;
                Ok(function)
            })
        };
        let function = on_thread(renew).await?;
        start_s.insert(stages::RENEW.to_owned(), began.elapsed().as_secs_f64());
        function
    } else {
        let file = model::localise(&mut context, &pod.transfer).await?;
        if file.is_some() {
            start_s.insert(stages::MODEL.to_owned(), began.elapsed().as_secs_f64());
        }
        let loading = Instant::now();
        let function = on_thread(move || guarded(|| F::load(&context))).await?;
        drop(file);
        note_load(&function, loading.elapsed().as_secs_f64(), &mut start_s);
        function
    };
    pod.started(start_s);
    pod.ready(function);
    Ok(())
}

/// A random number that no other process has.
fn random() -> Result<u64, Problem> {
    let failed = |error: rustix::io::Errno| Problem::new(500, "random_failed", error.to_string());
    let mut bytes = [0; 8];
    // As few bytes as these come at once.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(failed)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Accepts for as long as it is polled.
async fn accept<F: Function>(
    listener: &TcpListener,
    pod: &Arc<Pod<F>>,
    graceful: Option<&GracefulShutdown>,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or a connection that is gone already.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        connect(stream, pod, graceful);
    }
}

/// Serves the requests of a connection.
fn connection<F: Function, S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    pod: &Arc<Pod<F>>,
) -> http1::Connection<
    TokioIo<S>,
    impl HttpService<Incoming, ResBody = Reply, Error = Infallible, Future: Send> + use<F, S>,
> {
    let pod = Arc::clone(pod);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        // The gateway writes the date.
        .auto_date_header(false)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| {
                let pod = Arc::clone(&pod);
                async move { Ok::<_, Infallible>(route(&pod, request).await) }
            }),
        )
}

fn connect<F: Function>(stream: TcpStream, pod: &Arc<Pod<F>>, graceful: Option<&GracefulShutdown>) {
    // A connection without it is slower, not wrong.
    let _ = stream.set_nodelay(true);
    let connection = connection(stream, pod);
    let ended = |ended: Result<(), hyper::Error>| {
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    };
    match graceful {
        Some(graceful) => {
            let connection = graceful.watch(connection);
            tokio::spawn(async move { ended(connection.await) });
        }
        None => {
            tokio::spawn(async move { ended(connection.await) });
        }
    }
}

async fn route<F: Function>(pod: &Arc<Pod<F>>, request: http::Request<Incoming>) -> Answer {
    let path = request.uri().path();
    if let Some(front) = &pod.front
        && !is_the_fronts(path)
    {
        let answer = isolated::forward(pod, front, request).await;
        return answer.unwrap_or_else(|problem| invocation::refuse(pod, &problem));
    }
    // Every path of the pod's own begins with one of these letters.
    if !path.starts_with("/h") && !path.starts_with("/m") && !path.starts_with("/_") {
        return invocation::invoke(pod, request).await;
    }
    let get = request.method() == Method::GET || request.method() == Method::HEAD;
    match path {
        paths::HEALTH if get => health(pod),
        paths::METRICS if get => {
            let worker = Arc::clone(pod);
            let text = on_thread(move || guarded(|| Ok(worker.metrics()))).await;
            or_problem(
                text.map(|text| reply::text(StatusCode::OK, "text/plain; version=0.0.4", text)),
            )
        }
        paths::REPORT if get => {
            let worker = Arc::clone(pod);
            let report = on_thread(move || guarded(|| worker.report())).await;
            or_problem(
                report
                    .and_then(|report| Response::json(&report))
                    .map(reply::answer),
            )
        }
        paths::SAMPLE if get => or_problem(sample(pod, &request).await),
        paths::ENDED if get => or_problem(until_ended(pod, &request).await),
        paths::LIMIT if request.method() == Method::PUT => {
            or_problem(limit(pod, request.into_body()).await)
        }
        paths::MERGE if request.method() == Method::POST => {
            or_problem(merge_parts(pod, request.into_body()).await)
        }
        paths::MODEL if request.method() == Method::PUT => {
            or_problem(put_model(pod, request.into_body()).await)
        }
        _ => invocation::invoke(pod, request).await,
    }
}

/// Whether the front of isolated invocations answers this path itself: no code of the function runs there
/// but what it says of itself, and the loading of models.
fn is_the_fronts(path: &str) -> bool {
    matches!(
        path,
        paths::HEALTH | paths::METRICS | paths::REPORT | paths::ENDED | paths::LIMIT | paths::MODEL
    )
}

fn or_problem(answer: Result<Answer, Problem>) -> Answer {
    answer.unwrap_or_else(|problem| {
        tracing::info!(status = problem.status, "{problem}");
        reply::problem(&problem)
    })
}

fn health<F: Function>(pod: &Pod<F>) -> Answer {
    let phase = pod.phase();
    let (status, text) = match phase {
        Phase::Loading => (StatusCode::SERVICE_UNAVAILABLE, "loading\n"),
        Phase::Ready => (StatusCode::OK, "ready\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    };
    let mut answer = reply::text(status, "text/plain", text);
    if phase == Phase::Ready {
        let starts = pod.starts();
        let texts: Vec<String> = starts.iter().map(|(k, v)| format!("{k}={v:.6}")).collect();
        if let Ok(value) = HeaderValue::from_str(&texts.join(";")) {
            answer.headers_mut().insert(headers::START_STAGES, value);
        }
    }
    answer
}

async fn sample<F: Function>(
    pod: &Arc<Pod<F>>,
    request: &http::Request<Incoming>,
) -> Result<Answer, Problem> {
    pod.serving()?;
    let asked = query_pairs(request.uri().query().unwrap_or_default())
        .find_map(|(key, value)| (key == "items").then_some(value));
    let items: usize = match asked {
        None => 1,
        Some(text) => text
            .parse()
            .ok()
            .filter(|items| (1..=SAMPLE_ITEMS).contains(items))
            .ok_or_else(|| {
                Problem::new(
                    400,
                    "items_invalid",
                    format!("items={text:?} is not a number from 1 to {SAMPLE_ITEMS}"),
                )
            })?,
    };
    let worker = Arc::clone(pod);
    let sample = on_thread(move || guarded(|| Ok(worker.loaded()?.sample(items)))).await?;
    let Sample {
        content_type,
        bytes,
    } = sample
        .ok_or_else(|| Problem::new(404, "sample_unsupported", "this function has no sample"))?;
    Ok(reply::answer(Response::new(&content_type, bytes)))
}

async fn until_ended<F: Function>(
    pod: &Arc<Pod<F>>,
    request: &http::Request<Incoming>,
) -> Result<Answer, Problem> {
    let (mut invocation, mut within) = (None, Duration::ZERO);
    for (key, value) in query_pairs(request.uri().query().unwrap_or_default()) {
        match key.as_str() {
            "invocation" => invocation = Some(value),
            "within_ms" => {
                let millis = value.parse().ok().map(Duration::from_millis);
                within = millis
                    .filter(|within| *within <= LONGEST_LOOK)
                    .ok_or_else(|| {
                        Problem::new(400, "within_invalid", "within_ms is at most 10000")
                    })?;
            }
            _ => {}
        }
    }
    let invocation =
        invocation.ok_or_else(|| Problem::new(400, "invocation_missing", "name an invocation"))?;
    tokio::time::timeout(within, pod.until_ended(&invocation))
        .await
        .map_err(|_| Problem::new(409, "invocation_running", "the batch still runs"))?;
    let mut answer = http::Response::new(Reply::Whole(None));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    Ok(answer)
}

async fn limit<F: Function>(pod: &Arc<Pod<F>>, body: Incoming) -> Result<Answer, Problem> {
    let invalid = |detail: String| Problem::new(400, "limit_invalid", detail);
    let body = Limited::new(body, OWN_BODY_BYTES)
        .collect()
        .await
        .map_err(|error| invalid(error.to_string()))?
        .to_bytes();
    let request: LimitRequest =
        serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    let items = usize::try_from(request.items).unwrap_or(usize::MAX);
    if !pod.limit(&request.invocation, request.first, items) {
        let detail = "no such part runs in this pod";
        return Err(Problem::new(404, "part_absent", detail));
    }
    let mut answer = http::Response::new(Reply::Whole(None));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    Ok(answer)
}

async fn merge_parts<F: Function>(pod: &Arc<Pod<F>>, body: Incoming) -> Result<Answer, Problem> {
    pod.serving()?;
    let invalid = |detail: String| Problem::new(400, "merge_invalid", detail);
    let body = Limited::new(body, MERGE_BODY_BYTES)
        .collect()
        .await
        .map_err(|error| invalid(error.to_string()))?
        .to_bytes();
    let request = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    merge::merge(pod, request).await
}

async fn put_model<F: Function>(pod: &Arc<Pod<F>>, body: Incoming) -> Result<Answer, Problem> {
    let body = Limited::new(body, OWN_BODY_BYTES)
        .collect()
        .await
        .map_err(|error| Problem::new(400, "model_invalid", error.to_string()))?
        .to_bytes();
    // A caller who leaves does not leave a model half loaded: the change goes on by itself.
    let pod = Arc::clone(pod);
    let change = tokio::spawn(async move { model::change(&pod, &body).await });
    change
        .await
        .map_err(|error| Problem::new(500, "model_failed", error.to_string()))??;
    let mut answer = http::Response::new(Reply::Whole(None));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    Ok(answer)
}
