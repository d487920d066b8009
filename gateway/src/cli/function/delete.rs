//! `stoic function delete`.

use crate::cli::client::{Client, Gateway};
use crate::cli::failed::Failed;
use crate::cli::output::Printing;
use clap::Args;
use serde::Serialize;

/// Options of `stoic function delete`.
#[derive(Debug, Args)]
#[command(
    long_about = "Remove a function and its pods. What runs may finish; measurements and models stay.",
    after_help = "Examples:\n  stoic function delete wildlife"
)]
pub(in crate::cli) struct Delete {
    /// The function
    name: String,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

#[derive(Debug, Serialize)]
struct Deleted {
    deleted: String,
}

impl Delete {
    pub(in crate::cli) async fn run(self) -> Result<(), Failed> {
        Client::new(&self.gateway)?.delete(&self.name).await?;
        let deleted = Deleted { deleted: self.name };
        self.printing
            .print(&deleted, |done| format!("{} is deleted", done.deleted))
    }
}
