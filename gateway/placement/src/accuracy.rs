//! How good the predictions were: PMAE (the paper's Table 3) and the coverage
//! of the intervals, kept as running sums.

use serde::{Deserialize, Serialize};

use crate::estimate::{Part, sane_seconds};

/// Running accuracy of one part, over any number of outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Outcomes counted.
    pub count: u64,
    /// Sum of absolute errors, seconds.
    pub absolute_error_s: f64,
    /// Sum of outcomes, seconds.
    pub actual_s: f64,
    /// Outcomes inside the 50 % interval.
    pub within_p50: u64,
    /// Outcomes inside the 90 % interval.
    pub within_p90: u64,
}

impl Accuracy {
    /// Counts one outcome. Returns false, changing nothing, when the part was
    /// unknown or the outcome is no measurement.
    pub fn observe(&mut self, predicted: &Part, actual_s: f64) -> bool {
        let Some(actual_s) = sane_seconds(actual_s) else {
            return false;
        };
        if !predicted.known {
            return false;
        }
        self.count += 1;
        self.absolute_error_s += (actual_s - predicted.mean).abs();
        self.actual_s += actual_s;
        self.within_p50 += u64::from(predicted.p50.contains(actual_s));
        self.within_p90 += u64::from(predicted.p90.contains(actual_s));
        true
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.absolute_error_s += other.absolute_error_s;
        self.actual_s += other.actual_s;
        self.within_p50 += other.within_p50;
        self.within_p90 += other.within_p90;
    }

    /// Mean absolute error, seconds; `None` without outcomes.
    #[must_use]
    pub fn mae_s(&self) -> Option<f64> {
        (self.count > 0).then(|| self.absolute_error_s / self.count as f64)
    }

    /// Percentage mean absolute error as a share: MAE over mean latency;
    /// `None` without outcomes or when all of them took no time.
    #[must_use]
    pub fn pmae(&self) -> Option<f64> {
        (self.actual_s > 0.0).then(|| self.absolute_error_s / self.actual_s)
    }

    /// Share of outcomes inside the 50 % interval.
    #[must_use]
    pub fn coverage_p50(&self) -> Option<f64> {
        (self.count > 0).then(|| self.within_p50 as f64 / self.count as f64)
    }

    /// Share of outcomes inside the 90 % interval.
    #[must_use]
    pub fn coverage_p90(&self) -> Option<f64> {
        (self.count > 0).then(|| self.within_p90 as f64 / self.count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::Interval;

    #[test]
    fn pmae_is_mae_over_mean_and_coverage_counts_interval_ends_in() {
        let part = Part {
            mean: 10.0,
            p50: Interval {
                low: 9.0,
                high: 11.0,
            },
            p90: Interval {
                low: 8.0,
                high: 14.0,
            },
            known: true,
            points: 4,
        };
        let mut accuracy = Accuracy::default();
        assert_eq!(accuracy.pmae(), None);
        for actual in [11.0, 14.0, 15.0] {
            assert!(accuracy.observe(&part, actual));
        }
        assert!(!accuracy.observe(&Part::UNKNOWN, 1.0));
        assert!(!accuracy.observe(&part, f64::NAN));
        assert_eq!(accuracy.pmae(), Some(10.0 / 40.0));
        assert_eq!(accuracy.coverage_p50(), Some(1.0 / 3.0));
        assert_eq!(accuracy.coverage_p90(), Some(2.0 / 3.0));
    }
}
