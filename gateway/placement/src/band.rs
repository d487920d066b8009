//! Prediction bands from a model's own recent errors (split-conformal style).
//!
//! A band holds how far outcomes fell from predictions that were made before
//! the outcome was known. Of n past errors that are exchangeable with the next
//! one, the next falls between the i-th and j-th smallest with probability
//! (j - i) / (n + 1): that `n + 1` is the finite-sample correction. It knows
//! nothing of what was predicted; errors may be seconds or relative.

use serde::Serialize;

/// Signed offsets from a prediction to the ends of its 50 % and 90 % ranges.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Band {
    /// Lower and upper offset of the 50 % range.
    pub p50: (f64, f64),
    /// Lower and upper offset of the 90 % range.
    pub p90: (f64, f64),
}

/// Half-widths of the 50 % and 90 % ranges when nothing was measured, relative
/// to the prediction. A guess, replaced as errors come in.
const GUESS: (f64, f64) = (0.25, 0.6);

/// From this many errors on they are believed without the guess.
const ENOUGH: usize = 9;

impl Band {
    /// A band of no width.
    pub const NONE: Self = Self {
        p50: (0.0, 0.0),
        p90: (0.0, 0.0),
    };

    /// The band of `errors` (outcome minus prediction). `unit` is what one
    /// hundred per cent of the prediction is in the errors' unit: 1 for
    /// relative errors, the predicted seconds for errors in seconds. It scales
    /// the guess that stands in while there are few errors, shrinking as
    /// 1 / (1 + n) until there are nine.
    #[must_use]
    pub fn of(errors: impl IntoIterator<Item = f64>, unit: f64) -> Self {
        let mut sorted: Vec<f64> = errors.into_iter().filter(|e| e.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Self::of_sorted(&sorted, unit)
    }

    /// As [`of`](Self::of), of finite errors in rising order.
    #[must_use]
    pub(crate) fn of_sorted(sorted: &[f64], unit: f64) -> Self {
        let (mut p50, mut p90) = (range(sorted, 0.5), range(sorted, 0.9));
        if sorted.len() < ENOUGH {
            let part = unit.abs() / (1.0 + sorted.len() as f64);
            p50 = (p50.0.min(-GUESS.0 * part), p50.1.max(GUESS.0 * part));
            p90 = (p90.0.min(-GUESS.1 * part), p90.1.max(GUESS.1 * part));
        }
        Self {
            p50,
            p90: (p90.0.min(p50.0), p90.1.max(p50.1)),
        }
    }
}

/// The central range of `coverage` of sorted errors. Where there are too few
/// for the ranks asked for, the whole range is stretched by what it falls
/// short of the coverage.
fn range(sorted: &[f64], coverage: f64) -> (f64, f64) {
    let n = sorted.len();
    let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else {
        return (0.0, 0.0);
    };
    let tail = (1.0 - coverage) / 2.0;
    // 1-based rank of the lower end; the upper end mirrors it.
    let rank = ((n + 1) as f64 * tail + 1e-9).floor() as usize;
    if rank >= 1 {
        return (sorted[rank - 1], sorted[n - rank]);
    }
    if n == 1 {
        let reach = 2.0 * least.abs();
        return (-reach, reach);
    }
    let covered = (n - 1) as f64 / (n + 1) as f64;
    let stretch = (coverage / covered).max(1.0) - 1.0;
    let extra = (most - least) * stretch / 2.0;
    (least - extra, most + extra)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_ninety_nine_errors_leave_five_percent_on_each_side() {
        let errors: Vec<f64> = (1..=99).map(f64::from).collect();
        assert_eq!(range(&errors, 0.9), (5.0, 95.0));
        assert_eq!(range(&errors, 0.5), (25.0, 75.0));
    }

    #[test]
    fn few_errors_stretch_the_range() {
        let (low, high) = range(&[-1.0, 0.0, 1.0], 0.9);
        assert!((high - 1.8).abs() < 1e-12 && (low + 1.8).abs() < 1e-12);
    }

    #[test]
    fn without_errors_the_guess_stands() {
        let band = Band::of([], 10.0);
        assert_eq!(band.p90, (-6.0, 6.0));
        assert_eq!(band.p50, (-2.5, 2.5));
    }
}
