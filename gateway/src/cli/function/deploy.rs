//! `stoic function deploy`.

use super::list::bootstrap;
use crate::cli::call::Progress;
use crate::cli::client::{Client, Gateway};
use crate::cli::failed::Failed;
use crate::cli::output::Printing;
use crate::cli::quantity;
use crate::http::FunctionView;
use clap::Args;
use std::path::PathBuf;
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
    long_about = "Deploy a function from its file, or change a deployed one.\n\n\
        Waits until its standby pods are ready and its representative tasks are done: from then on \
        predictions stand on measurements. Deploying what is deployed already changes nothing.",
    after_help = "Examples:\n  \
        stoic function deploy functions/wildlife/function.yaml\n  \
        stoic function deploy --no-wait function.yaml\n  \
        sed s/edge/cpu/ function.yaml | stoic function deploy -"
)]
pub(in crate::cli) struct Deploy {
    /// The function's file (YAML or JSON); `-` reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Wait until pods and predictions are ready (the default)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Return as soon as the gateway has taken the function
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// Longest time to wait
    #[arg(long, value_name = "TIME", value_parser = quantity::duration, default_value = "15m")]
    timeout: Duration,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl Deploy {
    pub(in crate::cli) async fn run(self) -> Result<(), Failed> {
        let client = Client::new(&self.gateway)?;
        let text = self.text().await?;
        let (mut view, created) = client.deploy(text).await?;
        let mut failed = None;
        if !self.no_wait {
            let progress = Progress::new(false);
            match wait(&client, &mut view, &progress, self.timeout).await {
                Ok(()) => {}
                Err(Stopped::Failed(error)) => return Err(error),
                Err(Stopped::Short(text)) => failed = Some(text),
            }
            progress.finish();
        }
        self.printing.print(&view, |view| summary(view, created))?;
        match failed {
            None => Ok(()),
            Some(text) => Err(Failed::Machine(text)),
        }
    }

    async fn text(&self) -> Result<String, Failed> {
        let mut text = Vec::new();
        let read = if self.file.as_os_str() == "-" {
            let input = tokio::io::stdin();
            input.take(FILE_LIMIT + 1).read_to_end(&mut text).await
        } else {
            let path = self.file.display();
            let unreadable = |e| Failed::Input(format!("cannot read {path}: {e}"));
            let file = tokio::fs::File::open(&self.file)
                .await
                .map_err(unreadable)?;
            file.take(FILE_LIMIT + 1).read_to_end(&mut text).await
        };
        let path = self.file.display();
        read.map_err(|e| Failed::Input(format!("cannot read {path}: {e}")))?;
        if text.len() as u64 > FILE_LIMIT {
            return Err(Failed::Input(format!(
                "{path} is over 1 MiB: it is no function's file"
            )));
        }
        String::from_utf8(text).map_err(|_| Failed::Input(format!("{path} is no UTF-8 text")))
    }
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

fn summary(view: &FunctionView, created: bool) -> String {
    let status = &view.status;
    let state = &status.bootstrap;
    let done = if created {
        "is deployed"
    } else {
        "was deployed before and is as its file says"
    };
    let tasks = match state.state.as_str() {
        "done" if state.total == 0 => "predictions stand on earlier measurements".to_owned(),
        "done" => format!("{} representative tasks done", state.total),
        "none" => {
            "no representative tasks: predictions begin with the first invocations".to_owned()
        }
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
