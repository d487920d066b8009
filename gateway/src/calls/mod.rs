//! Asynchronous calls: accepted when they are on disk, run at least once, their results kept.
//!
//! A call is a row of the history's table `calls`; bodies and results that are more than a few pages lie
//! in the home site's object store. The worker sends each call to the gateway's own front, so that it
//! goes the very way of a synchronous invocation: admission, placement, pools, modes, records. What runs
//! when the gateway is killed is queued again at the next start.

mod callback;
mod expiry;
mod intake;
mod queue;
mod record;
mod table;
mod worker;

pub use intake::{Intake, accept};
pub use record::{Attempt, CallState, CallView, CallbackView, CallsPage};

use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::scheduler::unix_now;
use parking_lot::Mutex;
use queue::Queue;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stoic_store::{ObjectBody, StoreError};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::warn;

/// Prefix of the objects of calls in the home store.
pub(crate) const OBJECTS: &str = "calls/";
/// Bodies and results up to this many bytes lie in the row.
const INLINE: usize = 32 * 1024;
/// Most calls that one page shows.
const PAGE: u32 = 1000;
/// How long what was answered may take to be written when the gateway stops.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// Headers of a call and its callback.
pub mod names {
    /// Identity of a call.
    pub const CALL_ID: &str = "x-call-id";
    /// Number of the attempt, from 1 on, as the function sees it.
    pub const ATTEMPT: &str = "x-call-attempt";
    /// Where the result is to be posted.
    pub const CALLBACK_URL: &str = "x-callback-url";
    /// What makes a repeated request the same call.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
    /// Name of the function, in a callback.
    pub const FUNCTION_NAME: &str = "x-function-name";
    /// Status of the function's answer, in a callback and beside a result.
    pub const FUNCTION_STATUS: &str = "x-function-status";
    /// Seconds that the last attempt took, in a callback.
    pub const DURATION: &str = "x-duration-seconds";
    /// How the call ended, in a callback and beside a result.
    pub const STATE: &str = "x-call-state";
    /// When a callback was signed, in seconds since the epoch.
    pub const TIMESTAMP: &str = "x-stoic-timestamp";
    /// `sha256=` and the HMAC-SHA256, in hexadecimal, of the timestamp, a dot and the body.
    pub const SIGNATURE: &str = "x-stoic-signature";
}

/// An attempt that runs.
#[derive(Debug)]
struct Running {
    function: String,
    abort: AbortHandle,
}

/// What of the calls is in memory.
#[derive(Debug, Default)]
pub struct Calls {
    queue: Mutex<Queue>,
    running: Mutex<HashMap<String, Running>>,
    /// Callbacks that are due: milliseconds since the epoch, and the call.
    telling: Mutex<BTreeSet<(u64, String)>>,
    work: Notify,
    tell: Notify,
    /// Something that ran has ended.
    ended: Notify,
    stopping: AtomicBool,
}

impl Calls {
    /// Calls that wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.lock().len()
    }

    /// Calls that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.lock().len()
    }

    fn enqueue(&self, function: &str, id: String) {
        self.queue.lock().push(function, id);
        self.work.notify_one();
    }

    fn enqueue_at(&self, function: &str, id: String, due: f64) {
        self.queue.lock().push_at(function, id, due);
        self.work.notify_one();
    }

    fn tell_at(&self, id: String, due: f64) {
        let due = (due.max(0.0) * 1e3) as u64;
        self.telling.lock().insert((due, id));
        self.tell.notify_one();
    }

    /// Ends the attempt of a call that runs: its connection is dropped, which cancels the pod's work.
    fn abort(&self, id: &str) {
        if let Some(running) = self.running.lock().remove(id) {
            running.abort.abort();
        }
        self.work.notify_one();
        self.ended.notify_waiters();
    }

    /// No further attempt begins.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.work.notify_one();
        self.tell.notify_one();
    }

    fn stopped(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Returns when what was answered is written, or after a moment.
    pub async fn settled(&self) {
        let all = async {
            loop {
                let ended = self.ended.notified();
                if self.running() == 0 {
                    return;
                }
                ended.await;
            }
        };
        let _ = tokio::time::timeout(LAST_WRITES, all).await;
    }
}

/// Takes up what earlier lives left, and works until the gateway stops. `address` is the front's.
///
/// # Errors
/// The history cannot be read, or the secret of the signatures cannot be kept.
pub async fn start(gateway: &Arc<Gateway>, address: SocketAddr) -> anyhow::Result<()> {
    let secret = callback::secret(&gateway.config.data.join("callback-secret"))?;
    let (queued, telling) = table::recall(&gateway.history, unix_now()).await?;
    for call in queued {
        gateway
            .calls
            .queue
            .lock()
            .push_at(&call.function, call.id, call.due);
    }
    for (id, due) in telling {
        gateway.calls.tell_at(id, due);
    }
    let first = crate::gateway::new_id();
    gateway
        .runtime
        .spawn(worker::run(Arc::clone(gateway), reachable(address)));
    gateway
        .runtime
        .spawn(callback::run(Arc::clone(gateway), secret));
    gateway
        .runtime
        .spawn(expiry::run(Arc::clone(gateway), first));
    Ok(())
}

/// An address of every interface is reached over loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// No call of this identity.
fn unknown_call(id: &str) -> Failure {
    Failure::new(
        404,
        "unknown_call",
        format!("there is no call `{id}`; calls go some time after they ended"),
    )
}

/// One call.
///
/// # Errors
/// There is none of this identity.
pub async fn view(gateway: &Gateway, id: &str) -> Result<CallView, Failure> {
    let found = table::view(&gateway.history, id.to_owned()).await?;
    found.ok_or_else(|| unknown_call(id))
}

/// A page of calls, the newest first.
///
/// # Errors
/// The history cannot be read.
pub async fn list(
    gateway: &Gateway,
    function: Option<String>,
    state: Option<CallState>,
    before: Option<String>,
    limit: u32,
) -> Result<CallsPage, Failure> {
    let limit = limit.clamp(1, PAGE);
    let calls = table::list(&gateway.history, function, state, before, limit).await?;
    let full = calls.len() == limit as usize;
    let next = calls.last().filter(|_| full).map(|call| call.id.clone());
    Ok(CallsPage { calls, next })
}

/// Takes a call back, queued or running.
///
/// # Errors
/// There is none of this identity, or it has ended.
pub async fn cancel(gateway: &Gateway, id: &str) -> Result<CallView, Failure> {
    match table::cancel(&gateway.history, id.to_owned(), unix_now()).await? {
        None => return Err(unknown_call(id)),
        Some(false) => {
            let state = view(gateway, id).await?.state.name();
            let detail = format!("call `{id}` has ended: it is {state}");
            return Err(Failure::new(409, "call_ended", detail));
        }
        Some(true) => gateway.calls.abort(id),
    }
    let call = view(gateway, id).await?;
    gateway.calls.queue.lock().remove(&call.function, id);
    gateway.metrics.call_ended(&call.function, "cancelled");
    Ok(call)
}

/// Queues a dead or failed call anew, with all its attempts before it.
///
/// # Errors
/// There is none of this identity, it is in another state, or its function is gone.
pub async fn revive(gateway: &Gateway, id: &str) -> Result<CallView, Failure> {
    match table::revive(&gateway.history, id.to_owned(), unix_now()).await? {
        None => Err(unknown_call(id)),
        Some(Err(state)) => Err(Failure::new(
            409,
            "call_not_dead",
            format!("call `{id}` is {state}; dead and failed calls are tried again"),
        )),
        Some(Ok((function, key))) => {
            remove(gateway, key).await;
            gateway.calls.enqueue(&function, id.to_owned());
            view(gateway, id).await
        }
    }
}

/// The function's answer to a call, whose body may be of any size.
#[derive(Debug)]
pub struct CallResult {
    /// How the call ended.
    pub state: CallState,
    /// Status of the answer.
    pub status: u16,
    /// Headers of the answer.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: ResultBody,
    /// Size of the body.
    pub bytes: u64,
}

/// The body of an answer that was kept.
#[derive(Debug)]
pub enum ResultBody {
    /// All of it.
    Whole(Vec<u8>),
    /// As the object store gives it.
    Stored(ObjectBody),
}

/// The function's answer to a call.
///
/// # Errors
/// There is no such call, it has not ended, or it ended without an answer.
pub async fn result(gateway: &Gateway, id: &str) -> Result<CallResult, Failure> {
    let found = table::outcome(&gateway.history, id.to_owned()).await?;
    let (state, outcome) = found.ok_or_else(|| unknown_call(id))?;
    let word = state.name();
    if !state.ended() {
        let detail = format!("call `{id}` is {word}; its result comes when it has ended");
        return Err(Failure::new(409, "call_unfinished", detail).retry_after(1));
    }
    let Some(status) = outcome.status else {
        let detail = format!("call `{id}` is {word}, and has no answer of its function");
        return Err(Failure::new(404, "no_result", detail));
    };
    let bytes = outcome.body.bytes;
    let body = match outcome.body.key {
        None => ResultBody::Whole(outcome.body.inline.unwrap_or_default()),
        Some(key) => ResultBody::Stored(gateway.stores.home()?.get(&key).await?.body),
    };
    Ok(CallResult {
        state,
        status,
        headers: serde_json::from_str(&outcome.headers).unwrap_or_default(),
        body,
        bytes,
    })
}

/// Removes an object of a call; what cannot be removed now goes when the store is swept.
async fn remove(gateway: &Gateway, key: Option<String>) {
    let Some(key) = key else { return };
    let removed = match gateway.stores.home() {
        Ok(store) => store.delete(&key).await,
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) | Err(StoreError::NotFound { .. }) => {}
        Err(error) => warn!(%key, "cannot remove an object of a call: {error}"),
    }
}
