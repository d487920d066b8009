//! `stoic function`: one file per verb.

mod delete;
mod deploy;
mod describe;
mod list;
mod logs;

use super::call::CallFunction;
use super::failed::Failed;
use clap::Subcommand;

/// The verbs of `stoic function`.
#[derive(Debug, Subcommand)]
pub(super) enum Function {
    /// Deploy a function from its file, or change a deployed one
    Deploy(deploy::Deploy),
    /// List the functions
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Show everything that is known of a function
    Describe(describe::Describe),
    /// Show what the pods of a function write
    Logs(logs::Logs),
    /// Remove a function and its pods
    Delete(delete::Delete),
    /// Call a function and show where it ran, how long it took, and what was predicted
    Call(Box<CallFunction>),
}

impl Function {
    pub(super) async fn run(self) -> Result<(), Failed> {
        match self {
            Self::Deploy(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Describe(command) => command.run().await,
            Self::Logs(command) => command.run().await,
            Self::Delete(command) => command.run().await,
            Self::Call(command) => command.run().await,
        }
    }
}
