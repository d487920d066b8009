//! Pods as child processes of the gateway: the embedded default.
//!
//! Each pod is a process group of its own, on a loopback port of its own. It dies with the gateway: the
//! kernel ends it when the thread that started it is gone, which is why one thread starts them all.

use super::{
    Adoption, DelayTrace, LogAsk, LogStream, PodSpec, Site, SiteFuture, StartError, StartedPod,
    log_file, memory, orphans,
};
use crate::function::FunctionSpec;
use crate::link;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

/// A site whose pods are child processes.
#[derive(Debug)]
pub struct ProcessSite {
    name: String,
    gateway_id: String,
    logs: PathBuf,
    delays: Option<DelayTrace>,
    spawner: std::sync::mpsc::Sender<Spawn>,
    /// Folders searched for executables before `PATH`: that of the gateway's own binary.
    search: Vec<PathBuf>,
}

/// An order to the thread that starts processes.
struct Spawn {
    command: Command,
    answer: oneshot::Sender<std::io::Result<Child>>,
}

impl ProcessSite {
    /// A site of this name. `gateway_id` marks its processes; `logs` is the folder of their output.
    ///
    /// # Errors
    /// The folder of logs cannot be made, or no thread can be started.
    pub fn new(
        name: &str,
        gateway_id: &str,
        logs: &Path,
        delays: Option<DelayTrace>,
    ) -> std::io::Result<Arc<Self>> {
        std::fs::create_dir_all(logs)?;
        let (spawner, orders) = std::sync::mpsc::channel::<Spawn>();
        std::thread::Builder::new()
            .name(format!("spawn-{name}"))
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
        Ok(Arc::new(Self {
            name: name.to_owned(),
            gateway_id: gateway_id.to_owned(),
            logs: logs.to_path_buf(),
            delays,
            spawner,
            search,
        }))
    }

    fn check_command(&self, command: &[String]) -> Result<(), StartError> {
        let name = command.first().map_or("", String::as_str);
        self.executable(name)
            .map(|_| ())
            .ok_or_else(|| absent(name))
    }

    fn executable(&self, name: &str) -> Option<PathBuf> {
        let is_file = |path: &PathBuf| path.is_file();
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(is_file);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = self
            .search
            .iter()
            .cloned()
            .chain(std::env::split_paths(&path));
        folders.find_map(|folder| Some(folder.join(name)).filter(is_file))
    }

    async fn start_pod(&self, spec: PodSpec) -> Result<StartedPod, StartError> {
        self.check_command(&spec.command)?;
        let delay = self
            .delays
            .as_ref()
            .map_or(Duration::ZERO, |trace| trace.draw(&spec.runtime));
        tokio::time::sleep(delay).await;

        let begun = Instant::now();
        let port = free_port().map_err(|e| StartError::Refused(format!("no free port: {e}")))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let log = self.logs.join(format!("{}.log", spec.name));
        let child = self.spawn(&spec, port, &log).await?;
        let pid = child.id();
        let start_s = begun.elapsed().as_secs_f64();
        let mut guard = Guard { pid: Some(pid) };
        let (exit, exited) = watch::channel(None);
        let log_of_exit = log.clone();
        // Waits on a thread: there are few pods, and a thread per pod needs no signal handling.
        std::thread::Builder::new()
            .name(format!("wait-{pid}"))
            .spawn(move || {
                let mut child = child;
                end_with_its_group(pid);
                let how = child
                    .wait()
                    .map_or_else(|e| e.to_string(), |status| describe(status, &log_of_exit));
                let _ = exit.send(Some(how));
            })
            .map_err(|e| StartError::Refused(format!("cannot start a thread: {e}")))?;

        await_ready(address, &spec, exited.clone(), &log).await?;
        debug!(pod = %spec.name, site = %self.name, pid, %address, "pod answers");
        guard.pid = None;
        Ok(StartedPod {
            address,
            id: pid.to_string(),
            exited,
            emulated_s: delay.as_secs_f64(),
            stages: vec![
                ("start", start_s),
                ("listen", begun.elapsed().as_secs_f64() - start_s),
            ],
            digest: None,
        })
    }

    async fn spawn(&self, spec: &PodSpec, port: u16, log: &Path) -> Result<Child, StartError> {
        let refused = |what: &str, e: std::io::Error| StartError::Refused(format!("{what}: {e}"));
        let executable = self
            .executable(&spec.command[0])
            .ok_or_else(|| absent(&spec.command[0]))?;
        let output = File::create(log).map_err(|e| refused(&log.display().to_string(), e))?;
        let errors = output
            .try_clone()
            .map_err(|e| refused(&log.display().to_string(), e))?;
        let mut command = die_with_parent(&executable);
        command
            .args(&spec.command[1..])
            .envs(&spec.env)
            .env(stoic_protocol::env::PORT, port.to_string())
            .env(stoic_protocol::env::HOST, "127.0.0.1")
            .env(stoic_protocol::env::GATEWAY, &self.gateway_id)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        let (answer, spawned) = oneshot::channel();
        self.spawner
            .send(Spawn { command, answer })
            .map_err(|_| StartError::Refused("the gateway is stopping".to_owned()))?;
        let spawned = spawned
            .await
            .map_err(|_| StartError::Refused("the gateway is stopping".to_owned()))?;
        spawned.map_err(|e| refused(&executable.display().to_string(), e))
    }
}

impl Site for ProcessSite {
    fn backend(&self) -> &'static str {
        "process"
    }

    fn can_run(&self, spec: &FunctionSpec) -> Result<(), &'static str> {
        if spec.command.is_empty() {
            return Err("command");
        }
        Ok(())
    }

    fn check<'a>(&'a self, spec: &'a PodSpec) -> SiteFuture<'a, Result<(), StartError>> {
        Box::pin(async move { self.check_command(&spec.command) })
    }

    fn start(&self, spec: PodSpec) -> SiteFuture<'_, Result<StartedPod, StartError>> {
        Box::pin(self.start_pod(spec))
    }

    fn stop(&self, id: &str, grace: Duration) -> SiteFuture<'_, ()> {
        let pid = id.parse::<i32>().ok().and_then(Pid::from_raw);
        Box::pin(async move {
            let Some(pid) = pid else { return };
            if !grace.is_zero() && kill_process_group(pid, Signal::TERM).is_ok() {
                let deadline = Instant::now() + grace;
                while Instant::now() < deadline {
                    if !orphans::group_alive(pid) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                warn!(site = %self.name, pid = pid.as_raw_nonzero().get(), "pod did not stop in time; killing it");
            }
            let _ = kill_process_group(pid, Signal::KILL);
        })
    }

    /// Processes die with the gateway; what outlived it all the same is ended.
    fn adopt(&self) -> SiteFuture<'_, Adoption> {
        Box::pin(async move {
            Adoption {
                pods: Vec::new(),
                ended: orphans::remove(&self.gateway_id),
            }
        })
    }

    fn memory<'a>(&'a self, ids: &'a [String]) -> SiteFuture<'a, HashMap<String, u64>> {
        let groups: Vec<u32> = ids.iter().filter_map(|id| id.parse().ok()).collect();
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || memory::of_groups(&groups)).await;
            let found = found.unwrap_or_default().into_iter();
            found.map(|(id, bytes)| (id.to_string(), bytes)).collect()
        })
    }

    fn remove_orphans(&self) -> SiteFuture<'_, usize> {
        Box::pin(async move { orphans::remove(&self.gateway_id) })
    }

    fn logs<'a>(
        &'a self,
        pod: &'a str,
        ask: LogAsk,
    ) -> SiteFuture<'a, std::io::Result<Option<LogStream>>> {
        Box::pin(async move { log_file::open(&self.logs.join(format!("{pod}.log")), ask) })
    }
}

fn absent(name: &str) -> StartError {
    StartError::Refused(format!(
        "there is no executable `{name}`: it is looked up beside the `stoic` binary, then in PATH"
    ))
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

/// Returns when the process has ended, and ends what it left in its group. Until it is waited for, its id
/// cannot be another's.
fn end_with_its_group(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    if waitid(WaitId::Pid(pid), ended).is_ok() {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Ends the process group unless the start went through.
struct Guard {
    pid: Option<u32>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(pid) = self
            .pid
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw)
        {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// A port that was free a moment ago. A pod that finds it taken exits, and is started anew.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Returns when the health path answers 200. Tries again at once after a refused connection, with a
/// wait that grows from 1 to 20 ms: no grid is visible in deployment times.
async fn await_ready(
    address: SocketAddr,
    spec: &PodSpec,
    mut exited: watch::Receiver<Option<String>>,
    log: &Path,
) -> Result<(), StartError> {
    let ready = async {
        let mut pause = Duration::from_millis(1);
        while !link::healthy(address, &spec.health).await {
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_millis(20));
        }
    };
    tokio::select! {
        () = ready => Ok(()),
        how = exited.wait_for(Option::is_some) => {
            let how = how.ok().and_then(|how| how.clone()).unwrap_or_default();
            Err(StartError::Exited(format!("the pod exited before it was ready: {how}")))
        }
        () = tokio::time::sleep(spec.ready_timeout) => Err(StartError::NeverReady(format!(
            "the pod did not answer 200 at {} within {}{}",
            spec.health,
            humantime::format_duration(spec.ready_timeout),
            last_line(log).map_or_else(String::new, |line| format!("; its last line was: {line}")),
        ))),
    }
}

fn describe(status: ExitStatus, log: &Path) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    match last_line(log) {
        Some(line) => format!("{how}; its last line was: {line}"),
        None => how,
    }
}

/// The last line of a log, cut to 300 characters.
fn last_line(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096)))
        .ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let line = tail.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().take(300).collect())
}
