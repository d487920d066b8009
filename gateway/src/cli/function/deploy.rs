//! `stoic function deploy`.

use super::flags::Flags;
use super::list::bootstrap;
use crate::cli::call::Progress;
use crate::cli::client::{Client, Gateway};
use crate::cli::failed::Failed;
use crate::cli::output::Printing;
use crate::cli::quantity;
use crate::http::FunctionView;
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep};

/// Largest file read; the gateway takes no larger one.
const FILE_LIMIT: u64 = 1 << 20;
/// How often the gateway is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Options of `stoic function deploy`.
#[derive(Debug, Args)]
#[command(
    long_about = "Deploy a function from its file, or by flags; or change a deployed one.\n\n\
        Waits until its standby pods are ready and its representative tasks are done: from then on \
        predictions stand on measurements. Deploying what is deployed already changes nothing. By flags, \
        what is not said is as by default: `update` changes only what is named.",
    after_help = "Examples:\n  \
        stoic function deploy functions/wildlife/function.yaml\n  \
        stoic function deploy --no-wait function.yaml\n  \
        sed s/edge/cpu/ function.yaml | stoic function deploy -\n  \
        stoic function deploy --name hi --image localhost:5000/hi:1 --port 8080 --health / --standby 1"
)]
pub(in crate::cli) struct Deploy {
    /// The function's file (YAML or JSON); `-` reads standard input
    #[arg(value_name = "FILE", required_unless_present = "name")]
    file: Option<PathBuf>,
    /// Name of a function that the other flags describe, instead of a file
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    name: Option<String>,
    #[command(flatten)]
    flags: Flags,
    /// Longest time one invocation may take; with FILE, the longest time to wait
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

/// Whether and how long to wait until a function is ready.
#[derive(Debug, Args)]
pub(super) struct Waiting {
    /// Wait until pods and predictions are ready (the default)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Return as soon as the gateway has taken the function
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// Longest time to wait
    #[arg(long, value_name = "TIME", value_parser = quantity::duration, default_value = "15m")]
    wait_timeout: Duration,
}

impl Waiting {
    /// Waits; tells why not all of it works, where that is so.
    pub(super) async fn wait(
        &self,
        client: &Client,
        view: &mut FunctionView,
    ) -> Result<Option<String>, Failed> {
        if self.no_wait {
            return Ok(None);
        }
        let progress = Progress::new(false);
        let ended = wait(client, view, &progress, self.wait_timeout).await;
        if let Err(Stopped::Failed(error)) = ended {
            return Err(error);
        }
        progress.finish();
        match ended {
            Err(Stopped::Short(text)) => Ok(Some(text)),
            _ => Ok(None),
        }
    }
}

impl Deploy {
    pub(in crate::cli) async fn run(mut self) -> Result<(), Failed> {
        let client = Client::new(&self.gateway)?;
        let text = match (&self.name, &self.file) {
            (Some(name), _) => {
                let object = self.flags.create(&client, name, self.timeout).await?;
                serde_json::to_string(&object)
                    .map_err(|e| Failed::Input(format!("cannot write the function: {e}")))?
            }
            (None, Some(file)) => {
                if !self.flags.is_empty() {
                    return Err(Failed::Input(
                        "a file says what the function is: flags that describe it go with --name, or with `stoic function update`"
                            .to_owned(),
                    ));
                }
                self.waiting.wait_timeout = self.timeout.unwrap_or(self.waiting.wait_timeout);
                text(file).await?
            }
            (None, None) => {
                return Err(Failed::Input(
                    "name a file, or a function with --name".to_owned(),
                ));
            }
        };
        let (mut view, created) = client.deploy(text).await?;
        let failed = self.waiting.wait(&client, &mut view).await?;
        let done = if created {
            "is deployed"
        } else {
            "was deployed before and is as it was given"
        };
        self.printing.print(&view, |view| summary(view, done))?;
        match failed {
            None => Ok(()),
            Some(text) => Err(Failed::Machine(text)),
        }
    }
}

async fn text(file: &Path) -> Result<String, Failed> {
    let path = file.display();
    let mut text = Vec::new();
    let read = if file.as_os_str() == "-" {
        let input = tokio::io::stdin();
        input.take(FILE_LIMIT + 1).read_to_end(&mut text).await
    } else {
        let unreadable = |e| Failed::Input(format!("cannot read {path}: {e}"));
        let file = tokio::fs::File::open(file).await.map_err(unreadable)?;
        file.take(FILE_LIMIT + 1).read_to_end(&mut text).await
    };
    read.map_err(|e| Failed::Input(format!("cannot read {path}: {e}")))?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(Failed::Input(format!(
            "{path} is over 1 MiB: it is no function's file"
        )));
    }
    String::from_utf8(text).map_err(|_| Failed::Input(format!("{path} is no UTF-8 text")))
}

/// Why a wait ended before all was ready.
enum Stopped {
    /// The gateway cannot be asked any more.
    Failed(Failed),
    /// The function is deployed, but not all of it works.
    Short(String),
}

async fn wait(
    client: &Client,
    view: &mut FunctionView,
    progress: &Progress,
    timeout: Duration,
) -> Result<(), Stopped> {
    let name = view.object.metadata.name.clone();
    let version = view.status.version.clone();
    let wanted: usize = view
        .object
        .spec
        .standby
        .values()
        .map(|s| s.min as usize)
        .sum();
    let begun = Instant::now();
    loop {
        let state = &view.status.bootstrap;
        let pods = format!(
            "{} of {wanted} standby pods ready",
            view.status.ready.min(wanted)
        );
        match state.state.as_str() {
            "failed" => {
                return Err(Stopped::Short(format!(
                    "{name} is deployed, but its representative tasks failed: {}",
                    state.detail
                )));
            }
            "done" | "none" if view.status.ready >= wanted => return Ok(()),
            "running" => progress.steps(
                &format!("{pods}; representative tasks: {}", state.detail),
                state.done as u64,
                state.total as u64,
            ),
            other => progress.phase(&format!("{pods}; representative tasks: {other}")),
        }
        if begun.elapsed() >= timeout {
            return Err(Stopped::Short(format!(
                "{name} is deployed, but not ready after {}: {pods}, representative tasks {}",
                humantime::format_duration(timeout),
                bootstrap(state)
            )));
        }
        sleep(ASK_EVERY).await;
        *view = client.function(&name).await.map_err(Stopped::Failed)?;
        if view.status.version != version {
            return Err(Stopped::Short(format!(
                "{name} was replaced by another deployment meanwhile"
            )));
        }
    }
}

pub(super) fn summary(view: &FunctionView, done: &str) -> String {
    let status = &view.status;
    let state = &status.bootstrap;
    let none = view.object.spec.bootstrap.batches.is_empty();
    let tasks = match state.state.as_str() {
        _ if none || state.state == "none" => {
            "no representative tasks: predictions begin with the first invocations".to_owned()
        }
        "done" if state.total == 0 => "predictions stand on earlier measurements".to_owned(),
        "done" => format!("{} representative tasks done", state.total),
        _ => format!("representative tasks {}", bootstrap(state)),
    };
    let model = status
        .model
        .as_ref()
        .map_or_else(String::new, |model| format!(", model {model}"));
    format!(
        "{} {done}: version {}{model}, {} of {} pods ready, {tasks}",
        view.object.metadata.name, status.version, status.ready, status.pods
    )
}
