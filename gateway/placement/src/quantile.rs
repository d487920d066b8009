//! Medians and quantiles of weighted values: robust locations, of which the
//! median is what the mean absolute error asks for. Knows only numbers.

/// The quantile `q` of values sorted by their first field and weighted by the
/// second, none negative; between the middles of two neighbours' weights it is
/// interpolated, so that a small change of weights moves it little. `None`
/// when nothing weighs anything.
#[must_use]
pub(crate) fn weighted_quantile(
    sorted: impl Iterator<Item = (f64, f64)> + Clone,
    q: f64,
) -> Option<f64> {
    let total: f64 = sorted.clone().map(|(_, weight)| weight).sum();
    weighted_quantile_of(sorted, total, q)
}

/// As [`weighted_quantile`], where the sum of the weights is known.
#[must_use]
pub(crate) fn weighted_quantile_of(
    sorted: impl Iterator<Item = (f64, f64)>,
    total: f64,
    q: f64,
) -> Option<f64> {
    if !total.is_finite() || total <= 0.0 {
        return None;
    }
    let target = q * total;
    let mut reached = 0.0;
    let mut before: Option<(f64, f64)> = None;
    for (value, weight) in sorted {
        let middle = reached + weight / 2.0;
        if middle >= target && weight > 0.0 {
            let Some((lower, at)) = before else {
                return Some(value);
            };
            let share = ((target - at) / (middle - at)).clamp(0.0, 1.0);
            return Some(lower + (value - lower) * share);
        }
        if weight > 0.0 {
            reached += weight;
            before = Some((value, middle));
        }
    }
    before.map(|(value, _)| value)
}

/// The middle of values in rising order, given their weights: the places of the
/// two values it lies between and how far from the first to the second. There
/// must be a weight.
pub(crate) fn weighted_middle(weights: &[f64]) -> (usize, usize, f64) {
    let half = weights.iter().sum::<f64>() / 2.0;
    let mut reached = 0.0;
    let mut before: Option<(usize, f64)> = None;
    for (index, weight) in weights.iter().enumerate() {
        let middle = reached + weight / 2.0;
        if middle >= half {
            let Some((lower, at)) = before else {
                return (index, index, 0.0);
            };
            let share = if middle > at {
                ((half - at) / (middle - at)).clamp(0.0, 1.0)
            } else {
                1.0
            };
            return (lower, index, share);
        }
        reached += weight;
        before = Some((index, middle));
    }
    let last = weights.len().saturating_sub(1);
    (last, last, 0.0)
}

/// The median of unweighted values; reorders them. `None` when there are none.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let (half, even) = (values.len() / 2, values.len().is_multiple_of(2));
    let (below, &mut upper, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    Some(match below.iter().copied().max_by(f64::total_cmp) {
        Some(lower) if even => lower.midpoint(upper),
        _ => upper,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn equal_weights_give_the_plain_median_and_heavy_ones_draw_it() {
        let values = [(1.0, 1.0), (2.0, 1.0), (4.0, 1.0), (9.0, 1.0)];
        assert_eq!(weighted_quantile(values.into_iter(), 0.5), Some(3.0));
        let heavy = [(1.0, 1.0), (2.0, 1.0), (4.0, 8.0)];
        let drawn = weighted_quantile(heavy.into_iter(), 0.5).unwrap();
        assert!((3.0..=4.0).contains(&drawn), "{drawn}");
        assert_eq!(weighted_middle(&[1.0, 1.0, 1.0, 1.0]), (1, 2, 0.5));
        assert_eq!(weighted_middle(&[1.0, 1.0, 1.0]), (0, 1, 1.0));
        assert_eq!(weighted_middle(&[1.0]), (0, 0, 0.0));
        assert_eq!(weighted_quantile([(5.0, 0.0)].into_iter(), 0.5), None);
        assert_eq!(weighted_quantile([(5.0, 0.1)].into_iter(), 0.99), Some(5.0));
    }
}
