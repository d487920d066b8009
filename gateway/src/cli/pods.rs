//! `stoic pods`.

use super::client::{Client, Gateway};
use super::failed::Failed;
use super::output::{Printing, table};
use super::quantity::age;
use crate::pods::PodView;
use clap::Args;
use stoic_protocol::stages;

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

/// How long the pod's start took, and its two longest stages: `412ms load 231, first 98`.
fn started(pod: &PodView) -> Option<String> {
    if pod.stages.is_empty() {
        return None;
    }
    let ms = |seconds: f64| format!("{:.0}", seconds * 1000.0);
    let forked = pod.stages.contains_key(stages::FORK) && !pod.stages.contains_key(stages::EXEC);
    let mut longest: Vec<(&String, f64)> = pod.stages.iter().map(|(k, v)| (k, *v)).collect();
    longest.sort_by(|a, b| b.1.total_cmp(&a.1));
    let named: Vec<String> = longest
        .iter()
        .take(2)
        .map(|(stage, seconds)| format!("{stage} {}", ms(*seconds)))
        .collect();
    let total: f64 = pod.stages.values().sum();
    let how = if forked { "forked, " } else { "" };
    Some(format!("{}ms ({how}{})", ms(total), named.join(", ")))
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
            started(pod).unwrap_or_else(dash),
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
            "START",
            "MODEL",
            "RUNNING>",
            "SERVED>",
        ],
        pods.iter().map(row),
    )
}
