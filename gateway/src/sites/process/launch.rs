//! Starts processes, and notices their ends.

use crate::sites::StartError;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use stoic_protocol::env;
use tokio::sync::{oneshot, watch};

/// Starts the processes of a site, all from one thread. Clones start them from the same.
#[derive(Debug, Clone)]
pub(super) struct Launcher {
    gateway_id: Arc<str>,
    spawner: std::sync::mpsc::Sender<Spawn>,
    /// Folders searched for executables before `PATH`: that of the gateway's own binary.
    search: Arc<[PathBuf]>,
    /// Variables of the gateway's own environment that are no business of functions.
    hidden: Arc<[String]>,
}

/// An order to the thread that starts processes.
struct Spawn {
    command: Command,
    answer: oneshot::Sender<std::io::Result<Child>>,
}

/// What is to be started.
#[derive(Debug)]
pub(super) struct Order<'a> {
    /// Executable and arguments.
    pub(super) command: &'a [String],
    pub(super) env: &'a BTreeMap<String, String>,
    /// Variables beside those, which win.
    pub(super) own: &'a [(&'a str, &'a str)],
    /// Its standard input; none: it has none.
    pub(super) input: Option<OwnedFd>,
    /// Takes what it writes.
    pub(super) log: &'a Path,
}

/// A process that was started.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) pid: u32,
    /// Becomes `Some` with a line that says how, when it is gone.
    pub(super) exited: watch::Receiver<Option<String>>,
}

impl Launcher {
    /// Starts the thread. `gateway_id` marks the processes; they do not get the variables `hidden`.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn new(site: &str, gateway_id: &str, hidden: &[String]) -> std::io::Result<Self> {
        let (spawner, orders) = std::sync::mpsc::channel::<Spawn>();
        std::thread::Builder::new()
            .name(format!("spawn-{site}"))
            .spawn(move || {
                while let Ok(Spawn {
                    mut command,
                    answer,
                }) = orders.recv()
                {
                    // A caller that left meanwhile gets no process: the child comes back in the error.
                    if let Err(Ok(mut child)) = answer.send(command.spawn()) {
                        let _ = child.kill();
                        let _ = child.wait();
                    }
                }
            })?;
        let search = std::env::current_exe()
            .ok()
            .and_then(|exe| exe.parent().map(Path::to_path_buf))
            .into_iter()
            .collect();
        Ok(Self {
            gateway_id: gateway_id.into(),
            spawner,
            search,
            hidden: hidden.into(),
        })
    }

    /// Where the executable of a command is.
    ///
    /// # Errors
    /// It is nowhere.
    pub(super) fn executable(&self, command: &[String]) -> Result<PathBuf, StartError> {
        let name = command.first().map_or("", String::as_str);
        let is_file = |path: &PathBuf| path.is_file();
        let found = if name.contains('/') {
            Some(PathBuf::from(name)).filter(is_file)
        } else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let mut folders = self
                .search
                .iter()
                .cloned()
                .chain(std::env::split_paths(&path));
            folders.find_map(|folder| Some(folder.join(name)).filter(is_file))
        };
        found.ok_or_else(|| {
            StartError::Refused(format!(
                "there is no executable `{name}`: it is looked up beside the `stoic` binary, then in PATH"
            ))
        })
    }

    /// Starts a process in a group of its own.
    ///
    /// # Errors
    /// The executable is absent, the log cannot be written, or the kernel says no.
    pub(super) async fn launch(&self, order: Order<'_>) -> Result<Launched, StartError> {
        let refused = |what: &str, e: std::io::Error| StartError::Refused(format!("{what}: {e}"));
        let executable = self.executable(order.command)?;
        let log = order.log.to_path_buf();
        let output = File::create(&log).map_err(|e| refused(&log.display().to_string(), e))?;
        let errors = output
            .try_clone()
            .map_err(|e| refused(&log.display().to_string(), e))?;
        let mut command = die_with_parent(&executable);
        command.args(&order.command[1..]);
        for name in self.hidden.iter() {
            command.env_remove(name);
        }
        command
            .envs(order.env)
            .env(env::GATEWAY, &*self.gateway_id)
            .env(env::STARTED, monotonic_ns().to_string())
            .envs(order.own.iter().copied())
            .stdin(order.input.map_or_else(Stdio::null, Stdio::from))
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        let (answer, spawned) = oneshot::channel();
        let stopping = || StartError::Refused("the gateway is stopping".to_owned());
        self.spawner
            .send(Spawn { command, answer })
            .map_err(|_| stopping())?;
        let child = spawned
            .await
            .map_err(|_| stopping())?
            .map_err(|e| refused(&executable.display().to_string(), e))?;
        watched(child.id(), &log, || {})
    }
}

/// Waits for a child of this process on a thread: there are few pods, and a thread per pod needs no signal
/// handling. `ended` is called when it is gone.
///
/// # Errors
/// No thread can be started; the child is ended then.
pub(super) fn watched(
    pid: u32,
    log: &Path,
    ended: impl FnOnce() + Send + 'static,
) -> Result<Launched, StartError> {
    let guard = Guard { pid: Some(pid) };
    let (exit, exited) = watch::channel(None);
    let log = log.to_path_buf();
    std::thread::Builder::new()
        .name(format!("wait-{pid}"))
        .spawn(move || {
            let how = end_with_its_group(pid, &log);
            ended();
            let _ = exit.send(Some(how));
        })
        .map_err(|e| StartError::Refused(format!("cannot start a thread: {e}")))?;
    guard.disarm();
    Ok(Launched { pid, exited })
}

impl Launched {
    /// Ends it unless that is called off.
    pub(super) fn guard(&self) -> Guard {
        Guard {
            pid: Some(self.pid),
        }
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, which all processes of the machine share.
pub(super) fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let nanos = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    u64::try_from(nanos).unwrap_or(0)
}

/// `setpriv` (util-linux, part of every Debian) asks the kernel to end the pod with the thread that
/// started it; where it is absent, orphans are removed at the next start.
fn die_with_parent(executable: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.exists() {
        return Command::new(executable);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(executable);
    command
}

/// Returns when the process has ended, and ends what it left in its group; says how it ended. Until it is
/// waited for, its id cannot be another's.
fn end_with_its_group(pid: u32, log: &Path) -> String {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return String::new();
    };
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    if waitid(WaitId::Pid(pid), ended).is_ok() {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let status = match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED) {
        Ok(status) => status,
        Err(error) => return error.to_string(),
    };
    let status = status.as_ref();
    let (code, signal) = (
        status.and_then(|s| s.exit_status()),
        status.and_then(|s| s.terminating_signal()),
    );
    let how = match (code, signal) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    match super::last_line(log) {
        Some(line) => format!("{how}; its last line was: {line}"),
        None => how,
    }
}

/// Ends the process group unless that is called off.
#[derive(Debug)]
pub(super) struct Guard {
    pid: Option<u32>,
}

impl Guard {
    /// The start went through.
    pub(super) fn disarm(mut self) {
        self.pid = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let pid = self.pid.and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}
