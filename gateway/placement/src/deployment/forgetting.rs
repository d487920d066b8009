//! Medians that forget: the location that the mean absolute error asks for of
//! heavy-tailed values, at several speeds at once, of which those weigh most
//! that predicted best lately. Knows only a series of values.
//!
//! Why medians weighted by age and not windows: a window's edge throws out a
//! value at once, so that the best width differs from stretch to stretch and
//! choosing it anew follows chance. Six half-lives, each twice the former, span
//! what follows a regime of a few values and what ignores everything recent;
//! nothing in between is worth telling apart.
//!
//! All is done on logarithms: between two values, one of them far out in the
//! tail, the middle is then near the lower one.

use std::collections::VecDeque;
use std::sync::LazyLock;

use crate::quantile::weighted_quantile_of;

/// Half-lives in measurements: a value weighs half after this many newer ones.
const HALF_LIVES: [f64; SPEEDS] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

/// Number of half-lives.
pub(super) const SPEEDS: usize = 6;

/// Values remembered: four of the longest half-lives.
const REMEMBERED: usize = 128;

/// The weights of one half-life, and what those of so many values add up to.
struct Weights {
    by_age: [f64; REMEMBERED],
    totals: [f64; REMEMBERED + 1],
}

static WEIGHTS: LazyLock<[Weights; SPEEDS]> = LazyLock::new(|| {
    HALF_LIVES.map(|half_life| {
        let by_age = std::array::from_fn(|age| (-(age as f64) / half_life).exp2());
        let mut totals = [0.0; REMEMBERED + 1];
        for (age, weight) in by_age.iter().enumerate() {
            totals[age + 1] = totals[age] + weight;
        }
        Weights { by_age, totals }
    })
});

/// Less is taken for this, so that there is a logarithm.
const LEAST: f64 = 1e-3;

/// A series with its forgetting medians.
#[derive(Debug, Clone, Default)]
pub(super) struct Medians {
    /// Logarithms with their number in the series, by value.
    sorted: Vec<(f64, u64)>,
    values: VecDeque<f64>,
    seen: u64,
    medians: Option<[f64; SPEEDS]>,
}

impl Medians {
    /// What each speed predicts of the next value; `None` without values.
    pub(super) fn predict(&self) -> Option<[f64; SPEEDS]> {
        self.medians
    }

    pub(super) fn push(&mut self, value: f64) {
        let value = value.max(LEAST).ln();
        if self.values.len() >= REMEMBERED
            && let Some(oldest) = self.values.pop_front()
        {
            let number = self.seen - REMEMBERED as u64;
            let at = self
                .sorted
                .partition_point(|other| *other < (oldest, number));
            self.sorted.remove(at);
        }
        let entry = (value, self.seen);
        let at = self.sorted.partition_point(|other| *other < entry);
        self.sorted.insert(at, entry);
        self.values.push_back(value);
        self.seen += 1;
        let newest = self.seen - 1;
        self.medians = Some(std::array::from_fn(|speed| {
            let Weights { by_age, totals } = &WEIGHTS[speed];
            let weighted = self
                .sorted
                .iter()
                .map(|&(value, number)| (value, by_age[(newest - number) as usize]));
            weighted_quantile_of(weighted, totals[self.values.len()], 0.5)
                .unwrap_or(value)
                .exp()
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_ones_follow_and_the_slow_ones_stay() {
        let mut medians = Medians::default();
        assert!(medians.predict().is_none());
        for _ in 0..200 {
            medians.push(20.0);
        }
        let settled = medians.predict().unwrap();
        assert!(settled.iter().all(|median| (median - 20.0).abs() < 1e-9));
        for _ in 0..3 {
            medians.push(60.0);
        }
        let predicted = medians.predict().unwrap();
        assert!(
            predicted[0] > 55.0 && (predicted[5] - 20.0).abs() < 1e-9,
            "{predicted:?}"
        );
        assert_eq!(medians.sorted.len(), REMEMBERED);
    }
}
