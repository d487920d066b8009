//! When batches arrive: hour by hour, over days, by the activity of each hour of the day.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{EMPTY_HOURS, Sizes};

/// Mean images in each hour of the day behind the paper's Figure 4; source: the authors' repository (Heronalps/STOIC,
/// Apache-2.0), rounded.
const MEAN_IMAGES: [f64; 24] = [
    18.3, 21.35, 19.41, 23.97, 25.68, 25.95, 17.11, 19.99, 21.01, 26.59, 24.57, 26.53, 39.78,
    40.07, 37.11, 27.55, 19.92, 17.78, 21.26, 29.91, 37.79, 27.14, 15.51, 16.15,
];

/// How likely each hour of the day brings images at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activity([f64; 24]);

/// One batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Beginning of its hour, in hours from the first.
    pub hour: u64,
    /// Images; zero for an hour without any.
    pub images: u32,
}

impl Activity {
    /// The authors' camera: 66.53 % of hours without images, and the means of Figure 4.
    #[must_use]
    pub fn embedded() -> Self {
        Self::of(&MEAN_IMAGES, EMPTY_HOURS)
    }

    /// From the mean number of images in each hour of the day and the share of hours without any. An hour's chance is
    /// in proportion to its mean, since sizes are drawn alike at all hours; where that would pass certainty, the other
    /// hours take over what it cannot.
    #[must_use]
    pub fn of(mean_images: &[f64; 24], empty: f64) -> Self {
        let wanted = (1.0 - empty.clamp(0.0, 1.0)) * 24.0;
        let mut chance = [0.0; 24];
        let mut full = [false; 24];
        // Each turn fills at least one hour, or is the last.
        for _ in 0..24 {
            let left = wanted - full.iter().filter(|full| **full).count() as f64;
            let weight: f64 = (0..24).filter(|h| !full[*h]).map(|h| mean_images[h]).sum();
            let mut over = false;
            for hour in (0..24).filter(|h| !full[*h]).collect::<Vec<_>>() {
                let share = if weight > 0.0 {
                    mean_images[hour] / weight
                } else {
                    0.0
                };
                chance[hour] = (left * share).max(0.0);
                if chance[hour] > 1.0 {
                    chance[hour] = 1.0;
                    full[hour] = true;
                    over = true;
                }
            }
            if !over {
                break;
            }
        }
        Self(chance)
    }

    /// Chance of images in an hour of the day, from 0 to 1.
    #[must_use]
    pub fn chance(&self, hour_of_day: usize) -> f64 {
        self.0[hour_of_day % 24]
    }

    /// Mean images of the authors' camera in each hour of the day.
    #[must_use]
    pub const fn published() -> [f64; 24] {
        MEAN_IMAGES
    }
}

/// Every hour of so many days, those without images as zeros; the first hour is midnight. Equal seeds give equal
/// arrivals.
pub fn arrivals(
    sizes: &Sizes,
    activity: &Activity,
    days: u32,
    seed: u64,
) -> impl Iterator<Item = Arrival> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..u64::from(days) * 24).map(move |hour| {
        let active = rng.random::<f64>() < activity.chance((hour % 24) as usize);
        Arrival {
            hour,
            images: if active { sizes.draw(&mut rng) } else { 0 },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_hours_are_empty_as_the_authors_saw_and_noon_is_busier_than_night() {
        let all: Vec<Arrival> =
            arrivals(&Sizes::embedded(), &Activity::embedded(), 4000, 1).collect();
        let empty = all.iter().filter(|a| a.images == 0).count() as f64 / all.len() as f64;
        // Four standard deviations of 96,000 draws.
        assert!((empty - EMPTY_HOURS).abs() < 0.0061, "{empty}");
        let mean = |hour: u64| {
            let of: Vec<f64> = all
                .iter()
                .filter(|a| a.hour % 24 == hour)
                .map(|a| f64::from(a.images))
                .collect();
            of.iter().sum::<f64>() / of.len() as f64
        };
        for hour in [13, 20, 22] {
            let published = MEAN_IMAGES[hour as usize];
            assert!(
                (mean(hour) - published).abs() < 0.2 * published,
                "{hour}: {}",
                mean(hour)
            );
        }
    }

    #[test]
    fn an_hour_that_would_be_more_than_certain_leaves_the_rest_to_others() {
        let mut peaks = [1.0; 24];
        peaks[12] = 1000.0;
        let activity = Activity::of(&peaks, 0.5);
        assert_eq!(activity.chance(12), 1.0);
        let sum: f64 = (0..24).map(|hour| activity.chance(hour)).sum();
        assert!((sum - 12.0).abs() < 1e-9);
        assert!((0..24).all(|hour| (0.0..=1.0).contains(&activity.chance(hour))));
        let none = Activity::of(&[0.0; 24], 0.5);
        assert_eq!(none.chance(3), 0.0);
    }
}
