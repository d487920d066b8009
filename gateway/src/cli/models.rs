//! `stoic models`.

use super::client::{Client, Gateway};
use super::failed::Failed;
use super::output::{Printing, table};
use super::quantity::{moment, size};
use crate::history::ModelRecord;
use clap::Args;

/// Options of `stoic models`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stoic models wildlife\n\nA model is made by an action that trains:\n  \
    stoic function call wildlife --action train --data labelled.zip"
)]
pub(super) struct Models {
    /// The function
    function: String,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl Models {
    pub(super) async fn run(self) -> Result<(), Failed> {
        let client = Client::new(&self.gateway)?;
        // Its models outlive a function; a name that never was is a mistake, though.
        let models = client.models(&self.function).await?;
        if models.is_empty() {
            client.function(&self.function).await?;
        }
        self.printing.print(&models, |models| rows(models))
    }
}

fn rows(models: &[ModelRecord]) -> String {
    let row = |model: &ModelRecord| {
        vec![
            model.version.clone(),
            moment(model.created),
            size(model.bytes),
            model.invocation.clone(),
        ]
    };
    table(
        &[
            "VERSION",
            "PUBLISHED (UTC)",
            "SIZE>",
            "TRAINED BY INVOCATION",
        ],
        models.iter().map(row),
    )
}
