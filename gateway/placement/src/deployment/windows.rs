//! Sliding windows over a time series: their predictions, and the running
//! errors of every width at once. Knows nothing of deployments.

use std::collections::VecDeque;

use super::{Method, Window};

/// Errors are summed in whole nanoseconds, so that what was added can be taken
/// away again without drift.
const PER_SECOND: f64 = 1e9;

/// Summed absolute one-step-ahead errors of both methods for widths
/// `1..=max_width`, over a sliding range of steps.
#[derive(Debug, Clone)]
pub(crate) struct Errors {
    mean: Vec<i128>,
    median: Vec<i128>,
    steps: usize,
    sorted: Vec<f64>,
}

impl Errors {
    pub(crate) fn new(max_width: usize) -> Self {
        Self {
            mean: vec![0; max_width],
            median: vec![0; max_width],
            steps: 0,
            sorted: Vec::with_capacity(max_width),
        }
    }

    /// Steps summed now.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// Judges every width on its prediction of `actual` from `past`.
    pub(crate) fn add(&mut self, past: &[f64], actual: f64) {
        self.apply(past, actual, 1);
        self.steps += 1;
    }

    /// Takes back an [`add`](Self::add) with the same arguments (values older
    /// than the widest window may be missing from `past`).
    pub(crate) fn remove(&mut self, past: &[f64], actual: f64) {
        self.apply(past, actual, -1);
        self.steps -= 1;
    }

    fn apply(&mut self, past: &[f64], actual: f64, sign: i128) {
        let widths = self.mean.len();
        self.sorted.clear();
        let (mut sum, mut of_mean, mut of_median) = (0.0, 0, 0);
        for (index, &value) in past.iter().rev().take(widths).enumerate() {
            sum += value;
            let at = self.sorted.partition_point(|&other| other < value);
            self.sorted.insert(at, value);
            of_mean = whole((actual - sum / (index + 1) as f64).abs());
            of_median = whole((actual - median_of_sorted(&self.sorted)).abs());
            self.mean[index] += sign * of_mean;
            self.median[index] += sign * of_median;
        }
        // A window wider than the past takes all there is.
        for index in past.len().min(widths)..widths {
            self.mean[index] += sign * of_mean;
            self.median[index] += sign * of_median;
        }
    }

    /// The width of least error; the narrower one wins ties. `None` before the
    /// first step and for methods without a window.
    pub(crate) fn best_of(&self, method: Method) -> Option<Window> {
        let sums = match method {
            Method::Mean => &self.mean,
            Method::Median => &self.median,
            Method::AutoRegression | Method::Forgetting => return None,
        };
        let (index, &least) = sums.iter().enumerate().min_by_key(|(_, sum)| **sum)?;
        (self.steps > 0).then(|| Window {
            method,
            width: index + 1,
            mae: Some(least as f64 / PER_SECOND / self.steps as f64),
        })
    }
}

fn whole(seconds: f64) -> i128 {
    (seconds * PER_SECOND).round() as i128
}

/// What a window of `width` over the newest of `past` predicts; `past` must
/// not be empty.
pub(crate) fn predict(past: &[f64], method: Method, width: usize) -> f64 {
    let window = &past[past.len().saturating_sub(width)..];
    match method {
        Method::Mean => window.iter().sum::<f64>() / window.len() as f64,
        // No other method has a window.
        Method::Median | Method::AutoRegression | Method::Forgetting => {
            let mut sorted = window.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            median_of_sorted(&sorted)
        }
    }
}

/// Appends the signed one-step-ahead errors of the last `steps` values.
pub(crate) fn residuals(
    values: &[f64],
    steps: usize,
    method: Method,
    width: usize,
    out: &mut VecDeque<f64>,
) {
    let first = values.len() - steps.min(values.len());
    match method {
        Method::Mean => {
            for step in first..values.len() {
                out.push_back(values[step] - predict(&values[..step], method, width));
            }
        }
        Method::Median | Method::AutoRegression | Method::Forgetting => {
            // One sorted window is slid along instead of sorting each anew.
            let mut sorted = values[first.saturating_sub(width)..first].to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            for step in first..values.len() {
                out.push_back(values[step] - median_of_sorted(&sorted));
                if step >= width {
                    let leaving = values[step - width];
                    sorted.remove(sorted.partition_point(|&other| other < leaving));
                }
                let at = sorted.partition_point(|&other| other < values[step]);
                sorted.insert(at, values[step]);
            }
        }
    }
}

fn median_of_sorted(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[half]
    } else {
        sorted[half - 1].midpoint(sorted[half])
    }
}
