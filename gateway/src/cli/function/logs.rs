//! `stoic function logs`.

use crate::cli::client::{Client, Gateway};
use crate::cli::failed::Failed;
use clap::Args;

/// Options of `stoic function logs`.
#[derive(Debug, Args)]
#[command(
    long_about = "Show what the pods of a function wrote to standard output and standard error.",
    after_help = "Examples:\n  \
        stoic function logs wildlife\n  \
        stoic function logs wildlife --tail 20 --follow\n  \
        stoic function logs wildlife --runtime edge"
)]
pub(in crate::cli) struct Logs {
    /// The function
    name: String,
    /// Only so many of the last lines of each pod
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<u64>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Only pods on this runtime
    #[arg(short, long, value_name = "RUNTIME")]
    runtime: Option<String>,
    /// Only this pod
    #[arg(short, long, value_name = "POD")]
    pod: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
}

impl Logs {
    pub(in crate::cli) async fn run(self) -> Result<(), Failed> {
        let mut question = Vec::new();
        question.extend(self.tail.map(|lines| ("tail", lines.to_string())));
        question.extend(self.follow.then(|| ("follow", "true".to_owned())));
        question.extend(self.runtime.map(|runtime| ("runtime", runtime)));
        question.extend(self.pod.map(|pod| ("pod", pod)));
        Client::new(&self.gateway)?
            .copy_logs(&self.name, &question, &mut std::io::stdout())
            .await
    }
}
