//! `stoic measurements`.

use super::client::{Client, Gateway};
use super::failed::Failed;
use super::output::{Printing, table};
use super::quantity::{moment, seconds, size};
use crate::history::Measurement;
use clap::Args;

/// Options of `stoic measurements`.
#[derive(Debug, Args)]
#[command(
    long_about = "List invocations as they were predicted and as they went, the newest first.\n\n\
        T_q waiting for a busy pod, T_t moving the package to the site, T_d waiting for a pod to be \
        deployed, T_p processing, T_s their sum: all as measured, in seconds. PREDICTED is T_s as it was \
        predicted before, with its 90 % interval.",
    after_help = "Examples:\n  \
        stoic measurements --function wildlife --limit 20\n  \
        stoic measurements --runtime cpu -o json > cpu.json"
)]
pub(super) struct Measurements {
    /// Only those of this function
    #[arg(short, long, value_name = "NAME")]
    function: Option<String>,
    /// Only those on this runtime
    #[arg(short, long, value_name = "RUNTIME")]
    runtime: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl Measurements {
    pub(super) async fn run(self) -> Result<(), Failed> {
        let found = Client::new(&self.gateway)?
            .measurements(
                self.function.as_deref(),
                self.runtime.as_deref(),
                self.limit,
            )
            .await?;
        self.printing.print(&found, |found| rows(found))
    }
}

fn rows(found: &[Measurement]) -> String {
    let row = |m: &Measurement| {
        let predicted = match (m.predicted, m.predicted_90) {
            (Some(parts), Some((low, high))) => format!(
                "{} [{}..{}]",
                seconds(parts.response()),
                seconds(low),
                seconds(high)
            ),
            (Some(parts), None) => seconds(parts.response()),
            (None, _) => "-".to_owned(),
        };
        let dash = |text: &str| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text.to_owned()
            }
        };
        vec![
            moment(m.at),
            m.function.clone(),
            m.action.clone(),
            m.runtime.clone(),
            dash(&m.start),
            m.mode.clone(),
            m.items.to_string(),
            size(m.bytes),
            seconds(m.actual.queueing),
            seconds(m.actual.transfer),
            seconds(m.actual.deployment),
            seconds(m.actual.processing),
            seconds(m.actual.response()),
            predicted,
            dash(&m.emulated),
            m.outcome.clone(),
        ]
    };
    table(
        &[
            "AT (UTC)",
            "FUNCTION",
            "ACTION",
            "RUNTIME",
            "START",
            "MODE",
            "ITEMS>",
            "SIZE>",
            "T_q>",
            "T_t>",
            "T_d>",
            "T_p>",
            "T_s>",
            "PREDICTED>",
            "EMULATED",
            "OUTCOME",
        ],
        found.iter().map(row),
    )
}
