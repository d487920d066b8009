//! Zygotes of a process site: one for each function version on a runtime, started with its first pod,
//! from which its pods are forked. [`stoic_protocol::zygote`] says what the two tell each other.
//!
//! A zygote that is gone, or does not answer, is replaced at the next start of a pod; whoever cannot be
//! forked at all is started as any other process.

use super::executable::Executable;
use super::launch::{Launcher, Order};
use crate::sites::{PodSpec, StartError};
use parking_lot::Mutex;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process, setpgid};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stoic_protocol::zygote::packets;
use stoic_protocol::{ModelRef, ZygoteOrder, ZygoteReply, env};
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// How long a zygote may take to carry out an order. Loading a model may be in between.
const ORDER_TIMEOUT: Duration = Duration::from_secs(30);

/// What makes pods alike, so that one zygote serves them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    function: String,
    version: String,
    executable: Executable,
    arguments: Vec<String>,
    env: BTreeMap<String, String>,
}

/// The zygotes of a site.
#[derive(Debug, Default)]
pub(super) struct Zygotes {
    slots: Mutex<HashMap<Kind, Arc<tokio::sync::Mutex<Slot>>>>,
    /// Which zygote a pod that lives was forked from, by the pod's process.
    parents: Mutex<HashMap<u32, Arc<Zygote>>>,
}

/// Where one kind's zygote stands.
#[derive(Debug, Default)]
enum Slot {
    /// None was needed yet, or it is gone.
    #[default]
    Empty,
    Ready(Arc<Zygote>),
    /// This kind cannot be forked.
    Unable,
    /// The last one did not start, at this time.
    Failed(StartError, Instant),
}

/// A zygote that stands ready.
#[derive(Debug)]
pub(super) struct Zygote {
    pid: u32,
    /// One order at a time.
    socket: Mutex<OwnedFd>,
    /// Seconds by stage of its own start.
    pub(super) start_s: BTreeMap<String, f64>,
}

/// A pod that was forked.
#[derive(Debug)]
pub(super) struct Forked {
    pub(super) pid: u32,
    /// Version of the model it has loaded.
    pub(super) model: Option<String>,
    /// Seconds that it waited for its zygote.
    pub(super) waited_s: f64,
    pub(super) zygote: Arc<Zygote>,
}

impl Zygotes {
    /// Forks a pod; none where its kind cannot be forked.
    pub(super) async fn fork(
        &self,
        launcher: &Launcher,
        spec: &PodSpec,
        executable: &Executable,
        listener: &TcpListener,
        log: &Path,
    ) -> Result<Option<Forked>, StartError> {
        let kind = Kind::of(spec, executable);
        // A second time where the zygote turns out to be gone.
        for _ in 0..2 {
            let asked = Instant::now();
            let Some(zygote) = self.ready(launcher, spec, &kind, asked, log).await? else {
                return Ok(None);
            };
            let waited_s = asked.elapsed().as_secs_f64();
            match Arc::clone(&zygote).fork(spec, listener, log).await {
                Ok((pid, model)) => {
                    self.parents.lock().insert(pid, Arc::clone(&zygote));
                    return Ok(Some(Forked {
                        pid,
                        model,
                        waited_s,
                        zygote,
                    }));
                }
                Err(error) => {
                    warn!(function = %spec.function, pid = zygote.pid, "zygote lost: {error}");
                    zygote.kill();
                    self.empty(&kind, &zygote).await;
                }
            }
        }
        Ok(None)
    }

    /// The zygote of this kind, started now if there is none; none where there cannot be one.
    async fn ready(
        &self,
        launcher: &Launcher,
        spec: &PodSpec,
        kind: &Kind,
        asked: Instant,
        log: &Path,
    ) -> Result<Option<Arc<Zygote>>, StartError> {
        let slot = Arc::clone(self.slots.lock().entry(kind.clone()).or_default());
        let mut slot = slot.lock_owned().await;
        match &*slot {
            Slot::Ready(zygote) => return Ok(Some(Arc::clone(zygote))),
            Slot::Unable => return Ok(None),
            // Those who waited for it have the same answer, and do not try one after the other.
            Slot::Failed(error, at) if *at >= asked => return Err(error.clone()),
            Slot::Failed(..) | Slot::Empty => {}
        }
        let (launcher, spec, log) = (launcher.clone(), spec.clone(), log.to_path_buf());
        // Goes on where the pod that it is started for is given up.
        let started = tokio::spawn(async move {
            let started = Zygote::start(&launcher, &spec, &log).await;
            *slot = match &started {
                Ok(Some(zygote)) => Slot::Ready(Arc::clone(zygote)),
                Ok(None) => Slot::Unable,
                Err(error) => Slot::Failed(error.clone(), Instant::now()),
            };
            started
        });
        let refused = |_| StartError::Refused("the gateway is stopping".to_owned());
        started.await.map_err(refused)?
    }

    async fn empty(&self, kind: &Kind, lost: &Arc<Zygote>) {
        let slot = self.slots.lock().get(kind).map(Arc::clone);
        if let Some(slot) = slot {
            let mut slot = slot.lock().await;
            if matches!(&*slot, Slot::Ready(zygote) if Arc::ptr_eq(zygote, lost)) {
                *slot = Slot::Empty;
            }
        }
    }

    /// The pod of this process is gone.
    pub(super) fn ended(&self, pid: u32) {
        self.parents.lock().remove(&pid);
    }

    /// Tells the zygote of this pod of a model, so that pods forked from now on have it.
    pub(super) async fn model(&self, pod: u32, model: ModelRef) {
        let Some(zygote) = self.parents.lock().get(&pod).map(Arc::clone) else {
            return;
        };
        let order = ZygoteOrder::Model(model);
        let told = tokio::task::spawn_blocking(move || zygote.order(&order, &[])).await;
        match told {
            Ok(Ok(ZygoteReply::Accepted)) => {}
            Ok(Ok(other)) => warn!("the zygote does not take the model: {other:?}"),
            // The next pod to be forked finds it out, too.
            Ok(Err(error)) => debug!("the zygote is not told of the model: {error}"),
            Err(_) => {}
        }
    }

    /// Ends the zygotes of a function version; pods that were forked live on.
    pub(super) fn retire(&self, function: &str, version: &str) {
        let mut slots = self.slots.lock();
        // A zygote ends when nobody holds the other end of its socket.
        slots.retain(|kind, _| kind.function != function || kind.version != version);
    }
}

impl Kind {
    fn of(spec: &PodSpec, executable: &Executable) -> Self {
        let mut env = spec.env.clone();
        env.remove(env::POD);
        Self {
            function: spec.function.clone(),
            version: spec.version.clone(),
            executable: executable.clone(),
            arguments: spec.command[1..].to_vec(),
            env,
        }
    }
}

impl Zygote {
    /// Starts one and waits until it stands ready; none where the function cannot be forked. What it
    /// writes goes to a log of its own, and to the pod's where it fails.
    async fn start(
        launcher: &Launcher,
        spec: &PodSpec,
        pod_log: &Path,
    ) -> Result<Option<Arc<Self>>, StartError> {
        let refused = |e: io::Error| StartError::Refused(format!("no zygote: {e}"));
        let log = zygote_log(pod_log, spec);
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|e| refused(e.into()))?;
        let order = Order {
            command: &spec.command,
            env: &spec.env,
            own: &[(env::POD, "zygote"), (env::ZYGOTE, "1")],
            input: Some(theirs),
            log: &log,
        };
        let process = launcher.launch(order).await?;
        let (pid, exited) = (process.pid, process.exited.clone());
        let guard = process.guard();
        let limit = spec.ready_timeout;
        set_socket_timeout(&ours, Timeout::Recv, Some(limit)).map_err(|e| refused(e.into()))?;
        let reply = tokio::task::spawn_blocking(move || {
            let reply = packets::receive::<ZygoteReply>(&ours);
            (ours, reply)
        });
        let Ok((ours, reply)) = reply.await else {
            return Err(StartError::Refused("the gateway is stopping".to_owned()));
        };
        let reply = match reply {
            Ok(Some((reply, _))) => reply,
            Ok(None) => {
                let mut exited = exited;
                let how = exited.wait_for(Option::is_some).await;
                let how = how.ok().and_then(|how| how.clone()).unwrap_or_default();
                let _ = std::fs::copy(&log, pod_log);
                return Err(super::exited_early(&how));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let _ = std::fs::copy(&log, pod_log);
                return Err(super::never_ready(spec, None, super::last_line(pod_log)));
            }
            Err(error) => return Err(refused(error)),
        };
        let start_s = match reply {
            ZygoteReply::Ready { start_s } => start_s,
            other => {
                if let ZygoteReply::Unable { reason } = other {
                    info!(function = %spec.function, runtime = %spec.runtime, "pods are started one by one: {reason}");
                }
                return Ok(None);
            }
        };
        let limit = Some(ORDER_TIMEOUT);
        set_socket_timeout(&ours, Timeout::Recv, limit).map_err(|e| refused(e.into()))?;
        set_socket_timeout(&ours, Timeout::Send, limit).map_err(|e| refused(e.into()))?;
        guard.disarm();
        debug!(function = %spec.function, runtime = %spec.runtime, pid, "zygote stands ready");
        Ok(Some(Arc::new(Self {
            pid,
            socket: Mutex::new(ours),
            start_s,
        })))
    }

    /// Forks a pod; gives its process, and the version of the model that it has.
    async fn fork(
        self: Arc<Self>,
        spec: &PodSpec,
        listener: &TcpListener,
        log: &Path,
    ) -> io::Result<(u32, Option<String>)> {
        let port = listener.local_addr()?.port().to_string();
        let own = [
            (env::POD, spec.name.clone()),
            (env::PORT, port),
            (env::HOST, "127.0.0.1".to_owned()),
            (env::STARTED, super::launch::monotonic_ns().to_string()),
        ];
        let env = own.map(|(name, value)| (name.to_owned(), value));
        let order = ZygoteOrder::Fork {
            env: BTreeMap::from(env),
        };
        let (listener, log) = (listener.try_clone()?, File::create(log)?);
        let forked = tokio::task::spawn_blocking(move || {
            match self.order(&order, &[listener.as_fd(), log.as_fd()])? {
                ZygoteReply::Forked { pid, model } => {
                    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
                    // The pod does the same: whoever is first, it is in a group of its own from now on.
                    let _ = setpgid(process, process);
                    Ok((pid, model))
                }
                other => Err(io::Error::other(format!("it answered {other:?}"))),
            }
        });
        forked.await.map_err(io::Error::other)?
    }

    /// Sends an order, and waits for its reply. Blocking.
    fn order(
        &self,
        order: &ZygoteOrder,
        fds: &[rustix::fd::BorrowedFd<'_>],
    ) -> io::Result<ZygoteReply> {
        let socket = self.socket.lock();
        packets::send(&*socket, order, fds)?;
        let (reply, _) =
            packets::receive(&*socket)?.ok_or_else(|| io::Error::other("it closed its socket"))?;
        Ok(reply)
    }

    /// Seconds that its start took in all.
    pub(super) fn took_s(&self) -> f64 {
        self.start_s.values().sum()
    }

    fn kill(&self) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// What the log of a function's zygote on a runtime is called, where the logs of pods have their names.
pub fn log_name(function: &str, runtime: &str) -> String {
    format!("{function}-{runtime}-zygote")
}

fn zygote_log(pod_log: &Path, spec: &PodSpec) -> PathBuf {
    let name = log_name(&spec.function, &spec.runtime);
    pod_log.with_file_name(name + ".log")
}
