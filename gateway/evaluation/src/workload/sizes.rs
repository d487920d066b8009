//! The conditional empirical distribution of hourly batch sizes, Pr(x < K | x > 0).

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Quantiles in steps of half a per cent of the 9,125 non-zero hourly batch sizes behind the paper's Figure 4, from the
/// least to the most; source: the authors' repository (Heronalps/STOIC, Apache-2.0).
#[rustfmt::skip]
const QUANTILES: [u16; 201] = [
    1, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 10, 10, 10, 10, 10,
    10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 12, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 25, 25, 25, 25, 25, 25, 25, 25, 25, 29, 30, 30, 30, 30, 30, 30, 30, 31,
    35, 35, 35, 35, 35, 35, 35, 40, 40, 40, 40, 40, 40, 40, 42, 45, 45, 45, 45, 45, 50, 50, 50, 50, 50, 50, 55, 55, 55,
    55, 55, 60, 60, 60, 60, 60, 65, 65, 65, 65, 65, 70, 70, 70, 70, 75, 75, 75, 75, 80, 80, 80, 85, 85, 85, 90, 90, 90,
    95, 95, 99, 100, 100, 105, 105, 110, 110, 110, 115, 115, 120, 120, 125, 125, 130, 135, 135, 140, 145, 145, 150, 155,
    160, 165, 170, 175, 180, 185, 190, 195, 200, 205, 215, 220, 230, 240, 250, 265, 275, 300, 329, 355, 395, 461, 545,
    775, 2450,
];

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes(Source);

#[derive(Debug, Clone, PartialEq)]
enum Source {
    /// Every size seen, sorted.
    Seen(Vec<u32>),
    /// [`QUANTILES`].
    Embedded,
}

impl Sizes {
    /// The distribution of the sizes seen, leaving out hours without images; `None` when there is no other.
    #[must_use]
    pub fn of(seen: &[u32]) -> Option<Self> {
        let mut sizes: Vec<u32> = seen.iter().copied().filter(|size| *size > 0).collect();
        sizes.sort_unstable();
        (!sizes.is_empty()).then_some(Self(Source::Seen(sizes)))
    }

    /// The authors' camera trap, from a table of its quantiles.
    #[must_use]
    pub const fn embedded() -> Self {
        Self(Source::Embedded)
    }

    /// The size below which a share of the batches lies. Of sizes seen it is one of them; between the quantiles of the
    /// table it follows a geometric course.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u32 {
        let share = share.clamp(0.0, 1.0);
        match &self.0 {
            Source::Seen(sizes) => {
                let at = (share * sizes.len() as f64).floor() as usize;
                sizes[at.min(sizes.len() - 1)]
            }
            Source::Embedded => {
                let at = share * (QUANTILES.len() - 1) as f64;
                let low = at.floor() as usize;
                let from = f64::from(QUANTILES[low]);
                let to = f64::from(QUANTILES[(low + 1).min(QUANTILES.len() - 1)]);
                (from * (to / from).powf(at.fract())).round() as u32
            }
        }
    }

    /// One batch size.
    pub fn draw(&self, rng: &mut impl Rng) -> u32 {
        self.quantile(rng.random::<f64>())
    }

    /// So many independent batch sizes. Equal seeds draw equal sizes.
    #[must_use]
    pub fn draws(&self, count: usize, seed: u64) -> Vec<u32> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..count).map(|_| self.draw(&mut rng)).collect()
    }

    /// So many batch sizes, one from each of as many equal strata of the distribution, in random order, so that a few
    /// already look like the whole. Sizes above `cap` are cut to it.
    #[must_use]
    pub fn stratified(&self, count: usize, cap: u32, seed: u64) -> Vec<u32> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut sizes: Vec<u32> = (0..count)
            .map(|stratum| {
                let share = (stratum as f64 + rng.random::<f64>()) / count as f64;
                self.quantile(share).min(cap).max(1)
            })
            .collect();
        sizes.shuffle(&mut rng);
        sizes
    }

    /// The distribution as steps: each size with the share of batches up to and including it.
    #[must_use]
    pub fn steps(&self) -> Vec<(f64, f64)> {
        let all: Vec<f64> = match &self.0 {
            Source::Seen(sizes) => sizes.iter().map(|size| f64::from(*size)).collect(),
            Source::Embedded => QUANTILES.iter().map(|size| f64::from(*size)).collect(),
        };
        let mut steps: Vec<(f64, f64)> = Vec::new();
        for (index, size) in all.iter().enumerate() {
            let share = (index + 1) as f64 / all.len() as f64;
            match steps.last_mut() {
                Some(last) if last.0 == *size => last.1 = share,
                _ => steps.push((*size, share)),
            }
        }
        steps
    }

    /// Mean size of a batch.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match &self.0 {
            Source::Seen(sizes) => {
                sizes.iter().map(|size| f64::from(*size)).sum::<f64>() / sizes.len() as f64
            }
            Source::Embedded => {
                let parts = 20_000;
                let middle = |part: i32| (f64::from(part) + 0.5) / f64::from(parts);
                let sum: f64 = (0..parts)
                    .map(|p| f64::from(self.quantile(middle(p))))
                    .sum();
                sum / f64::from(parts)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_quantiles_that_the_authors_published() {
        let sizes = Sizes::embedded();
        assert_eq!(
            (
                sizes.quantile(0.0),
                sizes.quantile(0.5),
                sizes.quantile(1.0)
            ),
            (1, 35, 2450)
        );
        // 682,065 images in 9,125 hours.
        assert!((sizes.mean() - 74.75).abs() < 3.0, "{}", sizes.mean());
    }

    #[test]
    fn hours_without_images_are_no_batches() {
        assert_eq!(Sizes::of(&[0, 0]), None);
        let sizes = Sizes::of(&[0, 7, 0, 9]).expect("two batches");
        assert_eq!(sizes.steps(), [(7.0, 0.5), (9.0, 1.0)]);
        let drawn = sizes.draws(1000, 3);
        assert!(drawn.iter().all(|size| [7, 9].contains(size)));
        assert_eq!(drawn, sizes.draws(1000, 3));
        assert_ne!(drawn, sizes.draws(1000, 4));
    }

    #[test]
    fn a_few_stratified_draws_look_like_the_whole_and_the_cap_holds() {
        let sizes = Sizes::embedded();
        let mut drawn = sizes.stratified(40, u32::MAX, 1);
        drawn.sort_unstable();
        assert!((30..=40).contains(&drawn[20]), "{drawn:?}");
        assert!(sizes.stratified(50, 150, 4).iter().all(|size| *size <= 150));
        assert_eq!(sizes.stratified(12, 150, 3), sizes.stratified(12, 150, 3));
    }
}
