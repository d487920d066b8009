//! Replay of a log of deployments: T_d of every row from the rows before, the paper's Table 2 and Figure 2, and
//! policies where the rest of the response time is borrowed from another log.

use stoic_placement::deployment::MAX_ORDER;
use stoic_placement::paper::{self, window_mae};
use stoic_placement::{AutoRegression, DeploymentHistory, DeploymentModel, Estimate, Method, Part};

use super::accuracy::Judged;
use super::policies::{Accounts, Contest, play};
use crate::log::{Deployments, Parts, Runs};
use crate::score::Case;

/// Widest window of Figure 2.
pub const WIDEST: usize = 100;
/// Newest deployments of a runtime that Figure 2 is drawn from.
const NEWEST: usize = 5000;

/// Both methods' predictions of one deployment, made before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Foretold {
    /// The paper's.
    pub paper: Part,
    /// Ours.
    pub ours: Part,
}

/// Walks a log of deployments. One entry for each row; `None` for the rows of a runtime that until then deployed
/// nothing (the edge), or for which nothing was known yet. All rows of a batch are predicted before any of them is
/// learnt.
#[must_use]
pub fn walk(log: &Deployments) -> Vec<Option<Foretold>> {
    struct Runtime {
        paper: paper::Deployment,
        ours: DeploymentHistory,
        model: DeploymentModel,
        remote: bool,
    }
    let mut runtimes: Vec<Runtime> = (0..log.runtimes.len())
        .map(|_| Runtime {
            paper: paper::Deployment::new(),
            ours: DeploymentHistory::default(),
            model: DeploymentModel::unknown(),
            remote: false,
        })
        .collect();
    let mut foretold = Vec::with_capacity(log.rows.len());
    for batch in log.batches() {
        for row in &log.rows[batch.clone()] {
            let runtime = &runtimes[row.runtime];
            let said = Foretold {
                paper: runtime.paper.predict(),
                ours: runtime.model.predict(),
            };
            foretold.push((runtime.remote && said.paper.known && said.ours.known).then_some(said));
        }
        for row in &log.rows[batch] {
            let runtime = &mut runtimes[row.runtime];
            runtime.remote |= row.seconds > 0.0;
            if runtime.remote {
                runtime.paper.push(row.seconds);
                runtime.ours.push(row.seconds);
                runtime.model = runtime.ours.fit();
            }
        }
    }
    foretold
}

/// Judges the predictions of a log, of one runtime or of all: the paper's, then ours.
#[must_use]
pub fn judge(
    log: &Deployments,
    foretold: &[Option<Foretold>],
    runtime: Option<usize>,
) -> (Vec<Judged>, Vec<Judged>) {
    log.rows
        .iter()
        .zip(foretold)
        .filter(|(row, _)| runtime.is_none_or(|runtime| runtime == row.runtime))
        .filter_map(|(row, said)| {
            let said = said.as_ref()?;
            Some((
                Judged::point(said.paper.mean, row.seconds),
                Judged::of(&said.ours, row.seconds),
            ))
        })
        .unzip()
}

/// The deployments of one runtime in the order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The runtime's name.
    pub runtime: String,
    /// T_d, seconds.
    pub seconds: Vec<f64>,
}

/// The deployments in both logs' words, of runtimes that deploy at all, in the order of their names.
#[must_use]
pub fn series(runs: &Runs, deployments: Option<&Deployments>) -> Vec<Series> {
    let (names, rows): (_, Vec<(usize, f64)>) = match deployments {
        Some(log) => (
            &log.runtimes,
            log.rows
                .iter()
                .map(|row| (row.runtime, row.seconds))
                .collect(),
        ),
        None => (
            &runs.runtimes,
            runs.rows
                .iter()
                .map(|run| (run.runtime, run.actual.deployment))
                .collect(),
        ),
    };
    let mut all: Vec<Series> = names
        .all()
        .iter()
        .enumerate()
        .map(|(number, name)| Series {
            runtime: name.clone(),
            seconds: rows
                .iter()
                .filter(|(runtime, _)| *runtime == number)
                .map(|(_, seconds)| *seconds)
                .collect(),
        })
        .filter(|series| series.seconds.iter().any(|seconds| *seconds > 0.0))
        .collect();
    all.sort_by(|a, b| a.runtime.cmp(&b.runtime));
    all
}

/// Mean absolute error of one method by the width of its window: a curve of Figure 2, widths from one.
#[must_use]
pub fn mae_by_width(series: &Series, method: Method) -> Vec<(usize, f64)> {
    let newest = &series.seconds[series.seconds.len().saturating_sub(NEWEST)..];
    let widest = WIDEST.min(newest.len().saturating_sub(1));
    (1..=widest)
        .filter_map(|width| Some((width, window_mae(newest, method, width)?)))
        .collect()
}

/// Order, by AIC, and mean absolute one-step-ahead error in seconds of an autoregression fitted to the whole series, as
/// the paper's Table 2 has it: after the fact.
#[must_use]
pub fn autoregression(series: &Series) -> Option<(usize, f64)> {
    let newest = &series.seconds[series.seconds.len().saturating_sub(NEWEST)..];
    let fitted = AutoRegression::fit(newest, MAX_ORDER)?;
    let errors: Vec<f64> = (1..newest.len())
        .filter_map(|step| Some((fitted.predict(&newest[..step])? - newest[step]).abs()))
        .collect();
    (!errors.is_empty()).then(|| {
        (
            fitted.order,
            errors.iter().sum::<f64>() / errors.len() as f64,
        )
    })
}

/// A straight line through logged runs of one runtime: what a batch would have taken there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Seconds per image.
    pub slope: f64,
    /// Seconds at none.
    pub intercept: f64,
}

impl Line {
    /// Theil and Sen's line: the median slope between pairs of points, which outliers do not move.
    fn through(points: &[(f64, f64)]) -> Option<Self> {
        // Enough points for a line, few enough for their pairs.
        let every = points.len().div_ceil(300).max(1);
        let some: Vec<(f64, f64)> = points.iter().copied().step_by(every).collect();
        let mut slopes: Vec<f64> = some
            .iter()
            .enumerate()
            .flat_map(|(index, a)| some[index + 1..].iter().map(move |b| (a, b)))
            .filter(|(a, b)| a.0 != b.0)
            .map(|(a, b)| (b.1 - a.1) / (b.0 - a.0))
            .collect();
        let slope = median(&mut slopes)?.max(0.0);
        let mut rests: Vec<f64> = some.iter().map(|p| p.1 - slope * p.0).collect();
        Some(Self {
            slope,
            intercept: median(&mut rests)?,
        })
    }

    fn at(&self, items: f64) -> f64 {
        (self.intercept + self.slope * items).max(0.0)
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Policies on the batches of a log of deployments whose size is known. T_d is measured; T_p and T_t are not: they are
/// what lines through the other log's runs of the same runtimes say, for every policy alike. So this tells what a
/// method's T_d is worth where all else were known, and is never to be mixed with what was measured.
#[must_use]
pub fn counterfactual(
    log: &Deployments,
    foretold: &[Option<Foretold>],
    runs: &Runs,
    accounts: &mut Accounts,
) -> Vec<Case> {
    let lines: Vec<Option<(Line, f64)>> = log
        .runtimes
        .all()
        .iter()
        .map(|name| {
            let number = runs.runtimes.all().iter().position(|other| other == name)?;
            let rows = || runs.rows.iter().filter(|run| run.runtime == number);
            let points: Vec<(f64, f64)> = rows()
                .map(|run| (run.items, run.actual.processing))
                .collect();
            let mut paces: Vec<f64> = rows()
                .filter(|run| run.items > 0.0)
                .map(|run| run.actual.transfer / run.items)
                .collect();
            Some((Line::through(&points)?, median(&mut paces)?))
        })
        .collect();
    let mut cases = Vec::new();
    for batch in log.batches() {
        let rows = &log.rows[batch.clone()];
        let contests: Option<Vec<Contest<'_>>> = rows
            .iter()
            .zip(&foretold[batch.clone()])
            .map(|(row, said)| {
                let (items, (line, pace)) = (row.items?, lines[row.runtime]?);
                let local = rows.len() > 1 && row.seconds == 0.0 && said.is_none();
                let said = match said {
                    Some(said) => *said,
                    None if local => Foretold {
                        paper: Part::ZERO,
                        ours: Part::ZERO,
                    },
                    None => return None,
                };
                let actual = Parts {
                    transfer: if local { 0.0 } else { pace * items },
                    deployment: row.seconds,
                    processing: line.at(items),
                };
                let estimate = |deployment| {
                    let (transfer, processing) =
                        (Part::exact(actual.transfer), Part::exact(actual.processing));
                    Estimate::of(Part::ZERO, transfer, deployment, processing)
                };
                Some(Contest {
                    runtime: log.runtimes.name(row.runtime),
                    actual,
                    paper: estimate(said.paper),
                    ours: estimate(said.ours),
                })
            })
            .collect();
        let items = rows.first().and_then(|row| row.items);
        if let (Some(contests), Some(items)) = (contests, items)
            && contests.len() > 1
        {
            cases.push(play(items, &contests, accounts));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_not_moved_by_outliers() {
        let mut points: Vec<(f64, f64)> = (1..40)
            .map(|i| (f64::from(i), 2.0 * f64::from(i) + 5.0))
            .collect();
        points[7].1 = 900.0;
        points[20].1 = 0.0;
        let line = Line::through(&points).expect("a line");
        assert!((line.slope - 2.0).abs() < 0.01 && (line.intercept - 5.0).abs() < 0.2);
        assert_eq!(Line::through(&[(1.0, 1.0), (1.0, 2.0)]), None);
    }
}
