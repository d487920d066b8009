//! `stoic runtimes`.

use super::client::{Client, Gateway};
use super::failed::Failed;
use super::output::{Printing, plain, table};
use super::quantity::{age, seconds};
use crate::http::{RuntimeFunction, RuntimeView};
use crate::scheduler::unix_now;
use clap::Args;

/// Options of `stoic runtimes`.
#[derive(Debug, Args)]
#[command(
    long_about = "Show every runtime, the preferred first: its resources, its link and when that was measured, \
        and for each function how long its deployments take there, whether it may be used, and why not.\n\n\
        Runtimes that are not at home are probed in the background: a pod is deployed, its time is \
        recorded, and it is taken down. One that is not ready in time makes the runtime unavailable until \
        one is.",
    after_help = "Examples:\n  stoic runtimes\n  stoic runtimes -o yaml"
)]
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
    let now = unix_now();
    let row = |runtime: &RuntimeView| {
        let link = runtime.bandwidth_bytes_per_s;
        let measured = runtime.link.and_then(|link| {
            link.transfer_at
                .into_iter()
                .chain(link.probe_at)
                .reduce(f64::max)
        });
        vec![
            runtime.name.clone(),
            runtime.site.clone(),
            runtime.threads.to_string(),
            runtime.precision.clone(),
            runtime.gpus.to_string(),
            if runtime.available { "yes" } else { "no" }.to_owned(),
            link.map_or_else(
                || "local".to_owned(),
                |bytes| format!("{:.2} Mbit/s", bytes * 8.0 / 1e6),
            ),
            link.map_or_else(
                || "-".to_owned(),
                |_| format!("{:.1} ms", runtime.rtt_s * 1e3),
            ),
            measured.map_or_else(|| "-".to_owned(), |at| ago(now, at)),
            if runtime.emulated.is_empty() {
                "-".to_owned()
            } else {
                runtime.emulated.clone()
            },
        ]
    };
    let runtimes_table = table(
        &[
            "RUNTIME",
            "SITE",
            "THREADS>",
            "PRECISION",
            "GPUS>",
            "AVAILABLE",
            "LINK>",
            "ROUND TRIP>",
            "LINK MEASURED>",
            "EMULATED",
        ],
        runtimes.iter().map(row),
    );
    let functions: Vec<Vec<String>> = runtimes
        .iter()
        .flat_map(|runtime| runtime.functions.iter().map(move |f| (runtime, f)))
        .map(|(runtime, function)| of_function(runtime, function, now))
        .collect();
    let troubles = runtimes.iter().filter_map(|runtime| {
        let reason = runtime.reason.as_deref()?;
        Some(format!("{}: {}", plain(&runtime.name), plain(reason)))
    });
    let runtimes_table = std::iter::once(runtimes_table)
        .chain(troubles)
        .collect::<Vec<_>>()
        .join("\n");
    if functions.is_empty() {
        return runtimes_table;
    }
    let functions = table(
        &[
            "FUNCTION",
            "RUNTIME",
            "AVAILABLE",
            "DEPLOYED IN>",
            "MEASURED>",
            "BY",
            "LAST PROBE",
            "TODAY>",
            "WHY NOT",
        ],
        functions,
    );
    format!("{runtimes_table}\n\n{functions}")
}

fn of_function(runtime: &RuntimeView, function: &RuntimeFunction, now: f64) -> Vec<String> {
    let standing = &function.standing;
    let dash = || "-".to_owned();
    let last = standing.last_deployment;
    vec![
        function.function.clone(),
        runtime.name.clone(),
        match (standing.available, standing.unavailable_since) {
            (true, None) => "yes".to_owned(),
            // A ready pod serves though new ones could not be started, or work may try again.
            (true, Some(since)) => format!("yes, starts fail since {}", age(now - since)),
            (false, Some(since)) => format!("no, since {}", age(now - since)),
            (false, None) => "no".to_owned(),
        },
        last.map_or_else(dash, |last| format!("{} s", seconds(last.seconds))),
        last.map_or_else(dash, |last| ago(now, last.at)),
        last.map_or_else(dash, |last| {
            if last.probe { "probe" } else { "work" }.to_owned()
        }),
        match &standing.last_probe {
            _ if standing.probing => "on its way".to_owned(),
            Some(probe) => format!(
                "{}, {}",
                probe.outcome.replace('_', " "),
                ago(now, probe.at)
            ),
            None if !standing.watched => "not probed".to_owned(),
            None if standing.withheld.is_some() => "not needed".to_owned(),
            None => dash(),
        },
        match standing.watched {
            true => standing.probes_today.to_string(),
            false => dash(),
        },
        standing.reason.clone().unwrap_or_else(dash),
    ]
}

fn ago(now: f64, at: f64) -> String {
    format!("{} ago", age(now - at))
}
