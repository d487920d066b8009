//! How well predictions did lately: errors and coverage over the last outcomes, each held against what
//! was predicted in advance.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use stoic_placement::{Interval, Part};

/// Outcomes that count.
const LAST: usize = 100;

/// A summary of recent outcomes against their predictions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RecentAccuracy {
    /// Outcomes that it counts, at most the last hundred.
    pub outcomes: usize,
    /// Mean absolute error, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mae_s: Option<f64>,
    /// The same as a share of the mean outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pmae: Option<f64>,
    /// Share of the outcomes inside their 90 % intervals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage_90: Option<f64>,
}

impl RecentAccuracy {
    /// No outcome yet.
    pub const NONE: Self = Self {
        outcomes: 0,
        mae_s: None,
        pmae: None,
        coverage_90: None,
    };
}

#[derive(Debug, Clone, Copy)]
struct Outcome {
    error_s: f64,
    actual_s: f64,
    within_90: Option<bool>,
}

/// The last outcomes of one part.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent(VecDeque<Outcome>);

impl Recent {
    /// Counts an outcome, unless nothing was predicted for it.
    pub(super) fn observe(&mut self, predicted: &Part, actual_s: f64) {
        if predicted.known {
            self.add(predicted.mean, Some(predicted.p90), actual_s);
        }
    }

    /// Counts an outcome for which the mean alone, or the mean and the 90 % interval, was predicted.
    pub(super) fn add(&mut self, mean: f64, p90: Option<Interval>, actual_s: f64) {
        if !(mean.is_finite() && actual_s.is_finite()) {
            return;
        }
        if self.0.len() >= LAST {
            self.0.pop_front();
        }
        self.0.push_back(Outcome {
            error_s: (mean - actual_s).abs(),
            actual_s,
            within_90: p90.map(|interval| interval.contains(actual_s)),
        });
    }

    pub(super) fn summary(&self) -> RecentAccuracy {
        let outcomes = self.0.len();
        if outcomes == 0 {
            return RecentAccuracy::default();
        }
        let error: f64 = self.0.iter().map(|o| o.error_s).sum();
        let actual: f64 = self.0.iter().map(|o| o.actual_s).sum();
        let judged = self.0.iter().filter_map(|o| o.within_90);
        let (mut inside, mut all) = (0_usize, 0_usize);
        for within in judged {
            inside += usize::from(within);
            all += 1;
        }
        RecentAccuracy {
            outcomes,
            mae_s: Some(error / outcomes as f64),
            pmae: (actual > 0.0).then(|| error / actual),
            coverage_90: (all > 0).then(|| inside as f64 / all as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hundred_outcomes_count() {
        let mut recent = Recent::default();
        assert_eq!(recent.summary(), RecentAccuracy::default());
        let part = Part {
            p90: Interval {
                low: 8.0,
                high: 12.0,
            },
            ..Part::exact(10.0)
        };
        recent.observe(&Part::UNKNOWN, 5.0);
        recent.observe(&part, f64::NAN);
        for _ in 0..150 {
            recent.observe(&part, 1000.0);
        }
        for actual in [11.0, 8.0, 13.0, 10.0] {
            for _ in 0..25 {
                recent.observe(&part, actual);
            }
        }
        let summary = recent.summary();
        assert_eq!(summary.outcomes, 100);
        assert!((summary.mae_s.unwrap() - 1.5).abs() < 1e-12);
        assert!((summary.pmae.unwrap() - 1.5 / 10.5).abs() < 1e-12);
        assert_eq!(summary.coverage_90, Some(0.75));
    }
}
