//! `stoic predict`.

use super::client::{Client, Gateway};
use super::failed::Failed;
use super::output::{Printing, table};
use super::quantity::{self, seconds, size};
use crate::http::PredictView;
use crate::scheduler::RuntimeEstimate;
use clap::Args;
use stoic_placement::Part;

/// Options of `stoic predict`.
#[derive(Debug, Args)]
#[command(
    long_about = "Show how long a batch would take on each runtime, and which one would be chosen.\n\n\
        T_q waiting for a busy pod, T_t moving the package to the site, T_d waiting for a pod to be \
        deployed, T_p processing, T_s their sum: each the expected seconds, with the range that should \
        hold nine in ten outcomes. A part is unknown until something has been measured; deploying a \
        function runs representative tasks for that.",
    after_help = "Examples:\n  \
        stoic predict wildlife --items 200 --bytes 40M\n  \
        stoic predict wildlife --items 2000 --action train -o json"
)]
pub(super) struct Predict {
    /// The function
    function: String,
    /// Items in the batch
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    items: u64,
    /// Size of the batch, such as 40M; without it no transfer is reckoned with
    #[arg(short, long, value_name = "SIZE", value_parser = quantity::bytes, default_value = "0")]
    bytes: u64,
    /// What is done with it [default: infer]
    #[arg(short, long, value_name = "ACTION")]
    action: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl Predict {
    pub(super) async fn run(self) -> Result<(), Failed> {
        let view = Client::new(&self.gateway)?
            .predict(
                &self.function,
                self.items,
                self.bytes,
                self.action.as_deref(),
            )
            .await?;
        self.printing.print(&view, text)
    }
}

fn text(view: &PredictView) -> String {
    let row = |estimate: &RuntimeEstimate| {
        let chosen = view.choice.as_deref() == Some(&estimate.runtime);
        let e = &estimate.estimate;
        let start = match (estimate.available, estimate.cold) {
            (false, _) => "unavailable",
            (true, true) => "cold",
            (true, false) => "warm",
        };
        vec![
            if chosen { "*" } else { "" }.to_owned(),
            estimate.runtime.clone(),
            estimate.site.clone(),
            start.to_owned(),
            part(&e.queueing),
            part(&e.transfer),
            part(&e.deployment),
            part(&e.processing),
            part(&e.response),
            if estimate.emulated.is_empty() {
                "-".to_owned()
            } else {
                estimate.emulated.clone()
            },
        ]
    };
    let rows = table(
        &[
            "", "RUNTIME", "SITE", "START", "T_q>", "T_t>", "T_d>", "T_p>", "T_s>", "EMULATED",
        ],
        view.runtimes.iter().map(row),
    );
    let bytes = if view.bytes == 0 {
        String::new()
    } else {
        format!(", {}", size(view.bytes))
    };
    let choice = view.choice.as_deref().unwrap_or("none");
    format!(
        "{}, {}: {} items{bytes}. Seconds: expected [90 % interval].\n\n{rows}\n\n* {choice}: {}",
        view.function, view.action, view.items, view.reason
    )
}

/// A part with its interval, where it has one.
fn part(part: &Part) -> String {
    if !part.known {
        "unknown".to_owned()
    } else if part.p90.low == part.p90.high {
        seconds(part.mean)
    } else {
        format!(
            "{} [{}..{}]",
            seconds(part.mean),
            seconds(part.p90.low),
            seconds(part.p90.high)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoic_placement::Interval;

    #[test]
    fn parts_show_what_is_known_of_them() {
        let known = Part {
            p90: Interval {
                low: 2.5,
                high: 3.5,
            },
            ..Part::exact(3.0)
        };
        assert_eq!(part(&known), "3.000 [2.500..3.500]");
        assert_eq!(part(&Part::ZERO), "0");
        assert_eq!(part(&Part::UNKNOWN), "unknown");
    }
}
