//! Batch sizes as the paper's cameras made them (section 3.5): draws from the conditional empirical
//! distribution of hourly batch sizes, Pr(x < K | x > 0).

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Quantiles of the 9,125 non-zero hourly batch sizes behind the paper's Figure 4, in steps of 5 %;
/// source: the authors' repository (Heronalps/STOIC, Apache-2.0). The last is the maximum.
const QUANTILES: [u32; 21] = [
    1, 5, 5, 5, 10, 10, 15, 20, 25, 30, 35, 45, 55, 65, 75, 90, 110, 135, 180, 250, 2450,
];

/// So many batch sizes, one from each of as many equal strata of the distribution, in random order, so
/// that a few draws already look like the whole. Sizes above `cap` are cut to it.
pub(super) fn sizes(batches: usize, cap: u32, seed: u64) -> Vec<u32> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut sizes: Vec<u32> = (0..batches)
        .map(|stratum| {
            let share = (stratum as f64 + rng.random::<f64>()) / batches as f64;
            quantile(share).min(cap).max(1)
        })
        .collect();
    sizes.shuffle(&mut rng);
    sizes
}

/// Linear between the tabled quantiles, so that sizes between them occur too.
fn quantile(share: f64) -> u32 {
    let at = share.clamp(0.0, 1.0) * (QUANTILES.len() - 1) as f64;
    let low = at.floor() as usize;
    let high = (low + 1).min(QUANTILES.len() - 1);
    let (from, to) = (f64::from(QUANTILES[low]), f64::from(QUANTILES[high]));
    (from + at.fract() * (to - from)).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_table() {
        let mut drawn = sizes(1000, u32::MAX, 1);
        drawn.sort_unstable();
        assert!((30..=40).contains(&drawn[500]), "median {}", drawn[500]);
        assert!(
            (225..=300).contains(&drawn[950]),
            "95 % quantile {}",
            drawn[950]
        );
        assert!(drawn[0] >= 1);
    }

    #[test]
    fn the_same_seed_draws_the_same_and_the_cap_holds() {
        assert_eq!(sizes(12, 150, 3), sizes(12, 150, 3));
        assert!(sizes(50, 150, 4).iter().all(|size| *size <= 150));
    }
}
