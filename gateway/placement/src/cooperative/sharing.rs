//! What sharing costs beyond the fluid view: round trips to the far place, chunks, the last items, results put together,
//! and two pods that slow one another where they are on one machine. Learned per pair of places from the batches that
//! they shared.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::estimate::{Part, sane_seconds};

/// Batches that are remembered; each counts for less than the next by [`FORGET`].
const POINTS: usize = 30;
const FORGET: f64 = 0.93;
/// What is believed before anything was seen, as standard deviations from "nothing but the fluid view": seconds that a
/// batch costs (a few round trips, a chunk, the last items), and what two pods on one machine slow one another by. They
/// say which of the two a batch of one size alone was: at tenths of a second the first, at seconds the second.
const LIKELY_ADDED_S: f64 = 0.25;
const LIKELY_FACTOR: f64 = 0.3;
/// The same of the relative error of one batch.
const LIKELY_NOISE: f64 = 0.1;
/// Relative errors beyond the typical one, and beyond this, count for less by the square.
const LEAST_OUTLIER: f64 = 0.05;
/// Before the first fit: small batches cost more for each second of the fluid view.
const FIRST_OUTLIER: f64 = 0.3;
const ROUNDS: usize = 6;
/// Batches from which the spread is known.
const ENOUGH: usize = 3;
/// Standard deviations that hold 50 and 90 % of a normal distribution.
const HALF: f64 = 0.674;
const MOST: f64 = 1.645;

/// A shared batch takes `added_s + factor * fluid` seconds; nothing is known by default, and the fluid view stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sharing {
    /// Seconds that each batch takes beyond the fluid view.
    pub added_s: f64,
    /// Seconds for each second of it.
    pub factor: f64,
    /// Typical relative error of this; zero while nothing is known.
    pub spread: f64,
    /// Batches that it was learned from.
    pub points: usize,
}

impl Default for Sharing {
    fn default() -> Self {
        Self {
            added_s: 0.0,
            factor: 1.0,
            spread: 0.0,
            points: 0,
        }
    }
}

impl Sharing {
    /// What a batch takes for which the fluid view says `fluid`.
    #[must_use]
    pub fn of(&self, fluid: &Part) -> Part {
        if !fluid.known || self.points == 0 {
            return *fluid;
        }
        let mean = self.seconds(fluid.mean);
        let own = self.spread * mean;
        // Independent errors, added as squares.
        let offset = |end: f64, deviations: f64| {
            let from = self.factor * (end - fluid.mean);
            from.hypot(deviations * own)
        };
        let ends = |low: f64, high: f64, deviations: f64| {
            (-offset(low, deviations), offset(high, deviations))
        };
        Part::around(
            mean,
            ends(fluid.p50.low, fluid.p50.high, HALF),
            ends(fluid.p90.low, fluid.p90.high, MOST),
            fluid.points,
        )
    }

    fn seconds(&self, fluid_s: f64) -> f64 {
        // However few the batches were, it is never less than half of what cannot be beaten.
        (self.added_s + self.factor * fluid_s).max(0.5 * fluid_s)
    }
}

/// The batches that two places shared.
#[derive(Debug, Clone, Default)]
pub struct SharingHistory {
    /// What the fluid view said, and what it took; the newest last.
    batches: VecDeque<(f64, f64)>,
}

impl SharingHistory {
    /// Notes a batch; whether it could be used.
    pub fn observe(&mut self, fluid_s: f64, actual_s: f64) -> bool {
        let (Some(fluid_s), Some(actual_s)) = (sane_seconds(fluid_s), sane_seconds(actual_s))
        else {
            return false;
        };
        if fluid_s <= 0.0 || actual_s <= 0.0 {
            return false;
        }
        if self.batches.len() == POINTS {
            self.batches.pop_front();
        }
        self.batches.push_back((fluid_s, actual_s));
        true
    }

    /// What they teach: a line through the relative errors, with little weight for outliers.
    #[must_use]
    pub fn fit(&self) -> Sharing {
        let count = self.batches.len();
        let mut sharing = Sharing {
            points: count,
            ..Sharing::default()
        };
        if count == 0 {
            return sharing;
        }
        let newest = i32::try_from(count).unwrap_or(i32::MAX) - 1;
        let age = |index: usize| FORGET.powi(newest - i32::try_from(index).unwrap_or(0));
        let belief = |deviation: f64| (LIKELY_NOISE / deviation).powi(2);
        // A first fit that an outlier has moved would not know it from the others: it is held against the middle.
        let middle_of = |values: &[f64]| {
            let mut ordered = values.to_vec();
            ordered.sort_by(f64::total_cmp);
            ordered[count / 2]
        };
        let ratios: Vec<f64> = self.batches.iter().map(|b| b.1 / b.0).collect();
        let usual = middle_of(&ratios);
        let trusted = |errors: &[f64], least: f64| -> Vec<f64> {
            let limit = middle_of(errors).max(least);
            errors
                .iter()
                .map(|error| (limit / error.max(limit)).powi(2))
                .collect()
        };
        let errors: Vec<f64> = ratios.iter().map(|r| ((r - usual) / r).abs()).collect();
        let mut trust = trusted(&errors, FIRST_OUTLIER);
        for _ in 0..ROUNDS {
            // Least squares for added and factor - 1, in units of the fluid view: in units of what each batch took,
            // those that took long would count for little.
            let mut added = (belief(LIKELY_ADDED_S), 0.0);
            let (mut cross, mut slope) = (0.0, (belief(LIKELY_FACTOR), 0.0));
            for (index, (&(fluid, actual), trust)) in self.batches.iter().zip(&trust).enumerate() {
                let weight = age(index) * trust / (fluid * fluid);
                let beyond = actual - fluid;
                added.0 += weight;
                added.1 += weight * beyond;
                cross += weight * fluid;
                slope.0 += weight * fluid * fluid;
                slope.1 += weight * fluid * beyond;
            }
            let determinant = added.0 * slope.0 - cross * cross;
            if determinant <= 0.0 || !determinant.is_finite() {
                break;
            }
            sharing.added_s = (added.1 * slope.0 - slope.1 * cross) / determinant;
            sharing.factor = 1.0 + (slope.1 * added.0 - added.1 * cross) / determinant;
            let errors: Vec<f64> = self
                .batches
                .iter()
                .map(|&(fluid, actual)| ((sharing.seconds(fluid) - actual) / actual).abs())
                .collect();
            trust = trusted(&errors, LEAST_OUTLIER);
            // Half of a normal distribution's errors are below HALF of its deviations.
            sharing.spread = if count < ENOUGH {
                0.0
            } else {
                middle_of(&errors) / HALF
            };
        }
        sharing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(batches: &[(f64, f64)]) -> Sharing {
        let mut history = SharingHistory::default();
        for &(fluid, actual) in batches {
            assert!(history.observe(fluid, actual));
        }
        history.fit()
    }

    #[test]
    fn nothing_known_leaves_the_fluid_view_alone() {
        let fluid = Part::around(3.0, (-0.5, 0.5), (-1.0, 2.0), 7);
        assert_eq!(SharingHistory::default().fit().of(&fluid), fluid);
        assert_eq!(learned(&[(1.0, 2.0)]).of(&Part::UNKNOWN), Part::UNKNOWN);
        let mut history = SharingHistory::default();
        assert!(!history.observe(f64::NAN, 1.0) && !history.observe(0.0, 1.0));
    }

    #[test]
    fn what_each_batch_and_each_second_cost_is_told_apart() {
        // Measured between two network namespaces: seconds of the fluid view, and what 100, 50 and 25 images took.
        let seen = [
            (0.96, 1.22),
            (0.95, 1.16),
            (0.46, 0.65),
            (0.24, 0.39),
            (0.46, 0.69),
            (0.91, 1.15),
            (0.23, 0.38),
        ];
        let sharing = learned(&seen);
        for (fluid, actual) in seen {
            let error = (sharing.of(&Part::exact(fluid)).mean - actual).abs() / actual;
            assert!(
                error < 0.09,
                "{sharing:?}: {fluid} gives an error of {error}"
            );
        }
        assert!(
            sharing.added_s > 0.08 && sharing.spread < 0.1,
            "{sharing:?}"
        );
    }

    #[test]
    fn large_batches_alone_tell_what_small_ones_take() {
        // Two pods of one machine, slowed by one another; measured: seconds of the fluid view, and what 100 images took.
        let sharing = learned(&[(1.79, 2.95), (1.85, 2.99)]);
        for (fluid, actual) in [(0.93, 1.69), (0.5, 0.91)] {
            let told = sharing.of(&Part::exact(fluid)).mean;
            assert!((told - actual).abs() / actual < 0.15, "{sharing:?}: {told}");
        }
        // And two machines, with a link between them.
        let told = learned(&[(0.96, 1.22), (0.95, 1.16)])
            .of(&Part::exact(0.24))
            .mean;
        assert!((told - 0.39).abs() / 0.39 < 0.15, "{told}");
    }

    #[test]
    fn the_second_batch_is_told_better_than_the_first() {
        let one = learned(&[(1.0, 1.4)]).of(&Part::exact(1.0)).mean;
        assert!((one - 1.4).abs() < 0.05, "{one}");
    }

    #[test]
    fn an_outlier_moves_little_and_a_change_is_followed() {
        let mut seen = vec![(1.0, 1.3); 8];
        seen.push((1.0, 6.0));
        let told = learned(&seen).of(&Part::exact(1.0)).mean;
        assert!((told - 1.3).abs() < 0.1, "{told}");
        seen.extend([(1.0, 2.6); 12]);
        let told = learned(&seen).of(&Part::exact(1.0)).mean;
        assert!((told - 2.6).abs() < 0.3, "{told}");
    }

    #[test]
    fn intervals_hold_the_spread_of_what_was_seen() {
        let seen: Vec<(f64, f64)> = (0..20)
            .map(|n| (1.0, 1.3 + 0.1 * f64::from(n % 5 - 2)))
            .collect();
        let part = learned(&seen).of(&Part::exact(1.0));
        assert!(part.p90.low < 1.15 && part.p90.high > 1.45, "{part:?}");
        assert!(part.p50.low > part.p90.low && part.p50.high < part.p90.high);
    }
}
