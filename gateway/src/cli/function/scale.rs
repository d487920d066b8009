//! `stoic function scale`.

use crate::cli::client::{Client, Gateway};
use crate::cli::failed::Failed;
use crate::cli::output::Printing;
use clap::Args;

/// Options of `stoic function scale`.
#[derive(Debug, Args)]
#[command(
    long_about = "Keep so many pods of a function ready, whatever its file says, until its next deployment. \
        With 0, its idle pods end at once; the next invocation starts one.",
    after_help = "Examples:\n  stoic function scale wildlife 3\n  stoic function scale wildlife 0 --runtime edge"
)]
pub(in crate::cli) struct Scale {
    /// The function
    name: String,
    /// Pods
    #[arg(value_name = "N")]
    replicas: u32,
    /// On this runtime [default: the first that it may use; with 0, all of them]
    #[arg(short, long, value_name = "RUNTIME")]
    runtime: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl Scale {
    pub(in crate::cli) async fn run(self) -> Result<(), Failed> {
        let client = Client::new(&self.gateway)?;
        let runtime = self.runtime.as_deref();
        let scaled = client.scale(&self.name, self.replicas, runtime).await?;
        self.printing.print(&scaled, |_| {
            let at = runtime.map_or_else(String::new, |runtime| format!(" on {runtime}"));
            format!("{}: {} pods are kept ready{at}", self.name, self.replicas)
        })
    }
}
