//! `stoic pods`.

use super::client::{Client, Gateway};
use super::failed::Failed;
use super::output::{Printing, table};
use super::quantity::age;
use crate::pods::PodView;
use clap::Args;

/// Options of `stoic pods`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    stoic pods\n  \
    stoic pods --function wildlife\n  \
    stoic pods -o json | jq '.[] | select(.state == \"busy\")'")]
pub(super) struct Pods {
    /// Only those of this function
    #[arg(short, long, value_name = "NAME")]
    function: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl Pods {
    pub(super) async fn run(self) -> Result<(), Failed> {
        let mut pods = Client::new(&self.gateway)?.pods().await?;
        if let Some(function) = &self.function {
            pods.retain(|pod| pod.function == *function);
        }
        self.printing.print(&pods, |pods| rows(pods))
    }
}

/// Pods as a table.
pub(super) fn rows(pods: &[PodView]) -> String {
    let row = |pod: &PodView| {
        let dash = || "-".to_owned();
        vec![
            pod.name.clone(),
            pod.function.clone(),
            pod.runtime.clone(),
            pod.site.clone(),
            match pod.probe {
                true => format!("{} (probe)", pod.state),
                false => pod.state.clone(),
            },
            pod.address.clone().unwrap_or_else(dash),
            age(pod.age_s),
            age(pod.state_age_s),
            pod.model.clone().unwrap_or_else(dash),
            pod.running.to_string(),
            pod.served.to_string(),
        ]
    };
    table(
        &[
            "NAME",
            "FUNCTION",
            "RUNTIME",
            "SITE",
            "STATE",
            "ADDRESS",
            "AGE>",
            "IN STATE>",
            "MODEL",
            "RUNNING>",
            "SERVED>",
        ],
        pods.iter().map(row),
    )
}
