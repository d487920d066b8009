//! What an evaluation on a running gateway measured, and the report on it.

use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::SystemTime;
use stoic_evaluation::log::{Names, Parts, Run, Runs};
use stoic_evaluation::replay::policies::Accounts;
use stoic_evaluation::report::{self, Cell, Report, Table, policies};
use stoic_evaluation::score::{Case, Outcome};
use stoic_evaluation::workload::{Activity, Sizes};

use crate::cli::call::Carried;
use crate::history;

/// Runs and batches, as they come in.
#[derive(Debug, Default)]
pub(super) struct Measured {
    rows: Vec<Run>,
    starts: Vec<String>,
    emulated: Vec<String>,
    runtimes: Names,
    cases: Vec<Case>,
}

impl Measured {
    /// Begins a batch.
    pub(super) fn batch(&mut self, items: u32) {
        self.cases.push(Case {
            items: f64::from(items),
            ..Case::default()
        });
    }

    /// The batch under way ran on one runtime, which it was pinned to.
    pub(super) fn ran(&mut self, items: u32, carried: &Carried) {
        let summary = &carried.summary;
        let parts = |parts: &history::Parts| Parts {
            transfer: parts.transfer,
            // A log has no column for waiting: it is part of getting a pod.
            deployment: parts.queueing + parts.deployment,
            processing: parts.processing,
        };
        let actual = parts(&summary.actual);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let epoch = now.map_or(0.0, |since| since.as_secs_f64());
        let runtime = self.runtimes.number(&summary.runtime);
        // Clocks may be set back; a log may not.
        let before = self.rows.last().map_or(0.0, |row| row.epoch);
        self.rows.push(Run {
            line: self.rows.len() as u64 + 2,
            epoch: epoch.max(before),
            items: f64::from(items),
            runtime,
            actual,
            logged_total: actual.total(),
            predicted: summary.predicted.as_ref().map(parts),
            file: None,
        });
        self.starts.push(summary.start.clone());
        self.emulated.push(summary.emulated.clone());
        if let Some(case) = self.cases.last_mut() {
            case.everywhere_s
                .push((summary.runtime.clone(), actual.total()));
        }
    }

    /// The selector would have taken this runtime for the batch under way.
    pub(super) fn chosen(&mut self, runtime: &str) {
        if let Some(case) = self.cases.last_mut() {
            let at = case
                .everywhere_s
                .iter()
                .position(|(name, _)| name == runtime);
            if let Some(index) = at {
                case.choose("selector", index);
            }
        }
    }

    /// The batch under way ran in a mode.
    pub(super) fn in_mode(&mut self, mode: &str, carried: &Carried) {
        let Some(case) = self.cases.last_mut() else {
            return;
        };
        let response_s = carried.summary.actual.response();
        let min_lat_s = case.min_lat_s();
        let fastest = case
            .everywhere_s
            .iter()
            .find(|(_, seconds)| *seconds == min_lat_s);
        let right = response_s <= min_lat_s
            || fastest.is_some_and(|(name, _)| *name == carried.summary.runtime);
        let outcome = Outcome {
            response_s,
            right,
            extra_cloud_s: 0.0,
        };
        case.outcomes.insert(mode.to_owned(), outcome);
    }

    /// The batch under way is over.
    pub(super) fn over(&mut self) -> Option<&Case> {
        if self.cases.last()?.everywhere_s.is_empty() {
            self.cases.pop();
            return None;
        }
        let case = self.cases.last_mut()?;
        case.choose_blindly();
        Some(case)
    }

    /// Whether anything was measured.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The report. `notes` are paragraphs on what was left out.
    pub(super) fn report(
        self,
        gateway: &str,
        function: &str,
        notes: Vec<String>,
        seed: u64,
    ) -> Report {
        let runs = Runs::of_rows(PathBuf::from(gateway), self.rows, self.runtimes);
        let replay = report::Replay {
            runs: &runs,
            deployments: None,
            sizes: &Sizes::embedded(),
            mean_images: &Activity::published(),
            workload: "the authors' camera (embedded)".to_owned(),
            seed,
        };
        let mut report = replay.report();
        report.title = format!("{function} on a running gateway");
        report.about.extend(notes);
        let mut kinds: Vec<&str> = self
            .emulated
            .iter()
            .flat_map(|text| text.split(','))
            .map(str::trim)
            .filter(|kind| !kind.is_empty())
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        if !kinds.is_empty() {
            report.about.push(format!(
                "Emulated on the way to some runtimes: {}. Compute is never emulated.",
                kinds.join(", ")
            ));
        }
        for section in &mut report.sections {
            if section.title.starts_with("Policies") {
                section.title =
                    "Replay of these measurements: what policies would have made of them"
                        .to_owned();
                for table in &mut section.tables {
                    table.name = format!("replayed_{}", table.name);
                }
                for (name, figure) in &mut section.figures {
                    *name = format!("replayed_{name}");
                    figure.title = format!("{} (replayed)", figure.title);
                }
            }
        }
        let (mut section, scores) = policies(
            "",
            "Policies, as measured",
            &self.cases,
            &Accounts::new(),
            seed,
        );
        section.text = vec![
            "Every batch ran on every runtime by itself, then in every mode that the gateway knows: the modes' times \
             are their own runs and not a replay. selector is the runtime that the gateway said it would choose before \
             the batch first ran, at the time that it took there. Success of a mode: it answered from the fastest \
             runtime, or sooner than that. Cloud seconds in vain are in the answers' own account, and not here."
                .to_owned(),
        ];
        section
            .tables
            .push(log(&runs, &self.starts, &self.emulated));
        report.sections.insert(0, section);
        let replayed = report.summary["policies"].take();
        report.summary["policies"] = with_paper(scores, &replayed);
        report.summary["replayed"] = replayed;
        report.summary["function"] = json!(function);
        report
    }
}

/// Measured policies, and the paper's selector from the replay, which no gateway runs.
fn with_paper(mut scores: Value, replayed: &Value) -> Value {
    scores["paper_selector"] = replayed["paper_selector"].clone();
    scores
}

/// The measurements as a log that `stoic evaluate replay` reads.
fn log(runs: &Runs, starts: &[String], emulated: &[String]) -> Table {
    let mut table = Table::new(
        "runs",
        "Every run, as a log",
        &[
            "epoch",
            "image_num",
            "runtime",
            "pred_total",
            "pred_transfer",
            "pred_deploy",
            "pred_proc",
            "act_total",
            "act_transfer",
            "act_deploy",
            "act_proc",
            "start",
            "emulated",
        ],
    );
    let seconds = |seconds: f64| Cell::Number(seconds, 3);
    for (index, run) in runs.rows.iter().enumerate() {
        let mut cells = vec![
            Cell::Number(run.epoch, 0),
            Cell::Number(run.items, 0),
            Cell::text(runs.runtimes.name(run.runtime)),
        ];
        cells.extend(match run.predicted {
            Some(p) => [p.total(), p.transfer, p.deployment, p.processing].map(seconds),
            None => [Cell::None, Cell::None, Cell::None, Cell::None],
        });
        let a = run.actual;
        cells.extend([a.total(), a.transfer, a.deployment, a.processing].map(seconds));
        cells.push(Cell::text(starts.get(index).map_or("", String::as_str)));
        cells.push(Cell::text(emulated.get(index).map_or("", String::as_str)));
        table.row(cells);
    }
    table
}
