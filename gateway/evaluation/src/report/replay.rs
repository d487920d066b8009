//! The report on replayed logs.

use serde_json::{Value, json};

use super::policies::{POLICIES, policies};
use super::predictions::{Both, figure_3, figure_4, figure_6, table_3, windows};
use super::{Cell, Report, Section, Table};
use crate::log::{Deployments, Runs};
use crate::replay::accuracy::{Accuracy, Stage, judge};
use crate::replay::policies::{Accounts, Contest, play};
use crate::replay::{accuracy, deployments, walk};
use crate::score::Case;
use crate::workload::Sizes;

/// What is replayed.
#[derive(Debug)]
pub struct Replay<'a> {
    /// The log of invocations.
    pub runs: &'a Runs,
    /// A log of deployments, where there is one.
    pub deployments: Option<&'a Deployments>,
    /// Batch sizes for Figure 4.
    pub sizes: &'a Sizes,
    /// Mean images by hour of day for Figure 4.
    pub mean_images: &'a [f64; 24],
    /// Whether those are the log's or the authors' (embedded), in words.
    pub workload: String,
    /// Draws RANSAC's samples and the bootstrap's. Equal seeds give equal reports.
    pub seed: u64,
}

impl Replay<'_> {
    /// Replays the logs.
    #[must_use]
    pub fn report(&self) -> Report {
        let (runs, seed) = (self.runs, self.seed);
        let walk = walk(runs, seed);
        let mut report = Report {
            title: "Replay of logged invocations".to_owned(),
            about: self.about(),
            ..Report::default()
        };
        let mut accounts = Accounts::new();
        let mut cases: Vec<Case> = Vec::new();
        let mut too_soon = 0;
        for batch in &walk.batches {
            if !batch.predicted.iter().all(accuracy::bootstrapped) {
                too_soon += 1;
                continue;
            }
            let contests: Vec<Contest<'_>> = batch
                .rows
                .clone()
                .zip(&batch.predicted)
                .map(|(row, predicted)| Contest {
                    runtime: runs.runtimes.name(runs.rows[row].runtime),
                    actual: runs.rows[row].actual,
                    paper: predicted.paper,
                    ours: predicted.ours,
                })
                .collect();
            cases.push(play(
                runs.rows[batch.rows.start].items,
                &contests,
                &mut accounts,
            ));
        }

        let mut predictions = table_3(runs, &walk, seed);
        predictions.figures.extend(figure_3(runs, &walk));
        report.sections.push(predictions);
        report
            .sections
            .push(windows(&deployments::series(runs, self.deployments)));
        let (mut section, scores) = policies(
            "",
            "Policies: what the choices were worth",
            &cases,
            &accounts,
            seed,
        );
        section.text = vec![
            format!(
                "{} batches ran on more than one runtime; {} of them are judged, the others came before the runtimes \
                 had been seen twice. A policy is told for the batches that ran on the runtimes it needs.",
                walk.batches.len(),
                walk.batches.len() - too_soon
            ),
            "All times are measured. How far the edge had come when a cloud pod was up is not in a log: it is taken to \
             go on evenly. A cloud pod is up after T_t + T_d, as the paper sums them. Cooperative mode cannot be told \
             from a log."
                .to_owned(),
            POLICIES.to_owned(),
        ];
        report.sections.push(section);

        let mut summary = json!({
            "rows": runs.rows.len(),
            "pmae": pmae(|stage| Both::of(judge(runs, &walk, stage, None), seed)),
            "policies": scores,
            "batches": cases.len(),
        });
        let total = Both::of(judge(runs, &walk, Stage::Total, None), seed).ours;
        summary["coverage_90"] = json!(total.coverage_90.map(|rate| rate.value));
        summary["coverage"] = json!(
            Stage::ALL
                .iter()
                .map(|stage| {
                    let ours = Both::of(judge(runs, &walk, *stage, None), seed).ours;
                    let both = json!({"p50": ours.coverage_50, "p90": ours.coverage_90});
                    (stage_name(*stage), both)
                })
                .collect::<serde_json::Map<_, _>>()
        );
        if let Some(log) = self.deployments {
            self.deployed(log, &mut report, &mut summary);
        }
        report.summary = summary;

        let mut measured = Section::new("What was measured");
        measured
            .text
            .push(format!("Figure 4 is of {}.", self.workload));
        measured
            .figures
            .push(figure_4(self.sizes, self.mean_images));
        measured.figures.extend(figure_6(runs));
        report.sections.push(measured);
        report
    }

    fn about(&self) -> Vec<String> {
        let runs = self.runs;
        let totals = runs.totals;
        let mut about = vec![format!(
            "{}: {} rows on {}.",
            runs.path.display(),
            runs.rows.len(),
            runs.runtimes.all().join(", ")
        )];
        about.push(format!(
            "act_total: the sum of all parts in {} rows, without transfer in {} (the authors' logs before March 2020), \
             neither in {}. Nothing here is computed from it.",
            totals.with_transfer, totals.without_transfer, totals.neither
        ));
        if let Some(log) = self.deployments {
            about.push(format!(
                "{}: {} deployments.",
                log.path.display(),
                log.rows.len()
            ));
        }
        let ignored = self.deployments.map_or(&[][..], |log| &log.ignored);
        let ignored: Vec<&str> = (runs.ignored.iter().chain(ignored))
            .map(String::as_str)
            .filter(|column| !column.is_empty())
            .collect();
        if !ignored.is_empty() {
            about.push(format!("Columns not used: {}.", ignored.join(", ")));
        }
        about.push(
            "No look-ahead: a change to any later row changes no earlier prediction. Intervals in brackets are of 95 % \
             confidence, by the bootstrap."
                .to_owned(),
        );
        about
    }

    /// What the log of deployments tells.
    fn deployed(&self, log: &Deployments, report: &mut Report, summary: &mut Value) {
        let seed = self.seed;
        let foretold = deployments::walk(log);
        let of = |runtime| Both::of(deployments::judge(log, &foretold, runtime), seed);
        let mut table = Table::new(
            "deployments_pmae",
            "T_d of the log of deployments, replayed",
            &[
                "runtime",
                "method",
                "rows",
                "MAE, s",
                "PMAE",
                "first half",
                "second half",
                "in 50 % interval",
                "in 90 % interval",
            ],
        );
        let mut show = |name: &str, both: Both| {
            for (method, a) in [("paper", both.paper), ("ours", both.ours)] {
                table.row(vec![
                    Cell::text(name),
                    Cell::text(method),
                    Cell::Count(a.rows),
                    Cell::seconds(a.mae_s),
                    Cell::rate(a.pmae),
                    Cell::share(a.halves[0]),
                    Cell::share(a.halves[1]),
                    Cell::rate(a.coverage_50),
                    Cell::rate(a.coverage_90),
                ]);
            }
        };
        let all = of(None);
        show("all", all);
        for (number, name) in log.runtimes.all().iter().enumerate() {
            let both = of(Some(number));
            if both.ours.rows > 0 {
                show(name, both);
            }
        }
        let mut section = Section::new("Deployments: the second log");
        section.tables.push(table);
        report.sections.push(section);
        summary["deployments"] = json!({
            "rows": log.rows.len(),
            "pmae": {"paper": value(&all.paper), "ours": value(&all.ours)},
            "coverage_90": all.ours.coverage_90.map(|rate| rate.value),
        });

        let mut accounts = Accounts::new();
        let cases = deployments::counterfactual(log, &foretold, self.runs, &mut accounts);
        if cases.is_empty() {
            summary["counterfactual"] = Value::Null;
            return;
        }
        let (mut section, scores) = policies(
            "counterfactual_",
            "Deployments: policies if all but T_d were known (counterfactual)",
            &cases,
            &accounts,
            seed,
        );
        section.text.push(format!(
            "{} batches of the second log, whose T_d is measured on every runtime. T_p and T_t were not logged: they \
             are what robust lines through the first log's runs of the same runtimes say, for every policy alike. This \
             tells what each method's T_d is worth, and is not measured.",
            cases.len()
        ));
        report.sections.push(section);
        summary["counterfactual"] = json!({"batches": cases.len(), "policies": scores});
    }
}

fn stage_name(stage: Stage) -> String {
    json!(stage).as_str().unwrap_or_default().to_owned()
}

fn value(accuracy: &Accuracy) -> Option<f64> {
    accuracy.pmae.map(|rate| rate.value)
}

/// `pmae` of the summary.
fn pmae(of: impl Fn(Stage) -> Both) -> Value {
    let all = Stage::ALL.map(|stage| (stage_name(stage), of(stage)));
    let method = |pick: fn(&Both) -> &Accuracy| -> Value {
        let each = all
            .iter()
            .map(|(name, both)| (name.clone(), json!(value(pick(both)))));
        Value::Object(each.collect())
    };
    json!({"paper": method(|both| &both.paper), "ours": method(|both| &both.ours)})
}
