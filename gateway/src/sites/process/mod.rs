//! Pods as child processes of the gateway: the embedded default.
//!
//! Each pod is a process group of its own, on a loopback port of its own. It dies with the gateway: the
//! kernel ends it when the thread that started it is gone, which is why one thread starts them all. Pods
//! of functions on the SDK are forked from a [`zygote`] instead, which stands ready with all that their
//! start would have had to load; they are children of the gateway all the same.

mod executable;
mod launch;
mod zygote;

use super::{
    Adoption, DelayTrace, LogAsk, LogStream, PodSpec, Site, SiteFuture, StartError, StartedPod,
    check_secrets, last_line_of, log_file, memory, orphans,
    ready::{await_ready, exited_early, known, never_ready, told_stages},
};
use crate::function::{FunctionSpec, Isolation};
use crate::secrets::Secrets;
use executable::Executable;
use launch::{Launched, Launcher, Order, watched};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stoic_protocol::{ModelRef, env, stages};
use tokio::time::Instant;
use tracing::{debug, warn};
pub use zygote::log_name as zygote_log_name;
use zygote::{Forked, Zygotes};

/// A site whose pods are child processes.
#[derive(Debug)]
pub struct ProcessSite {
    name: String,
    gateway_id: String,
    logs: PathBuf,
    delays: Option<DelayTrace>,
    secrets: Arc<Secrets>,
    launcher: Launcher,
    /// None where the site's configuration wants none.
    zygotes: Option<Arc<Zygotes>>,
}

/// A pod's process on its way to answer.
struct Begun {
    process: Launched,
    address: SocketAddr,
    /// Stages that passed before the pod's own.
    stages: Vec<(&'static str, f64)>,
    /// Version of the model that it has from its zygote.
    model: Option<String>,
}

impl ProcessSite {
    /// A site of this name. `gateway_id` marks its processes; `logs` is the folder of their output;
    /// `zygotes` says whether pods are forked where they can be; `hidden` are variables of the gateway's own
    /// environment that pods do not get.
    ///
    /// # Errors
    /// The folder of logs cannot be made, or no thread can be started.
    pub fn new(
        name: &str,
        gateway_id: &str,
        logs: &Path,
        delays: Option<DelayTrace>,
        secrets: Arc<Secrets>,
        zygotes: bool,
        hidden: &[String],
    ) -> std::io::Result<Arc<Self>> {
        std::fs::create_dir_all(logs)?;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            gateway_id: gateway_id.to_owned(),
            logs: logs.to_path_buf(),
            delays,
            secrets,
            launcher: Launcher::new(name, gateway_id, hidden)?,
            zygotes: zygotes.then(Arc::default),
        }))
    }

    fn check_pod(&self, spec: &PodSpec) -> Result<(), StartError> {
        check_files(spec)?;
        let path = self.launcher.executable(&spec.command)?;
        if spec.isolation == Isolation::Invocation
            && !Executable::at(&path).is_ok_and(|executable| executable.is_of_the_sdk())
        {
            return Err(StartError::Refused(format!(
                "isolation: invocation needs a program that was built on the SDK, which {} is not",
                path.display()
            )));
        }
        check_secrets(&self.secrets, spec)
    }

    async fn start_pod(&self, spec: PodSpec) -> Result<StartedPod, StartError> {
        check_files(&spec)?;
        self.launcher.executable(&spec.command)?;
        let delay = self
            .delays
            .as_ref()
            .map_or(Duration::ZERO, |trace| trace.draw(&spec.runtime));
        tokio::time::sleep(delay).await;

        let begun = Instant::now();
        let log = self.logs.join(format!("{}.log", spec.name));
        let pod = match self.fork(&spec, &log).await? {
            Some(pod) => pod,
            None => self.launch(&spec, &log).await?,
        };
        let guard = pod.process.guard();
        let exited = pod.process.exited.clone();
        let last_words = || async { last_line(&log) };
        let told = await_ready(pod.address, &spec, exited.clone(), last_words).await?;
        debug!(pod = %spec.name, site = %self.name, pid = pod.process.pid, address = %pod.address, "pod answers");
        guard.disarm();
        Ok(StartedPod {
            address: pod.address,
            id: pod.process.pid.to_string(),
            exited,
            emulated_s: delay.as_secs_f64(),
            stages: start_stages(pod.stages, &told, begun.elapsed().as_secs_f64()),
            digest: None,
            model: pod.model,
        })
    }

    /// Forks the pod from its function's zygote; none where it has to be started by itself.
    async fn fork(&self, spec: &PodSpec, log: &Path) -> Result<Option<Begun>, StartError> {
        // Secrets are laid out for one pod, and go with it: a zygote would keep them.
        let Some(zygotes) = self.zygotes.as_ref().filter(|_| spec.secrets.is_empty()) else {
            return Ok(None);
        };
        let path = self.launcher.executable(&spec.command)?;
        let executable = Executable::at(&path).ok();
        let Some(executable) = executable.filter(Executable::is_of_the_sdk) else {
            return Ok(None);
        };
        let no_port = |e| StartError::Refused(format!("no free port: {e}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(no_port)?;
        let address = listener.local_addr().map_err(no_port)?;
        let forked = zygotes
            .fork(&self.launcher, spec, &executable, &listener, log)
            .await?;
        let Some(Forked {
            pid,
            model,
            waited_s,
            zygote,
        }) = forked
        else {
            return Ok(None);
        };
        let parents = Arc::clone(zygotes);
        let process = watched(pid, log, move || parents.ended(pid))?;
        let mut stages = Vec::new();
        if waited_s >= zygote.took_s() {
            // It was started for this pod.
            stages.extend(known(zygote.start_s.iter().map(|(k, v)| (k.as_str(), *v))));
        } else if waited_s > 0.001 {
            stages.push((stages::ZYGOTE, waited_s));
        }
        Ok(Some(Begun {
            process,
            address,
            stages,
            model,
        }))
    }

    async fn launch(&self, spec: &PodSpec, log: &Path) -> Result<Begun, StartError> {
        let begun = Instant::now();
        let port = free_port().map_err(|e| StartError::Refused(format!("no free port: {e}")))?;
        let port_text = port.to_string();
        let mut own = vec![(env::PORT, &*port_text), (env::HOST, "127.0.0.1")];
        let secrets = self.lay_out_secrets(spec, port)?;
        own.extend(secrets.as_ref().map(|laid| (env::SECRETS, &*laid.folder)));
        let order = Order {
            command: &spec.command,
            env: &spec.env,
            own: &own,
            input: None,
            log,
        };
        let process = self.launcher.launch(order).await?;
        if let Some(laid) = secrets {
            let mut exited = process.exited.clone();
            tokio::spawn(async move {
                let _ = exited.wait_for(Option::is_some).await;
                drop(laid);
            });
        }
        Ok(Begun {
            process,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            stages: vec![(stages::START, begun.elapsed().as_secs_f64())],
            model: None,
        })
    }
}

/// The stages of a start that took so long in all: the site's, those that the pod told of with its health,
/// and what is left.
fn start_stages(
    mut stages: Vec<(&'static str, f64)>,
    told: &str,
    took_s: f64,
) -> Vec<(&'static str, f64)> {
    let own = told_stages(told);
    let rest = if own.is_empty() {
        stages::LISTEN
    } else {
        // `exec` counts from the order, and holds it.
        stages.retain(|(name, _)| *name != stages::START);
        stages::READY
    };
    stages.extend(own);
    let sum: f64 = stages.iter().map(|(_, seconds)| seconds).sum();
    stages.push((rest, (took_s - sum).max(0.0)));
    stages
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
        Box::pin(async move { self.check_pod(spec) })
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

    fn took_model<'a>(&'a self, id: &'a str, model: ModelRef) -> SiteFuture<'a, ()> {
        Box::pin(async move {
            if let (Some(zygotes), Ok(pid)) = (&self.zygotes, id.parse()) {
                zygotes.model(pid, model).await;
            }
        })
    }

    fn retire(&self, function: &str, version: &str) {
        if let Some(zygotes) = &self.zygotes {
            zygotes.retire(function, version);
        }
    }

    /// Processes die with the gateway; what outlived it all the same is ended.
    fn adopt(&self) -> SiteFuture<'_, Adoption> {
        Box::pin(async move {
            let ended = orphans::remove(&self.gateway_id);
            self.secrets.clear_all_but(&self.name, &[]);
            Adoption {
                pods: Vec::new(),
                ended,
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

/// The secrets of one start of a pod, as files. Dropped, they are gone.
struct LaidOut {
    secrets: Arc<Secrets>,
    site: String,
    mark: String,
    folder: String,
}

impl Drop for LaidOut {
    fn drop(&mut self) {
        self.secrets.clear(&self.site, &self.mark);
    }
}

impl ProcessSite {
    /// Lays out the secrets of a pod, if it has any, for one try to start it.
    fn lay_out_secrets(&self, spec: &PodSpec, port: u16) -> Result<Option<LaidOut>, StartError> {
        if spec.secrets.is_empty() {
            return Ok(None);
        }
        check_secrets(&self.secrets, spec)?;
        let mark = format!("{}.{port}", spec.name);
        let folder = self
            .secrets
            .lay_out(&self.name, &mark, &spec.secrets, false)
            .map_err(|e| StartError::Refused(format!("secrets: {e}")))?;
        Ok(Some(LaidOut {
            secrets: Arc::clone(&self.secrets),
            site: self.name.clone(),
            mark,
            folder: folder.display().to_string(),
        }))
    }
}

/// Refuses files at places of their own choice: a process shares the machine's.
fn check_files(spec: &PodSpec) -> Result<(), StartError> {
    match spec.files.first() {
        None => Ok(()),
        Some(file) => Err(StartError::Refused(format!(
            "spec.files: `{}` cannot be put into a process, runtime `{}` has no containers: name in spec.runtimes those that have, or leave the files away",
            file.path, spec.runtime
        ))),
    }
}

/// A port that was free a moment ago. A pod that finds it taken exits, and is started anew.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// The last line of a log.
fn last_line(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096)))
        .ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    last_line_of(&String::from_utf8_lossy(&tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up_to_the_whole() {
        let told = "exec=0.1;load=0.2;nonsense=5;first=x;initialise=-1";
        let found = start_stages(vec![(stages::START, 0.01)], told, 0.5);
        let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["exec", "load", "ready"]);
        assert!((found.iter().map(|(_, s)| s).sum::<f64>() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_program_that_tells_nothing_has_the_sites_stages() {
        let found = start_stages(vec![(stages::START, 0.01)], "", 0.5);
        assert_eq!(found[0], ("start", 0.01));
        assert_eq!(found[1].0, "listen");
    }
}
