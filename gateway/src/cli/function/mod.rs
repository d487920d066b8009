//! `stoic function`: one file per verb.

mod delete;
mod deploy;
mod describe;
mod flags;
mod list;
mod logs;
mod scale;
mod top;
mod update;

use super::call::CallFunction;
use super::failed::Failed;
use clap::Subcommand;

/// The verbs of `stoic function`.
#[derive(Debug, Subcommand)]
pub(super) enum Function {
    /// Deploy a function from its file or by flags, or change a deployed one
    Deploy(Box<deploy::Deploy>),
    /// Change what is named of a deployed function
    Update(Box<update::Update>),
    /// List the functions
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Show everything that is known of a function
    Describe(describe::Describe),
    /// Keep so many pods of a function ready
    Scale(scale::Scale),
    /// Show what the pods of functions do now
    Top(top::Top),
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
            Self::Update(command) => command.run().await,
            Self::Scale(command) => command.run().await,
            Self::Top(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Describe(command) => command.run().await,
            Self::Logs(command) => command.run().await,
            Self::Delete(command) => command.run().await,
            Self::Call(command) => command.run().await,
        }
    }
}
