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

mod forgetting;
mod line;
pub(crate) mod ransac;
mod ridge;
mod run;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use line::Line;
pub use ransac::RansacConfig;
pub use ridge::Ridge;
pub use run::{Measure, Run, RunFeatures};

use crate::band::Band;
use crate::conformal::Conformal;
use crate::estimate::{Basis, MAX_SECONDS, Part, sane_seconds, sane_size};
use crate::mixture::{Losses, relative_loss};
use crate::quantile::median;
use forgetting::Lines;
use ransac::Point;
use run::MEASURES;

/// Misses in a row on one side that make a change of regime.
pub const REGIME: usize = 3;

/// Errors are relative to the prediction, and to this when it is less, in
/// seconds: a thousandth is what a scheduler's tick is worth.
const LEAST_SCALE: f64 = 1e-3;

/// Half-life, in runs, of the losses by which the measure of size is chosen;
/// runs before another than items may be, and the share of the loss of the one
/// in force that it must come below.
const MEASURE_MEMORY: f64 = 16.0;
const MEASURE_LEAST: f64 = 6.0;
const MEASURE_SHARE: f64 = 0.8;

/// Cold runs behind the time that loading the model takes.
const COLD: usize = 8;

/// Step of the stretch of the intervals.
const STEP: f64 = 0.1;

/// Limits of the processing model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessingConfig {
    /// Most recent points regressed by Algorithm 1 (the paper: 10).
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
    /// Sizes in items, seconds as if warm.
    points: VecDeque<Point>,
    algorithm_1: Option<Fitted>,
    /// By measure; items always, the others once a run told them.
    lines: [Option<Lines>; MEASURES],
    measures: Losses<MEASURES>,
    in_force: usize,
    /// What cold runs took beyond what warm ones would have.
    loading: VecDeque<f64>,
    warm_runs: usize,
    errors: Conformal,
    /// Recent loss of what was predicted.
    losses: Losses<1>,
    /// Misses in a row; negative when the measurements were below.
    streak: i64,
    seen: usize,
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
        let config = ProcessingConfig {
            points: config.points.max(REGIME),
            errors: config.errors.max(1),
            ..config
        };
        Self {
            config,
            seed,
            points: VecDeque::new(),
            algorithm_1: None,
            lines: [Some(Lines::new()), None, None, None],
            measures: Losses::NONE,
            in_force: 0,
            loading: VecDeque::new(),
            warm_runs: 0,
            errors: Conformal::new(config.errors, STEP),
            losses: Losses::NONE,
            streak: 0,
            seen: 0,
        }
    }

    /// Takes in one run of `items` items in `seconds` of which nothing else is
    /// known; see [`observe`](Self::observe).
    pub fn push(&mut self, items: f64, seconds: f64) -> bool {
        self.observe(&Run::new(items, seconds))
    }

    /// Takes in one measured run, judges every estimator on it, and fits them
    /// anew. Returns false, changing nothing, for what is no measurement
    /// (negative, infinite, not a number).
    pub fn observe(&mut self, run: &Run) -> bool {
        let (Some(items), Some(seconds)) =
            (sane_size(run.features.items), sane_seconds(run.seconds))
        else {
            return false;
        };
        let sizes = run.features.sizes();
        // A line through a single point predicts no other size.
        if self.seen >= 2 {
            self.judge(&run.features, seconds);
        }
        let warm = self.as_if_warm(&run.features, &sizes, seconds);
        if self.seen >= 2 {
            self.judge_lines(&sizes, warm);
            self.count_miss((items, warm));
        }
        self.points.push_back((items, warm));
        for (lines, size) in self.lines.iter_mut().zip(sizes) {
            if let Some(size) = size {
                lines.get_or_insert_with(Lines::new).push(size, warm);
            }
        }
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

    /// Holds a new run against what was predicted for it.
    fn judge(&mut self, features: &RunFeatures, seconds: f64) {
        if let Some(expected) = self.shape().seconds(features) {
            self.errors
                .observe((seconds - expected) / expected.max(LEAST_SCALE));
            self.losses
                .observe(&[relative_loss(expected, seconds)], MEASURE_MEMORY);
        }
    }

    /// Holds it against every line of every measure.
    fn judge_lines(&mut self, sizes: &[Option<f64>; MEASURES], warm: f64) {
        let mut losses = [None; MEASURES];
        for ((lines, size), loss) in self.lines.iter_mut().zip(sizes).zip(&mut losses) {
            if let (Some(lines), Some(size)) = (lines.as_mut(), size) {
                // A measure that came later starts when it has a line.
                if lines.points() >= 2 {
                    *loss = lines
                        .mixed()
                        .map(|line| relative_loss(line.at(*size), warm));
                    lines.judge(*size, warm);
                }
            }
        }
        // Who sleeps is given the loss of the line over items.
        let by_items = losses[0].unwrap_or(0.0);
        self.measures
            .observe(&losses.map(|loss| loss.unwrap_or(by_items)), MEASURE_MEMORY);
        self.in_force = self
            .measures
            .in_force(self.in_force, MEASURE_SHARE, MEASURE_LEAST);
    }

    /// The seconds of a run without what loading its model took. Learns that
    /// time from cold runs, once two warm ones tell what a run takes.
    fn as_if_warm(
        &mut self,
        features: &RunFeatures,
        sizes: &[Option<f64>; MEASURES],
        seconds: f64,
    ) -> f64 {
        if features.cold != Some(true) {
            self.warm_runs += usize::from(features.cold.is_some());
            return seconds;
        }
        if self.warm_runs < 2 {
            return seconds;
        }
        if let Some(expected) = self.shape().warm_seconds(sizes) {
            self.loading.push_back(seconds - expected);
            if self.loading.len() > COLD {
                self.loading.pop_front();
            }
        }
        (seconds - self.loading_time()).max(0.0)
    }

    /// What loading the model takes, seconds.
    fn loading_time(&self) -> f64 {
        let mut loading: Vec<f64> = self.loading.iter().copied().collect();
        median(&mut loading).unwrap_or(0.0).clamp(0.0, MAX_SECONDS)
    }

    /// Counts misses of Algorithm 1's line on one side.
    fn count_miss(&mut self, point: Point) {
        let Some(fitted) = &self.algorithm_1 else {
            return;
        };
        self.streak = if fitted.consensus.holds(point) {
            0
        } else if point.1 > fitted.line.at(point.0) {
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
            for lines in self.lines.iter_mut().flatten() {
                lines.keep_newest(REGIME);
            }
            return;
        }
        let Some(fitted) = &self.algorithm_1 else {
            return;
        };
        let mut ratios: Vec<f64> = newest
            .map(|p| p.1 / fitted.line.at(p.0).max(LEAST_SCALE))
            .collect();
        let ratio = median(&mut ratios).unwrap_or(1.0);
        for point in self.points.range_mut(..old) {
            point.1 = (point.1 * ratio).min(MAX_SECONDS);
        }
        for lines in self.lines.iter_mut().flatten() {
            lines.scale_older(REGIME, ratio);
        }
    }

    fn refit(&mut self) {
        let points = self.points.make_contiguous();
        let seed = self.seed.wrapping_add(self.seen as u64);
        self.algorithm_1 =
            ransac::consensus(points, &self.config.ransac, seed).map(|consensus| Fitted {
                line: physical(points, &consensus),
                consensus,
            });
        let line = self.algorithm_1.as_ref().map(|fitted| fitted.line);
        for (index, lines) in self.lines.iter_mut().enumerate() {
            if let Some(lines) = lines {
                lines.fit(line.filter(|_| index == 0));
            }
        }
    }

    fn shape(&self) -> Shape {
        let mixed = |lines: &Option<Lines>| lines.as_ref().and_then(Lines::mixed);
        Shape {
            lines: std::array::from_fn(|index| mixed(&self.lines[index])),
            in_force: self.in_force,
            loading_s: self.loading_time(),
        }
    }

    /// Number of measurements ever taken in.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// The immutable model of this moment.
    #[must_use]
    pub fn fit(&self) -> ProcessingModel {
        let heaviest = self.lines[self.in_force].as_ref().map(Lines::heaviest);
        ProcessingModel {
            shape: self.shape(),
            given: RunFeatures::of_items(0.0),
            band: self.errors.band(),
            points: self.seen,
            basis: Basis {
                estimator: heaviest.map_or("none", |(name, _)| name),
                points: self.seen,
                recent_error: self.losses.mean(0),
            },
        }
    }
}

/// The line of a regression that may fall: where it does, the mean of the
/// points that it went through, or of all.
fn physical(points: &[Point], consensus: &ransac::Consensus) -> Line {
    let least_items = points.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
    let slope = consensus.slope;
    if slope >= 0.0 {
        return Line {
            slope,
            intercept: consensus.intercept,
            least_items,
        };
    }
    let mean = |points: &mut dyn Iterator<Item = &Point>| {
        let (sum, count) = points.fold((0.0, 0usize), |(sum, count), p| (sum + p.1, count + 1));
        (count > 0).then(|| sum / count as f64)
    };
    Line {
        slope: 0.0,
        intercept: mean(&mut points.iter().filter(|p| consensus.holds(**p)))
            .or_else(|| mean(&mut points.iter()))
            .unwrap_or(0.0),
        least_items,
    }
}

/// Expected seconds as a function of what a run works on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Shape {
    /// By measure.
    lines: [Option<Line>; MEASURES],
    in_force: usize,
    /// What loading the model adds to a cold run.
    loading_s: f64,
}

impl Shape {
    const UNKNOWN: Self = Self {
        lines: [None; MEASURES],
        in_force: 0,
        loading_s: 0.0,
    };

    fn seconds(&self, features: &RunFeatures) -> Option<f64> {
        let warm = self.warm_seconds(&features.sizes())?;
        let loading = if features.cold == Some(true) {
            self.loading_s
        } else {
            0.0
        };
        Some((warm + loading).min(MAX_SECONDS))
    }

    /// By the measure in force where the run tells it, else by items.
    fn warm_seconds(&self, sizes: &[Option<f64>; MEASURES]) -> Option<f64> {
        let by = |index: usize| Some(self.lines[index]?.at(sizes[index]?));
        // Sizes that are no numbers are read as none.
        by(self.in_force)
            .or_else(|| by(0))
            .or_else(|| Some(self.lines[0]?.at(0.0)))
    }
}

/// A fitted processing model: what a batch of any size is expected to take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ProcessingModel {
    shape: Shape,
    /// What [`predict`](Self::predict) knows besides the items.
    given: RunFeatures,
    /// Relative to the prediction.
    band: Band,
    points: usize,
    basis: Basis,
}

impl ProcessingModel {
    /// The model of a function that never ran on the runtime.
    #[must_use]
    pub const fn unknown() -> Self {
        Self {
            shape: Shape::UNKNOWN,
            given: RunFeatures::of_items(0.0),
            band: Band::NONE,
            points: 0,
            basis: Basis {
                estimator: "none",
                points: 0,
                recent_error: None,
            },
        }
    }

    /// T_p of a batch of `items` items, in seconds, of which nothing else is
    /// known, or what was [`given`](Self::given).
    #[must_use]
    pub fn predict(&self, items: f64) -> Part {
        self.predict_run(&RunFeatures {
            items,
            ..self.given
        })
    }

    /// The model whose [`predict`](Self::predict) knows more than the items:
    /// for callers that know it before they ask (the request path).
    #[must_use]
    pub fn given(&self, features: &RunFeatures) -> Self {
        Self {
            given: *features,
            ..*self
        }
    }

    /// T_p of a run, in seconds. Never less for more items.
    #[must_use]
    pub fn predict_run(&self, features: &RunFeatures) -> Part {
        let Some(mean) = self.shape.seconds(features) else {
            return Part::UNKNOWN;
        };
        let scale = mean.max(LEAST_SCALE);
        let scaled = |(low, high): (f64, f64)| (low * scale, high * scale);
        Part::around(
            mean,
            scaled(self.band.p50),
            scaled(self.band.p90),
            self.points,
        )
    }

    /// The line over items, when there is one.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        self.shape.lines[0]
    }

    /// The measure of size in force.
    #[must_use]
    pub fn measure(&self) -> Measure {
        Measure::ALL[self.shape.in_force]
    }

    /// Measurements it stands on.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points
    }

    /// What a prediction stands on: the estimator of most weight in the mixture
    /// in force.
    #[must_use]
    pub fn basis(&self) -> Basis {
        self.basis
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
        // The newer of the two weighs a little more.
        let mean = model.predict(1e9).mean;
        assert!((23.0..=25.0).contains(&mean), "{mean}");
    }

    #[test]
    fn below_the_smallest_size_time_goes_to_zero_and_not_below() {
        let mut history = history();
        history.push(10.0, 5.0);
        history.push(20.0, 25.0);
        let model = history.fit();
        let (none, few, least) = (
            model.predict(0.0).mean,
            model.predict(5.0).mean,
            model.predict(10.0).mean,
        );
        assert!(
            none == 0.0 && 0.0 < few && few < least,
            "{none} {few} {least}"
        );
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
