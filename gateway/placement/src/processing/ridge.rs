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

/// Sums over points of one feature, taken from a point near them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    count: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Sums {
    pub(super) fn of(points: &[(f64, f64)], centre: &(f64, f64)) -> Self {
        let mut sums = Self::default();
        for point in points {
            sums.add(point, centre);
        }
        sums
    }

    pub(super) fn add(&mut self, point: &(f64, f64), centre: &(f64, f64)) {
        let (x, y) = (point.0 - centre.0, point.1 - centre.1);
        self.count += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
        self.yy += y * y;
    }

    /// The sums over the points of both.
    pub(super) fn plus(&self, other: &Self) -> Self {
        Self {
            count: self.count + other.count,
            x: self.x + other.x,
            y: self.y + other.y,
            xx: self.xx + other.xx,
            xy: self.xy + other.xy,
            yy: self.yy + other.yy,
        }
    }

    /// Sums of squares around the means: of the feature, mixed, of the target.
    fn centred(&self, share: f64) -> (f64, f64, f64) {
        (
            (self.xx - self.x * self.x * share).max(0.0),
            self.xy - self.x * self.y * share,
            (self.yy - self.y * self.y * share).max(0.0),
        )
    }

    /// What the line of least squares leaves, if that is less than `least`;
    /// `share` is one over the number of points. Divides only where it is.
    pub(super) fn residual_squares_below(&self, least: f64, share: f64) -> Option<f64> {
        let (xx, xy, yy) = self.centred(share);
        if xx <= 0.0 {
            return (yy < least).then_some(yy);
        }
        let left = (yy * xx - xy * xy).max(0.0);
        (left < least * xx).then(|| left / xx)
    }
}

/// [`Ridge::fit`] of one feature from sums, in a twentieth of the time: slope,
/// and height at the sums' centre. Its residual squares come from a difference,
/// so that points which lie on a line but for a millionth are told apart less
/// well. `None` where the numbers overflow.
pub(super) fn line_of(sums: &Sums) -> Option<(f64, f64)> {
    let (xx, xy, yy) = sums.centred(1.0 / sums.count);
    // Only the ratio of the precisions, lambda over alpha, matters to the weight.
    let mut ratio = yy / sums.count + f64::EPSILON;
    let mut previous = f64::NAN;
    for _ in 0..MAX_ITERATIONS {
        let inverse = 1.0 / (xx + ratio);
        let weight = inverse * xy;
        let sse = (yy - 2.0 * weight * xy + weight * weight * xx).max(0.0);
        let gamma = xx * inverse;
        ratio = (gamma + 2.0 * HYPER_PRIOR) * (sse + 2.0 * HYPER_PRIOR)
            / ((weight * weight + 2.0 * HYPER_PRIOR) * (sums.count - gamma + 2.0 * HYPER_PRIOR));
        if (previous - weight).abs() < TOLERANCE {
            break;
        }
        previous = weight;
    }
    let weight = xy / (xx + ratio);
    let height = (sums.y - weight * sums.x) / sums.count;
    (weight.is_finite() && height.is_finite()).then_some((weight, height))
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Reference {
        name: &'static str,
        points: &'static [(f64, f64)],
        coefficient: f64,
        intercept: f64,
        alpha: f64,
        lambda: f64,
        iterations: usize,
    }

    /// `sklearn.linear_model.BayesianRidge().fit(x, y)` of scikit-learn 1.9.1
    /// (numpy, float64): `coef_[0]`, `intercept_`, `alpha_`, `lambda_`,
    /// `n_iter_`.
    const REFERENCES: &[Reference] = &[
        Reference {
            name: "the authors' first ten gpu1 runs",
            points: &[
                (33.0, 52.998711),
                (10.0, 31.0),
                (11.0, 10.607664),
                (130.0, 39.539654),
                (174.0, 44.15839),
                (56.0, 22.492388),
                (66.0, 24.89415),
                (51.0, 38.765984),
                (50.0, 35.90662),
                (17.0, 27.788614),
            ],
            coefficient: 0.05188162034181446,
            intercept: 29.712696603559497,
            alpha: 0.008428783857376053,
            lambda: 194.09041483396973,
            iterations: 6,
        },
        Reference {
            name: "two points",
            points: &[(33.0, 70.275116), (10.0, 22.23946)],
            coefficient: 2.088506778988198,
            intercept: 1.354392251753744,
            alpha: 500000.99998352147,
            lambda: 0.2292603178562427,
            iterations: 7,
        },
        Reference {
            name: "one outlier",
            points: &[
                (10.0, 16.2),
                (20.0, 18.1),
                (30.0, 19.9),
                (40.0, 22.3),
                (50.0, 24.0),
                (60.0, 160.0),
                (70.0, 27.8),
                (80.0, 30.1),
                (90.0, 32.2),
                (100.0, 33.8),
            ],
            coefficient: 0.0011198472973364064,
            intercept: 38.37840839864649,
            alpha: 0.0005972767415947071,
            lambda: 1223.3902376746562,
            iterations: 7,
        },
        Reference {
            name: "a falling line",
            points: &[(5.0, 9.0), (10.0, 8.0), (15.0, 7.5), (20.0, 6.0)],
            coefficient: -0.18754415703431448,
            intercept: 9.969301962928931,
            alpha: 17.14300465135768,
            lambda: 28.060409911922328,
            iterations: 2,
        },
        Reference {
            name: "one size",
            points: &[(7.0, 1.0), (7.0, 2.0), (7.0, 4.0)],
            coefficient: 0.0,
            intercept: 2.3333333333333335,
            alpha: 0.6428572959183018,
            lambda: 1.0,
            iterations: 2,
        },
        Reference {
            name: "milliseconds",
            points: &[
                (1.0, 0.0021),
                (2.0, 0.0029),
                (3.0, 0.0042),
                (5.0, 0.0061),
                (8.0, 0.0101),
            ],
            coefficient: 0.0011392231597162291,
            intercept: 0.0007509519930783285,
            alpha: 1790095.0469572458,
            lambda: 301580.0702800357,
            iterations: 2,
        },
        Reference {
            name: "hours",
            points: &[
                (100.0, 3100.0),
                (2450.0, 74000.0),
                (35.0, 1200.0),
                (1.0, 45.0),
                (900.0, 26500.0),
            ],
            coefficient: 30.137003734928697,
            intercept: -42.51900399228907,
            alpha: 9.190638579992562e-06,
            lambda: 0.0011010039617690495,
            iterations: 8,
        },
    ];

    fn close(ours: f64, theirs: f64) -> bool {
        (ours - theirs).abs() <= 1e-6 * theirs.abs().max(1.0)
    }

    #[test]
    fn agrees_with_scikit_learn_on_one_feature() {
        for reference in REFERENCES {
            let points: Vec<_> = reference
                .points
                .iter()
                .map(|&(x, y)| (SVector::<f64, 1>::new(x), y))
                .collect();
            let ours = Ridge::fit(&points).unwrap();
            assert!(
                close(ours.coefficients[0], reference.coefficient)
                    && close(ours.intercept, reference.intercept)
                    && close(ours.alpha, reference.alpha)
                    && close(ours.lambda, reference.lambda)
                    && ours.iterations == reference.iterations,
                "{}: {ours:?}",
                reference.name
            );
        }
    }

    #[test]
    fn agrees_with_scikit_learn_on_two_features() {
        let points = [
            ([33.0, 6.9], 52.9),
            ([10.0, 2.2], 31.0),
            ([11.0, 2.0], 30.6),
            ([130.0, 27.5], 79.5),
            ([174.0, 37.0], 94.1),
            ([56.0, 11.9], 52.4),
        ]
        .map(|(x, y)| (SVector::<f64, 2>::from(x), y));
        let ours = Ridge::fit(&points).unwrap();
        assert!(close(ours.coefficients[0], 0.35128046563223914));
        assert!(close(ours.coefficients[1], 0.07561537627034869));
        assert!(close(ours.intercept, 31.40892363409958));
        assert_eq!(ours.iterations, 3);
    }

    #[test]
    fn from_sums_it_is_the_same_line() {
        for reference in REFERENCES {
            let centre = reference.points[0];
            let (slope, height) = line_of(&Sums::of(reference.points, &centre)).unwrap();
            let intercept = height + centre.1 - slope * centre.0;
            assert!(
                close(slope, reference.coefficient) && close(intercept, reference.intercept),
                "{}: {slope} {intercept}",
                reference.name
            );
        }
    }

    #[test]
    fn no_points_make_no_regression() {
        assert!(Ridge::<1>::fit(&[]).is_none());
    }
}
