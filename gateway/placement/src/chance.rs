//! A part as a distribution: the chance that it takes at most so long, its
//! quantiles, its expectation, and the first of several.
//!
//! A [`Part`] says five points of its distribution: the ends of its intervals
//! are its 5 %, 25 %, 75 % and 95 % points, and its mean is taken for the middle
//! one. Between them the distribution function is linear. Above the 95 % point
//! it goes on exponentially, as steep as between 75 % and 95 %, so that a heavy
//! tail stays one; below the 5 % point it falls linearly to zero.

use crate::estimate::{MAX_SECONDS, Part};

/// Points of the distribution function that a part gives.
const LEVELS: [f64; 5] = [0.05, 0.25, 0.50, 0.75, 0.95];

/// Equally likely outcomes that stand for a distribution in sums over it.
const OUTCOMES: usize = 20;

/// The chance, 0 to 1, that `part` takes at most `seconds`. Zero for a part of
/// which nothing is known. Never falls as `seconds` grows.
#[must_use]
pub fn within(part: &Part, seconds: f64) -> f64 {
    if !part.known || seconds.is_nan() || seconds < 0.0 {
        return 0.0;
    }
    let points = points(part);
    let Some(after) = points.iter().position(|point| *point > seconds) else {
        let scale = tail_scale(part);
        return if scale > 0.0 {
            1.0 - (1.0 - LEVELS[4]) * (-(seconds - points[4]) / scale).exp()
        } else {
            1.0
        };
    };
    let (from, from_level) = match after {
        0 => (least(part), 0.0),
        _ => (points[after - 1], LEVELS[after - 1]),
    };
    let (to, to_level) = (points[after], LEVELS[after]);
    if seconds <= from {
        return from_level;
    }
    from_level + (to_level - from_level) * (seconds - from) / (to - from)
}

/// The seconds that `part` takes at most with chance `level`, cut to between
/// zero and [`MAX_SECONDS`]. Never falls as `level` grows.
#[must_use]
pub fn quantile(part: &Part, level: f64) -> f64 {
    let level = if level.is_nan() {
        0.5
    } else {
        level.clamp(0.0, 1.0)
    };
    let points = points(part);
    let seconds = match LEVELS.iter().position(|known| *known >= level) {
        None => {
            let beyond = ((1.0 - LEVELS[4]) / (1.0 - level).max(1e-9)).ln();
            points[4] + tail_scale(part) * beyond
        }
        Some(0) => {
            let least = least(part);
            least + (points[0] - least) * level / LEVELS[0]
        }
        Some(after) => {
            let share = (level - LEVELS[after - 1]) / (LEVELS[after] - LEVELS[after - 1]);
            points[after - 1] + (points[after] - points[after - 1]) * share
        }
    };
    seconds.clamp(0.0, MAX_SECONDS)
}

/// The expectation of the distribution, seconds: with a long upper tail it lies
/// above the part's middle.
#[must_use]
pub fn expected(part: &Part) -> f64 {
    let points = points(part);
    let least = least(part);
    let mut sum = LEVELS[0] * f64::midpoint(least, points[0]);
    for i in 1..points.len() {
        sum += (LEVELS[i] - LEVELS[i - 1]) * f64::midpoint(points[i - 1], points[i]);
    }
    sum += (1.0 - LEVELS[4]) * (points[4] + tail_scale(part));
    sum.clamp(0.0, MAX_SECONDS)
}

/// Equally likely outcomes of the part, in rising order.
pub(crate) fn outcomes(part: &Part) -> [f64; OUTCOMES] {
    std::array::from_fn(|i| quantile(part, (i as f64 + 0.5) / OUTCOMES as f64))
}

/// The expectation of whichever of `parts` ends first, taken as independent.
/// Zero when there are none; parts of which nothing is known are left out.
#[must_use]
pub fn expected_first(parts: &[Part]) -> f64 {
    let known: Vec<&Part> = parts.iter().filter(|part| part.known).collect();
    match known.as_slice() {
        [] => 0.0,
        [only] => expected(only),
        _ => {
            // The integral of the chance that none has ended yet, by steps
            // between all the outcomes.
            const TAIL: [f64; 4] = [0.965, 0.985, 0.995, 0.999];
            let mut times: Vec<f64> = Vec::with_capacity(known.len() * (OUTCOMES + 9));
            for part in &known {
                times.extend(outcomes(part));
                times.extend(points(part));
                times.extend(TAIL.map(|level| quantile(part, level)));
            }
            times.sort_unstable_by(f64::total_cmp);
            let none_before = |seconds: f64| -> f64 {
                known
                    .iter()
                    .map(|part| 1.0 - within(part, seconds))
                    .product()
            };
            let mut sum = times.first().copied().unwrap_or(0.0);
            let mut before = none_before(sum);
            for pair in times.windows(2) {
                let after = none_before(pair[1]);
                sum += f64::midpoint(before, after) * (pair[1] - pair[0]);
                before = after;
            }
            // The steps cut corners; no second part makes the first later.
            let alone = known.iter().map(|part| expected(part));
            sum.clamp(0.0, alone.fold(MAX_SECONDS, f64::min))
        }
    }
}

/// The chance, 0 to 1, that `a` ends before `b`, taken as independent; equals
/// count half. One half when either is unknown.
#[must_use]
pub fn sooner(a: &Part, b: &Part) -> f64 {
    if !a.known || !b.known {
        return 0.5;
    }
    let (a, b) = (outcomes(a), outcomes(b));
    let mut sum = 0.0;
    for x in &a {
        let below = b.partition_point(|y| y < x);
        let equal = b.partition_point(|y| y <= x) - below;
        sum += (b.len() - below - equal) as f64 + 0.5 * equal as f64;
    }
    sum / (a.len() * b.len()) as f64
}

fn points(part: &Part) -> [f64; 5] {
    [
        part.p90.low,
        part.p50.low,
        part.mean,
        part.p50.high,
        part.p90.high,
    ]
}

/// The scale of the exponential above the 95 % point.
fn tail_scale(part: &Part) -> f64 {
    // From 25 % to 5 % left, and from 50 % to 5 %.
    let near = (part.p90.high - part.p50.high) / 5f64.ln();
    let far = (part.p90.high - part.mean) / 10f64.ln();
    near.max(far).max(0.0)
}

/// Where the distribution function begins to rise.
fn least(part: &Part) -> f64 {
    (part.p90.low - (part.mean - part.p90.low) / 4.0).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skewed() -> Part {
        Part::around(20.0, (-4.0, 6.0), (-8.0, 40.0), 9)
    }

    #[test]
    fn the_five_points_are_met_and_the_rest_lies_between() {
        let part = skewed();
        for (seconds, chance) in [
            (12.0, 0.05),
            (16.0, 0.25),
            (20.0, 0.5),
            (26.0, 0.75),
            (60.0, 0.95),
        ] {
            assert!((within(&part, seconds) - chance).abs() < 1e-12, "{seconds}");
            assert!((quantile(&part, chance) - seconds).abs() < 1e-9, "{chance}");
        }
        assert!((within(&part, 18.0) - 0.375).abs() < 1e-12);
        assert_eq!(within(&part, 0.0), 0.0);
        let far = within(&part, 300.0);
        assert!(far > 0.99 && far < 1.0, "{far}");
    }

    #[test]
    fn what_is_certain_is_met_or_not() {
        let part = Part::exact(5.0);
        assert_eq!(within(&part, 4.999), 0.0);
        assert_eq!(within(&part, 5.0), 1.0);
        assert_eq!(quantile(&part, 0.999), 5.0);
        assert!((expected(&part) - 5.0).abs() < 1e-12);
        assert_eq!(within(&Part::UNKNOWN, 1e9), 0.0);
    }

    #[test]
    fn a_long_tail_lifts_the_expectation_and_a_second_try_cuts_it() {
        let part = skewed();
        let alone = expected(&part);
        assert!(alone > 22.0, "{alone}");
        // The outcomes' mean is the integral's, up to the last of them.
        let mean = outcomes(&part).iter().sum::<f64>() / OUTCOMES as f64;
        assert!((mean - alone).abs() < 1.0, "{mean} {alone}");
        let both = expected_first(&[part, part]);
        assert!(both < 20.0 && both > 14.0, "{both}");
        assert_eq!(expected_first(&[]), 0.0);
        assert_eq!(expected_first(&[part, Part::UNKNOWN]), alone);
        let certain = expected_first(&[Part::exact(3.0), Part::exact(9.0)]);
        assert!((certain - 3.0).abs() < 1e-9, "{certain}");
    }

    #[test]
    fn sooner_is_even_between_equals_and_sure_between_strangers() {
        let part = skewed();
        assert!((sooner(&part, &part) - 0.5).abs() < 1e-12);
        assert_eq!(sooner(&Part::exact(1.0), &Part::exact(2.0)), 1.0);
        assert_eq!(sooner(&Part::exact(2.0), &Part::exact(2.0)), 0.5);
        assert_eq!(sooner(&Part::UNKNOWN, &part), 0.5);
    }
}
