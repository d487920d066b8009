//! `stoic predict`.

mod explained;

use super::client::{Client, Gateway};
use super::failed::Failed;
use super::output::{Printing, table};
use super::quantity::{self, seconds, size};
use crate::http::PredictView;
use crate::scheduler::RuntimeEstimate;
use clap::Args;
use std::time::Duration;
use stoic_placement::Part;

/// Options of `stoic predict`.
#[derive(Debug, Args)]
#[command(
    long_about = "Show how long a batch would take on each runtime, and which one would be chosen.\n\n\
        T_q waiting for a busy pod, T_t moving the package to the site, T_d waiting for a pod to be \
        deployed, T_p processing, T_s their sum: each the expected seconds, with the range that should \
        hold nine in ten outcomes. A part is unknown until something has been measured; deploying a \
        function runs representative tasks for that.\n\n\
        --explain says what each part rests on: the estimator in force and its measurements, how far it \
        was off lately, how many outcomes its range held; what runs and waits; the link; why a runtime \
        may not be used; and what every mode of execution would take.",
    after_help = "Examples:\n  \
        stoic predict wildlife --items 200 --bytes 40M\n  \
        stoic predict wildlife --items 200 --bytes 40M --explain\n  \
        stoic predict wildlife --items 200 --deadline 30s\n  \
        stoic predict wildlife --items 200 --mode auto\n  \
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
    /// Time within which the answer is wanted, such as 30s: the choice then goes by the chance to meet it
    #[arg(short, long, value_name = "TIME", value_parser = quantity::duration)]
    deadline: Option<Duration>,
    /// How it is executed [default: selector]
    #[arg(short, long, value_name = "MODE", value_parser = ["selector", "hedged", "duplicator", "cooperative", "auto"])]
    mode: Option<String>,
    /// Say what the prediction rests on
    #[arg(short, long)]
    explain: bool,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

impl Predict {
    pub(super) async fn run(self) -> Result<(), Failed> {
        let mut question = vec![
            ("items", self.items.to_string()),
            ("bytes", self.bytes.to_string()),
        ];
        if let Some(deadline) = self.deadline {
            if deadline.is_zero() {
                return Err(Failed::Input("--deadline must be more than 0".to_owned()));
            }
            question.push(("deadline", deadline.as_secs_f64().to_string()));
        }
        let more = [("action", self.action), ("mode", self.mode)];
        question.extend(
            more.into_iter()
                .filter_map(|(key, value)| Some((key, value?))),
        );
        if self.explain {
            question.push(("explain", "true".to_owned()));
        }
        let view = Client::new(&self.gateway)?
            .ask_prediction(&self.function, &question)
            .await?;
        self.printing.print(&view, text)
    }
}

fn text(view: &PredictView) -> String {
    let chosen: Vec<&str> = view
        .choice
        .as_deref()
        .map_or_else(Vec::new, |choice| choice.split('+').collect());
    let row = |estimate: &RuntimeEstimate| {
        let e = &estimate.estimate;
        let start = match (estimate.available, estimate.cold) {
            (false, _) => "unavailable",
            (true, true) => "cold",
            (true, false) => "warm",
        };
        let mark = if chosen.contains(&&*estimate.runtime) {
            "*"
        } else {
            ""
        };
        vec![
            mark.to_owned(),
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
    let bytes = match view.bytes {
        0 => String::new(),
        bytes => format!(", {}", size(bytes)),
    };
    let deadline = view.deadline_s.map_or_else(String::new, |deadline| {
        format!(", wanted within {} s", seconds(deadline))
    });
    let choice = view.choice.as_deref().unwrap_or("none");
    let explained = explained::text(view);
    format!(
        "{}, {}: {} items{bytes}{deadline}. Seconds: expected [90 % interval].\n\n{rows}\n\n* {choice}: {}{explained}",
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
