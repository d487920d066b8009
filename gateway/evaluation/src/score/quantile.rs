//! Quantiles of what was measured, and ratios of them, with 95 % confidence intervals by the bootstrap.
//!
//! Measurements come in blocks: what hangs together (the calls of one burst, the answers of one second of load, both
//! sides of a pair) is drawn together, or the intervals would be too narrow. Where every measurement stands for itself,
//! each is a block of its own.

use super::bootstrap::{RESAMPLES, ends};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

/// A quantile, or a ratio of two, with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The value itself.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Measurements it stands on; of a ratio, the pairs or blocks.
    pub cases: usize,
}

impl Interval {
    /// Whether the interval holds a value: then the two cannot be told apart.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// Measurements in the order of their values, each with its block.
struct Pooled {
    sorted: Vec<(f64, usize)>,
    blocks: usize,
}

impl Pooled {
    /// Values that are no numbers are left out.
    fn of<'a>(blocks: impl Iterator<Item = &'a [f64]>) -> Self {
        let (mut sorted, mut count) = (Vec::new(), 0);
        for (block, values) in blocks.enumerate() {
            sorted.extend(
                values
                    .iter()
                    .filter(|value| value.is_finite())
                    .map(|value| (*value, block)),
            );
            count = block + 1;
        }
        sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        Self {
            sorted,
            blocks: count,
        }
    }

    /// The quantile where every block counts so many times: linear between the two values next to it (type 7 of
    /// Hyndman and Fan, as R and NumPy have it).
    fn at(&self, q: f64, times: &[u32]) -> Option<f64> {
        let of = |block: usize| u64::from(times[block]);
        let all: u64 = self.sorted.iter().map(|(_, block)| of(*block)).sum();
        let place = all.checked_sub(1)? as f64 * q.clamp(0.0, 1.0);
        let (below, share) = (place.floor() as u64, place.fract());
        let (mut passed, mut lower) = (0, None);
        for (value, block) in &self.sorted {
            passed += of(*block);
            if passed > below && lower.is_none() {
                lower = Some(*value);
            }
            if let Some(lower) = lower
                && (share == 0.0 || passed > below + 1)
            {
                return Some(lower + share * (value - lower));
            }
        }
        lower
    }
}

/// Draws blocks anew, with replacement: how often each came.
fn draw(rng: &mut StdRng, times: &mut [u32]) {
    times.fill(0);
    for _ in 0..times.len() {
        times[rng.random_range(0..times.len())] += 1;
    }
}

/// The quantile of one sorted or unsorted list, without an interval; `None` of an empty one.
#[must_use]
pub fn plain_quantile(values: &[f64], q: f64) -> Option<f64> {
    Pooled::of(std::iter::once(values)).at(q, &[1])
}

/// A quantile of measurements that stand each for itself. `None` without any. Equal seeds give equal intervals.
///
/// The interval of a quantile so far out that no more than a measurement or two lie beyond it is too narrow: the
/// bootstrap cannot draw what was not measured.
#[must_use]
pub fn quantile(values: &[f64], q: f64, seed: u64) -> Option<Interval> {
    of_pooled(&Pooled::of(values.chunks(1)), q, seed)
}

/// A quantile of measurements in blocks.
#[must_use]
pub fn block_quantile(blocks: &[Vec<f64>], q: f64, seed: u64) -> Option<Interval> {
    of_pooled(&Pooled::of(blocks.iter().map(Vec::as_slice)), q, seed)
}

fn of_pooled(pooled: &Pooled, q: f64, seed: u64) -> Option<Interval> {
    let mut times = vec![1; pooled.blocks];
    let value = pooled.at(q, &times)?;
    let mut rng = StdRng::seed_from_u64(seed);
    let drawn = (0..RESAMPLES).filter_map(|_| {
        draw(&mut rng, &mut times);
        pooled.at(q, &times)
    });
    let (low, high) = ends(drawn.collect(), value);
    Some(Interval {
        value,
        low,
        high,
        cases: pooled.sorted.len(),
    })
}

/// The median of the ratios within pairs: what both sides of a pair share (a slow minute of the machine) drops out.
/// Pairs whose second side is not above zero are left out.
#[must_use]
pub fn paired_ratio(pairs: &[(f64, f64)], seed: u64) -> Option<Interval> {
    let ratios: Vec<f64> = pairs
        .iter()
        .filter(|(_, second)| *second > 0.0)
        .map(|(first, second)| first / second)
        .collect();
    quantile(&ratios, 0.5, seed)
}

/// The ratio of two quantiles, the first of all first sides over the second of all second sides; both sides of a block
/// are drawn together.
#[must_use]
pub fn quantile_ratio(
    blocks: &[(Vec<f64>, Vec<f64>)],
    first: f64,
    second: f64,
    seed: u64,
) -> Option<Interval> {
    let firsts = Pooled::of(blocks.iter().map(|(values, _)| values.as_slice()));
    let seconds = Pooled::of(blocks.iter().map(|(_, values)| values.as_slice()));
    let ratio = |times: &[u32]| {
        let below = seconds.at(second, times).filter(|below| *below > 0.0)?;
        Some(firsts.at(first, times)? / below)
    };
    let mut times = vec![1; blocks.len()];
    let value = ratio(&times)?;
    let mut rng = StdRng::seed_from_u64(seed);
    let drawn = (0..RESAMPLES).filter_map(|_| {
        draw(&mut rng, &mut times);
        ratio(&times)
    });
    let (low, high) = ends(drawn.collect(), value);
    Some(Interval {
        value,
        low,
        high,
        cases: blocks.len(),
    })
}

/// How far measurements of the same thing lie apart: the span of the middle 80 %, as a share of the median. `None` of
/// fewer than five.
#[must_use]
pub fn spread(values: &[f64]) -> Option<f64> {
    if values.len() < 5 {
        return None;
    }
    let at = |q| plain_quantile(values, q);
    let median = at(0.5).filter(|median| *median > 0.0)?;
    Some((at(0.9)? - at(0.1)?) / median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, by: f64) -> bool {
        (a - b).abs() <= by
    }

    #[test]
    fn quantiles_are_those_of_r_and_numpy() {
        // quantile(c(15, 20, 35, 40, 50), c(0, .05, .3, .4, .5, .99, 1), type = 7)
        let values = [40.0, 15.0, 50.0, 20.0, 35.0];
        for (q, known) in [
            (0.0, 15.0),
            (0.05, 16.0),
            (0.3, 23.0),
            (0.4, 29.0),
            (0.5, 35.0),
            (0.99, 49.6),
            (1.0, 50.0),
        ] {
            let at = plain_quantile(&values, q).expect("values");
            assert!(close(at, known, 1e-9), "{q}: {at} instead of {known}");
        }
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!(close(
            plain_quantile(&hundred, 0.99).expect("values"),
            99.01,
            1e-9
        ));
        assert_eq!(plain_quantile(&[7.0], 0.9), Some(7.0));
        assert_eq!(plain_quantile(&[], 0.5), None);
        assert_eq!(plain_quantile(&[f64::NAN, 3.0], 0.5), Some(3.0));
    }

    #[test]
    fn a_block_that_counts_twice_is_as_if_it_stood_there_twice() {
        let blocks = [vec![1.0, 5.0], vec![2.0], vec![9.0, 4.0, 3.0]];
        let pooled = Pooled::of(blocks.iter().map(Vec::as_slice));
        let written: Vec<f64> = vec![1.0, 5.0, 1.0, 5.0, 9.0, 4.0, 3.0];
        for q in [0.0, 0.1, 0.37, 0.5, 0.9, 1.0] {
            assert_eq!(pooled.at(q, &[2, 0, 1]), plain_quantile(&written, q), "{q}");
        }
        assert_eq!(pooled.at(0.5, &[0, 0, 0]), None);
    }

    #[test]
    fn the_interval_of_a_median_is_that_of_theory() {
        // Even steps from 0 to 1: the standard error of the median of 400 is 1 / (2 f sqrt(400)) = 0.025, f = 1.
        let values: Vec<f64> = (0..400).map(|i| (f64::from(i) + 0.5) / 400.0).collect();
        let median = quantile(&values, 0.5, 7).expect("values");
        assert!(close(median.value, 0.5, 1e-9) && median.cases == 400);
        assert!(close(median.low, 0.5 - 1.96 * 0.025, 0.008), "{median:?}");
        assert!(close(median.high, 0.5 + 1.96 * 0.025, 0.008), "{median:?}");
        assert_eq!(median, quantile(&values, 0.5, 7).expect("values"));
        // sqrt(p (1 - p)) / (f sqrt(n)) = 0.015 at 0.9.
        let ninety = quantile(&values, 0.9, 7).expect("values");
        assert!(close(ninety.low, 0.9 - 1.96 * 0.015, 0.006), "{ninety:?}");
        assert!(close(ninety.high, 0.9 + 1.96 * 0.015, 0.006), "{ninety:?}");
    }

    #[test]
    fn the_interval_holds_the_truth_as_often_as_it_says() {
        // Exponential draws, whose median is ln 2: of 300 intervals, about 95 % hold it.
        let mut rng = StdRng::seed_from_u64(3);
        let held = (0..300)
            .filter(|run| {
                let values: Vec<f64> = (0..40)
                    .map(|_| -rng.random_range(1e-12..1.0_f64).ln())
                    .collect();
                quantile(&values, 0.5, *run)
                    .expect("values")
                    .holds(std::f64::consts::LN_2)
            })
            .count();
        assert!((270..=298).contains(&held), "{held} of 300");
    }

    #[test]
    fn what_hangs_together_makes_a_wider_interval_than_what_does_not() {
        // Twenty blocks of fifty equal values: there are twenty measurements in truth, not a thousand.
        let blocks: Vec<Vec<f64>> = (0..20).map(|i| vec![f64::from(i); 50]).collect();
        let flat: Vec<f64> = blocks.iter().flatten().copied().collect();
        let (together, apart) = (
            block_quantile(&blocks, 0.5, 1).expect("values"),
            quantile(&flat, 0.5, 1).expect("values"),
        );
        assert_eq!(together.value, apart.value);
        assert!(together.high - together.low > 3.0 * (apart.high - apart.low));
    }

    #[test]
    fn pairs_share_what_slows_both_sides() {
        // One side always takes twice the other, whatever the minute.
        let pairs: Vec<(f64, f64)> = (1..=30)
            .map(|i| (2.0 * f64::from(i * i), f64::from(i * i)))
            .collect();
        let ratio = paired_ratio(&pairs, 1).expect("pairs");
        assert_eq!((ratio.value, ratio.low, ratio.high), (2.0, 2.0, 2.0));
        assert!(ratio.holds(2.0) && !ratio.holds(1.0));
        assert_eq!(paired_ratio(&[(1.0, 0.0)], 1), None);
    }

    #[test]
    fn a_burst_is_held_against_the_single_starts_of_its_rounds() {
        let blocks: Vec<(Vec<f64>, Vec<f64>)> = (1..=12)
            .map(|i| {
                let slow = f64::from(i);
                (
                    (1..=16)
                        .map(|n| slow * (1.0 + f64::from(n) / 16.0))
                        .collect(),
                    vec![slow],
                )
            })
            .collect();
        let ratio = quantile_ratio(&blocks, 0.5, 0.5, 1).expect("blocks");
        assert!(ratio.low <= ratio.value && ratio.value <= ratio.high && ratio.cases == 12);
        assert!(close(ratio.value, 1.5, 0.15), "{ratio:?}");
        assert_eq!(quantile_ratio(&[], 0.5, 0.5, 1), None);
        assert_eq!(
            quantile_ratio(&[(vec![1.0], Vec::new())], 0.5, 0.5, 1),
            None
        );
    }

    #[test]
    fn the_spread_is_that_of_the_middle() {
        let even: Vec<f64> = (0..=10).map(|i| 100.0 + f64::from(i)).collect();
        assert!(close(spread(&even).expect("enough"), 8.0 / 105.0, 1e-9));
        assert_eq!(spread(&[1.0; 4]), None);
        assert_eq!(spread(&[1.0; 5]), Some(0.0));
    }
}
