//! Bayesian ridge regression with an intercept, step for step as
//! scikit-learn's `BayesianRidge` does it (MacKay's evidence maximisation with
//! gamma hyper-priors of 1e-6, 300 iterations at most, tolerance 1e-3).
//!
//! A textbook room: it knows vectors, not batches or seconds.

use nalgebra::{SMatrix, SVector};

const HYPER_PRIOR: f64 = 1e-6;
const MAX_ITERATIONS: usize = 300;
const TOLERANCE: f64 = 1e-3;

/// A fitted regression over `D` features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ridge<const D: usize> {
    /// Weight of each feature (scikit-learn's `coef_`).
    pub coefficients: SVector<f64, D>,
    /// Value at the origin (`intercept_`).
    pub intercept: f64,
    /// Precision of the noise (`alpha_`).
    pub alpha: f64,
    /// Precision of the weights (`lambda_`).
    pub lambda: f64,
    /// Iterations until it converged (`n_iter_`).
    pub iterations: usize,
}

impl<const D: usize> Ridge<D> {
    /// Regresses targets on features, given as `(features, target)` pairs.
    /// `None` when there are no points or the numbers overflow.
    #[must_use]
    pub fn fit(points: &[(SVector<f64, D>, f64)]) -> Option<Self> {
        if points.is_empty() {
            return None;
        }
        let count = points.len() as f64;
        let x_mean = points
            .iter()
            .fold(SVector::<f64, D>::zeros(), |sum, (x, _)| sum + x)
            / count;
        let y_mean = points.iter().map(|(_, y)| y).sum::<f64>() / count;

        // Centring takes the intercept out of the regression.
        let mut gram = SMatrix::<f64, D, D>::zeros();
        let mut xt_y = SVector::<f64, D>::zeros();
        let mut y_square = 0.0;
        for (x, y) in points {
            let (x, y) = (x - x_mean, y - y_mean);
            gram += x * x.transpose();
            xt_y += x * y;
            y_square += y * y;
        }

        let mut alpha = 1.0 / (y_square / count + f64::EPSILON);
        let mut lambda = 1.0;
        let mut previous: Option<SVector<f64, D>> = None;
        let mut iterations = 0;
        while iterations < MAX_ITERATIONS {
            iterations += 1;
            let (weights, inverse) = solve(&gram, &xt_y, lambda / alpha)?;
            let sse = points
                .iter()
                .map(|(x, y)| {
                    let error = (y - y_mean) - weights.dot(&(x - x_mean));
                    error * error
                })
                .sum::<f64>();
            // The number of weights that the data determine.
            let gamma = (gram * inverse).trace();
            lambda = (gamma + 2.0 * HYPER_PRIOR) / (weights.norm_squared() + 2.0 * HYPER_PRIOR);
            alpha = (count - gamma + 2.0 * HYPER_PRIOR) / (sse + 2.0 * HYPER_PRIOR);
            let moved = previous.map(|old| (old - weights).lp_norm(1));
            if moved.is_some_and(|moved| moved < TOLERANCE) {
                break;
            }
            previous = Some(weights);
        }
        let (coefficients, _) = solve(&gram, &xt_y, lambda / alpha)?;
        let intercept = y_mean - coefficients.dot(&x_mean);
        let finite = intercept.is_finite() && coefficients.iter().all(|c| c.is_finite());
        finite.then_some(Self {
            coefficients,
            intercept,
            alpha,
            lambda,
            iterations,
        })
    }

    /// The regression's value at `x`.
    #[must_use]
    pub fn predict(&self, x: &SVector<f64, D>) -> f64 {
        self.intercept + self.coefficients.dot(x)
    }
}

/// `(gram + ratio * identity)^-1 * xt_y`, with the inverse.
fn solve<const D: usize>(
    gram: &SMatrix<f64, D, D>,
    xt_y: &SVector<f64, D>,
    ratio: f64,
) -> Option<(SVector<f64, D>, SMatrix<f64, D, D>)> {
    let mut system = *gram;
    for i in 0..D {
        system[(i, i)] += ratio;
    }
    let inverse = system.cholesky()?.inverse();
    Some((inverse * xt_y, inverse))
}
