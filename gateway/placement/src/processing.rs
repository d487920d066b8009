//! T_p, the time a function runs, as the paper's section 3.4.3 predicts it:
//! Bayesian ridge regression of seconds on batch size over the most recent
//! points, inside RANSAC (Algorithm 1).
//!
//! Beyond the paper:
//! * The line is made physical: a larger batch never takes less time, nor any
//!   batch less than none. A falling line is replaced by the mean of its
//!   points. Where a line with a negative intercept would fall below the one
//!   from the origin to its value at the smallest size seen, the latter holds.
//! * A change of regime is followed within three measurements. RANSAC alone
//!   would discard the first points after a change as outliers until they are
//!   the majority of its window. When [`REGIME`] measurements in a row miss
//!   their prediction by more than `t` on the same side, the older points are
//!   dropped if the new ones span sizes by two or more; otherwise, since points
//!   of one size carry no slope, the older ones are scaled by how much slower
//!   or faster the new ones are.
//! * Intervals come from errors made in advance: each new point is first held
//!   against the model of the points before it, relative to the prediction, so
//!   that intervals widen with the batch. They say nothing of sizes far beyond
//!   those seen.

pub(crate) mod ransac;
mod ridge;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use ransac::RansacConfig;
pub use ridge::Ridge;

use crate::band::Band;
use crate::estimate::{MAX_SECONDS, Part, sane_seconds, sane_size};
use ransac::Point;

/// Misses in a row on one side that make a change of regime.
pub const REGIME: usize = 3;

/// Errors are relative to the prediction, and to this when it is less, in
/// seconds: a thousandth is what a scheduler's tick is worth.
const LEAST_SCALE: f64 = 1e-3;

/// Limits of the processing model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessingConfig {
    /// Most recent points regressed (the paper: 10).
    pub points: usize,
    /// Most recent errors behind the intervals.
    pub errors: usize,
    /// Parameters of Algorithm 1.
    pub ransac: RansacConfig,
}

impl Default for ProcessingConfig {
    fn default() -> Self {
        Self {
            points: 10,
            errors: 50,
            ransac: RansacConfig::default(),
        }
    }
}

/// Measured processing times of one function version on one runtime.
///
/// Mutable and owned by one task; [`fit`](Self::fit) gives the immutable value
/// to publish.
#[derive(Debug, Clone)]
pub struct ProcessingHistory {
    config: ProcessingConfig,
    seed: u64,
    points: VecDeque<Point>,
    /// Relative errors of predictions made in advance, newest last.
    errors: VecDeque<f64>,
    /// Misses in a row; negative when the measurements were below.
    streak: i64,
    seen: usize,
    fitted: Option<Fitted>,
}

#[derive(Debug, Clone)]
struct Fitted {
    line: Line,
    consensus: ransac::Consensus,
}

impl ProcessingHistory {
    /// An empty history. Equal seeds and measurements give equal models.
    #[must_use]
    pub fn new(config: ProcessingConfig, seed: u64) -> Self {
        Self {
            config: ProcessingConfig {
                points: config.points.max(REGIME),
                errors: config.errors.max(1),
                ..config
            },
            seed,
            points: VecDeque::new(),
            errors: VecDeque::new(),
            streak: 0,
            seen: 0,
            fitted: None,
        }
    }

    /// Takes in one measured run of `items` items in `seconds`, and refits.
    /// Returns false, changing nothing, for what is no measurement (negative,
    /// infinite, not a number).
    pub fn push(&mut self, items: f64, seconds: f64) -> bool {
        let (Some(items), Some(seconds)) = (sane_size(items), sane_seconds(seconds)) else {
            return false;
        };
        let point = (items, seconds);
        self.judge(point);
        self.points.push_back(point);
        self.seen += 1;
        if self.streak.unsigned_abs() >= REGIME as u64 {
            self.change_regime();
        }
        while self.points.len() > self.config.points {
            self.points.pop_front();
        }
        self.refit();
        true
    }

    /// Holds a new point against what was predicted for it.
    fn judge(&mut self, point: Point) {
        // A line through a single point predicts no other size.
        let Some(fitted) = self.fitted.as_ref().filter(|_| self.points.len() >= 2) else {
            return;
        };
        let expected = fitted.line.at(point.0);
        self.errors
            .push_back((point.1 - expected) / expected.max(LEAST_SCALE));
        if self.errors.len() > self.config.errors {
            self.errors.pop_front();
        }
        self.streak = if fitted.consensus.holds(point) {
            0
        } else if point.1 > expected {
            self.streak.max(0) + 1
        } else {
            self.streak.min(0) - 1
        };
    }

    /// Lets the newest points rule (see the module's documentation).
    fn change_regime(&mut self) {
        self.streak = 0;
        let old = self.points.len().saturating_sub(REGIME);
        let newest = self.points.range(old..);
        let least = newest.clone().map(|p| p.0).fold(f64::INFINITY, f64::min);
        let most = newest.clone().map(|p| p.0).fold(0.0, f64::max);
        if most >= 2.0 * least && most > least {
            self.points.drain(..old);
            return;
        }
        let Some(fitted) = &self.fitted else { return };
        let mut ratios: Vec<f64> = newest
            .map(|p| p.1 / fitted.line.at(p.0).max(LEAST_SCALE))
            .collect();
        let ratio = ransac::median(&mut ratios).unwrap_or(1.0);
        for point in self.points.range_mut(..old) {
            point.1 = (point.1 * ratio).min(MAX_SECONDS);
        }
    }

    fn refit(&mut self) {
        let points = self.points.make_contiguous();
        let seed = self.seed.wrapping_add(self.seen as u64);
        self.fitted =
            ransac::consensus(points, &self.config.ransac, seed).map(|consensus| Fitted {
                line: Line::of(points, &consensus),
                consensus,
            });
    }

    /// Number of measurements ever taken in.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// The immutable model of this moment.
    #[must_use]
    pub fn fit(&self) -> ProcessingModel {
        match &self.fitted {
            None => ProcessingModel::unknown(),
            Some(fitted) => ProcessingModel {
                line: Some(fitted.line),
                band: Band::of(self.errors.iter().copied(), 1.0),
                points: self.seen,
            },
        }
    }
}

/// A line that never falls and never goes below zero.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Line {
    /// Seconds per item, at least zero.
    pub slope: f64,
    /// Seconds at no items; may be negative.
    pub intercept: f64,
    /// Smallest batch seen; below it the line does not fall under the one from
    /// the origin.
    pub least_items: f64,
}

impl Line {
    fn of(points: &[Point], consensus: &ransac::Consensus) -> Self {
        let least_items = points.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
        let slope = consensus.model.coefficients[0];
        if slope >= 0.0 {
            return Self {
                slope,
                intercept: consensus.model.intercept,
                least_items,
            };
        }
        // The mean of the points that the falling line went through, or of all.
        let mean = |points: &mut dyn Iterator<Item = &Point>| {
            let (sum, count) = points.fold((0.0, 0usize), |(sum, count), p| (sum + p.1, count + 1));
            (count > 0).then(|| sum / count as f64)
        };
        Self {
            slope: 0.0,
            intercept: mean(&mut points.iter().filter(|p| consensus.holds(**p)))
                .or_else(|| mean(&mut points.iter()))
                .unwrap_or(0.0),
            least_items,
        }
    }

    /// Seconds expected for `items` items: finite, at least zero, never less
    /// for more items.
    #[must_use]
    pub fn at(&self, items: f64) -> f64 {
        let items = sane_size(items).unwrap_or(0.0);
        let on_line = self.intercept + self.slope * items;
        let seconds = if self.intercept < 0.0 && items < self.least_items {
            let at_least = self.intercept + self.slope * self.least_items;
            on_line.max(at_least * (items / self.least_items))
        } else {
            on_line
        };
        seconds.clamp(0.0, MAX_SECONDS)
    }
}

/// A fitted processing model: what a batch of any size is expected to take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ProcessingModel {
    line: Option<Line>,
    /// Relative to the prediction.
    band: Band,
    points: usize,
}

impl ProcessingModel {
    /// The model of a function that never ran on the runtime.
    #[must_use]
    pub const fn unknown() -> Self {
        Self {
            line: None,
            band: Band::NONE,
            points: 0,
        }
    }

    /// T_p of a batch of `items` items, in seconds.
    #[must_use]
    pub fn predict(&self, items: f64) -> Part {
        let Some(line) = &self.line else {
            return Part::UNKNOWN;
        };
        let mean = line.at(items);
        let scale = mean.max(LEAST_SCALE);
        let scaled = |(low, high): (f64, f64)| (low * scale, high * scale);
        Part::around(
            mean,
            scaled(self.band.p50),
            scaled(self.band.p90),
            self.points,
        )
    }

    /// The line behind it, when there is one.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        self.line
    }

    /// Measurements it stands on.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> ProcessingHistory {
        ProcessingHistory::new(ProcessingConfig::default(), 11)
    }

    /// Ten points of `slope * items + intercept` with a little noise.
    fn settled(slope: f64, intercept: f64) -> ProcessingHistory {
        let mut history = history();
        for (i, items) in [33.0, 10.0, 50.0, 80.0, 20.0, 120.0, 5.0, 64.0, 40.0, 15.0]
            .into_iter()
            .enumerate()
        {
            let noise = 1.0 + 0.01 * (i as f64 * 2.3).sin();
            history.push(items, (slope * items + intercept) * noise);
        }
        history
    }

    #[test]
    fn nothing_known_then_one_point_then_a_line() {
        let mut history = history();
        assert_eq!(history.fit().predict(10.0), Part::UNKNOWN);
        history.push(33.0, 60.0);
        let one = history.fit().predict(33.0);
        assert!(one.known && one.mean == 60.0 && one.points == 1);
        history.push(10.0, 25.0);
        let two = history.fit();
        assert!((two.predict(33.0).mean - 60.0).abs() < 0.1);
        assert!((two.predict(10.0).mean - 25.0).abs() < 0.1);
        assert!(two.predict(20.0).p90.high > two.predict(20.0).mean);
    }

    #[test]
    fn a_falling_line_becomes_the_mean() {
        let mut history = history();
        history.push(10.0, 30.0);
        history.push(33.0, 20.0);
        let model = history.fit();
        assert_eq!(model.line().unwrap().slope, 0.0);
        assert_eq!(model.predict(1e9).mean, 25.0);
    }

    #[test]
    fn below_the_smallest_size_time_goes_to_zero_and_not_below() {
        let mut history = history();
        history.push(10.0, 5.0);
        history.push(20.0, 25.0);
        let model = history.fit();
        assert!(model.line().unwrap().intercept < 0.0);
        assert!((model.predict(5.0).mean - 2.5).abs() < 0.1);
        assert_eq!(model.predict(0.0).mean, 0.0);
    }

    #[test]
    fn one_outlier_is_not_followed() {
        let mut history = settled(0.2, 14.0);
        let before = history.fit().predict(100.0).mean;
        history.push(60.0, 400.0);
        let after = history.fit().predict(100.0).mean;
        assert!((after - before).abs() < 0.05 * before, "{before} {after}");
    }

    #[test]
    fn a_new_regime_is_followed_within_three_measurements() {
        // Sizes that differ, then sizes that do not, then a faster machine.
        for (sizes, factor) in [
            ([10.0, 40.0, 100.0], 3.0),
            ([30.0, 30.0, 30.0], 3.0),
            ([20.0, 90.0, 50.0], 0.3),
        ] {
            let mut history = settled(0.2, 14.0);
            let truth = |items: f64| factor * (0.2 * items + 14.0);
            for items in sizes {
                history.push(items, truth(items));
            }
            for items in [10.0, 50.0, 200.0] {
                let mean = history.fit().predict(items).mean;
                assert!(
                    (mean - truth(items)).abs() < 0.1 * truth(items),
                    "{sizes:?} {factor}: {mean} for {}",
                    truth(items)
                );
            }
        }
    }

    #[test]
    fn misses_on_both_sides_are_noise_and_no_regime() {
        let mut history = settled(0.2, 14.0);
        let before = history.fit().predict(50.0).mean;
        for seconds in [90.0, 2.0, 90.0] {
            history.push(30.0, seconds);
        }
        let after = history.fit().predict(50.0).mean;
        assert!((after - before).abs() < 0.1 * before, "{before} {after}");
    }

    #[test]
    fn what_is_no_measurement_is_refused() {
        let mut history = history();
        for (items, seconds) in [
            (f64::NAN, 1.0),
            (1.0, f64::INFINITY),
            (-1.0, 1.0),
            (1.0, -1.0),
        ] {
            assert!(!history.push(items, seconds));
        }
        assert_eq!(history.seen(), 0);
    }
}
