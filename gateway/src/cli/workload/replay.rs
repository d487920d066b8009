//! `stoic workload replay`: arrivals against a gateway, at any speed.

use super::arrivals::Source;
use super::batches::{self, Batches};
use crate::cli::call::Progress;
use crate::cli::client::{Client, Gateway};
use crate::cli::failed::Failed;
use crate::cli::output::{Printing, complain, table};
use crate::cli::quantity::seconds;
use crate::function::Input;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;
use stoic_evaluation::log::timestamps;
use tokio::time::{Instant, sleep_until};

/// Options of `stoic workload replay`.
#[derive(Debug, Args)]
#[command(
    long_about = "Send batches to a gateway as they arrived, so many times faster: real arrivals from --timestamps \
        (columns epoch, images), or drawn ones. Batches overlap where they arrive before the ones before are answered.\n\n\
        Items come from --data, or are scenes that stoic-wildlife paints. Each batch is said when it is answered; a \
        summary follows.",
    after_help = "Examples:\n  \
        stoic workload replay --speed 600 --function wildlife\n  \
        stoic workload replay --speed 3600 --function wildlife --timestamps arrivals.csv --data photos.zip"
)]
pub(in crate::cli) struct Replay {
    /// How many times faster than real time
    #[arg(long, value_name = "TIMES", default_value_t = 600.0)]
    speed: f64,
    /// The function; its input must be `batch`
    #[arg(long, value_name = "NAME")]
    function: String,
    /// Arrivals (columns epoch, images), instead of drawn ones
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["from", "activity", "days"])]
    timestamps: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
    /// Larger batches are cut to so many items
    #[arg(long, value_name = "ITEMS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    largest: u32,
    /// Package that items are drawn from [default: painted scenes]
    #[arg(long, value_name = "ZIP")]
    data: Option<PathBuf>,
    /// How the gateway places each batch [default: its own choice]
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

/// What is said at the end.
#[derive(Debug, Default, Serialize)]
struct Summary {
    batches: usize,
    items: u64,
    failed: usize,
    /// Seconds from the first arrival to the last answer.
    took_s: f64,
    mean_s: Option<f64>,
    median_s: Option<f64>,
    p90_s: Option<f64>,
    longest_s: Option<f64>,
    /// Batches sent later than they arrived, by more than a tenth of a second.
    sent_late: usize,
}

impl Replay {
    pub(super) async fn run(self) -> Result<(), Failed> {
        if !(self.speed.is_finite() && self.speed > 0.0) {
            return Err(Failed::Input("--speed must be a number above 0".to_owned()));
        }
        let arrivals = self.arrivals()?;
        let client = Client::new(&self.gateway)?;
        let view = client.function(&self.function).await?;
        if view.object.spec.input != Input::Batch {
            return Err(Failed::Input(format!(
                "{} has input `request`: a workload is of batches",
                self.function
            )));
        }
        let progress = Progress::new(false);
        let cut = |images: u32| images.min(self.largest);
        let most = arrivals.iter().map(|(_, images)| cut(*images)).max();
        let seed = self.source.seed();
        let source =
            Batches::open(self.data.as_deref(), most.unwrap_or(1), seed, &progress).await?;
        batches::bootstrapped(&client, &self.function, &progress).await?;
        progress.finish();

        let begins = Instant::now();
        let mut under_way = FuturesUnordered::new();
        let mut waiting = arrivals.iter().copied().enumerate().peekable();
        let (mut summary, mut responses) = (Summary::default(), Vec::new());
        loop {
            let next = waiting
                .peek()
                .map(|(_, (after_s, _))| begins + after(*after_s, self.speed));
            tokio::select! {
                // Arrivals first: what is answered can wait to be said.
                biased;
                () = sleep_until(next.unwrap_or(begins)), if next.is_some() => {
                    let Some((number, (after_s, images))) = waiting.next() else { continue };
                    let items = cut(images);
                    let package = source.package(items, seed.wrapping_add(number as u64))?;
                    let late = begins.elapsed().saturating_sub(after(after_s, self.speed));
                    summary.sent_late += usize::from(late > Duration::from_millis(100));
                    let call = batches::call(&self.function, None, self.mode.as_deref());
                    let client = &client;
                    under_way.push(async move {
                        let answer = batches::send(client, package.path(), call, &Progress::Quiet).await;
                        (number, items, answer)
                    });
                }
                Some((number, items, answer)) = under_way.next(), if !under_way.is_empty() => {
                    summary.batches += 1;
                    summary.items += u64::from(items);
                    match answer {
                        Ok(carried) => {
                            let response = carried.summary.actual.response();
                            responses.push(response);
                            complain(&format!(
                                "batch {}: {items} items on {} ({}), {} s{}",
                                number + 1,
                                carried.summary.runtime,
                                carried.summary.start,
                                seconds(response),
                                carried.summary.predicted.map_or_else(String::new, |p| format!(
                                    ", predicted {} s",
                                    seconds(p.response())
                                )),
                            ));
                        }
                        Err(failed @ (Failed::Unreachable { .. } | Failed::Interrupted(_))) => return Err(failed),
                        Err(failed) => {
                            summary.failed += 1;
                            complain(&format!("batch {}: {items} items failed: {failed}", number + 1));
                        }
                    }
                }
                else => break,
            }
        }
        summary.took_s = begins.elapsed().as_secs_f64();
        summary.of(responses);
        let all_failed = summary.failed > 0 && summary.failed == summary.batches;
        self.printing.print(&summary, text)?;
        if all_failed {
            return Err(Failed::Machine("every batch failed".to_owned()));
        }
        Ok(())
    }

    /// Seconds after the first arrival, and images; hours without images are no arrivals.
    fn arrivals(&self) -> Result<Vec<(f64, u32)>, Failed> {
        let all: Vec<(f64, u32)> = match &self.timestamps {
            Some(path) => timestamps(path)?,
            None => self
                .source
                .draw()?
                .map(|arrival| (arrival.hour as f64 * 3600.0, arrival.images))
                .collect(),
        };
        let first = all.first().map_or(0.0, |(epoch, _)| *epoch);
        let arrivals: Vec<(f64, u32)> = all
            .into_iter()
            .filter(|(_, images)| *images > 0)
            .map(|(epoch, images)| (epoch - first, images))
            .collect();
        if arrivals.is_empty() {
            return Err(Failed::Input("no arrival has images in it".to_owned()));
        }
        Ok(arrivals)
    }
}

/// When an arrival is due, from the first.
fn after(seconds: f64, speed: f64) -> Duration {
    // A century is as good as never, and fits every clock.
    Duration::from_secs_f64((seconds / speed).clamp(0.0, 3.2e9))
}

impl Summary {
    fn of(&mut self, mut responses: Vec<f64>) {
        responses.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (share * responses.len() as f64) as usize;
            responses
                .get(place.min(responses.len().saturating_sub(1)))
                .copied()
        };
        (self.median_s, self.p90_s, self.longest_s) = (at(0.5), at(0.9), responses.last().copied());
        if !responses.is_empty() {
            self.mean_s = Some(responses.iter().sum::<f64>() / responses.len() as f64);
        }
    }
}

fn text(summary: &Summary) -> String {
    let time = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), seconds);
    table(
        &[
            "BATCHES>",
            "ITEMS>",
            "FAILED>",
            "TOOK, S>",
            "MEAN T_S>",
            "MEDIAN>",
            "90 %>",
            "LONGEST>",
            "SENT LATE>",
        ],
        [vec![
            summary.batches.to_string(),
            summary.items.to_string(),
            summary.failed.to_string(),
            seconds(summary.took_s),
            time(summary.mean_s),
            time(summary.median_s),
            time(summary.p90_s),
            time(summary.longest_s),
            summary.sent_late.to_string(),
        ]],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_due_so_many_times_sooner() {
        assert_eq!(after(3600.0, 600.0), Duration::from_secs(6));
        assert_eq!(after(1e300, 1e-300), Duration::from_secs_f64(3.2e9));
        let mut summary = Summary::default();
        summary.of(vec![3.0, 1.0, 2.0]);
        assert_eq!(
            (summary.median_s, summary.longest_s, summary.mean_s),
            (Some(2.0), Some(3.0), Some(2.0))
        );
        let mut none = Summary::default();
        none.of(Vec::new());
        assert_eq!(none.median_s, None);
    }
}
