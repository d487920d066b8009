//! Sections on policies: Table 4, Table 5, and the regret.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::published::{TABLE_4, TABLE_5, TOTALS};
use super::{Cell, Section, Table};
use crate::figure;
use crate::replay::policies::Accounts;
use crate::score::{Case, Score, score};

/// Policies in the order in which tables show them; others follow by name.
const ORDER: [&str; 12] = [
    "min_lat",
    "paper_selector",
    "selector",
    "hedged",
    "duplicator",
    "duplicator_hedged",
    "cooperative",
    "cooperative_hedged",
    "auto",
    "fluid_bound",
    "always_edge",
    "worst",
];

/// What each policy is, for the caption's reader.
pub const POLICIES: &str = "Policies: paper_selector takes the runtime of least T_s as the paper's method predicts it; \
    selector the same by ours; hedged deploys several clouds together where their predictions overlap and keeps the first \
    that is up; duplicator starts at the edge and deploys the most promising cloud, then decides when that is up \
    (duplicator_NAME: always that cloud; duplicator_hedged: as many as hedging would deploy); always_NAME knows no \
    choice; min_lat is the oracle and worst its opposite. Extra cloud seconds, times GPUs, were held or used and gave \
    nothing.";

/// Scores cases and shows them: a section, and `policies` for the summary.
#[must_use]
pub fn policies(
    prefix: &str,
    title: &str,
    cases: &[Case],
    accounts: &Accounts,
    seed: u64,
) -> (Section, Value) {
    let scores = score(cases, seed);
    let mut section = Section::new(title);
    section.tables.push(table_4(prefix, &scores));
    if !accounts.is_empty() {
        section.tables.push(table_5(prefix, accounts));
    }
    let shown: Vec<&str> = ORDER[1..10].to_vec();
    if cases.len() > 1 {
        section
            .figures
            .push((format!("{prefix}regret"), figure::regret(cases, &shown)));
    }
    (section, summary(&scores))
}

/// The scores for programs. Policies that the rows cannot tell are `null`.
#[must_use]
fn summary(scores: &BTreeMap<String, Score>) -> Value {
    let mut all = Map::new();
    for policy in [
        "paper_selector",
        "selector",
        "hedged",
        "duplicator",
        "cooperative",
        "min_lat",
        "worst",
    ] {
        all.insert(policy.to_owned(), Value::Null);
    }
    for (policy, score) in scores {
        all.insert(policy.clone(), json!(score));
    }
    Value::Object(all)
}

fn table_4(prefix: &str, scores: &BTreeMap<String, Score>) -> Table {
    let mut table = Table::new(
        &format!("{prefix}table_4_policies"),
        "Table 4: policies against MIN-LAT and the worst choice",
        &[
            "policy",
            "batches",
            "success",
            "right or within 5 %",
            "total, s",
            "MIN-LAT, s",
            "regret, s",
            "of MIN-LAT",
            "of worst case",
            "extra cloud seconds",
        ],
    );
    let place = |policy: &str| {
        let at = ORDER.iter().position(|known| *known == policy);
        (at.unwrap_or(ORDER.len() - 2), policy.to_owned())
    };
    let mut rows: Vec<(&String, &Score)> = scores.iter().collect();
    rows.sort_by_key(|(policy, _)| place(policy));
    for (policy, score) in rows {
        let interval = |value: f64, (low, high): (f64, f64)| Cell::Rate(value, low, high);
        table.row(vec![
            Cell::text(policy),
            Cell::Count(score.batches),
            interval(score.success, score.success_95),
            interval(score.within_5_percent, score.within_5_percent_95),
            Cell::Number(score.total_s, 0),
            Cell::Number(score.min_lat_s, 0),
            Cell::Number(score.regret_s, 1),
            interval(score.versus_min_lat, score.versus_min_lat_95),
            Cell::Share(score.versus_worst),
            Cell::Number(score.extra_cloud_s, 0),
        ]);
    }
    for (name, success, min_lat, worst) in TABLE_4 {
        let (total, min_lat_s) = if name == "Selector" {
            (Cell::Number(TOTALS[0].1, 0), Cell::Number(TOTALS[1].1, 0))
        } else {
            (Cell::None, Cell::None)
        };
        let regret = if name == "Selector" {
            Cell::Number(TOTALS[0].1 - TOTALS[1].1, 1)
        } else {
            Cell::None
        };
        table.row(vec![
            Cell::text(format!("paper, as printed: {name}")),
            Cell::Count(162),
            Cell::Share(success),
            Cell::None,
            total,
            min_lat_s,
            regret,
            Cell::Share(min_lat),
            Cell::Share(worst),
            Cell::None,
        ]);
    }
    table
}

fn table_5(prefix: &str, accounts: &Accounts) -> Table {
    let mut table = Table::new(
        &format!("{prefix}table_5_cloud_time"),
        "Table 5: cloud seconds (times GPUs) that duplicating saved and lost, by cloud runtime",
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
    for (policy, account) in accounts {
        for (cloud, entry) in account.runtimes() {
            table.row(vec![
                Cell::text(policy),
                Cell::text(cloud),
                Cell::Count(usize::try_from(entry.races).unwrap_or(usize::MAX)),
                Cell::Count(usize::try_from(entry.edge_wins).unwrap_or(usize::MAX)),
                Cell::Number(entry.saved_s, 0),
                Cell::Number(0.0 - entry.lost_s, 0),
                Cell::Number(entry.used_s, 0),
                Cell::Number(entry.delayed_s, 0),
            ]);
        }
    }
    for (choice, seconds) in TABLE_5 {
        let (saved, lost) = if seconds > 0.0 {
            (Cell::Number(seconds, 0), Cell::None)
        } else {
            (Cell::None, Cell::Number(seconds, 0))
        };
        table.row(vec![
            Cell::text("paper, as printed"),
            Cell::text(choice),
            Cell::None,
            Cell::None,
            saved,
            lost,
        ]);
    }
    table
}
