//! How long a batch takes that several places work together: the fluid view,
//! in which items can be split at will and nobody waits for anybody.
//!
//! With the paces and waits that are predicted it is the expected time, but for
//! what chunks and the last item cost; with those that came true it is a lower
//! bound that no division of the items among these places can beat.

use serde::{Deserialize, Serialize};

use crate::chance::outcomes;
use crate::estimate::{MAX_SECONDS, Part, sane_size};

/// One place's course through a batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Seconds until it works its first item: queueing, deployment and what the
    /// function takes before the first item.
    pub ready_s: f64,
    /// Seconds it works per item.
    pub seconds_per_item: f64,
    /// Seconds each of its items travels first, beginning at once and while it
    /// works; zero where nothing travels.
    pub transfer_s_per_item: f64,
}

/// Items that a place has worked after `seconds`: bounded by its pace since it
/// was ready, and by what had travelled.
#[must_use]
pub fn worked_by(course: &Course, seconds: f64) -> f64 {
    let per = |seconds: f64, each: f64| {
        if seconds <= 0.0 || each.is_nan() {
            0.0
        } else if each <= 0.0 {
            f64::INFINITY
        } else {
            seconds / each
        }
    };
    let worked = per(seconds - course.ready_s, course.seconds_per_item);
    if course.transfer_s_per_item <= 0.0 {
        return worked;
    }
    // The last item to arrive must still be worked.
    let travelled = per(
        seconds - course.seconds_per_item.max(0.0),
        course.transfer_s_per_item,
    );
    worked.min(travelled)
}

/// Seconds until the places together have worked `items` items; infinite when
/// they never will.
#[must_use]
pub fn finish(items: f64, courses: &[Course]) -> f64 {
    let items = sane_size(items).unwrap_or(0.0);
    if items <= 0.0 {
        return 0.0;
    }
    let worked = |seconds: f64| -> f64 { courses.iter().map(|c| worked_by(c, seconds)).sum() };
    // The sum is a line between two of its bends: the first bend at which enough
    // is worked, and the one before it, hold the end between them.
    let (mut before, mut least) = (0.0, 0.0);
    let mut after = f64::INFINITY;
    let mut last = 0.0f64;
    for bend in courses.iter().flat_map(bends) {
        if !(0.0..=MAX_SECONDS).contains(&bend) {
            continue;
        }
        last = last.max(bend);
        if bend < before || bend >= after {
            continue;
        }
        let sum = worked(bend);
        if sum < items {
            (before, least) = (bend, sum);
        } else {
            after = bend;
        }
    }
    // Behind the last bend, or between two: one more point tells the slope.
    let (to, most) = if after.is_finite() {
        (after, worked(after))
    } else {
        before = last;
        least = worked(last);
        (last + 1.0, worked(last + 1.0))
    };
    if most.is_infinite() {
        // A place without a pace works everything as soon as it begins.
        return to.min(MAX_SECONDS);
    }
    let slope = (most - least) / (to - before);
    if slope <= 0.0 || slope.is_nan() {
        return if least >= items {
            before
        } else {
            f64::INFINITY
        };
    }
    (before + (items - least) / slope).clamp(before, MAX_SECONDS)
}

/// Where a place's worked items, as a function of time, bend: where it begins,
/// where its first item has travelled, and where one bound takes over from the
/// other.
fn bends(course: &Course) -> [f64; 3] {
    let (pace, travel) = (course.seconds_per_item, course.transfer_s_per_item);
    let crossing = if travel > 0.0 && pace > 0.0 && travel != pace {
        // (t - ready) / pace = (t - pace) / travel
        (course.ready_s * travel - pace * pace) / (travel - pace)
    } else {
        f64::NAN
    };
    [course.ready_s, pace, crossing]
}

/// A place as predicted, for [`predict()`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Predicted {
    ready: Part,
    pace: Part,
}

/// The expected time of a batch of `items` items that several places work
/// together, with intervals.
///
/// Each place is given as the wait until its first item (queueing and
/// deployment), its whole processing time for the batch, the seconds of that
/// processing which are no items' (zero when unknown), and the seconds each item
/// travels. Every wait and every pace is moved through its own distribution with
/// the others at their middle; what that does to the end is added up as
/// independent. Places of which something is unknown are left out; with none
/// left the answer is unknown.
#[must_use]
pub fn predict(items: f64, places: &[(Part, Part, f64, f64)]) -> Part {
    let items = sane_size(items).unwrap_or(0.0).max(1.0);
    let known: Vec<(Predicted, f64, f64)> = places
        .iter()
        .filter(|(wait, processing, ..)| wait.known && processing.known)
        .map(|&(wait, processing, start_s, transfer)| {
            let place = Predicted {
                ready: wait,
                pace: processing,
            };
            (place, start_s.clamp(0.0, processing.mean), transfer)
        })
        .collect();
    if known.is_empty() {
        return Part::UNKNOWN;
    }
    let course =
        |(place, start_s, transfer): &(Predicted, f64, f64), wait: f64, processing: f64| {
            let scale = if place.pace.mean > 0.0 {
                processing / place.pace.mean
            } else {
                1.0
            };
            Course {
                ready_s: wait + start_s * scale,
                seconds_per_item: (place.pace.mean - start_s) * scale / items,
                transfer_s_per_item: *transfer,
            }
        };
    let middle: Vec<Course> = known
        .iter()
        .map(|k| course(k, k.0.ready.mean, k.0.pace.mean))
        .collect();
    let mean = finish(items, &middle);
    if !mean.is_finite() {
        return Part::UNKNOWN;
    }
    let mut squares = [0.0f64; 4];
    let mut shift = 0.0;
    let mut points: Option<usize> = None;
    for (index, place) in known.iter().enumerate() {
        for part in [&place.0.ready, &place.0.pace] {
            if part.points > 0 {
                points = Some(points.map_or(part.points, |p| p.min(part.points)));
            }
        }
        let with = |wait: f64, processing: f64| {
            let mut courses = middle.clone();
            courses[index] = course(place, wait, processing);
            finish(items, &courses)
        };
        let (ready, pace) = (&place.0.ready, &place.0.pace);
        let ends = |part: &Part| [part.p50.low, part.p50.high, part.p90.low, part.p90.high];
        for (square, end) in squares.iter_mut().zip(ends(ready)) {
            *square += (with(end, pace.mean) - mean).powi(2);
        }
        for (square, end) in squares.iter_mut().zip(ends(pace)) {
            *square += (with(ready.mean, end) - mean).powi(2);
        }
        if ready.p90.high > ready.p90.low {
            let all = outcomes(ready);
            let average =
                all.iter().map(|&wait| with(wait, pace.mean)).sum::<f64>() / all.len() as f64;
            shift += average - mean;
        }
    }
    // Waits with a long tail lift the mean, not the ends.
    let low = |square: f64| -square.sqrt() - shift;
    let high = |square: f64| square.sqrt() - shift;
    Part::around(
        (mean + shift).max(0.0),
        (low(squares[0]), high(squares[1])),
        (low(squares[2]), high(squares[3])),
        points.unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(ready_s: f64, seconds_per_item: f64, transfer_s_per_item: f64) -> Course {
        Course {
            ready_s,
            seconds_per_item,
            transfer_s_per_item,
        }
    }

    #[test]
    fn two_places_end_together() {
        // 100 items: the edge 1 a second, the cloud 4 a second after 25 s.
        let both = [course(0.0, 1.0, 0.0), course(25.0, 0.25, 0.0)];
        let end = finish(100.0, &both);
        assert!((end - 40.0).abs() < 1e-6, "{end}");
        assert!((worked_by(&both[0], end) - 40.0).abs() < 1e-6);
        assert!((worked_by(&both[1], end) - 60.0).abs() < 1e-6);
    }

    #[test]
    fn a_place_that_comes_too_late_adds_nothing() {
        let end = finish(10.0, &[course(0.0, 1.0, 0.0), course(600.0, 0.1, 0.0)]);
        assert!((end - 10.0).abs() < 1e-6);
        assert_eq!(finish(0.0, &[]), 0.0);
        assert!(finish(1.0, &[]).is_infinite());
    }

    #[test]
    fn a_slow_link_bounds_the_far_place() {
        let end = finish(100.0, &[course(0.0, 0.01, 0.5)]);
        assert!((end - 50.01).abs() < 1e-6, "{end}");
    }

    #[test]
    fn the_end_is_the_first_moment_at_which_enough_is_worked() {
        let numbers = [0.0, 0.01, 0.3, 1.0, 7.0, 40.0];
        let mut tried = 0;
        for (i, &ready) in numbers.iter().enumerate() {
            for &pace in &numbers[1..] {
                for &travel in &numbers {
                    let far = course(ready, pace, travel);
                    let near = course(numbers[5 - i], 1.3, 0.0);
                    for items in [0.4, 1.0, 35.0, 2450.0] {
                        let end = finish(items, &[near, far]);
                        let sum = |t: f64| worked_by(&near, t) + worked_by(&far, t);
                        assert!(
                            sum(end + 1e-6 * (1.0 + end)) >= items,
                            "{far:?} {items} {end}"
                        );
                        assert!(
                            sum(end - 1e-6 * (1.0 + end)) <= items,
                            "{far:?} {items} {end}"
                        );
                        tried += 1;
                    }
                }
            }
        }
        assert_eq!(tried, 6 * 5 * 6 * 4);
    }

    #[test]
    fn it_is_never_later_than_any_place_alone() {
        let places = [
            course(3.0, 1.3, 0.0),
            course(20.0, 0.2, 0.06),
            course(30.0, 0.1, 0.06),
        ];
        for items in [1.0, 7.0, 80.0, 2450.0] {
            let together = finish(items, &places);
            for place in &places {
                assert!(together <= finish(items, &[*place]) + 1e-9);
            }
        }
    }

    #[test]
    fn a_heavy_tail_of_deployment_shows_in_the_upper_end_only_as_far_as_the_edge_lets_it() {
        let wait = Part::around(25.0, (-5.0, 10.0), (-10.0, 300.0), 50);
        let edge = (Part::ZERO, Part::exact(140.0), 0.0, 0.0);
        let cloud = (wait, Part::exact(48.0), 28.0, 0.06);
        let part = predict(100.0, &[edge, cloud]);
        assert!(
            part.known && part.mean > 60.0 && part.mean < 90.0,
            "{part:?}"
        );
        assert!(
            part.p90.high < 150.0 && part.p90.high > part.mean,
            "{part:?}"
        );
        assert!(!predict(100.0, &[(Part::UNKNOWN, Part::ZERO, 0.0, 0.0)]).known);
    }
}
