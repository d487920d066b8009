//! `stoic migrate ...`: functions of other gateways, carried over.

mod kubeless;

use super::failed::Failed;
use clap::Subcommand;

/// What is carried over.
#[derive(Debug, Subcommand)]
pub(super) enum Migrate {
    /// Functions of kubeless, from a cluster or from files
    Kubeless(kubeless::Kubeless),
}

impl Migrate {
    pub(super) async fn run(self) -> Result<(), Failed> {
        match self {
            Self::Kubeless(command) => command.run().await,
        }
    }
}
