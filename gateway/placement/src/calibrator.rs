//! Holds the coverage of whole response times: the one place through which
//! every estimate that is given out passes, in the gateway, in the replay and
//! in the simulator.
//!
//! A sum of parts takes their errors to be independent, and each part's own
//! intervals settle on its own rows only. The calibrator stretches the sum's
//! intervals by what their outcomes ask for (adaptive conformal inference, see
//! `conformal`). One calibrator serves all runtimes of a function, so that it
//! learns from every invocation, and a runtime that is new is not taken on
//! trust. After `T` outcomes the share outside of the 90 % interval is 10 %
//! give or take `|ln stretch| / (STEP * T)`, whatever the errors do: at 150
//! outcomes and a stretch that has gone to 1.5 that is 1 in 100.

use serde::{Deserialize, Serialize};

use crate::conformal::Stretch;
use crate::estimate::{Estimate, Part, sane_seconds};

/// Step of the stretch. A miss widens the 90 % interval by `0.9 * STEP`, a hit
/// narrows it by `0.1 * STEP`, in logarithms: three tenths against three
/// hundredths. On the authors' log, steps of 0.1 to 0.4 give intervals of the
/// same mean width within four per cent, so coverage decides.
const STEP: f64 = 0.3;

/// Learns how wide the intervals of a function's response times must be.
///
/// Small and `Copy`: it is published with the models.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ResponseCalibrator {
    stretch: Stretch,
    outcomes: u64,
}

impl ResponseCalibrator {
    /// One that has seen no outcome and changes nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            stretch: Stretch::new(STEP),
            outcomes: 0,
        }
    }

    /// The estimate with the intervals of its response time stretched; parts
    /// and means stay.
    #[must_use]
    pub fn adjust(&self, estimate: &Estimate) -> Estimate {
        Estimate {
            response: self.adjust_part(&estimate.response),
            ..*estimate
        }
    }

    /// As [`adjust`](Self::adjust), of a response time alone.
    #[must_use]
    pub fn adjust_part(&self, response: &Part) -> Part {
        if !response.known {
            return *response;
        }
        let (s50, s90) = self.stretch.factors();
        let mean = response.mean;
        let stretched = |low: f64, high: f64, by: f64| ((low - mean) * by, (high - mean) * by);
        Part::around(
            mean,
            stretched(response.p50.low, response.p50.high, s50),
            stretched(response.p90.low, response.p90.high, s90),
            response.points,
        )
    }

    /// Learns from one outcome: the estimate as it was given out, after
    /// [`adjust`](Self::adjust), and the seconds it then took. Outcomes may come
    /// late and in any order. Returns false, changing nothing, when nothing was
    /// known or the outcome is no measurement.
    pub fn observe(&mut self, given: &Estimate, actual_s: f64) -> bool {
        self.observe_part(&given.response, actual_s)
    }

    /// As [`observe`](Self::observe), of a response time alone.
    pub fn observe_part(&mut self, given: &Part, actual_s: f64) -> bool {
        let Some(actual_s) = sane_seconds(actual_s) else {
            return false;
        };
        if !given.known {
            return false;
        }
        self.stretch
            .learn(given.p50.contains(actual_s), given.p90.contains(actual_s));
        self.outcomes += 1;
        true
    }

    /// By how much the 50 % and the 90 % interval are stretched.
    #[must_use]
    pub fn factors(&self) -> (f64, f64) {
        self.stretch.factors()
    }

    /// Outcomes learned from.
    #[must_use]
    pub fn outcomes(&self) -> u64 {
        self.outcomes
    }
}

impl Default for ResponseCalibrator {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(width: f64) -> Part {
        Part::around(100.0, (-width, width), (-2.0 * width, 2.0 * width), 9)
    }

    /// Intervals ten times too narrow, then ten times too wide.
    #[test]
    fn coverage_is_held_whatever_the_intervals_were() {
        let mut calibrator = ResponseCalibrator::new();
        assert_eq!(calibrator.adjust_part(&part(3.0)), part(3.0));
        for width in [1.0, 100.0] {
            let mut accuracy = crate::Accuracy::default();
            for i in 0..600u32 {
                // Errors spread evenly over ±20 seconds.
                let error = f64::from((i * 7919) % 401) / 10.0 - 20.0;
                let given = calibrator.adjust_part(&part(width));
                assert!(calibrator.observe_part(&given, 100.0 + error));
                if i >= 100 {
                    accuracy.observe(&given, 100.0 + error);
                }
            }
            let (half, most) = (
                accuracy.coverage_p50().unwrap(),
                accuracy.coverage_p90().unwrap(),
            );
            assert!((0.48..=0.52).contains(&half), "{half}");
            assert!((0.88..=0.92).contains(&most), "{most}");
        }
        assert_eq!(calibrator.outcomes(), 1200);
    }

    #[test]
    fn what_is_unknown_or_no_measurement_teaches_nothing() {
        let mut calibrator = ResponseCalibrator::new();
        assert!(!calibrator.observe_part(&Part::UNKNOWN, 1.0));
        assert!(!calibrator.observe_part(&part(1.0), f64::NAN));
        assert_eq!(calibrator, ResponseCalibrator::new());
        assert_eq!(calibrator.adjust_part(&Part::UNKNOWN), Part::UNKNOWN);
    }
}
