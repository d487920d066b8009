//! Gradient-boosted regression trees (the paper's future work, section 5) for
//! times that no line describes: a step where a batch no longer fits the GPU,
//! a rate that saturates. The boosting is `smartcore`'s.
//!
//! * **What is learned**: the logarithm of seconds as if warm, over the sizes by
//!   every measure that half the runs told, from the last [`REMEMBERED`] runs. A size
//!   that a run did not tell is what it usually is for as many items.
//! * **When**: after every [`EVERY`] runs once there are [`LEAST`], and half as
//!   often again and again while the lines do no worse. Off the request path.
//! * **What is published**: each tree has one split, so that the sum of all is
//!   a sum of one function per measure, and tables of these lose nothing but
//!   what lies between their knots. There they are drawn straight, since times
//!   rarely jump, and made to never fall. A table is `Copy` and read in
//!   nanoseconds. Beyond the sizes seen, trees know nothing: there the line
//!   over items goes on from the table's end.
//! * **Changes of regime**: when [`REGIME`] runs in a row lie far to one side of
//!   what the trees said, all before are scaled. Not when Algorithm 1's line is
//!   missed as often: it is, by every stretch of runs on one side of a step.
//! * **Robust**: where items are all that is told, the trees see the medians of
//!   runs of about the same size, as many of each. Otherwise each run.

use std::collections::VecDeque;

use serde::{Serialize, Serializer};
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::xgboost::{XGRegressor, XGRegressorParameters};

use super::REGIME;
use super::line::Line;
use super::run::MEASURES;
use crate::estimate::{MAX_SECONDS, MAX_SIZE};
use crate::mixture::{Losses, relative_loss};
use crate::quantile::median;

/// Name of the estimator.
pub(super) const NAME: &str = "boosted_trees";

/// Runs learned from, and the fewest.
const REMEMBERED: usize = 200;
const LEAST: usize = 30;

/// Runs between two fits while the trees are of use, and at most.
const EVERY: usize = 10;
const SELDOM: usize = 320;

/// Groups of runs of about one size, each of no fewer runs than this.
const GROUPS: usize = 24;
const GROUP: usize = 3;

/// Knots of the table over items and of the others.
const KNOTS: usize = 24;
const OTHER_KNOTS: usize = 8;

/// Trees and how much each corrects.
const TREES: usize = 20;
const RATE: f64 = 0.5;

/// Half-life of the losses in runs; the fewest runs before the trees may take
/// over, and the share of the lines' loss that theirs must come below.
const MEMORY: f64 = 16.0;
const MEMORY_LEAST: f64 = 8.0;
const SHARE: f64 = 0.8;

/// Seconds below which a logarithm tells nothing.
const LEAST_SECONDS: f64 = 1e-6;

/// Outcomes lie far off when by more than this share, and by twice the trees'
/// recent loss.
const MISS: f64 = 0.2;

type Sizes = [Option<f64>; MEASURES];

/// A function given by knots, straight between them and level beyond.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Table<const N: usize> {
    sizes: [f64; N],
    values: [f64; N],
    /// At least one.
    count: usize,
}

impl<const N: usize> Table<N> {
    /// Never falling: halfway between the least such function above the values
    /// and the greatest below. `None` without knots or with values that are no
    /// numbers.
    fn rising(sizes: &[f64], values: &[f64]) -> Option<Self> {
        let count = sizes.len().min(values.len()).min(N);
        let sound = |all: &[f64]| all.iter().all(|value| value.is_finite());
        if count == 0 || !sound(&sizes[..count]) || !sound(&values[..count]) {
            return None;
        }
        let mut table = Self {
            sizes: [0.0; N],
            values: [0.0; N],
            count,
        };
        table.sizes[..count].copy_from_slice(&sizes[..count]);
        let mut highest = f64::NEG_INFINITY;
        for (to, value) in table.values[..count].iter_mut().zip(values) {
            highest = highest.max(*value);
            *to = highest;
        }
        let mut lowest = f64::INFINITY;
        for (to, value) in table.values[..count].iter_mut().zip(values).rev() {
            lowest = lowest.min(*value);
            *to = f64::midpoint(*to, lowest);
        }
        Some(table)
    }

    fn first(&self) -> (f64, f64) {
        (self.sizes[0], self.values[0])
    }

    fn last(&self) -> (f64, f64) {
        (self.sizes[self.count - 1], self.values[self.count - 1])
    }

    fn at(&self, size: f64) -> f64 {
        let after = self.sizes[..self.count].partition_point(|knot| *knot <= size);
        if after == 0 {
            return self.first().1;
        }
        if after == self.count {
            return self.last().1;
        }
        let (from, to) = (self.sizes[after - 1], self.sizes[after]);
        let (low, high) = (self.values[after - 1], self.values[after]);
        // Rounding must not lift it above its end.
        (low + (high - low) * ((size - from) / (to - from))).min(high)
    }
}

/// As pairs of size and value.
impl<const N: usize> Serialize for Table<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.sizes.iter().zip(&self.values).take(self.count))
    }
}

/// What another measure than items multiplies by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Factor {
    /// Logarithms over the size, nought at the usual one.
    logarithm: Table<OTHER_KNOTS>,
    /// The size per item where a run does not tell it.
    per_item: f64,
}

/// Boosted trees as tables: seconds over sizes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Curve {
    /// Seconds over items, the other sizes being usual.
    by_items: Table<KNOTS>,
    /// By measure, items left out.
    factors: [Option<Factor>; MEASURES - 1],
}

impl Curve {
    /// Seconds for a run: finite, at least zero, never less for any larger
    /// size. `line` leads on beyond the items seen.
    pub(super) fn at(&self, sizes: &Sizes, line: &Line) -> f64 {
        let items = sizes[0].unwrap_or(0.0);
        let (least, at_least) = self.by_items.first();
        let (most, at_most) = self.by_items.last();
        let seconds = if items > most {
            at_most + (line.at(items) - line.at(most)).max(0.0)
        } else if items < least {
            let on_line = at_least - (line.at(least) - line.at(items)).max(0.0);
            on_line.max(at_least * (items / least))
        } else {
            self.by_items.at(items)
        };
        let mut logarithm = 0.0;
        for (factor, size) in self.factors.iter().zip(&sizes[1..]) {
            if let Some(factor) = factor {
                let size = size.unwrap_or((factor.per_item * items).min(MAX_SIZE));
                logarithm += factor.logarithm.at(size);
            }
        }
        let factor = if logarithm == 0.0 {
            1.0
        } else {
            logarithm.exp()
        };
        (seconds * factor).clamp(0.0, MAX_SECONDS)
    }

    fn times(mut self, ratio: f64) -> Self {
        for value in &mut self.by_items.values {
            *value = (*value * ratio).min(MAX_SECONDS);
        }
        self
    }
}

/// The runs that trees are grown from, and how these did.
#[derive(Debug, Clone)]
pub(super) struct Trees {
    runs: VecDeque<(Sizes, f64)>,
    curve: Option<Curve>,
    /// Of the lines, then of the trees.
    losses: Losses<2>,
    /// The newest outcomes over what the trees said; ones at first.
    ratios: [f64; REGIME],
    rules: bool,
    /// Runs since the last fit, and after how many the next is due.
    waiting: usize,
    every: usize,
}

impl Trees {
    pub(super) fn new() -> Self {
        Self {
            runs: VecDeque::new(),
            curve: None,
            losses: Losses::NONE,
            ratios: [1.0; REGIME],
            rules: false,
            waiting: 0,
            every: EVERY,
        }
    }

    /// What is in force instead of the lines, if the trees did better lately.
    pub(super) fn in_force(&self) -> Option<Curve> {
        self.curve.filter(|_| self.rules)
    }

    /// Judges trees and lines on a new run; `by_lines` is what the lines said.
    pub(super) fn judge(&mut self, sizes: &Sizes, seconds: f64, by_lines: f64, line: &Line) {
        let Some(curve) = &self.curve else { return };
        let by_trees = curve.at(sizes, line);
        self.losses.observe(
            &[by_lines, by_trees].map(|predicted| relative_loss(predicted, seconds)),
            MEMORY,
        );
        let ratio = seconds / by_trees.max(LEAST_SECONDS);
        self.ratios.rotate_left(1);
        self.ratios[REGIME - 1] = ratio;
        self.follow();
        self.rules = if self.rules {
            self.losses.in_force(1, 1.0, 0.0) == 1
        } else {
            self.losses.in_force(0, SHARE, MEMORY_LEAST) == 1
        };
    }

    /// Where the newest outcomes lie far to one side, the machine became that
    /// much slower or faster: so did all older runs' like, and the trees.
    fn follow(&mut self) {
        let miss = MISS.max(2.0 * self.losses.mean(1).unwrap_or(0.0));
        let slower = self.ratios.iter().all(|ratio| *ratio > 1.0 + miss);
        let faster = self.ratios.iter().all(|ratio| *ratio < 1.0 / (1.0 + miss));
        if slower || faster {
            let ratio = median(&mut self.ratios.clone()).unwrap_or(1.0);
            // The newest run of all is not yet taken in.
            self.scale_older(REGIME - 1, ratio);
            self.ratios = [1.0; REGIME];
        }
    }

    /// Takes in a run; grows the trees anew where that is due.
    pub(super) fn push(&mut self, sizes: Sizes, seconds: f64) {
        if self.runs.len() >= REMEMBERED {
            self.runs.pop_front();
        }
        self.runs.push_back((sizes, seconds));
        self.waiting += 1;
        if self.runs.len() < LEAST || self.waiting < self.every {
            return;
        }
        self.waiting = 0;
        let of_use = match (self.losses.mean(0), self.losses.mean(1)) {
            (Some(lines), Some(trees)) => trees < lines,
            _ => true,
        };
        self.every = if of_use {
            EVERY
        } else {
            (self.every * 2).min(SELDOM)
        };
        self.curve = grow(&self.runs);
    }

    /// Multiplies the seconds of all but the newest `count` runs.
    fn scale_older(&mut self, count: usize, ratio: f64) {
        let old = self.runs.len().saturating_sub(count);
        for (_, seconds) in self.runs.range_mut(..old) {
            *seconds = (*seconds * ratio).min(MAX_SECONDS);
        }
        self.curve = self.curve.map(|curve| curve.times(ratio));
    }
}

/// Rows for the trees, by columns.
struct Rows {
    columns: Vec<Vec<f64>>,
    /// Logarithms of seconds.
    targets: Vec<f64>,
}

/// Boosts trees over the runs. `None` where they cannot be told apart.
fn grow(runs: &VecDeque<(Sizes, f64)>) -> Option<Curve> {
    // Other measures that half the runs told and that are no mere multiple of
    // the items, with their usual size per item.
    let mut per_item = [None; MEASURES - 1];
    for (index, usual) in per_item.iter_mut().enumerate() {
        let mut told: Vec<f64> = runs
            .iter()
            .filter_map(|(sizes, _)| Some(sizes[index + 1]? / sizes[0]?))
            .filter(|share| *share <= MAX_SIZE)
            .collect();
        let least = told.iter().copied().fold(f64::INFINITY, f64::min);
        let most = told.iter().copied().fold(0.0, f64::max);
        if 2 * told.len() >= runs.len() && most > least * (1.0 + 1e-6) {
            *usual = median(&mut told);
        }
    }
    let rows = rows(runs, &per_item);
    let by_size = |column: &[f64], most: usize| knots(column, most);
    let items = by_size(rows.columns.first()?, KNOTS);
    if items.len() < 2 {
        return None;
    }
    let base = rows.targets.iter().sum::<f64>() / rows.targets.len() as f64;
    let parameters = XGRegressorParameters::default()
        .with_n_estimators(TREES)
        .with_max_depth(1)
        .with_learning_rate(RATE)
        .with_base_score(base);
    // Asked about: every knot of every measure, the others being usual.
    let usual: Vec<f64> = rows
        .columns
        .iter()
        .map(|column| median(&mut column.clone()).unwrap_or(0.0))
        .collect();
    let mut asked = vec![usual.clone()];
    let knots_by_column: Vec<Vec<f64>> = rows
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| by_size(column, if index == 0 { KNOTS } else { OTHER_KNOTS }))
        .collect();
    for (index, knots) in knots_by_column.iter().enumerate() {
        for knot in knots {
            let mut row = usual.clone();
            row[index] = *knot;
            asked.push(row);
        }
    }
    let (count, width) = (rows.targets.len(), rows.columns.len());
    // `smartcore` compares numbers and would panic on what is none. The sizes and
    // seconds of runs are finite and bounded; this holds it to that.
    let all = || rows.columns.iter().flatten().chain(&rows.targets);
    if !all().all(|number| number.is_finite()) {
        return None;
    }
    let learned = DenseMatrix::new(count, width, rows.columns.concat(), true).ok()?;
    let questions = DenseMatrix::new(asked.len(), width, asked.concat(), false).ok()?;
    let trees = XGRegressor::fit(&learned, &rows.targets, parameters).ok()?;
    let answers: Vec<f64> = trees.predict(&questions).ok()?;
    let (at_usual, mut rest) = answers.split_first()?;
    let mut factors = [None; MEASURES - 1];
    let mut by_items = None;
    let told = per_item.iter().enumerate().filter(|(_, p)| p.is_some());
    let places = std::iter::once(None).chain(told.map(|(index, p)| Some((index, *p))));
    for (place, knots) in places.zip(&knots_by_column) {
        let (values, others) = rest.split_at_checked(knots.len())?;
        rest = others;
        match place {
            None => {
                let seconds: Vec<f64> = values.iter().map(|v| v.exp().min(MAX_SECONDS)).collect();
                by_items = Table::rising(knots, &seconds);
            }
            Some((index, per_item)) => {
                let over: Vec<f64> = values.iter().map(|value| value - at_usual).collect();
                factors[index] = Some(Factor {
                    logarithm: Table::rising(knots, &over)?,
                    per_item: per_item?,
                });
            }
        }
    }
    Some(Curve {
        by_items: by_items?,
        factors,
    })
}

/// The runs by items: grouped where these are all that is told.
fn rows(runs: &VecDeque<(Sizes, f64)>, per_item: &[Option<f64>; MEASURES - 1]) -> Rows {
    let mut sorted: Vec<&(Sizes, f64)> = runs.iter().collect();
    let items = |run: &(Sizes, f64)| run.0[0].unwrap_or(0.0);
    sorted.sort_by(|a, b| items(a).total_cmp(&items(b)));
    let logarithm = |seconds: f64| seconds.max(LEAST_SECONDS).ln();
    if per_item.iter().all(Option::is_none) {
        let groups = (sorted.len() / GROUP).clamp(1, GROUPS);
        let (mut column, mut targets) = (Vec::with_capacity(groups), Vec::with_capacity(groups));
        for group in 0..groups {
            let range = group * sorted.len() / groups..(group + 1) * sorted.len() / groups;
            let group = &sorted[range];
            let mut sizes: Vec<f64> = group.iter().map(|run| items(run)).collect();
            let mut seconds: Vec<f64> = group.iter().map(|run| run.1).collect();
            if let (Some(size), Some(seconds)) = (median(&mut sizes), median(&mut seconds)) {
                column.push(size);
                targets.push(logarithm(seconds));
            }
        }
        return Rows {
            columns: vec![column],
            targets,
        };
    }
    let mut columns = vec![sorted.iter().map(|run| items(run)).collect::<Vec<f64>>()];
    for (index, per_item) in per_item.iter().enumerate() {
        if let Some(per_item) = per_item {
            let size = |run: &&(Sizes, f64)| {
                run.0[index + 1].unwrap_or_else(|| (per_item * items(run)).min(MAX_SIZE))
            };
            columns.push(sorted.iter().map(size).collect());
        }
    }
    Rows {
        columns,
        targets: sorted.iter().map(|run| logarithm(run.1)).collect(),
    }
}

/// At most `most` different sizes of a column, evenly by rank, ends included.
fn knots(column: &[f64], most: usize) -> Vec<f64> {
    let mut sizes = column.to_vec();
    sizes.sort_unstable_by(f64::total_cmp);
    sizes.dedup();
    if sizes.len() <= most {
        return sizes;
    }
    (0..most)
        .map(|index| sizes[index * (sizes.len() - 1) / (most - 1)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunFeatures;
    use crate::processing::{ProcessingConfig, ProcessingHistory, ProcessingModel, Run};
    use proptest::prelude::*;

    /// Sizes in no order that repeats soon.
    fn items(index: usize) -> f64 {
        5.0 + ((index * 7919) % 170) as f64
    }

    /// Within 3 %.
    fn noise(index: usize) -> f64 {
        1.0 + 0.03 * (index as f64 * 2.3).sin()
    }

    /// Batches over 90 no longer fit the GPU's memory.
    fn step(items: f64) -> f64 {
        if items <= 90.0 {
            4.0 + 0.05 * items
        } else {
            40.0 + 0.05 * items
        }
    }

    /// What is learned from 200 runs, then the mean relative errors over the next
    /// 100, each predicted in advance: by the model, and by its lines alone.
    fn replayed(truth: impl Fn(usize) -> Run) -> (ProcessingHistory, f64, f64) {
        let mut history = ProcessingHistory::new(ProcessingConfig::default(), 7);
        let (mut by_model, mut by_lines) = (0.0, 0.0);
        for index in 0..300 {
            let run = truth(index);
            if index >= 200 {
                let lines = history
                    .shape_of_lines()
                    .warm_seconds(&run.features.sizes())
                    .unwrap();
                by_lines += relative_loss(lines, run.seconds) / 100.0;
                let predicted = history.fit().predict_run(&run.features).mean;
                by_model += relative_loss(predicted, run.seconds) / 100.0;
            }
            assert!(history.observe(&run));
        }
        (history, by_model, by_lines)
    }

    fn named(model: &ProcessingModel) -> &'static str {
        model.basis().estimator
    }

    #[test]
    fn a_step_is_learned_where_lines_fail() {
        let (history, by_model, by_lines) =
            replayed(|index| Run::new(items(index), step(items(index)) * noise(index)));
        println!("step: {by_model} against {by_lines}");
        assert!(by_model < 0.4 * by_lines, "{by_model} against {by_lines}");
        let model = history.fit();
        assert_eq!(named(&model), NAME);
        assert!(model.basis().recent_error.unwrap() < 0.1);
        for size in [20.0, 60.0, 120.0, 170.0] {
            let mean = model.predict(size).mean;
            assert!((mean / step(size) - 1.0).abs() < 0.1, "{mean} at {size}");
        }
        // Beyond what was seen a line leads on, and there is no less.
        assert!(model.predict(1000.0).mean > model.predict(170.0).mean);
        assert!(model.predict(1.0).mean < model.predict(20.0).mean);
    }

    #[test]
    fn a_saturating_rate_is_learned_where_lines_fail() {
        let (history, by_model, by_lines) = replayed(|index| {
            let seconds = 60.0 * (1.0 - (-items(index) / 25.0).exp());
            Run::new(items(index), seconds * noise(index))
        });
        println!("saturating: {by_model} against {by_lines}");
        assert!(by_model < 0.5 * by_lines, "{by_model} against {by_lines}");
        assert_eq!(named(&history.fit()), NAME);
    }

    #[test]
    fn a_step_over_pixels_is_learned_where_these_are_told() {
        let (history, by_model, by_lines) = replayed(|index| {
            let items = items(index);
            let large = (index * 31) % 2 == 0;
            let pixels = items * if large { 8e6 } else { 1e6 };
            let seconds = if pixels > 3e8 { 4.0 } else { 1.0 } * (2.0 + 0.1 * items);
            Run {
                features: RunFeatures {
                    pixels: Some(pixels),
                    ..RunFeatures::of_items(items)
                },
                seconds: seconds * noise(index),
            }
        });
        println!("pixels: {by_model} against {by_lines}");
        assert!(by_model < 0.7 * by_lines, "{by_model} against {by_lines}");
        let model = history.fit();
        assert_eq!(named(&model), NAME);
        let of = |pixels: Option<f64>| {
            model.predict_run(&RunFeatures {
                pixels,
                ..RunFeatures::of_items(80.0)
            })
        };
        assert!(of(Some(6.4e8)).mean > 2.0 * of(Some(8e7)).mean);
        assert!(of(None).known);
    }

    #[test]
    fn a_line_stays_with_the_lines_and_trees_are_grown_ever_more_seldom() {
        let (history, by_model, by_lines) =
            replayed(|index| Run::new(items(index), (28.0 + 0.33 * items(index)) * noise(index)));
        assert_ne!(named(&history.fit()), NAME);
        assert_eq!(by_model, by_lines);
        assert!(history.trees.every > EVERY, "{}", history.trees.every);
    }

    #[test]
    fn short_logs_are_the_lines_alone() {
        let mut history = ProcessingHistory::new(ProcessingConfig::default(), 7);
        for index in 0..LEAST + MEMORY_LEAST as usize {
            assert_eq!(history.shape(), history.shape_of_lines());
            history.push(items(index), step(items(index)));
        }
    }

    /// Lines under noise that trees may take for a shape: 40 logs, each noisier.
    #[test]
    fn noise_is_not_taken_for_a_shape() {
        use rand::{Rng, SeedableRng};
        let (mut by_models, mut by_lines) = (0.0, 0.0);
        for log in 0..40 {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(log);
            let spread = 0.02 * (1 + log) as f64;
            let noise: Vec<f64> = (0..300)
                .map(|_| (spread * rng.random_range(-1.0..1.0f64)).exp())
                .collect();
            let (_, by_model, by_line) = replayed(|index| {
                Run::new(items(index), (8.0 + 0.33 * items(index)) * noise[index])
            });
            by_models += by_model;
            by_lines += by_line;
        }
        println!("noise: {by_models} against {by_lines} over 40 logs");
        assert!(
            by_models < 1.002 * by_lines,
            "{by_models} against {by_lines}"
        );
    }

    #[test]
    fn a_change_of_regime_moves_the_trees_too() {
        let (mut history, _, _) = replayed(|index| Run::new(items(index), step(items(index))));
        for index in 300..312 {
            history.push(items(index), 3.0 * step(items(index)));
        }
        for size in [40.0, 150.0] {
            let mean = history.fit().predict(size).mean;
            assert!(
                (mean / (3.0 * step(size)) - 1.0).abs() < 0.5,
                "{mean} at {size}"
            );
        }
    }

    fn size() -> impl Strategy<Value = f64> {
        prop_oneof![
            6 => 0.0f64..300.0,
            1 => Just(0.0),
            1 => Just(1e15),
            1 => Just(f64::MIN_POSITIVE),
            1 => 1e-300f64..1e15,
        ]
    }

    fn sizes() -> impl Strategy<Value = Sizes> {
        let positive = || proptest::option::of(size().prop_filter("none", |s| *s > 0.0));
        (size(), positive(), positive(), positive())
            .prop_map(|(items, bytes, pixels, per_gpu)| [Some(items), bytes, pixels, per_gpu])
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever they are grown from: finite, never less for more, the same
        /// twice.
        #[test]
        fn trees_are_sound_and_never_fall(
            runs in proptest::collection::vec((sizes(), prop_oneof![Just(0.0), Just(1e12), 0.0f64..500.0]), 1..90),
            items_alone in any::<bool>(),
            slope in 0.0f64..10.0, intercept in -100.0f64..100.0,
            asked in sizes(), mut more in proptest::collection::vec(size(), 2..12),
        ) {
            let runs: VecDeque<(Sizes, f64)> = runs.into_iter()
                .map(|(sizes, seconds)| (if items_alone { [sizes[0], None, None, None] } else { sizes }, seconds))
                .collect();
            let curve = grow(&runs);
            prop_assert_eq!(curve, grow(&runs));
            let line = Line { slope, intercept, least_items: 3.0 };
            if let Some(curve) = curve {
                more.sort_by(f64::total_cmp);
                for measure in 0..MEASURES {
                    let mut before = 0.0;
                    for size in &more {
                        let mut asked = asked;
                        asked[measure] = Some(*size);
                        let seconds = curve.at(&asked, &line);
                        prop_assert!(seconds.is_finite() && seconds >= 0.0);
                        prop_assert!(seconds >= before * (1.0 - 1e-12), "{} then {}", before, seconds);
                        before = seconds;
                    }
                }
            }
        }
    }
}
