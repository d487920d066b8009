//! Confidence intervals of rates by the bootstrap: the cases are drawn anew, with replacement, many times.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

/// Times that the cases are drawn anew.
pub(super) const RESAMPLES: usize = 1000;
/// Cases that are drawn from; of more, neighbours in time are added up first, which also keeps together what hangs
/// together.
const BLOCKS: usize = 1000;

/// A rate with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// The rate itself.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Cases it stands on.
    pub cases: usize,
}

/// A rate as the ratio of two sums over cases: hits by ones for a share, absolute errors by times for PMAE, one
/// policy's times by another's. `None` without cases or when the second sum is zero. Equal seeds give equal intervals.
#[must_use]
pub fn rate(cases: &[(f64, f64)], seed: u64) -> Option<Rate> {
    let ratio = |sums: (f64, f64)| (sums.1 > 0.0).then(|| sums.0 / sums.1);
    let add = |sums: (f64, f64), case: &(f64, f64)| (sums.0 + case.0, sums.1 + case.1);
    let value = ratio(cases.iter().fold((0.0, 0.0), add))?;
    let blocks: Vec<(f64, f64)> = cases
        .chunks(cases.len().div_ceil(BLOCKS))
        .map(|block| block.iter().fold((0.0, 0.0), add))
        .collect();
    let mut rng = StdRng::seed_from_u64(seed);
    let drawn: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let pick = |sums, _| add(sums, &blocks[rng.random_range(0..blocks.len())]);
            ratio((0..blocks.len()).fold((0.0, 0.0), pick))
        })
        .collect();
    let (low, high) = ends(drawn, value);
    Some(Rate {
        value,
        low,
        high,
        cases: cases.len(),
    })
}

/// The ends of the 95 % interval of what was drawn anew; the value itself lies between them.
pub(super) fn ends(mut drawn: Vec<f64>, value: f64) -> (f64, f64) {
    drawn.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (share * drawn.len() as f64) as usize;
        drawn.get(place.min(drawn.len().saturating_sub(1))).copied()
    };
    (
        at(0.025).unwrap_or(value).min(value),
        at(0.975).unwrap_or(value).max(value),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_binomial() {
        let cases: Vec<(f64, f64)> = (0..400).map(|i| (f64::from(i % 4 == 0), 1.0)).collect();
        let rate = rate(&cases, 1).expect("a rate");
        assert_eq!((rate.value, rate.cases), (0.25, 400));
        // 1.96 standard deviations of 400 draws are 0.0424.
        assert!((rate.low - 0.2076).abs() < 0.008, "{rate:?}");
        assert!((rate.high - 0.2924).abs() < 0.008, "{rate:?}");
    }

    #[test]
    fn without_cases_or_time_there_is_no_rate() {
        assert_eq!(rate(&[], 1), None);
        assert_eq!(rate(&[(0.0, 0.0)], 1), None);
        let one = rate(&[(1.0, 2.0)], 1).expect("a rate");
        assert_eq!((one.low, one.value, one.high), (0.5, 0.5, 0.5));
    }
}
