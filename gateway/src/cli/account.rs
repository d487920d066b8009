//! `stoic account`.

use super::client::{Client, Gateway};
use super::failed::Failed;
use super::output::{Printing, table};
use super::quantity::seconds;
use crate::history::AccountRow;
use clap::Args;

/// Options of `stoic account`.
#[derive(Debug, Args)]
#[command(
    long_about = "Show what races between edge and cloud saved the cloud, and cost it, in sum over the \
        measurements that are kept.\n\n\
        SAVED are the cloud seconds that batches would have taken and that were given back, since the edge \
        did the work. LOST are those spent in vain: the edge was done first, or the cloud failed. USED are \
        those that answers came from. A second of a runtime with two GPUs counts twice (paper, table 5).",
    after_help = "Examples:\n  \
        stoic account\n  \
        stoic account -o json"
)]
pub(super) struct Account {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl Account {
    pub(super) async fn run(self) -> Result<(), Failed> {
        let found = Client::new(&self.gateway)?.account().await?;
        self.printing.print(&found, |found| rows(found))
    }
}

fn rows(found: &[AccountRow]) -> String {
    let row = |row: &AccountRow| {
        vec![
            row.function.clone(),
            row.mode.clone(),
            row.runtime.clone(),
            row.races.to_string(),
            row.edge_wins.to_string(),
            seconds(row.saved_s),
            seconds(row.lost_s),
            seconds(row.used_s),
        ]
    };
    table(
        &[
            "FUNCTION",
            "MODE",
            "CLOUD RUNTIME",
            "RACES>",
            "EDGE FIRST>",
            "SAVED s>",
            "LOST s>",
            "USED s>",
        ],
        found.iter().map(row),
    )
}
