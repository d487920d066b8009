//! Duplicator mode (the paper's section 4.3): the batch starts at the edge at
//! once, and a cloud pod is deployed beside it. When that pod is up, what is
//! left at the edge is held against what the cloud would take, and either both
//! go on or the cloud is given back. What it costs is in [`crate::account`].
//!
//! The decision is conditional on what has happened meanwhile: the time of the
//! deployment is over and no longer a guess, and the edge's rest comes from its
//! progress, not from what was predicted for it at the start.

use serde::{Deserialize, Serialize};

use crate::estimate::{Part, sane_seconds, sane_size, sum};
use crate::queueing::Running;

/// What the duplicator does when the cloud pod is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The cloud is predicted to end first: both run, and whoever ends first
    /// ends the other.
    Both,
    /// The edge is predicted to end first: the cloud pod is given back.
    EdgeOnly,
}

/// Seconds left of a batch that has worked `done` of `total` items in
/// `elapsed_s` seconds and was predicted to take `predicted` in all.
///
/// The pace so far is blended with the predicted one, each weighed by how well
/// it is known: the prediction by its 90 % interval, the progress by how many
/// items it stands on. A prediction that progress contradicts by far loses its
/// weight. The interval is that of the prediction, scaled to what is left. With
/// no item done it is what is left of the prediction. Unknown only when nothing
/// was predicted and no item is done.
#[must_use]
pub fn remaining(done: f64, total: f64, elapsed_s: f64, predicted: &Part) -> Part {
    let total = sane_size(total).unwrap_or(0.0);
    let done = sane_size(done).unwrap_or(0.0).min(total);
    let elapsed_s = sane_seconds(elapsed_s).unwrap_or(0.0);
    if done >= total && total > 0.0 {
        return Part::ZERO;
    }
    if done <= 0.0 {
        return Running {
            total: *predicted,
            elapsed_s,
        }
        .remaining();
    }
    let measured = elapsed_s / done;
    let pace = if predicted.known && predicted.mean > 0.0 {
        blend(
            predicted.mean / total,
            relative_error(predicted),
            measured,
            done,
        )
    } else {
        measured
    };
    at_pace(total - done, pace, predicted, done)
}

/// Progress of a batch, mark by mark. Unlike the whole elapsed time, the time
/// between two marks holds nothing of the start (connections, loading a model),
/// so it tells the pace sooner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    total: f64,
    first: Option<(f64, f64)>,
    last: Option<(f64, f64)>,
}

impl Progress {
    /// No progress yet on a batch of `total` items.
    #[must_use]
    pub fn new(total: f64) -> Self {
        Self {
            total: sane_size(total).unwrap_or(0.0),
            first: None,
            last: None,
        }
    }

    /// Takes in that `done` items were done at `at`, seconds since the batch
    /// began. What goes back in time or in items changes nothing.
    pub fn mark(&mut self, done: f64, at: f64) {
        let (Some(done), Some(at)) = (sane_size(done), sane_seconds(at)) else {
            return;
        };
        let mark = (done.min(self.total), at);
        if self.last.is_some_and(|(d, a)| mark.0 <= d || mark.1 < a) || done <= 0.0 {
            return;
        }
        self.first.get_or_insert(mark);
        self.last = Some(mark);
    }

    /// Items done at the last mark.
    #[must_use]
    pub fn done(&self) -> f64 {
        self.last.map_or(0.0, |(done, _)| done)
    }

    /// Seconds left at `now` (seconds since the batch began) of a batch that was
    /// predicted to take `predicted`; as [`remaining`], by the pace between the
    /// marks. What has passed since the last mark counts.
    #[must_use]
    pub fn remaining(&self, now: f64, predicted: &Part) -> Part {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return remaining(0.0, self.total, now, predicted);
        };
        let since = (sane_seconds(now).unwrap_or(0.0) - last.1).max(0.0);
        let between = last.0 - first.0;
        if between <= 0.0 {
            return remaining(last.0, self.total, last.1.max(now), predicted);
        }
        if last.0 >= self.total {
            return Part::ZERO;
        }
        let measured = (last.1 - first.1) / between;
        let pace = if predicted.known && predicted.mean > 0.0 {
            // What the start took is no part of the pace.
            let start = (first.1 - measured * first.0).clamp(0.0, 0.9 * predicted.mean);
            let expected = (predicted.mean - start) / self.total;
            blend(expected, relative_error(predicted), measured, between)
        } else {
            measured
        };
        // The item under way has had its time since the last mark, but is not
        // over.
        let left = (self.total - last.0) - (since / pace.max(1e-9)).min(0.9);
        at_pace(left, pace, predicted, between)
    }
}

/// Standard deviation of a prediction relative to its mean, from its 90 %
/// interval.
fn relative_error(predicted: &Part) -> f64 {
    const WIDTH: f64 = 3.29;
    let width = predicted.p90.high - predicted.p90.low;
    (width / WIDTH / predicted.mean.max(1e-9)).clamp(0.02, 10.0)
}

/// Two paces, each in seconds per item, as one. On a logarithmic scale, since
/// being twice as slow is as far off as being twice as fast.
fn blend(predicted: f64, error: f64, measured: f64, items: f64) -> f64 {
    let (predicted, measured) = (predicted.max(1e-12), measured.max(1e-12));
    let apart = (measured / predicted).ln();
    // What lies further apart than the prediction's own error allows for is the
    // prediction's fault.
    let error = error.max(apart.abs() / 2.0);
    let noise = 0.7 / items.sqrt();
    let weight = error * error / (error * error + noise * noise);
    predicted * (weight * apart).exp()
}

fn at_pace(items: f64, pace: f64, predicted: &Part, points: f64) -> Part {
    let mean = items.max(0.0) * pace;
    let scale = if predicted.known && predicted.mean > 0.0 {
        mean / predicted.mean
    } else {
        0.0
    };
    let offsets = |low: f64, high: f64| {
        (
            (low - predicted.mean) * scale,
            (high - predicted.mean) * scale,
        )
    };
    Part::around(
        mean,
        offsets(predicted.p50.low, predicted.p50.high),
        offsets(predicted.p90.low, predicted.p90.high),
        predicted.points.max(points as usize),
    )
}

/// What the cloud still has to do once its pod is up: the rest of a transfer
/// that began `elapsed_s` ago, then the processing.
#[must_use]
pub fn cloud_rest(transfer: &Part, elapsed_s: f64, processing: &Part) -> Part {
    let elapsed_s = sane_seconds(elapsed_s).unwrap_or(0.0);
    // A transfer that is over has nothing left, late or not; the caller says so
    // by passing `Part::ZERO`.
    let left = if transfer.mean <= 0.0 {
        *transfer
    } else {
        Running {
            total: *transfer,
            elapsed_s,
        }
        .remaining()
    };
    sum(&[left, *processing])
}

/// The conditional decision: both when the cloud is predicted to end first,
/// else the edge alone. The edge alone too when the cloud pod is up but nothing
/// is known of what it would take, unless nothing is known of the edge either.
#[must_use]
pub fn resolve(edge_rest: &Part, cloud_rest: &Part) -> Resolution {
    let cloud_first = match (edge_rest.known, cloud_rest.known) {
        (true, true) => cloud_rest.mean < edge_rest.mean,
        (true, false) => false,
        (false, _) => true,
    };
    if cloud_first {
        Resolution::Both
    } else {
        Resolution::EdgeOnly
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predicted(mean: f64) -> Part {
        Part::around(
            mean,
            (-0.05 * mean, 0.05 * mean),
            (-0.15 * mean, 0.2 * mean),
            10,
        )
    }

    #[test]
    fn with_nothing_done_the_prediction_runs_down() {
        let rest = remaining(0.0, 100.0, 30.0, &predicted(240.0));
        assert!((rest.mean - 210.0).abs() < 1e-9);
        assert!(!remaining(0.0, 100.0, 30.0, &Part::UNKNOWN).known);
    }

    #[test]
    fn on_schedule_the_rest_is_in_proportion_and_so_is_its_interval() {
        let rest = remaining(50.0, 100.0, 120.0, &predicted(240.0));
        assert!((rest.mean - 120.0).abs() < 1.0, "{rest:?}");
        assert!((rest.p90.high - rest.mean - 24.0).abs() < 1.0, "{rest:?}");
    }

    #[test]
    fn a_machine_three_times_slower_is_noticed() {
        let rest = remaining(20.0, 100.0, 144.0, &predicted(240.0));
        assert!(rest.mean > 480.0 && rest.mean < 580.0, "{rest:?}");
        // A moment after the start it is not yet sure.
        let early = remaining(1.0, 100.0, 7.2, &predicted(240.0));
        assert!(early.mean < 560.0, "{early:?}");
    }

    #[test]
    fn marks_leave_out_what_the_start_took() {
        let mut progress = Progress::new(100.0);
        // 20 s of start, then 2.4 s an item, predicted 260 s in all.
        for done in 1..=3 {
            progress.mark(f64::from(done), 20.0 + 2.4 * f64::from(done));
        }
        let rest = progress.remaining(27.2, &predicted(260.0));
        assert!((rest.mean - 97.0 * 2.4).abs() < 10.0, "{rest:?}");
        assert_eq!(progress.done(), 3.0);
        // Marks that go back are no marks.
        progress.mark(2.0, 99.0);
        progress.mark(9.0, 1.0);
        progress.mark(f64::NAN, 99.0);
        assert_eq!(progress.done(), 3.0);
    }

    #[test]
    fn all_done_is_nothing_left() {
        assert_eq!(remaining(10.0, 10.0, 7.0, &predicted(5.0)), Part::ZERO);
        let mut progress = Progress::new(2.0);
        progress.mark(1.0, 1.0);
        progress.mark(2.0, 2.0);
        assert_eq!(progress.remaining(2.0, &predicted(2.0)), Part::ZERO);
    }

    #[test]
    fn absurd_progress_is_borne() {
        for bad in [f64::NAN, -1.0, f64::INFINITY, 0.0, f64::MAX] {
            for part in [Part::UNKNOWN, Part::ZERO, predicted(1e12)] {
                assert!(remaining(bad, bad, bad, &part).mean.is_finite());
                assert!(remaining(1.0, bad, bad, &part).mean.is_finite());
                assert!(cloud_rest(&part, bad, &part).mean.is_finite());
                let mut progress = Progress::new(bad);
                progress.mark(bad, bad);
                progress.mark(1.0, 0.0);
                assert!(progress.remaining(bad, &part).mean.is_finite());
            }
        }
    }

    #[test]
    fn the_cloud_runs_when_it_is_predicted_to_end_first() {
        let both = resolve(&predicted(60.0), &predicted(30.0));
        assert_eq!(both, Resolution::Both);
        assert_eq!(
            resolve(&predicted(20.0), &predicted(30.0)),
            Resolution::EdgeOnly
        );
        assert_eq!(
            resolve(&predicted(20.0), &predicted(20.0)),
            Resolution::EdgeOnly
        );
        assert_eq!(
            resolve(&predicted(20.0), &Part::UNKNOWN),
            Resolution::EdgeOnly
        );
        assert_eq!(resolve(&Part::UNKNOWN, &Part::UNKNOWN), Resolution::Both);
    }

    #[test]
    fn the_cloud_pays_what_is_left_of_the_transfer_first() {
        let rest = cloud_rest(&Part::exact(10.0), 4.0, &predicted(30.0));
        assert!((rest.mean - 36.0).abs() < 1e-9);
        let rest = cloud_rest(&Part::ZERO, 400.0, &predicted(30.0));
        assert!((rest.mean - 30.0).abs() < 1e-9);
    }
}
