//! Prediction with expert advice: several estimators predict the same number,
//! each is judged by its prequential loss (the error of predictions made before
//! the outcome was known) and the losses are forgotten exponentially. Knows
//! neither deployments nor functions.
//!
//! A mixture weighs estimator `i` by `exp(-rate * loss_i)`, as the exponentially
//! weighted average forecaster does; its loss then stays within `ln N / rate`
//! of the best estimator's over any stretch that it remembers. Losses are
//! errors over the outcome, cut at [`WORST`], so that one absurd outcome,
//! which all estimators miss alike, does not decide between them.

use serde::Serialize;

/// The largest relative error that counts.
pub(crate) const WORST: f64 = 2.0;

/// Forgotten losses of `N` estimators.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Losses<const N: usize> {
    #[serde(skip)]
    summed: [f64; N],
    /// Sum of the weights of the outcomes remembered.
    remembered: f64,
}

impl<const N: usize> Losses<N> {
    pub(crate) const NONE: Self = Self {
        summed: [0.0; N],
        remembered: 0.0,
    };

    /// Forgets a little (an outcome weighs half after `half_life` others) and
    /// adds one outcome's losses.
    pub(crate) fn observe(&mut self, losses: &[f64; N], half_life: f64) {
        let keep = (-1.0 / half_life).exp2();
        for (sum, loss) in self.summed.iter_mut().zip(losses) {
            *sum = *sum * keep + loss.clamp(0.0, WORST);
        }
        self.remembered = self.remembered * keep + 1.0;
    }

    /// The weights of the estimators, adding up to one.
    pub(crate) fn weights(&self, rate: f64) -> [f64; N] {
        let least = self.summed.iter().copied().fold(f64::INFINITY, f64::min);
        let mut weights = self.summed.map(|loss| (-rate * (loss - least)).exp());
        let total: f64 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= total;
        }
        weights
    }

    /// Mean loss of one estimator over what is remembered; `None` before the
    /// first outcome.
    pub(crate) fn mean(&self, index: usize) -> Option<f64> {
        (self.remembered > 0.0).then(|| self.summed[index] / self.remembered)
    }

    /// Who is in force after the newest outcome: the incumbent, unless over no
    /// fewer than `least` outcomes another one's loss is less than `share` of
    /// its own. What lies closer together is taken for chance.
    pub(crate) fn in_force(&self, incumbent: usize, share: f64, least: f64) -> usize {
        if self.remembered < least {
            return incumbent;
        }
        let mut best = incumbent;
        for index in 0..N {
            if self.summed[index] < self.summed[best] {
                best = index;
            }
        }
        if self.summed[best] < share * self.summed[incumbent] {
            best
        } else {
            incumbent
        }
    }
}

/// The loss of a prediction: its error relative to the outcome.
pub(crate) fn relative_loss(predicted: f64, actual: f64) -> f64 {
    ((actual - predicted).abs() / actual.abs().max(1e-3)).min(WORST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_estimator_gains_weight_and_loses_it_again() {
        let mut losses = Losses::<2>::NONE;
        assert_eq!(losses.weights(5.0), [0.5, 0.5]);
        assert_eq!(losses.mean(0), None);
        for _ in 0..20 {
            losses.observe(&[0.1, 0.5], 4.0);
        }
        assert!(losses.weights(5.0)[0] > 0.99);
        assert_eq!(
            (losses.in_force(1, 0.9, 5.0), losses.in_force(0, 0.9, 5.0)),
            (0, 0)
        );
        for _ in 0..20 {
            losses.observe(&[0.5, 0.1], 4.0);
        }
        assert!(losses.weights(5.0)[1] > 0.99);
        assert!((losses.mean(1).unwrap() - 0.1).abs() < 0.02);
    }

    #[test]
    fn what_lies_close_leaves_the_incumbent_in_force() {
        let mut losses = Losses::<2>::NONE;
        losses.observe(&[0.50, 0.48], 10.0);
        assert_eq!(losses.in_force(0, 0.9, 1.0), 0);
        assert_eq!(losses.in_force(1, 0.9, 1.0), 1);
        // Nor is one outcome enough where more are asked for.
        losses.observe(&[0.50, 0.01], 10.0);
        assert_eq!(losses.in_force(0, 0.9, 2.0), 0);
        assert_eq!(losses.in_force(0, 0.9, 1.0), 1);
    }

    #[test]
    fn an_absurd_outcome_counts_no_more_than_the_worst() {
        assert_eq!(relative_loss(f64::MAX, 1.0), WORST);
        assert_eq!(relative_loss(1.0, 0.0), WORST);
        assert_eq!(relative_loss(2.0, 4.0), 0.5);
    }
}
