//! Robust lines that forget: seconds over one measure of size, by ten
//! estimators at several speeds, mixed by their recent prequential losses.
//! Knows sizes and seconds, not what the sizes measure.
//!
//! * **Lines**: the median of the slopes between all pairs of the last
//!   [`REMEMBERED`] points (Theil and Sen), a pair weighing by the ages of its
//!   points and by how far apart their sizes are for their size, since noise is
//!   relative and moves a short slope more; then the median height. Up to 29 %
//!   of outliers are borne. A run costs nothing less than nothing besides its
//!   items: a line that would fall below the origin goes through it.
//! * **Levels**: machines become busier or quieter faster than the shape of the
//!   line changes, and a stretch of equal sizes tells the level alone. So the
//!   slowest line is also scaled by the median of recent outcomes over it, or
//!   raised by the median of recent residuals.
//! * **Algorithm 1's line** takes part where there is one.
//!
//! In force is the estimator at the weighted median of what all of them predict
//! for the usual size (or a line between the two next to it). A median and not
//! a mean, since the quick ones follow an outlier all the way, and a mean would
//! follow them. So the mixture is one line: small, quick to evaluate, never
//! falling.

use std::collections::VecDeque;
use std::sync::LazyLock;

use super::line::Line;
use crate::mixture::{Losses, relative_loss};
use crate::quantile::{median, weighted_middle, weighted_quantile, weighted_quantile_of};

/// Points remembered: enough for a line through noise of half its height, few
/// enough for all their pairs.
pub(super) const REMEMBERED: usize = 24;

/// Half-lives of the lines, in points.
const LINES: [f64; 3] = [4.0, 16.0, 64.0];

/// Half-lives of the levels, in points.
const LEVELS: [f64; 3] = [0.5, 1.0, 2.0];

/// Algorithm 1, the lines, the levels as factors and as offsets.
pub(super) const ESTIMATORS: usize = 1 + 3 * 3;

/// Names of the estimators, in the order of the mixture.
pub(super) const NAMES: [&str; ESTIMATORS] = [
    "Algorithm 1",
    "line, half-life 4",
    "line, half-life 16",
    "line, half-life 64",
    "line by level, half-life 0.5",
    "line by level, half-life 1",
    "line by level, half-life 2",
    "line and offset, half-life 0.5",
    "line and offset, half-life 1",
    "line and offset, half-life 2",
];

/// Half-life, in points, of the losses, and how sharply the mixture follows
/// them. Memories of 3 to 8 and rates of 2 to 20 differ by three hundredths of
/// the error on the authors' log.
const MEMORY: f64 = 4.0;
const RATE: f64 = 5.0;

/// Pairs of the points remembered.
const PAIRS: usize = REMEMBERED * (REMEMBERED - 1) / 2;

/// Weights of the lines' half-lives by age.
static BY_AGE: LazyLock<[[f64; REMEMBERED]; 3]> = LazyLock::new(|| {
    LINES.map(|half_life| std::array::from_fn(|age| (-(age as f64) / half_life).exp2()))
});

/// A pair of points: the slope between them, their numbers and their distance.
#[derive(Debug, Clone, Copy)]
struct Slope {
    value: f64,
    older: u64,
    newer: u64,
    /// Distance of the sizes over their sum.
    distance: f64,
}

impl Slope {
    const NONE: Self = Self {
        value: 0.0,
        older: 0,
        newer: 0,
        distance: 0.0,
    };
}

/// Points of one measure of size with the lines through them.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    points: VecDeque<(f64, f64)>,
    /// Number of the next point.
    next: u64,
    /// By value.
    slopes: Vec<Slope>,
    losses: Losses<ESTIMATORS>,
    lines: Option<[Line; ESTIMATORS]>,
    mixed: Option<Line>,
    heaviest: usize,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            points: VecDeque::with_capacity(REMEMBERED + 1),
            next: 0,
            slopes: Vec::new(),
            losses: Losses::NONE,
            lines: None,
            mixed: None,
            heaviest: 0,
        }
    }

    /// The mixture; `None` without points.
    pub(super) fn mixed(&self) -> Option<Line> {
        self.mixed
    }

    pub(super) fn points(&self) -> usize {
        self.points.len()
    }

    /// The estimator of most weight, with its recent mean loss.
    pub(super) fn heaviest(&self) -> (&'static str, Option<f64>) {
        (NAMES[self.heaviest], self.losses.mean(self.heaviest))
    }

    /// Judges every estimator on a new point.
    pub(super) fn judge(&mut self, size: f64, seconds: f64) {
        let Some(lines) = self.lines else { return };
        let losses = lines.map(|line| relative_loss(line.at(size), seconds));
        self.losses.observe(&losses, MEMORY);
    }

    /// Takes in a point, without fitting.
    pub(super) fn push(&mut self, size: f64, seconds: f64) {
        if self.points.len() >= REMEMBERED {
            self.points.pop_front();
            let oldest = self.next - REMEMBERED as u64;
            self.slopes.retain(|slope| slope.older != oldest);
        }
        self.points.push_back((size, seconds));
        self.next += 1;
        let known = self.slopes.len();
        self.add_slopes_of(self.points.len() - 1);
        self.slopes[known..].sort_unstable_by(|a, b| a.value.total_cmp(&b.value));
        merge(&mut self.slopes, known);
    }

    /// Appends the slopes from one of the points to all before it.
    fn add_slopes_of(&mut self, place: usize) {
        let first = self.next - self.points.len() as u64;
        let (size, seconds) = self.points[place];
        for (older, &(other, before)) in (first..).zip(self.points.range(..place)) {
            let distance = size - other;
            let value = (seconds - before) / distance;
            if value.is_finite() {
                self.slopes.push(Slope {
                    value,
                    older,
                    newer: first + place as u64,
                    distance: (distance / (size + other)).abs(),
                });
            }
        }
    }

    /// Keeps the newest `count` points only.
    pub(super) fn keep_newest(&mut self, count: usize) {
        self.rebuild(count, |_, point| point);
    }

    /// Multiplies the seconds of all but the newest `count` points.
    pub(super) fn scale_older(&mut self, count: usize, ratio: f64) {
        let newest = self.points.len().saturating_sub(count);
        self.rebuild(self.points.len(), |index, (size, seconds)| {
            let seconds = if index < newest {
                (seconds * ratio).min(crate::estimate::MAX_SECONDS)
            } else {
                seconds
            };
            (size, seconds)
        });
    }

    fn rebuild(&mut self, keep: usize, change: impl Fn(usize, (f64, f64)) -> (f64, f64)) {
        let skip = self.points.len().saturating_sub(keep);
        let points: Vec<(f64, f64)> = self
            .points
            .iter()
            .enumerate()
            .skip(skip)
            .map(|(index, point)| change(index, *point))
            .collect();
        self.points.clear();
        self.points.extend(points);
        self.slopes.clear();
        for place in 1..self.points.len() {
            self.add_slopes_of(place);
        }
        self.slopes
            .sort_unstable_by(|a, b| a.value.total_cmp(&b.value));
    }

    /// Fits every estimator to the points and mixes them. `algorithm_1` sleeps
    /// where there is none: the slowest line stands in for it.
    pub(super) fn fit(&mut self, algorithm_1: Option<Line>) {
        self.lines = self.estimators(algorithm_1);
        let weights = self.losses.weights(RATE);
        self.heaviest = (1..ESTIMATORS).fold(0, |best, index| {
            if weights[index] > weights[best] {
                index
            } else {
                best
            }
        });
        self.mixed = self.lines.and_then(|lines| {
            let size = self.middle_size();
            let mut by_value: [(f64, usize); ESTIMATORS] =
                std::array::from_fn(|index| (lines[index].at(size), index));
            by_value.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            let weighed = by_value.map(|(_, index)| weights[index]);
            let (lower, upper, share) = weighted_middle(&weighed);
            let (lower, upper) = (lines[by_value[lower].1], lines[by_value[upper].1]);
            let between = Line {
                slope: lower.slope + (upper.slope - lower.slope) * share,
                intercept: lower.intercept + (upper.intercept - lower.intercept) * share,
                ..lower
            };
            between.is_sound().then_some(between)
        });
    }

    /// The median of the sizes remembered.
    fn middle_size(&self) -> f64 {
        let mut sizes = [0.0; REMEMBERED];
        let count = self.points.len().min(REMEMBERED);
        for (to, (size, _)) in sizes.iter_mut().zip(&self.points) {
            *to = *size;
        }
        median(&mut sizes[..count]).unwrap_or(0.0)
    }

    fn estimators(&self, algorithm_1: Option<Line>) -> Option<[Line; ESTIMATORS]> {
        let slopes = self.slopes_by_half_life()?;
        let lines = [
            self.line(0, slopes[0])?,
            self.line(1, slopes[1])?,
            self.line(2, slopes[2])?,
        ];
        let shape = lines[2];
        let (mut ratios, mut residuals) = ([(0.0, 0); REMEMBERED], [(0.0, 0); REMEMBERED]);
        let count = self.points.len().min(REMEMBERED);
        for (index, &(size, seconds)) in self.points.iter().enumerate().take(count) {
            let expected = shape.at(size);
            let age = count - 1 - index;
            ratios[index] = (seconds / expected.max(super::LEAST_SCALE), age);
            residuals[index] = (seconds - expected, age);
        }
        let level = |values: &mut [(f64, usize)], otherwise: f64| {
            values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            LEVELS.map(|half_life| {
                let keep = f64::exp2(-1.0 / half_life);
                let mut by_age = [1.0; REMEMBERED];
                for age in 1..REMEMBERED {
                    by_age[age] = by_age[age - 1] * keep;
                }
                let weighted = values.iter().map(|&(v, age)| (v, by_age[age]));
                weighted_quantile(weighted, 0.5)
                    .filter(|level| level.is_finite())
                    .unwrap_or(otherwise)
            })
        };
        let factors = level(&mut ratios[..count], 1.0);
        let offsets = level(&mut residuals[..count], 0.0);
        let mut all = [shape; ESTIMATORS];
        all[0] = algorithm_1.filter(Line::is_sound).unwrap_or(shape);
        all[1..4].copy_from_slice(&lines);
        for (to, factor) in all[4..7].iter_mut().zip(factors) {
            *to = shape.times(factor);
        }
        for (to, offset) in all[7..].iter_mut().zip(offsets) {
            *to = shape.plus(offset);
        }
        all.iter().all(Line::is_sound).then_some(all)
    }

    /// The median slope of each half-life.
    fn slopes_by_half_life(&self) -> Option<[f64; 3]> {
        let newest = self.next.checked_sub(1)?;
        let mut weights = [[0.0; PAIRS]; 3];
        let mut totals = [0.0; 3];
        for (index, slope) in self.slopes.iter().enumerate().take(PAIRS) {
            let older = ((newest - slope.older) as usize).min(REMEMBERED - 1);
            let newer = ((newest - slope.newer) as usize).min(REMEMBERED - 1);
            for (speed, by_age) in BY_AGE.iter().enumerate() {
                let weight = by_age[older] * by_age[newer] * slope.distance;
                weights[speed][index] = weight;
                totals[speed] += weight;
            }
        }
        let mut slopes = [0.0; 3];
        for (speed, slope) in slopes.iter_mut().enumerate() {
            let weighted = self.slopes.iter().map(|s| s.value).zip(weights[speed]);
            *slope = weighted_quantile_of(weighted, totals[speed], 0.5)
                .or_else(|| self.slope_of_one_size())?
                .max(0.0);
        }
        Some(slopes)
    }

    /// The robust line of one half-life, through the median height.
    fn line(&self, speed: usize, slope: f64) -> Option<Line> {
        let newest = self.next.checked_sub(1)?;
        let weight = |number: u64| BY_AGE[speed][((newest - number) as usize).min(REMEMBERED - 1)];
        let height = self.weighted_middle_of(&weight, |size, seconds| seconds - slope * size)?;
        let mut line = Line {
            slope,
            intercept: height,
            least_items: self
                .points
                .iter()
                .map(|p| p.0)
                .fold(f64::INFINITY, f64::min),
        };
        // What a run costs besides its items is no gain: where the line would
        // say so, it goes through the origin.
        if height < 0.0
            && let Some(per_item) = self.weighted_middle_of(&weight, |size, seconds| seconds / size)
        {
            line.slope = per_item;
            line.intercept = 0.0;
        }
        line.is_sound().then_some(line)
    }

    /// The median over the points of what `of` says of each, weighed by age;
    /// `None` where that is no number.
    fn weighted_middle_of(
        &self,
        weight: &impl Fn(u64) -> f64,
        of: impl Fn(f64, f64) -> f64,
    ) -> Option<f64> {
        let first = self.next - self.points.len() as u64;
        let mut values = [(0.0, 0.0); REMEMBERED];
        let mut count = 0;
        for (number, &(size, seconds)) in (first..).zip(&self.points) {
            let value = of(size, seconds);
            if value.is_finite() && count < REMEMBERED {
                values[count] = (value, weight(number));
                count += 1;
            }
        }
        let values = &mut values[..count];
        values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        weighted_quantile(values.iter().copied(), 0.5)
    }

    /// Points of one size say nothing of the slope: of "all of the time is per
    /// item" and "none of it is", the middle.
    fn slope_of_one_size(&self) -> Option<f64> {
        let (size, _) = *self.points.back()?;
        let mut seconds: Vec<f64> = self.points.iter().map(|p| p.1).collect();
        let middle = median(&mut seconds)?;
        Some(if size > 0.0 { 0.5 * middle / size } else { 0.0 }).filter(|slope| slope.is_finite())
    }
}

/// Merges two runs in rising order, the second from `known` on.
fn merge(slopes: &mut [Slope], known: usize) {
    let mut newer = [Slope::NONE; REMEMBERED];
    let count = slopes.len() - known;
    newer[..count].copy_from_slice(&slopes[known..]);
    let (mut old, mut new) = (known, count);
    while new > 0 {
        let to = old + new - 1;
        if old > 0 && slopes[old - 1].value > newer[new - 1].value {
            slopes[to] = slopes[old - 1];
            old -= 1;
        } else {
            slopes[to] = newer[new - 1];
            new -= 1;
        }
    }
}
