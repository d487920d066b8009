//! `stoic function update`.

use super::deploy::{Waiting, summary};
use super::flags::Flags;
use crate::cli::client::{Client, Gateway};
use crate::cli::failed::Failed;
use crate::cli::output::Printing;
use crate::cli::quantity;
use clap::Args;
use std::time::Duration;

/// Options of `stoic function update`.
#[derive(Debug, Args)]
#[command(
    long_about = "Change a deployed function: what is named, and nothing else. Variables and labels are added \
        to those there are; lists (--command, --arg, --runtime, --secret) replace those there are.",
    after_help = "Examples:\n  \
        stoic function update hi --image localhost:5000/hi:2\n  \
        stoic function update hi --env LEVEL=debug --standby 2"
)]
pub(in crate::cli) struct Update {
    /// The function
    name: String,
    #[command(flatten)]
    flags: Flags,
    /// Longest time one invocation may take
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl Update {
    pub(in crate::cli) async fn run(self) -> Result<(), Failed> {
        if self.flags.is_empty() && self.timeout.is_none() {
            return Err(Failed::Input(format!(
                "say what to change of `{}`, for example --image REF; `stoic function update --help` shows what there is",
                self.name
            )));
        }
        let client = Client::new(&self.gateway)?;
        let mut object = client.function(&self.name).await?.object;
        let former = object.clone();
        self.flags.apply(&client, &mut object, self.timeout).await?;
        let changed = object != former;
        let mut view = client.put(&object).await?;
        let short = self.waiting.wait(&client, &mut view).await?;
        let done = if changed {
            "is updated"
        } else {
            "is that already"
        };
        self.printing.print(&view, |view| summary(view, done))?;
        short.map_or(Ok(()), |text| Err(Failed::Machine(text)))
    }
}
