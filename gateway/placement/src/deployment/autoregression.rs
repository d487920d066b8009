//! Autoregression with an intercept, by ordinary least squares, its order
//! chosen by Akaike's information criterion: the first row of the paper's
//! Table 2. Knows nothing of deployments.
//!
//! All orders are compared on the same targets, those that the highest order
//! can predict. One Cholesky factorisation of the highest order's normal
//! equations holds the residual sum of squares of every lower one, since a
//! leading block of the factor is the factor of the leading block. The chosen
//! order is then regressed on every target that it can predict itself.

use serde::Serialize;

/// The highest order tried (the paper's Table 2).
pub const MAX_ORDER: usize = 15;

const SIZE: usize = MAX_ORDER + 1;

/// A pivot below this share of its diagonal element is no new information:
/// the lag is a combination of the former ones.
const LEAST_PIVOT: f64 = 1e-10;

/// A fitted autoregression: the next value is
/// `intercept + sum of coefficients[i] * value i + 1 steps back`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AutoRegression {
    /// Value at zero lags.
    pub intercept: f64,
    /// Coefficients, newest lag first; those beyond the order are zero.
    pub coefficients: [f64; MAX_ORDER],
    /// Lags used.
    pub order: usize,
}

impl AutoRegression {
    /// Fits the order of least criterion, at most `max_order` (and at most
    /// [`MAX_ORDER`] and a third of the values, so that no more is estimated
    /// than the values can tell). `None` for fewer than two values.
    #[must_use]
    pub fn fit(values: &[f64], max_order: usize) -> Option<Self> {
        if values.len() < 2 || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let count = values.len() as f64;
        let centre = values.iter().sum::<f64>() / count;
        let spread = (values.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / count).sqrt();
        // Without spread every autoregression predicts the same.
        if !spread.is_finite() || spread <= 1e-12 * centre.abs() {
            return Some(Self::constant(centre));
        }
        let scaled: Vec<f64> = values.iter().map(|v| (v - centre) / spread).collect();
        let max_order = max_order.min(MAX_ORDER).min((values.len() - 1) / 3);
        let order = Self::select(&scaled, max_order);
        let (factor, usable) = NormalEquations::of(&scaled, order, order).cholesky();
        if usable <= order {
            return Some(Self::constant(centre));
        }
        let weights = factor.solve(order);
        let mut fitted = Self::constant(centre);
        fitted.order = order;
        fitted.coefficients[..order].copy_from_slice(&weights[1..=order]);
        let sum: f64 = fitted.coefficients.iter().sum();
        fitted.intercept = centre + spread * weights[0] - centre * sum;
        fitted.intercept.is_finite().then_some(fitted)
    }

    fn constant(value: f64) -> Self {
        Self {
            intercept: value,
            coefficients: [0.0; MAX_ORDER],
            order: 0,
        }
    }

    /// Order of least `n ln(RSS / n) + 2 (order + 1)`; the lower one wins ties.
    fn select(scaled: &[f64], max_order: usize) -> usize {
        let equations = NormalEquations::of(scaled, max_order, max_order);
        let targets = equations.targets;
        let (factor, usable) = equations.cholesky();
        let mut rss = equations.squares;
        let (mut least, mut best) = (f64::INFINITY, 0);
        for order in 0..usable {
            rss -= factor.rotated[order] * factor.rotated[order];
            // What remains below rounding is a perfect fit.
            let rss = rss.max(1e-14 * equations.squares).max(f64::MIN_POSITIVE);
            let criterion = targets * (rss / targets).ln() + 2.0 * (order + 1) as f64;
            if criterion < least {
                (least, best) = (criterion, order);
            }
        }
        best
    }

    /// The value after `past` (oldest first). Lags before the past are taken
    /// for the oldest value; `None` when there is no past.
    #[must_use]
    pub fn predict(&self, past: &[f64]) -> Option<f64> {
        let oldest = *past.first()?;
        let lags = past.iter().rev().copied().chain(std::iter::repeat(oldest));
        let value = self.coefficients[..self.order]
            .iter()
            .zip(lags)
            .fold(self.intercept, |sum, (coefficient, lag)| {
                sum + coefficient * lag
            });
        value.is_finite().then_some(value)
    }
}

/// Normal equations of a constant and lags `1..=order`.
struct NormalEquations {
    order: usize,
    gram: [[f64; SIZE]; SIZE],
    right: [f64; SIZE],
    /// Sum of the squared targets.
    squares: f64,
    targets: f64,
}

impl NormalEquations {
    /// Over the targets `values[skip..]`; `skip >= order`.
    fn of(values: &[f64], order: usize, skip: usize) -> Self {
        let mut equations = Self {
            order,
            gram: [[0.0; SIZE]; SIZE],
            right: [0.0; SIZE],
            squares: 0.0,
            targets: (values.len() - skip) as f64,
        };
        let mut row = [0.0; SIZE];
        row[0] = 1.0;
        for at in skip..values.len() {
            for lag in 1..=order {
                row[lag] = values[at - lag];
            }
            let target = values[at];
            for i in 0..=order {
                for j in 0..=i {
                    equations.gram[i][j] += row[i] * row[j];
                }
                equations.right[i] += row[i] * target;
            }
            equations.squares += target * target;
        }
        equations
    }

    /// The lower Cholesky factor with the right side rotated by it, and how
    /// many leading rows are independent.
    fn cholesky(&self) -> (Factor, usize) {
        let mut lower = [[0.0; SIZE]; SIZE];
        let mut rotated = [0.0; SIZE];
        for i in 0..=self.order {
            for j in 0..i {
                let sum: f64 = (0..j).map(|k| lower[i][k] * lower[j][k]).sum();
                lower[i][j] = (self.gram[i][j] - sum) / lower[j][j];
            }
            let sum: f64 = lower[i][..i].iter().map(|l| l * l).sum();
            let pivot = self.gram[i][i] - sum;
            if pivot.is_nan() || pivot <= LEAST_PIVOT * self.gram[i][i] {
                return (Factor { lower, rotated }, i);
            }
            lower[i][i] = pivot.sqrt();
            let sum: f64 = (0..i).map(|k| lower[i][k] * rotated[k]).sum();
            rotated[i] = (self.right[i] - sum) / lower[i][i];
        }
        (Factor { lower, rotated }, self.order + 1)
    }
}

struct Factor {
    lower: [[f64; SIZE]; SIZE],
    rotated: [f64; SIZE],
}

impl Factor {
    /// The weights of the constant and the first `order` lags.
    fn solve(&self, order: usize) -> [f64; SIZE] {
        let mut weights = [0.0; SIZE];
        for i in (0..=order).rev() {
            let sum: f64 = (i + 1..=order).map(|k| self.lower[k][i] * weights[k]).sum();
            weights[i] = (self.rotated[i] - sum) / self.lower[i][i];
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_predicted_exactly_by_two_lags() {
        let values: Vec<f64> = (0..60).map(|i| 30.0 + (f64::from(i) * 0.7).sin()).collect();
        let fitted = AutoRegression::fit(&values, MAX_ORDER).unwrap();
        let next = fitted.predict(&values).unwrap();
        assert!((next - (30.0 + (60.0 * 0.7f64).sin())).abs() < 1e-6);
        assert!((fitted.coefficients[0] - 2.0 * 0.7f64.cos()).abs() < 1e-4);
    }

    #[test]
    fn without_spread_or_past_it_is_the_constant() {
        let fitted = AutoRegression::fit(&[7.0; 40], MAX_ORDER).unwrap();
        assert_eq!((fitted.order, fitted.predict(&[7.0])), (0, Some(7.0)));
        assert_eq!(fitted.predict(&[]), None);
        assert!(AutoRegression::fit(&[1.0], MAX_ORDER).is_none());
        assert!(AutoRegression::fit(&[0.0, 1e12, 0.0, 1e12, 5.0], MAX_ORDER).is_some());
    }

    /// A periodic series makes lags depend on one another.
    #[test]
    fn dependent_lags_are_left_out() {
        let values: Vec<f64> = (0..90).map(|i| f64::from(i % 3)).collect();
        let fitted = AutoRegression::fit(&values, MAX_ORDER).unwrap();
        assert!((fitted.predict(&values).unwrap() - 0.0).abs() < 1e-6);
    }
}
