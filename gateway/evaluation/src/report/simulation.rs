//! The report on a simulation.

use serde_json::{Map, Value, json};

use super::predictions::{Both, figure_3, figure_4, figure_6, table_3, windows};
use super::published::{TABLE_4, TABLE_5};
use super::{Cell, Report, Section, Table};
use crate::figure;
use crate::replay::accuracy::{Stage, judge};
use crate::replay::{deployments, walk};
use crate::score::Rate;
use crate::simulate::{Outcome, Row, Scenario, log};
use crate::workload::{Activity, Sizes};

/// Batches of a simulation that its log shows, each on every runtime.
const LOGGED: usize = 1500;

/// Reports a simulation of this scenario.
#[must_use]
pub fn simulation(scenario: &Scenario, outcome: &Outcome) -> Report {
    let seed = outcome.seed;
    let runs = log(scenario, outcome.batches.min(LOGGED), seed);
    let walk = walk(&runs, seed);
    let mut report = Report {
        title: format!("Simulation of {}", outcome.scenario),
        about: vec![
            format!(
                "{} batches, {} images, seed {seed}. Nothing here is measured: links, deployments and processing are \
                 drawn from what the scenario says; predictions and decisions are those of the gateway's own code, \
                 which learned from {} of the simulated batches.",
                outcome.batches, outcome.items, outcome.learned
            ),
            "All policies meet the very same draws. Intervals in brackets are of 95 % confidence, by the bootstrap."
                .to_owned(),
        ],
        ..Report::default()
    };
    report.sections.push(policies(outcome));
    let mut predictions = table_3(&runs, &walk, seed);
    predictions.text.insert(
        0,
        format!(
            "The first {} of the simulated batches as a log, each on every runtime by itself, replayed.",
            outcome.batches.min(LOGGED)
        ),
    );
    predictions.figures.extend(figure_3(&runs, &walk));
    report.sections.push(predictions);
    report
        .sections
        .push(windows(&deployments::series(&runs, None)));
    let mut drawn = Section::new("What was drawn");
    drawn.text.push(
        "Figure 4 is of the authors' camera, from the embedded table of its quantiles and hourly means.".to_owned(),
    );
    drawn
        .figures
        .push(figure_4(&Sizes::embedded(), &Activity::published()));
    drawn.figures.extend(figure_6(&runs));
    report.sections.push(drawn);
    report.summary = summary(
        outcome,
        |stage| Both::of(judge(&runs, &walk, stage, None), seed),
        runs.rows.len(),
    );
    report
}

fn policies(outcome: &Outcome) -> Section {
    let mut table = Table::new(
        "table_4_policies",
        "Table 4: policies against MIN-LAT and the worst choice",
        &[
            "policy",
            "success",
            "right or within 5 %",
            "total, s",
            "of MIN-LAT",
            "of MIN-LAT among its own places",
            "of worst case",
            "median, s",
            "99 %, s",
            "failed",
            "cloud worked, s",
            "cloud in vain, s",
            "cloud deploying, s",
        ],
    );
    let worst_s = outcome
        .policies
        .iter()
        .find(|row| row.policy == "worst")
        .map_or(f64::INFINITY, |row| row.total_s);
    let rate = |rate: &Rate| Cell::rate(Some(*rate));
    for row in &outcome.policies {
        table.row(vec![
            Cell::text(&row.policy),
            rate(&row.success),
            rate(&row.within_5_percent),
            Cell::Number(row.total_s, 0),
            rate(&row.versus_min_lat),
            rate(&row.versus_own_min_lat),
            Cell::Share(row.total_s / worst_s),
            Cell::Number(row.median_s, 1),
            Cell::Number(row.p99_s, 1),
            Cell::Count(row.failed),
            Cell::Number(row.cloud_used_s, 0),
            Cell::Number(row.cloud_lost_s, 0),
            Cell::Number(row.cloud_deploying_s, 0),
        ]);
    }
    for (name, success, min_lat, worst) in TABLE_4 {
        table.row(vec![
            Cell::text(format!("paper, as printed: {name}")),
            Cell::Share(success),
            Cell::None,
            Cell::None,
            Cell::Share(min_lat),
            Cell::None,
            Cell::Share(worst),
        ]);
    }
    let mut cloud = Table::new(
        "table_5_cloud_time",
        "Table 5: cloud seconds (times GPUs) that duplicating saved and lost",
        &[
            "policy",
            "cloud",
            "races",
            "won by the edge",
            "saved, s",
            "lost, s",
            "used for answers, s",
            "answers late by, s",
        ],
    );
    let count = |count: u64| Cell::Count(usize::try_from(count).unwrap_or(usize::MAX));
    for row in &outcome.policies {
        for (name, entry) in row.account.runtimes() {
            cloud.row(vec![
                Cell::text(&row.policy),
                Cell::text(name),
                count(entry.races),
                count(entry.edge_wins),
                Cell::Number(entry.saved_s, 0),
                Cell::Number(0.0 - entry.lost_s, 0),
                Cell::Number(entry.used_s, 0),
                Cell::Number(entry.delayed_s, 0),
            ]);
        }
    }
    for (choice, seconds) in TABLE_5 {
        let cells = if seconds > 0.0 {
            [Cell::Number(seconds, 0), Cell::None]
        } else {
            [Cell::None, Cell::Number(seconds, 0)]
        };
        let mut row = vec![
            Cell::text("paper, as printed"),
            Cell::text(choice),
            Cell::None,
            Cell::None,
        ];
        row.extend(cells);
        cloud.row(row);
    }
    let mut bounds = Table::new(
        "fluid_bounds",
        "What no division of the items could beat (fluid, with hindsight)",
        &["places", "total, s", "of MIN-LAT"],
    );
    for bound in &outcome.fluid {
        bounds.row(vec![
            Cell::text(&bound.places),
            Cell::Number(bound.total_s, 0),
            Cell::Share(bound.versus_min_lat),
        ]);
    }
    let rates: Vec<(String, Rate)> = outcome
        .policies
        .iter()
        .map(|row| (row.policy.clone(), row.versus_min_lat))
        .collect();
    Section {
        title: "Policies".to_owned(),
        text: vec![
            "ideal_selector knows every distribution of the scenario and no draw: what a selector can reach at best. \
             paper_selector predicts as the paper does, selector as the gateway does. cooperative works a batch from \
             both ends at once, which MIN-LAT may not."
                .to_owned(),
        ],
        tables: vec![table, cloud, bounds],
        figures: vec![("policies".to_owned(), figure::of_min_lat(&rates))],
    }
}

fn summary(outcome: &Outcome, of: impl Fn(Stage) -> Both, rows: usize) -> Value {
    let mut policies = Map::new();
    for row in &outcome.policies {
        policies.insert(row.policy.clone(), score(row));
    }
    // The duplicator of the paper's table has a cloud runtime of its own: here the best of them stands for all.
    let best = outcome
        .policies
        .iter()
        .filter(|row| row.policy.starts_with("duplicator_"))
        .min_by(|a, b| a.total_s.total_cmp(&b.total_s));
    if !policies.contains_key("duplicator") {
        policies.insert("duplicator".to_owned(), best.map_or(Value::Null, score));
    }
    let all = Stage::ALL.map(|stage| {
        (
            json!(stage).as_str().unwrap_or_default().to_owned(),
            of(stage),
        )
    });
    let value = |a: &crate::replay::accuracy::Accuracy| json!(a.pmae.map(|rate| rate.value));
    let paper: Map<String, Value> = all
        .iter()
        .map(|(n, both)| (n.clone(), value(&both.paper)))
        .collect();
    let ours: Map<String, Value> = all
        .iter()
        .map(|(n, both)| (n.clone(), value(&both.ours)))
        .collect();
    json!({
        "rows": rows,
        "pmae": {"paper": paper, "ours": ours},
        "coverage_90": all[3].1.ours.coverage_90.map(|rate| rate.value),
        "policies": policies,
        "duplicator_is": best.map(|row| row.policy.clone()),
        "scenario": outcome.scenario,
        "seed": outcome.seed,
        "batches": outcome.batches,
        "items": outcome.items,
        "fluid": outcome.fluid,
    })
}

/// A policy for programs: the same keys as of a replay, and those that only a simulation has.
fn score(row: &Row) -> Value {
    let ends = |rate: &Rate| json!([rate.low, rate.high]);
    json!({
        "success": row.success.value,
        "success_95": ends(&row.success),
        "within_5_percent": row.within_5_percent.value,
        "within_5_percent_95": ends(&row.within_5_percent),
        "total_s": row.total_s,
        "min_lat_s": row.min_lat_s,
        "regret_s": row.regret_s,
        "versus_min_lat": row.versus_min_lat.value,
        "versus_min_lat_95": ends(&row.versus_min_lat),
        "versus_own_min_lat": row.versus_own_min_lat.value,
        "versus_own_min_lat_95": ends(&row.versus_own_min_lat),
        "extra_cloud_s": row.cloud_lost_s,
        "cloud_deploying_s": row.cloud_deploying_s,
        "failed": row.failed,
    })
}
