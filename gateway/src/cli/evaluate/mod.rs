//! `stoic evaluate`: what predictions and choices were worth, on logs, in simulation, on a running gateway.

mod live;
mod measured;
mod replay;
mod simulate;

use super::failed::Failed;
use super::output::{complain, say, table};
use clap::Subcommand;
use serde_json::Value;
use std::path::{Path, PathBuf};
use stoic_evaluation::log::LogError;
use stoic_evaluation::report::{Folder, FolderError, Report};

/// Kinds of evaluation.
#[derive(Debug, Subcommand)]
pub(super) enum Evaluate {
    /// Walk a log in the order of time and predict each row from the rows before it
    Replay(replay::Replay),
    /// Simulate batches on a scenario, with the gateway's own predictions and decisions
    Simulate(simulate::Simulate),
    /// Run every batch on every runtime of a running gateway and in every mode, and compare
    Live(live::Live),
}

impl Evaluate {
    pub(super) async fn run(self) -> Result<(), Failed> {
        match self {
            Self::Replay(command) => command.run(),
            Self::Simulate(command) => command.run(),
            Self::Live(command) => command.run().await,
        }
    }
}

/// A log that cannot be used is the caller's fault.
impl From<LogError> for Failed {
    fn from(error: LogError) -> Self {
        Self::Input(error.to_string())
    }
}

/// So is a folder that cannot be written to, which the caller named.
impl From<FolderError> for Failed {
    fn from(error: FolderError) -> Self {
        Self::Input(error.to_string())
    }
}

/// Writes a report and says what it shows.
fn deliver(folder: &Folder, out: &Path, report: &Report, command: &str) -> Result<(), Failed> {
    let files = folder.write(report, &format!("evaluate {command}"))?;
    say(&digest(&report.summary))?;
    complain(&format!(
        "written: {} files in {}; to read: {}",
        files.len(),
        out.display(),
        out.join("index.html").display()
    ));
    Ok(())
}

/// A summary for people: predictions, then policies.
fn digest(summary: &Value) -> String {
    let percent = |value: &Value| {
        value
            .as_f64()
            .map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
    };
    let seconds = |value: &Value| {
        value
            .as_f64()
            .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}"))
    };
    let parts = ["deployment", "processing", "total"];
    let errors = ["paper", "ours"].map(|method| {
        let mut row = vec![method.to_owned()];
        row.extend(parts.map(|part| percent(&summary["pmae"][method][part])));
        row
    });
    let errors = table(&["METHOD", "T_d>", "T_p>", "T_s>"], errors);
    let scores = summary["policies"].as_object().into_iter().flatten();
    let policies = scores
        .filter(|(_, score)| score.is_object())
        .map(|(name, score)| {
            vec![
                name.clone(),
                percent(&score["success"]),
                percent(&score["within_5_percent"]),
                seconds(&score["total_s"]),
                seconds(&score["min_lat_s"]),
                seconds(&score["regret_s"]),
                seconds(&score["extra_cloud_s"]),
            ]
        });
    let policies = table(
        &[
            "POLICY",
            "SUCCESS>",
            "WITHIN 5 %>",
            "TOTAL, S>",
            "MIN-LAT, S>",
            "REGRET, S>",
            "EXTRA CLOUD, S>",
        ],
        policies,
    );
    format!(
        "Error of predictions by mean latency (PMAE), {} rows; 90 % intervals of T_s held {}\n\n{errors}\n\n{policies}",
        summary["rows"],
        percent(&summary["coverage_90"]),
    )
}

/// Where reports go unless told otherwise.
fn default_out() -> PathBuf {
    PathBuf::from("evaluation")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_digest_shows_what_is_known_and_leaves_out_policies_that_cannot_be_told() {
        let summary = json!({
            "rows": 12,
            "pmae": {"paper": {"deployment": null, "processing": 0.1, "total": 0.2}, "ours": {}},
            "coverage_90": 0.9,
            "policies": {"cooperative": null, "selector": {"success": 0.5, "total_s": 10.0}},
        });
        let text = digest(&summary);
        assert!(
            text.contains("12 rows; 90 % intervals of T_s held 90.0 %"),
            "{text}"
        );
        assert!(
            text.contains("selector") && !text.contains("cooperative"),
            "{text}"
        );
    }
}
