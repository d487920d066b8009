//! What a caller may know of a deployment before it happens, and how much it
//! changes: the state of the image decides which past to look at, standby and
//! time of day scale what is expected once they have shown that they do.

use serde::{Deserialize, Serialize};

/// The circumstances of a deployment; what is not known stays `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Regime {
    /// Whether the site has the image already; otherwise it must be pulled.
    pub image_present: Option<bool>,
    /// Whether the runtime keeps a standby of the function (a pod is then
    /// started beside another, which warms caches and may want the same GPU).
    pub standby: Option<bool>,
    /// Hour of the day, 0 to 23, in whatever time zone, always the same.
    pub hour: Option<u8>,
}

impl Regime {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        image_present: None,
        standby: None,
        hour: None,
    };
}

/// Deployments of one function version on one runtime, as they were measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DeploymentSample {
    /// Measured time, seconds.
    pub seconds: f64,
    /// When it was measured, in seconds since the Unix epoch; it tells the hour
    /// where the regime does not.
    pub at_s: Option<f64>,
    /// Its circumstances.
    pub regime: Regime,
}

impl DeploymentSample {
    /// A time of which nothing else is known.
    #[must_use]
    pub const fn new(seconds: f64) -> Self {
        Self {
            seconds,
            at_s: None,
            regime: Regime::UNKNOWN,
        }
    }

    /// The regime, with the hour from the time where it is not given.
    #[must_use]
    pub(crate) fn regime(&self) -> Regime {
        let hour = || {
            let at = self.at_s.filter(|at| at.is_finite())?;
            Some((at.rem_euclid(86_400.0) / 3_600.0) as u8)
        };
        Regime {
            hour: self.regime.hour.or_else(hour),
            ..self.regime
        }
    }
}

/// Levels of the time of day: six hours each.
pub(super) const DAY_PARTS: usize = 4;

pub(super) fn day_part(hour: u8) -> usize {
    usize::from(hour % 24) * DAY_PARTS / 24
}

/// A ratio is believed by `n / (n + PRIOR)` of what `n` outcomes say.
const PRIOR: f64 = 8.0;

/// An outcome weighs half after this many others.
const HALF_LIFE: f64 = 64.0;

/// Outcomes after which a factor may come into force.
const ENOUGH: f64 = 24.0;

/// A factor must lower the error by this share to be used.
const GAIN: f64 = 0.97;

/// Ratios between the levels of one circumstance and all of them, learned from
/// the outcomes over the predictions without it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Factor<const N: usize> {
    /// Weight and weighted sum of the logarithms of outcome over prediction.
    levels: [(f64, f64); N],
    error_with: f64,
    error_without: f64,
    outcomes: f64,
}

impl<const N: usize> Factor<N> {
    pub(super) const NONE: Self = Self {
        levels: [(0.0, 0.0); N],
        error_with: 0.0,
        error_without: 0.0,
        outcomes: 0.0,
    };

    /// The ratio learned for a level, in force or not.
    fn ratio(&self, level: usize) -> f64 {
        let (weight, sum) = self
            .levels
            .iter()
            .fold((0.0, 0.0), |all, level| (all.0 + level.0, all.1 + level.1));
        if weight <= 0.0 {
            return 1.0;
        }
        let (own_weight, own_sum) = self.levels[level];
        ((own_sum - own_weight * sum / weight) / (own_weight + PRIOR)).exp()
    }

    /// What to multiply a prediction by.
    pub(super) fn of(&self, level: Option<usize>) -> f64 {
        let earned = self.outcomes >= ENOUGH && self.error_with < GAIN * self.error_without;
        match level {
            Some(level) if earned => self.ratio(level),
            _ => 1.0,
        }
    }

    /// Learns from an outcome and its prediction without the factor.
    pub(super) fn observe(&mut self, level: Option<usize>, predicted: f64, actual: f64) {
        let Some(level) = level else { return };
        let keep = (-1.0 / HALF_LIFE).exp2();
        let with = predicted * self.ratio(level);
        // Errors in seconds, cut where an outlier would decide alone.
        let error = |predicted: f64, scale: f64| (actual - predicted).abs().min(2.0 * scale);
        self.error_with = self.error_with * keep + error(with, predicted);
        self.error_without = self.error_without * keep + error(predicted, predicted);
        self.outcomes += 1.0;
        for (weight, sum) in &mut self.levels {
            *weight *= keep;
            *sum *= keep;
        }
        let ratio = (actual.max(1e-3) / predicted.max(1e-3)).ln();
        self.levels[level].0 += 1.0;
        self.levels[level].1 += ratio.clamp(-1.0, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_comes_from_the_time_where_it_is_not_given() {
        let mut sample = DeploymentSample {
            at_s: Some(1_579_764_229.0),
            ..DeploymentSample::new(3.0)
        };
        assert_eq!(sample.regime().hour, Some(7));
        sample.regime.hour = Some(23);
        assert_eq!(sample.regime().hour, Some(23));
        sample = DeploymentSample {
            at_s: Some(f64::NAN),
            ..DeploymentSample::new(3.0)
        };
        assert_eq!(sample.regime().hour, None);
        assert_eq!([0, 5, 6, 12, 23, 24].map(day_part), [0, 0, 1, 2, 3, 0]);
    }

    #[test]
    fn a_factor_is_used_once_it_has_shown_what_it_is_worth() {
        let mut useful = Factor::<2>::NONE;
        let mut idle = Factor::<2>::NONE;
        for i in 0..60 {
            let level = i % 2;
            let noise = 1.0 + 0.2 * ((i * 7 % 5) as f64 / 5.0 - 0.4);
            useful.observe(Some(level), 20.0, noise * [15.0, 27.0][level]);
            idle.observe(Some(level), 20.0, noise * 20.0);
            if i < 20 {
                assert_eq!(useful.of(Some(0)), 1.0);
            }
        }
        // Most of the way to 15 / 20 and 27 / 20.
        assert!((0.74..0.84).contains(&useful.of(Some(0))), "{useful:?}");
        assert!((1.18..1.36).contains(&useful.of(Some(1))), "{useful:?}");
        assert_eq!((idle.of(Some(0)), useful.of(None)), (1.0, 1.0));
    }
}
