//! `stoic function top`.

use crate::cli::client::{Client, Gateway};
use crate::cli::failed::Failed;
use crate::cli::output::{Format, Printing, say, table};
use crate::cli::quantity::{duration, seconds};
use crate::history::Measurement;
use crate::pods::PodView;
use crate::scheduler::unix_now;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

/// Measurements looked at.
const NEWEST: u32 = 2000;

/// Options of `stoic function top`.
#[derive(Debug, Args)]
#[command(
    long_about = "Show what the pods of functions do now, and how long their invocations took lately.\n\n\
        MEASURED, COLD, FAILED and the times are of the invocations recorded within --window: all batches, \
        and a sample of the requests that pass through. SERVED counts every one of the pods that are up.",
    after_help = "Examples:\n  stoic function top\n  stoic function top wildlife --once\n  stoic function top --once -o json"
)]
pub(in crate::cli) struct Top {
    /// Only this function
    name: Option<String>,
    /// Print once and end; so too where the output is no terminal
    #[arg(long)]
    once: bool,
    /// How often to look
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    every: Duration,
    /// How far back invocations count
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m")]
    window: Duration,
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    printing: Printing,
}

/// A function on a runtime.
#[derive(Debug, Default, Serialize)]
struct Row {
    function: String,
    runtime: String,
    pods: usize,
    ready: usize,
    running: usize,
    served: u64,
    measured: usize,
    cold: usize,
    failed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_p50_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_p95_s: Option<f64>,
}

impl Top {
    pub(in crate::cli) async fn run(self) -> Result<(), Failed> {
        let client = Client::new(&self.gateway)?;
        if let Some(name) = &self.name {
            client.function(name).await?;
        }
        let live =
            !self.once && self.printing.output == Format::Table && std::io::stdout().is_terminal();
        loop {
            let rows = self.rows(&client).await?;
            if !live {
                return self.printing.print(&rows, |rows| text(rows));
            }
            // From the top of a cleared screen.
            say(&format!("\u{1b}[2J\u{1b}[H{}", text(&rows)))?;
            tokio::time::sleep(self.every.max(Duration::from_millis(200))).await;
        }
    }

    async fn rows(&self, client: &Client) -> Result<Vec<Row>, Failed> {
        let name = self.name.as_deref();
        let mut pods = client.pods().await?;
        pods.retain(|pod| !pod.probe && name.is_none_or(|name| pod.function == name));
        let mut found = client.measurements(name, None, NEWEST).await?;
        let since = unix_now() - self.window.as_secs_f64();
        found.retain(|measurement| measurement.at >= since);
        Ok(rows(&pods, &found))
    }
}

fn rows(pods: &[PodView], found: &[Measurement]) -> Vec<Row> {
    let mut all: BTreeMap<(&str, &str), (Row, Vec<f64>)> = BTreeMap::new();
    for pod in pods {
        let (row, _) = all.entry((&pod.function, &pod.runtime)).or_default();
        row.pods += 1;
        row.ready += usize::from(pod.state == "idle" || pod.state == "busy");
        row.running += pod.running;
        row.served += pod.served;
    }
    for measurement in found {
        let key = (measurement.function.as_str(), measurement.runtime.as_str());
        let (row, times) = all.entry(key).or_default();
        row.measured += 1;
        row.cold += usize::from(measurement.start == "cold");
        if measurement.outcome == "ok" {
            times.push(measurement.actual.response());
        } else {
            row.failed += 1;
        }
    }
    let finish = |((function, runtime), (mut row, mut times)): ((&str, &str), (Row, Vec<f64>))| {
        times.sort_by(f64::total_cmp);
        row.function = function.to_owned();
        row.runtime = runtime.to_owned();
        row.response_p50_s = nearest_rank(&times, 0.5);
        row.response_p95_s = nearest_rank(&times, 0.95);
        row
    };
    all.into_iter().map(finish).collect()
}

/// The smallest of these sorted values that so large a part of them does not exceed.
fn nearest_rank(sorted: &[f64], part: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

fn text(rows: &[Row]) -> String {
    let time = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), seconds);
    let row = |row: &Row| {
        vec![
            row.function.clone(),
            row.runtime.clone(),
            format!("{}/{}", row.ready, row.pods),
            row.running.to_string(),
            row.served.to_string(),
            row.measured.to_string(),
            row.cold.to_string(),
            row.failed.to_string(),
            time(row.response_p50_s),
            time(row.response_p95_s),
        ]
    };
    table(
        &[
            "FUNCTION",
            "RUNTIME",
            "READY>",
            "RUNNING>",
            "SERVED>",
            "MEASURED>",
            "COLD>",
            "FAILED>",
            "P50 (s)>",
            "P95 (s)>",
        ],
        rows.iter().map(row),
    )
}

#[cfg(test)]
mod tests {
    use super::nearest_rank;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let all: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(nearest_rank(&all, 0.5), Some(10.0));
        assert_eq!(nearest_rank(&all, 0.95), Some(19.0));
        assert_eq!(nearest_rank(&[3.0], 0.95), Some(3.0));
        assert_eq!(nearest_rank(&[], 0.5), None);
    }
}
