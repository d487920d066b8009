//! `stoic runtimes`.

use super::client::{Client, Gateway};
use super::failed::Failed;
use super::output::{Printing, table};
use crate::http::RuntimeView;
use clap::Args;

/// Options of `stoic runtimes`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stoic runtimes\n  stoic runtimes -o yaml")]
pub(super) struct Runtimes {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl Runtimes {
    pub(super) async fn run(self) -> Result<(), Failed> {
        let runtimes = Client::new(&self.gateway)?.runtimes().await?;
        self.printing.print(&runtimes, |runtimes| rows(runtimes))
    }
}

fn rows(runtimes: &[RuntimeView]) -> String {
    let row = |runtime: &RuntimeView| {
        let link = runtime.bandwidth_bytes_per_s;
        vec![
            runtime.name.clone(),
            runtime.site.clone(),
            runtime.threads.to_string(),
            runtime.precision.clone(),
            runtime.gpus.to_string(),
            link.map_or_else(
                || "local".to_owned(),
                |bytes| format!("{:.2} Mbit/s", bytes * 8.0 / 1e6),
            ),
            link.map_or_else(
                || "-".to_owned(),
                |_| format!("{:.1} ms", runtime.rtt_s * 1e3),
            ),
            if runtime.emulated.is_empty() {
                "-".to_owned()
            } else {
                runtime.emulated.clone()
            },
        ]
    };
    table(
        &[
            "RUNTIME",
            "SITE",
            "THREADS>",
            "PRECISION",
            "GPUS>",
            "LINK>",
            "ROUND TRIP>",
            "EMULATED",
        ],
        runtimes.iter().map(row),
    )
}
