//! How far predictions were off, by part, method and half of the log, and how often the intervals held.

use serde::Serialize;
use stoic_placement::{Estimate, Part};

use super::walk::{Predicted, Walk};
use crate::log::{Parts, Runs};
use crate::score::{Rate, rate};

/// Runs that a runtime needs before it is judged: the paper bootstraps each with two representative tasks (section
/// 3.7).
pub const BOOTSTRAP: usize = 2;

/// A part of the response time, or the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// T_t.
    Transfer,
    /// T_d.
    Deployment,
    /// T_p.
    Processing,
    /// T_s, the sum.
    Total,
}

impl Stage {
    /// All of them, in the order of time.
    pub const ALL: [Self; 4] = [
        Self::Transfer,
        Self::Deployment,
        Self::Processing,
        Self::Total,
    ];

    /// The paper's sign and a word.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Transfer => "T_t transfer",
            Self::Deployment => "T_d deployment",
            Self::Processing => "T_p processing",
            Self::Total => "T_s total",
        }
    }

    /// What was predicted for it.
    #[must_use]
    pub fn predicted(self, estimate: &Estimate) -> &Part {
        match self {
            Self::Transfer => &estimate.transfer,
            Self::Deployment => &estimate.deployment,
            Self::Processing => &estimate.processing,
            Self::Total => &estimate.response,
        }
    }

    /// What it took.
    #[must_use]
    pub fn actual(self, parts: &Parts) -> f64 {
        match self {
            Self::Transfer => parts.transfer,
            Self::Deployment => parts.deployment,
            Self::Processing => parts.processing,
            Self::Total => parts.total(),
        }
    }
}

/// One prediction of one part against what happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// What it took, seconds.
    pub actual: f64,
    /// Absolute error, seconds.
    pub error: f64,
    /// Whether the 50 % and the 90 % interval held; `None` for a prediction without intervals.
    pub held: Option<(bool, bool)>,
}

impl Judged {
    /// A prediction with intervals.
    #[must_use]
    pub fn of(part: &Part, actual: f64) -> Self {
        Self {
            actual,
            error: (part.mean - actual).abs(),
            held: Some((part.p50.contains(actual), part.p90.contains(actual))),
        }
    }

    /// A prediction that is one number.
    #[must_use]
    pub fn point(predicted: f64, actual: f64) -> Self {
        Self {
            actual,
            error: (predicted - actual).abs(),
            held: None,
        }
    }
}

/// Accuracy over many predictions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Accuracy {
    /// Predictions judged.
    pub rows: usize,
    /// Mean absolute error, seconds.
    pub mae_s: Option<f64>,
    /// Percentage mean absolute error as a share: MAE over mean latency (paper, Table 3).
    pub pmae: Option<Rate>,
    /// PMAE of the first and of the second half.
    pub halves: [Option<f64>; 2],
    /// Share of outcomes inside the 50 % interval.
    pub coverage_50: Option<Rate>,
    /// Share of outcomes inside the 90 % interval.
    pub coverage_90: Option<Rate>,
}

/// Sums up predictions in the order of time.
#[must_use]
pub fn accuracy(judged: &[Judged], seed: u64) -> Accuracy {
    let errors: Vec<(f64, f64)> = judged.iter().map(|j| (j.error, j.actual)).collect();
    let pmae = |part: &[(f64, f64)]| {
        let sum = part.iter().fold((0.0, 0.0), |s, j| (s.0 + j.0, s.1 + j.1));
        (sum.1 > 0.0).then(|| sum.0 / sum.1)
    };
    let (first, second) = errors.split_at(errors.len().div_ceil(2));
    let held = |which: fn((bool, bool)) -> bool| {
        let hits: Vec<(f64, f64)> = judged
            .iter()
            .filter_map(|j| Some((f64::from(which(j.held?)), 1.0)))
            .collect();
        rate(&hits, seed)
    };
    Accuracy {
        rows: judged.len(),
        mae_s: (!errors.is_empty())
            .then(|| errors.iter().map(|e| e.0).sum::<f64>() / errors.len() as f64),
        pmae: rate(&errors, seed),
        halves: [pmae(first), pmae(second)],
        coverage_50: held(|held| held.0),
        coverage_90: held(|held| held.1),
    }
}

/// Whether a row is judged: both methods know enough of its runtime, from the rows before.
#[must_use]
pub fn bootstrapped(predicted: &Predicted) -> bool {
    let enough =
        |estimate: &Estimate| estimate.response.known && estimate.processing.points >= BOOTSTRAP;
    enough(&predicted.paper) && enough(&predicted.ours)
}

/// Whether a part says anything: a deployment that needs none is no prediction.
fn told(part: &Part) -> bool {
    part.points > 0 || part.mean > 0.0
}

/// The predictions of one stage by both methods, over the rows of one runtime or of all.
#[must_use]
pub fn judge(
    runs: &Runs,
    walk: &Walk,
    stage: Stage,
    runtime: Option<usize>,
) -> (Vec<Judged>, Vec<Judged>) {
    let (mut paper, mut ours) = (Vec::new(), Vec::new());
    for (run, predicted) in runs.rows.iter().zip(&walk.rows) {
        if runtime.is_some_and(|runtime| runtime != run.runtime) || !bootstrapped(predicted) {
            continue;
        }
        let actual = stage.actual(&run.actual);
        let (by_paper, by_us) = (
            stage.predicted(&predicted.paper),
            stage.predicted(&predicted.ours),
        );
        if actual == 0.0 && !told(by_paper) && !told(by_us) {
            continue;
        }
        paper.push(Judged::point(by_paper.mean, actual));
        ours.push(Judged::of(by_us, actual));
    }
    (paper, ours)
}

/// The logged predictions of one stage, with both methods on the very same rows.
#[derive(Debug, Clone, Default)]
pub struct Logged {
    /// As they were logged.
    pub logged: Vec<Judged>,
    /// The paper's method.
    pub paper: Vec<Judged>,
    /// Ours.
    pub ours: Vec<Judged>,
}

/// Judges the logged predictions, where they can be told to be of the row's own runtime: where the batch ran nowhere
/// else, and was predicted to need a deployment if and only if it did.
#[must_use]
pub fn logged(runs: &Runs, walk: &Walk, stage: Stage) -> Logged {
    let mut compared = vec![false; runs.rows.len()];
    for batch in &walk.batches {
        compared[batch.rows.clone()].fill(true);
    }
    let mut judged = Logged::default();
    for (index, (run, predicted)) in runs.rows.iter().zip(&walk.rows).enumerate() {
        let Some(logged) = run.predicted else {
            continue;
        };
        let same_place = (logged.deployment > 0.0) == (run.actual.deployment > 0.0);
        if compared[index] || !same_place || !bootstrapped(predicted) {
            continue;
        }
        let actual = stage.actual(&run.actual);
        let (paper, ours) = (
            stage.predicted(&predicted.paper),
            stage.predicted(&predicted.ours),
        );
        if actual == 0.0 && !told(paper) && !told(ours) {
            continue;
        }
        judged
            .logged
            .push(Judged::point(stage.actual(&logged), actual));
        judged.paper.push(Judged::point(paper.mean, actual));
        judged.ours.push(Judged::of(ours, actual));
    }
    judged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pmae_is_by_halves_and_an_interval_holds_with_its_ends() {
        let part = Part::exact(10.0);
        let judged = [
            Judged::of(&part, 10.0),
            Judged::of(&part, 12.0),
            Judged::of(&part, 20.0),
        ];
        let accuracy = accuracy(&judged, 1);
        assert_eq!(accuracy.mae_s, Some(4.0));
        assert_eq!(accuracy.pmae.map(|rate| rate.value), Some(12.0 / 42.0));
        assert_eq!(accuracy.halves, [Some(2.0 / 22.0), Some(0.5)]);
        assert_eq!(accuracy.coverage_90.map(|rate| rate.value), Some(1.0 / 3.0));
        assert_eq!(super::accuracy(&[], 1), Accuracy::default());
        assert_eq!(
            super::accuracy(&[Judged::point(1.0, 2.0)], 1).coverage_90,
            None
        );
    }
}
