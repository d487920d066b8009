//! The Kolmogorov-Smirnov test: could two samples come from one distribution?

/// What the test says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kolmogorov {
    /// The largest distance between the two empirical distributions, from 0 to 1.
    pub distance: f64,
    /// Chance of such a distance, or a larger one, when both come from one distribution. With ties (sizes are whole
    /// numbers) the test is conservative: the true chance is smaller or equal.
    pub p_value: f64,
}

/// The two-sample test. Neither sample may be empty: with one that is, the distance is 0 and the chance 1.
#[must_use]
pub fn kolmogorov_smirnov(one: &[u32], other: &[u32]) -> Kolmogorov {
    if one.is_empty() || other.is_empty() {
        return Kolmogorov {
            distance: 0.0,
            p_value: 1.0,
        };
    }
    let sorted = |sample: &[u32]| {
        let mut sorted = sample.to_vec();
        sorted.sort_unstable();
        sorted
    };
    let (one, other) = (sorted(one), sorted(other));
    let (n, m) = (one.len() as f64, other.len() as f64);
    let (mut i, mut j, mut distance) = (0, 0, 0.0_f64);
    while i < one.len() && j < other.len() {
        let value = one[i].min(other[j]);
        while one.get(i) == Some(&value) {
            i += 1;
        }
        while other.get(j) == Some(&value) {
            j += 1;
        }
        distance = distance.max((i as f64 / n - j as f64 / m).abs());
    }
    let root = (n * m / (n + m)).sqrt();
    // Stephens' correction for finite samples.
    let scaled = (root + 0.12 + 0.11 / root) * distance;
    Kolmogorov {
        distance,
        p_value: tail(scaled),
    }
}

/// Kolmogorov's distribution, upper tail.
fn tail(scaled: f64) -> f64 {
    if scaled < 0.2 {
        return 1.0;
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 1.0 } else { -1.0 };
        sign * (-2.0 * f64::from(k * k) * scaled * scaled).exp()
    };
    (2.0 * (1..=100).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_largest_step_between_and_the_tail_is_kolmogorovs() {
        let result = kolmogorov_smirnov(&[1, 2, 3, 4], &[3, 4, 5, 6]);
        assert_eq!(result.distance, 0.5);
        assert_eq!(kolmogorov_smirnov(&[5; 9], &[5; 3]).p_value, 1.0);
        assert!(kolmogorov_smirnov(&[1; 50], &[2; 50]).p_value < 1e-9);
        // Five per cent lie above 1.358.
        assert!((tail(1.358) - 0.05).abs() < 5e-4);
        assert_eq!(kolmogorov_smirnov(&[], &[1]).p_value, 1.0);
    }
}
