//! Sliding windows over a time series: their predictions, and the running
//! errors of every width at once. Knows nothing of deployments.

use std::collections::VecDeque;

use super::{Method, Window};
use crate::quantile::median;

/// Errors are summed in whole microseconds, so that what was added can be taken
/// away again without drift.
const PER_SECOND: f64 = 1e6;

/// Summed absolute one-step-ahead errors of both methods for widths
/// `1..=max_width`, over a sliding range of steps.
#[derive(Debug, Clone)]
pub(crate) struct Errors {
    mean: Vec<i128>,
    median: Vec<i128>,
    steps: usize,
    shrinking: Shrinking,
}

impl Errors {
    pub(crate) fn new(max_width: usize) -> Self {
        Self {
            mean: vec![0; max_width],
            median: vec![0; max_width],
            steps: 0,
            shrinking: Shrinking::default(),
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

    fn apply(&mut self, past: &[f64], actual: f64, sign: i64) {
        let widths = self.mean.len();
        let window = &past[past.len().saturating_sub(widths)..];
        let (mut sum, mut of_mean, mut of_median) = (0.0, 0, 0);
        for (index, &value) in window.iter().rev().enumerate() {
            sum += value;
            let error = whole((actual - sum / (index + 1) as f64).abs());
            if index == window.len() - 1 {
                of_mean = error;
            }
            self.mean[index] += i128::from(sign * error);
        }
        let median = &mut self.median;
        self.shrinking.medians(window, |width, middle| {
            let error = whole((actual - middle).abs());
            if width == window.len() {
                of_median = error;
            }
            median[width - 1] += i128::from(sign * error);
        });
        // A window wider than the past takes all there is.
        for index in window.len()..widths {
            self.mean[index] += i128::from(sign * of_mean);
            self.median[index] += i128::from(sign * of_median);
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

fn whole(seconds: f64) -> i64 {
    (seconds * PER_SECOND + 0.5) as i64
}

/// The medians of a window that loses its oldest value again and again. The
/// values are sorted once and linked in that order; each loss unlinks one and
/// moves the middle by one place at most.
#[derive(Debug, Clone, Default)]
struct Shrinking {
    /// Place in the window by rank.
    order: Vec<u32>,
    /// By place in the window: its rank, and its neighbours by value.
    links: Vec<Link>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    rank: u32,
    before: u32,
    after: u32,
}

impl Shrinking {
    /// Tells `each` width, from the whole window down to one, with its median.
    fn medians(&mut self, window: &[f64], mut each: impl FnMut(usize, f64)) {
        let count = window.len();
        if count == 0 {
            return;
        }
        self.order.clear();
        self.order.extend(0..count as u32);
        self.order
            .sort_unstable_by(|&a, &b| window[a as usize].total_cmp(&window[b as usize]));
        let none = Link {
            rank: 0,
            before: 0,
            after: 0,
        };
        self.links.clear();
        self.links.resize(count, none);
        for (rank, &place) in self.order.iter().enumerate() {
            self.links[place as usize] = Link {
                rank: rank as u32,
                before: self.order[rank.saturating_sub(1)],
                after: self.order[(rank + 1).min(count - 1)],
            };
        }
        // The lower one of the two in the middle.
        let mut middle = self.order[(count - 1) / 2] as usize;
        for leaving in 0..count {
            let width = count - leaving;
            let odd = width % 2 == 1;
            let Link {
                rank,
                before,
                after,
            } = self.links[middle];
            each(
                width,
                if odd {
                    window[middle]
                } else {
                    window[middle].midpoint(window[after as usize])
                },
            );
            let gone = self.links[leaving];
            if odd && gone.rank >= rank {
                middle = before as usize;
            } else if !odd && gone.rank <= rank {
                middle = after as usize;
            }
            self.links[gone.before as usize].after = gone.after;
            self.links[gone.after as usize].before = gone.before;
        }
    }
}

/// What a window of `width` over the newest of `past` predicts; `past` must
/// not be empty.
pub(crate) fn predict(past: &[f64], method: Method, width: usize) -> f64 {
    let window = &past[past.len().saturating_sub(width)..];
    match method {
        Method::Mean => window.iter().sum::<f64>() / window.len() as f64,
        // No other method has a window.
        Method::Median | Method::AutoRegression | Method::Forgetting => {
            median(&mut window.to_vec()).unwrap_or(0.0)
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
