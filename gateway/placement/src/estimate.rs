//! The words of a prediction: what an invocation looks like ([`Features`]) and
//! how long it is expected to take, part by part ([`Estimate`]).
//!
//! Every time is in seconds as a plain `f64`, finite and never negative.
//! Nothing here knows how a part was predicted.

use serde::{Deserialize, Serialize};

/// The longest time the models work with, in seconds. Longer measurements and
/// predictions are cut to it, which keeps every sum and square finite.
pub const MAX_SECONDS: f64 = 1e12;

/// The most items or bytes the models work with; larger values are cut to it.
pub const MAX_SIZE: f64 = 1e15;

/// What is known of an invocation before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Features {
    /// Number of items (images) in the batch; 1 for a plain request.
    pub items: f64,
    /// Bytes that must travel to the runtime's site.
    pub bytes: f64,
}

impl Features {
    /// Features of a batch of `items` items in `bytes` bytes.
    #[must_use]
    pub const fn new(items: f64, bytes: f64) -> Self {
        Self { items, bytes }
    }
}

/// A closed range of seconds, `low <= high`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end, seconds.
    pub low: f64,
    /// Upper end, seconds.
    pub high: f64,
}

impl Interval {
    /// The interval that holds one value only.
    #[must_use]
    pub const fn point(seconds: f64) -> Self {
        Self {
            low: seconds,
            high: seconds,
        }
    }

    /// Whether `seconds` lies in the interval, ends included.
    #[must_use]
    pub fn contains(&self, seconds: f64) -> bool {
        self.low <= seconds && seconds <= self.high
    }
}

/// One part of a response time.
///
/// Invariants of every part this crate makes: all numbers are finite,
/// `0 <= p90.low <= p50.low <= mean <= p50.high <= p90.high`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Expected seconds.
    pub mean: f64,
    /// Range meant to hold half of the outcomes.
    pub p50: Interval,
    /// Range meant to hold nine outcomes in ten.
    pub p90: Interval,
    /// False when there is nothing to predict from; then all numbers are zero.
    pub known: bool,
    /// How many measurements the part stands on. Zero on a known part means
    /// that it needs none (no transfer to the local site, no deployment of a
    /// warm pod).
    pub points: usize,
}

impl Part {
    /// A part of which nothing is known yet.
    pub const UNKNOWN: Self = Self {
        mean: 0.0,
        p50: Interval::point(0.0),
        p90: Interval::point(0.0),
        known: false,
        points: 0,
    };

    /// A part that takes no time for certain.
    pub const ZERO: Self = Self {
        known: true,
        ..Self::UNKNOWN
    };

    /// A part known without doubt, such as a configured delay.
    #[must_use]
    pub fn exact(seconds: f64) -> Self {
        let seconds = sane_seconds(seconds).unwrap_or(0.0);
        Self {
            mean: seconds,
            p50: Interval::point(seconds),
            p90: Interval::point(seconds),
            known: true,
            points: 0,
        }
    }

    /// A part around `mean` whose intervals are `mean + offset`, made to keep
    /// the invariants: cut at zero, widened to hold the mean and to nest.
    #[must_use]
    pub(crate) fn around(mean: f64, p50: (f64, f64), p90: (f64, f64), points: usize) -> Self {
        let mean = mean.clamp(0.0, MAX_SECONDS);
        let low50 = (mean + p50.0.min(0.0)).clamp(0.0, MAX_SECONDS);
        let high50 = (mean + p50.1.max(0.0)).clamp(0.0, MAX_SECONDS);
        let low90 = (mean + p90.0).clamp(0.0, low50);
        let high90 = (mean + p90.1).clamp(high50, MAX_SECONDS);
        Self {
            mean,
            p50: Interval {
                low: low50,
                high: high50,
            },
            p90: Interval {
                low: low90,
                high: high90,
            },
            known: true,
            points,
        }
    }
}

impl Part {
    /// The part with every time multiplied by `factor`.
    #[must_use]
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        let sane = |seconds: f64| (seconds * factor).clamp(0.0, MAX_SECONDS);
        let both = |interval: Interval| Interval {
            low: sane(interval.low),
            high: sane(interval.high),
        };
        if !factor.is_finite() || factor < 0.0 {
            return *self;
        }
        Self {
            mean: sane(self.mean),
            p50: both(self.p50),
            p90: both(self.p90),
            ..*self
        }
    }
}

/// What a part's prediction stands on, for `stoic predict --explain`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Basis {
    /// The estimator in force.
    pub estimator: &'static str,
    /// Measurements taken in.
    pub points: usize,
    /// Its mean error over recent predictions made in advance, relative to the
    /// times measured (the most recent count most); `None` before the first.
    pub recent_error: Option<f64>,
}

/// The predicted response time of one invocation on one runtime,
/// T_s = T_q + T_t + T_d + T_p (the paper's section 3.4 and the queueing time
/// it leaves out).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// T_q: waiting for a slot.
    pub queueing: Part,
    /// T_t: moving the bytes to the site.
    pub transfer: Part,
    /// T_d: bringing up a pod; zero when a warm one is ready.
    pub deployment: Part,
    /// T_p: running the function.
    pub processing: Part,
    /// T_s: the sum of the four.
    pub response: Part,
}

impl Estimate {
    /// Puts four parts together and sums them (see [`sum`]).
    #[must_use]
    pub fn of(queueing: Part, transfer: Part, deployment: Part, processing: Part) -> Self {
        Self {
            queueing,
            transfer,
            deployment,
            processing,
            response: sum(&[queueing, transfer, deployment, processing]),
        }
    }
}

/// Sums parts that follow one another.
///
/// Means add. The parts' errors are taken to be independent, so the distance
/// from the mean to an interval's end is the root of the summed squares of the
/// parts' distances, each side on its own. This is exact for normal errors and
/// keeps skew (a long tail of deployments stays a long upper side); errors that
/// rise and fall together would need wider intervals. The sum is known when
/// all parts are, and stands on as many points as the part that has the fewest,
/// leaving out parts that need none.
#[must_use]
pub fn sum(parts: &[Part]) -> Part {
    let mut mean = 0.0;
    let mut squares = Squares::default();
    let mut known = true;
    let mut points: Option<usize> = None;
    for part in parts {
        mean += part.mean;
        squares.add(part);
        known &= part.known;
        if part.points > 0 || !part.known {
            points = Some(points.map_or(part.points, |fewest| fewest.min(part.points)));
        }
    }
    Part {
        known,
        ..squares.around(mean, points.unwrap_or(0))
    }
}

/// Squared distances from mean to interval ends, for sums of parts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Squares {
    low50: f64,
    high50: f64,
    low90: f64,
    high90: f64,
}

impl Squares {
    pub(crate) fn add(&mut self, part: &Part) {
        let square = |distance: f64| distance * distance;
        self.low50 += square(part.mean - part.p50.low);
        self.high50 += square(part.p50.high - part.mean);
        self.low90 += square(part.mean - part.p90.low);
        self.high90 += square(part.p90.high - part.mean);
    }

    pub(crate) fn around(&self, mean: f64, points: usize) -> Part {
        Part::around(
            mean,
            (-self.low50.sqrt(), self.high50.sqrt()),
            (-self.low90.sqrt(), self.high90.sqrt()),
            points,
        )
    }
}

/// A usable measurement of time: finite and not negative, cut to
/// [`MAX_SECONDS`]; `None` otherwise.
pub(crate) fn sane_seconds(seconds: f64) -> Option<f64> {
    (seconds.is_finite() && seconds >= 0.0).then(|| seconds.min(MAX_SECONDS))
}

/// A usable size (items or bytes), as [`sane_seconds`].
pub(crate) fn sane_size(size: f64) -> Option<f64> {
    (size.is_finite() && size >= 0.0).then(|| size.min(MAX_SIZE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_means_and_combine_distances_in_quadrature() {
        let a = Part::around(10.0, (-1.0, 3.0), (-3.0, 6.0), 7);
        let b = Part::around(20.0, (-2.0, 4.0), (-4.0, 8.0), 3);
        let total = sum(&[a, Part::ZERO, b]);
        assert_eq!(total.mean, 30.0);
        assert!((total.p50.low - (30.0 - 5f64.sqrt())).abs() < 1e-12);
        assert!((total.p50.high - 35.0).abs() < 1e-12);
        assert!((total.p90.low - 25.0).abs() < 1e-12);
        assert!((total.p90.high - 40.0).abs() < 1e-12);
        assert!(total.known);
        assert_eq!(total.points, 3);
    }

    #[test]
    fn a_sum_with_an_unknown_part_is_unknown_and_stands_on_nothing() {
        let total = sum(&[Part::around(1.0, (0.0, 0.0), (0.0, 0.0), 5), Part::UNKNOWN]);
        assert!(!total.known);
        assert_eq!(total.points, 0);
        assert_eq!(total.mean, 1.0);
    }

    #[test]
    fn a_biased_band_is_widened_to_hold_the_mean() {
        let part = Part::around(5.0, (1.0, 2.0), (0.5, 1.0), 9);
        assert_eq!(part.p50.low, 5.0);
        assert_eq!(part.p90.low, 5.0);
        assert_eq!(part.p50.high, 7.0);
        assert_eq!(part.p90.high, 7.0);
    }
}
