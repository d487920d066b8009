//! Sections on predictions: Tables 2 and 3, Figures 2, 3, 4 and 6, and the intervals.

use stoic_placement::Method;

use super::published::{TABLE_2, TABLE_3};
use super::{Cell, Section, Table};
use crate::figure::{self, Curve, Moment};
use crate::log::Runs;
use crate::replay::accuracy::{Accuracy, Judged, Stage, accuracy, bootstrapped, judge, logged};
use crate::replay::deployments::{Series, autoregression, mae_by_width};
use crate::replay::walk::Walk;
use crate::workload::Sizes;

/// Table 2 and Figure 2: the error of deployment predictions by method and window.
#[must_use]
pub fn windows(series: &[Series]) -> Section {
    let mut table = Table::new(
        "table_2_mae_by_method",
        "Table 2: least error of deployment predictions by method, over all widths of the window",
        &[
            "method",
            "runtime",
            "deployments",
            "best window (order)",
            "MAE, s",
            "paper: window",
            "paper: MAE, s",
        ],
    );
    let printed = |method: &str, runtime: &str| {
        let row = TABLE_2
            .iter()
            .find(|row| row.0 == method && row.1 == runtime);
        match row {
            Some((_, _, window, mae)) => [Cell::Count(*window as usize), Cell::Number(*mae, 2)],
            None => [Cell::None, Cell::None],
        }
    };
    let curves: Vec<Curve> = series
        .iter()
        .map(|series| Curve {
            runtime: series.runtime.clone(),
            mean: mae_by_width(series, Method::Mean),
            median: mae_by_width(series, Method::Median),
        })
        .collect();
    for series in series {
        let fitted = autoregression(series);
        let mut cells = vec![
            Cell::text("AutoReg"),
            Cell::text(&series.runtime),
            Cell::Count(series.seconds.len()),
            fitted.map_or(Cell::None, |(order, _)| Cell::Count(order)),
            Cell::seconds(fitted.map(|(_, mae)| mae)),
        ];
        cells.extend(printed("AutoReg", &series.runtime));
        table.row(cells);
    }
    for (method, of) in [
        (
            "Avg. SW",
            (|c: &Curve| c.mean.clone()) as fn(&Curve) -> Vec<_>,
        ),
        ("Med. SW", |c: &Curve| c.median.clone()),
    ] {
        for (series, curve) in series.iter().zip(&curves) {
            let least = of(curve).into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
            let mut cells = vec![
                Cell::text(method),
                Cell::text(&series.runtime),
                Cell::Count(series.seconds.len()),
                least.map_or(Cell::None, |(width, _)| Cell::Count(width)),
                Cell::seconds(least.map(|(_, mae)| mae)),
            ];
            cells.extend(printed(method, &series.runtime));
            table.row(cells);
        }
    }
    Section {
        title: "Deployment: the window and its error".to_owned(),
        text: vec![
            "The width of least error over the whole log, found after the fact as the paper's Table 2 has it. What is \
             replayed below re-chooses it after every 10 deployments, from those before alone."
                .to_owned(),
        ],
        figures: vec![("figure_2_mae_by_window".to_owned(), figure::mae_by_window(&curves))],
        tables: vec![table],
    }
}

/// The accuracy of both methods in one stage.
#[derive(Debug, Clone, Copy)]
pub struct Both {
    /// The paper's.
    pub paper: Accuracy,
    /// Ours.
    pub ours: Accuracy,
}

impl Both {
    /// Sums up predictions of both.
    #[must_use]
    pub fn of((paper, ours): (Vec<Judged>, Vec<Judged>), seed: u64) -> Self {
        Self {
            paper: accuracy(&paper, seed),
            ours: accuracy(&ours, seed),
        }
    }
}

/// One line of an accuracy table.
fn line(first: Vec<Cell>, accuracy: &Accuracy, table: &mut Table) {
    let mut cells = first;
    cells.extend([
        Cell::Count(accuracy.rows),
        Cell::seconds(accuracy.mae_s),
        Cell::rate(accuracy.pmae),
        Cell::share(accuracy.halves[0]),
        Cell::share(accuracy.halves[1]),
        Cell::rate(accuracy.coverage_50),
        Cell::rate(accuracy.coverage_90),
    ]);
    table.row(cells);
}

/// Table 3 and the intervals: the error of predictions by part, method and half.
#[must_use]
pub fn table_3(runs: &Runs, walk: &Walk, seed: u64) -> Section {
    let columns = [
        "part",
        "method",
        "rows",
        "MAE, s",
        "PMAE",
        "first half",
        "second half",
        "in 50 % interval",
        "in 90 % interval",
    ];
    let mut table = Table::new(
        "table_3_pmae",
        "Table 3: error of predictions by mean latency (PMAE), by halves of the log; printed: gpu1, 150 images",
        &columns,
    );
    let mut parts = Vec::new();
    for stage in Stage::ALL {
        let both = Both::of(judge(runs, walk, stage, None), seed);
        for (method, accuracy) in [("paper", both.paper), ("ours", both.ours)] {
            line(
                vec![Cell::text(stage.title()), Cell::text(method)],
                &accuracy,
                &mut table,
            );
        }
        parts.push((
            stage.title().to_owned(),
            both.ours.coverage_50,
            both.ours.coverage_90,
        ));
    }
    for (index, stage) in ["T_d deployment", "T_p processing", "T_s total"]
        .iter()
        .enumerate()
    {
        table.row(vec![
            Cell::text(*stage),
            Cell::text("paper, as printed"),
            Cell::Count(50),
            Cell::None,
            Cell::None,
            Cell::Share(TABLE_3[0][index]),
            Cell::Share(TABLE_3[1][index]),
        ]);
    }
    let mut by_runtime = Table::new(
        "pmae_by_runtime",
        "The same by runtime",
        &[&["runtime"][..], &columns].concat(),
    );
    for (number, name) in runs.runtimes.all().iter().enumerate() {
        for stage in Stage::ALL {
            let both = Both::of(judge(runs, walk, stage, Some(number)), seed);
            for (method, accuracy) in [("paper", both.paper), ("ours", both.ours)] {
                if accuracy.rows > 0 {
                    let first = vec![
                        Cell::text(name),
                        Cell::text(stage.title()),
                        Cell::text(method),
                    ];
                    line(first, &accuracy, &mut by_runtime);
                }
            }
        }
    }
    let mut section = Section {
        title: "Predictions: how far off, and how often the intervals held".to_owned(),
        text: vec![format!(
            "Every row is predicted from the rows before it. {} of {} rows are judged: those of runtimes that had \
             been seen twice, as the paper's bootstrap demands. T_s is T_t + T_d + T_p, predicted and actual alike.",
            walk.rows.iter().filter(|row| bootstrapped(row)).count(),
            runs.rows.len()
        )],
        tables: vec![table, by_runtime],
        figures: vec![("calibration".to_owned(), figure::calibration(&parts))],
    };
    if let Some(table) = logged_predictions(runs, walk, seed) {
        section.tables.push(table);
        section.text.push(
            "The log holds predictions of the system that wrote it. They belong to the runtime which that system had \
             chosen; they are shown over the rows where that must be the row's own: batches that ran nowhere else, and \
             whose prediction has a deployment in it if and only if there was one."
                .to_owned(),
        );
    }
    section
}

fn logged_predictions(runs: &Runs, walk: &Walk, seed: u64) -> Option<Table> {
    let mut table = Table::new(
        "pmae_of_logged_predictions",
        "Predictions in the log, with both methods on the same rows",
        &["part", "rows", "logged: PMAE", "paper: PMAE", "ours: PMAE"],
    );
    for stage in Stage::ALL {
        let judged = logged(runs, walk, stage);
        let rate = |judged: &[Judged]| Cell::rate(accuracy(judged, seed).pmae);
        if !judged.logged.is_empty() {
            table.row(vec![
                Cell::text(stage.title()),
                Cell::Count(judged.logged.len()),
                rate(&judged.logged),
                rate(&judged.paper),
                rate(&judged.ours),
            ]);
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

/// The runtime that the paper draws: `gpu1` where there is one, else the one with most deployments.
fn drawn(runs: &Runs) -> Option<usize> {
    let count = |number: usize| {
        let rows = runs.rows.iter();
        rows.filter(|run| run.runtime == number && run.actual.deployment > 0.0)
            .count()
    };
    let gpu1 = runs.runtimes.all().iter().position(|name| name == "gpu1");
    gpu1.filter(|number| count(*number) > 0)
        .or_else(|| (0..runs.runtimes.len()).max_by_key(|number| count(*number)))
}

/// Figure 3: predicted and actual T_s over time, on the batch size that one cloud runtime ran most often.
#[must_use]
pub fn figure_3(runs: &Runs, walk: &Walk) -> Option<(String, figure::Figure)> {
    let number = drawn(runs)?;
    let rows: Vec<usize> = (0..runs.rows.len())
        .filter(|row| runs.rows[*row].runtime == number && bootstrapped(&walk.rows[*row]))
        .collect();
    let mut sizes: Vec<f64> = rows.iter().map(|row| runs.rows[*row].items).collect();
    sizes.sort_unstable_by(f64::total_cmp);
    let often = sizes
        .chunk_by(|a, b| a == b)
        .max_by_key(|same| same.len())?;
    let (items, times) = (often[0], often.len());
    // The paper's benchmark repeats one size; a log that does not is shown whole.
    let one_size = times >= 12 && times * 8 >= rows.len();
    let rows: Vec<usize> = rows
        .into_iter()
        .filter(|row| !one_size || runs.rows[*row].items == items)
        .collect();
    let rows = &rows[rows.len().saturating_sub(200)..];
    let begins = runs.rows[*rows.first()?].epoch;
    let hours = |row: usize| (runs.rows[row].epoch - begins) / 3600.0;
    // A long pause would press all runs into the corners: then they are numbered.
    let span = hours(*rows.last()?);
    let pause = (rows.windows(2))
        .map(|pair| hours(pair[1]) - hours(pair[0]))
        .fold(0.0, f64::max);
    let numbered = pause > 0.2 * span;
    let moments: Vec<Moment> = rows
        .iter()
        .enumerate()
        .map(|(number, row)| {
            let (run, said) = (&runs.rows[*row], &walk.rows[*row]);
            let interval = said.ours.response.p90;
            Moment {
                at: if numbered {
                    number as f64 + 1.0
                } else {
                    hours(*row)
                },
                actual: run.actual.total(),
                paper: said.paper.response.mean,
                ours: said.ours.response.mean,
                interval_90: (interval.low, interval.high),
            }
        })
        .collect();
    let label = if numbered {
        format!("run, in the order of time ({span:.1} hours in all)")
    } else {
        "time, hours from the first run shown".to_owned()
    };
    let label = label.as_str();
    let of = if one_size {
        format!("of {items} images")
    } else {
        "of all sizes".to_owned()
    };
    let title = format!(
        "Figure 3: predicted and actual total latency, {} runs {of} on {}",
        moments.len(),
        runs.runtimes.name(number)
    );
    Some((
        "figure_3_over_time".to_owned(),
        figure::over_time(&title, label, &moments),
    ))
}

/// Figure 6: histograms of the parts on one cloud runtime.
#[must_use]
pub fn figure_6(runs: &Runs) -> Option<(String, figure::Figure)> {
    let number = drawn(runs)?;
    let part = |stage: Stage| -> Vec<f64> {
        let rows = runs.rows.iter().filter(|run| run.runtime == number);
        rows.map(|run| stage.actual(&run.actual)).collect()
    };
    let figure = figure::histograms(
        runs.runtimes.name(number),
        [
            ("T_p processing", part(Stage::Processing)),
            ("T_d deployment", part(Stage::Deployment)),
            ("T_t transfer", part(Stage::Transfer)),
        ],
    );
    Some(("figure_6_histograms".to_owned(), figure))
}

/// Figure 4.
#[must_use]
pub fn figure_4(sizes: &Sizes, mean_images: &[f64; 24]) -> (String, figure::Figure) {
    (
        "figure_4_workload".to_owned(),
        figure::workload(mean_images, &sizes.steps()),
    )
}
