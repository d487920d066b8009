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
    log_file, orphans,
};
use crate::function::{FunctionSpec, Isolation};
use crate::link;
use executable::Executable;
use launch::{Launched, Launcher, Order, watched};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stoic_protocol::{ModelRef, env, headers, stages};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};
use zygote::{Forked, Zygotes};

/// A site whose pods are child processes.
#[derive(Debug)]
pub struct ProcessSite {
    name: String,
    gateway_id: String,
    logs: PathBuf,
    delays: Option<DelayTrace>,
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
    /// `zygotes` says whether pods are forked where they can be.
    ///
    /// # Errors
    /// The folder of logs cannot be made, or no thread can be started.
    pub fn new(
        name: &str,
        gateway_id: &str,
        logs: &Path,
        delays: Option<DelayTrace>,
        zygotes: bool,
    ) -> std::io::Result<Arc<Self>> {
        std::fs::create_dir_all(logs)?;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            gateway_id: gateway_id.to_owned(),
            logs: logs.to_path_buf(),
            delays,
            launcher: Launcher::new(name, gateway_id)?,
            zygotes: zygotes.then(Arc::default),
        }))
    }

    fn check_pod(&self, spec: &PodSpec) -> Result<(), StartError> {
        let path = self.launcher.executable(&spec.command)?;
        if spec.isolation == Isolation::Invocation
            && !Executable::at(&path).is_ok_and(|executable| executable.is_of_the_sdk())
        {
            return Err(StartError::Refused(format!(
                "isolation: invocation needs a program that was built on the SDK, which {} is not",
                path.display()
            )));
        }
        Ok(())
    }

    async fn start_pod(&self, spec: PodSpec) -> Result<StartedPod, StartError> {
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
        let told = await_ready(pod.address, &spec, exited.clone(), &log).await?;
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
        let Some(zygotes) = &self.zygotes else {
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
        let order = Order {
            command: &spec.command,
            env: &spec.env,
            own: &[(env::PORT, &port_text), (env::HOST, "127.0.0.1")],
            input: None,
            log,
        };
        let process = self.launcher.launch(order).await?;
        Ok(Begun {
            process,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            stages: vec![(stages::START, begun.elapsed().as_secs_f64())],
            model: None,
        })
    }
}

/// Those of them that are stages of a start, in their usual order.
fn known<'a>(
    told: impl IntoIterator<Item = (&'a str, f64)>,
) -> impl Iterator<Item = (&'static str, f64)> {
    let mut found: Vec<(&'static str, f64)> = told
        .into_iter()
        .filter(|(_, seconds)| seconds.is_finite() && *seconds >= 0.0)
        .filter_map(|(name, seconds)| Some((stages::named(name)?, seconds)))
        .collect();
    found.sort_by_key(|(name, _)| stages::ALL.iter().position(|stage| stage == name));
    found.into_iter()
}

/// The stages of a start that took so long in all: the site's, those that the pod told of with its health,
/// and what is left.
fn start_stages(
    mut stages: Vec<(&'static str, f64)>,
    told: &str,
    took_s: f64,
) -> Vec<(&'static str, f64)> {
    let pairs = told.split(';').filter_map(|pair| {
        let (name, seconds) = pair.split_once('=')?;
        Some((name.trim(), seconds.trim().parse().ok()?))
    });
    let own: Vec<(&'static str, f64)> = known(pairs).collect();
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
            Adoption {
                pods: Vec::new(),
                ended: orphans::remove(&self.gateway_id),
            }
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

/// A port that was free a moment ago. A pod that finds it taken exits, and is started anew.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Returns when the health path answers 200, with what the pod tells of its start. Tries again at once
/// after a refused connection, with a wait that grows from 1 to 20 ms: no grid is visible in deployment
/// times.
async fn await_ready(
    address: SocketAddr,
    spec: &PodSpec,
    mut exited: watch::Receiver<Option<String>>,
    log: &Path,
) -> Result<String, StartError> {
    let ready = async {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(answer) = link::health(address, &spec.health).await {
                let told = answer.get(headers::START_STAGES);
                let told = told.and_then(|value| value.to_str().ok());
                return told.unwrap_or_default().to_owned();
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_millis(20));
        }
    };
    tokio::select! {
        told = ready => Ok(told),
        how = exited.wait_for(Option::is_some) => {
            let how = how.ok().and_then(|how| how.clone()).unwrap_or_default();
            Err(exited_early(&how))
        }
        () = tokio::time::sleep(spec.ready_timeout) => Err(never_ready(spec, log)),
    }
}

fn exited_early(how: &str) -> StartError {
    StartError::Exited(format!("the pod exited before it was ready: {how}"))
}

fn never_ready(spec: &PodSpec, log: &Path) -> StartError {
    StartError::NeverReady(format!(
        "the pod did not answer 200 at {} within {}{}",
        spec.health,
        humantime::format_duration(spec.ready_timeout),
        last_line(log).map_or_else(String::new, |line| format!("; its last line was: {line}")),
    ))
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
