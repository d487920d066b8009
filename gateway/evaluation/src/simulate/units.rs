//! Values of a scenario file that are checked when they are read, so that an error has its place in the file.

use serde::{Deserialize, Serialize};

/// The most a value may be: a simulation of ages is no use.
const MOST: f64 = 1e9;

macro_rules! checked {
    ($(#[$doc:meta])* $name:ident, $default:expr, $of:ty, $from:ty, $test:expr, $wanted:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(pub $of);

        impl TryFrom<f64> for $name {
            type Error = String;

            fn try_from(value: f64) -> Result<Self, String> {
                let test: fn(f64) -> bool = $test;
                if test(value) {
                    Ok(Self(value as $of))
                } else {
                    Err(format!("{value} must be {}", $wanted))
                }
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> Self {
                Self::from(value.0)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self($default)
            }
        }
    };
}

checked!(
    /// Seconds, or another amount that may be zero.
    Seconds, 0.0, f64, f64, |v| (0.0..=MOST).contains(&v), "a number from 0 to 1e9"
);
checked!(
    /// An amount greater than zero.
    Positive, 1.0, f64, f64, |v| v > 0.0 && v <= MOST, "greater than zero, and at most 1e9"
);
checked!(
    /// A share or chance, 0 to 1.
    Share, 0.0, f64, f64, |v| (0.0..=1.0).contains(&v), "from 0 to 1"
);
checked!(
    /// What something is multiplied by.
    Factor, 1.0, f64, f64, |v| v > 0.0 && v <= 1e6, "greater than zero, and at most 1e6"
);
checked!(
    /// A whole number from 1.
    Count, 1, u32, u32, |v: f64| (1.0..=1e6).contains(&v) && v.fract() == 0.0, "a whole number from 1 to 1000000"
);

/// A name of letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(pub String);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        match name.as_str() {
            "" => Err("a name must not be empty".into()),
            _ if name.chars().all(plain) => Ok(Self(name)),
            _ => Err(format!(
                "the name `{name}` may have letters, digits, `-` and `_` only"
            )),
        }
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

/// A time from and to, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawWindow", into = "RawWindow")]
pub struct Window {
    /// From, seconds from the start.
    pub from_s: f64,
    /// To, seconds from the start.
    pub to_s: f64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    from_s: Seconds,
    to_s: Seconds,
}

impl TryFrom<RawWindow> for Window {
    type Error = String;

    fn try_from(raw: RawWindow) -> Result<Self, String> {
        if raw.from_s.0 < raw.to_s.0 {
            Ok(Self {
                from_s: raw.from_s.0,
                to_s: raw.to_s.0,
            })
        } else {
            Err(format!(
                "`from_s` ({}) must be before `to_s` ({})",
                raw.from_s.0, raw.to_s.0
            ))
        }
    }
}

impl From<Window> for RawWindow {
    fn from(window: Window) -> Self {
        Self {
            from_s: Seconds(window.from_s),
            to_s: Seconds(window.to_s),
        }
    }
}

/// Where a window that holds `at` ends; `at` itself when none does.
pub(super) fn after(windows: &[Window], at: f64) -> f64 {
    windows
        .iter()
        .filter(|w| w.from_s <= at && at < w.to_s)
        .map(|w| w.to_s)
        .fold(at, f64::max)
}

/// Points of a distribution: share and seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(f64, f64)>", into = "Vec<(f64, f64)>")]
pub struct Quantiles(pub Vec<(f64, f64)>);

impl TryFrom<Vec<(f64, f64)>> for Quantiles {
    type Error = String;

    fn try_from(points: Vec<(f64, f64)>) -> Result<Self, String> {
        let ends = (points.first().map(|p| p.0), points.last().map(|p| p.0));
        if points.len() < 2 || ends != (Some(0.0), Some(1.0)) {
            return Err("quantiles must go from 0 to 1: [[0, LEAST], ..., [1, MOST]]".into());
        }
        let sane = points.iter().all(|p| (0.0..=MOST).contains(&p.1));
        let rising = points
            .windows(2)
            .all(|p| p[0].0 < p[1].0 && p[0].1 <= p[1].1);
        if sane && rising {
            Ok(Self(points))
        } else {
            Err("quantiles must be rising in share and seconds, with no seconds below 0".into())
        }
    }
}

impl From<Quantiles> for Vec<(f64, f64)> {
    fn from(quantiles: Quantiles) -> Self {
        quantiles.0
    }
}

impl Quantiles {
    /// The seconds below which a share lies.
    pub(super) fn at(&self, share: f64) -> f64 {
        let share = share.clamp(0.0, 1.0);
        let after = self.0.partition_point(|p| p.0 < share).max(1);
        let ((low, from), (high, to)) = (self.0[after - 1], self.0[after.min(self.0.len() - 1)]);
        let part = if high > low {
            (share - low) / (high - low)
        } else {
            0.0
        };
        if low >= 0.9 && from > 0.0 {
            from * (to / from).powf(part)
        } else {
            from + (to - from) * part
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_meet_their_points_and_are_geometric_in_the_tail() {
        let quantiles = Quantiles(vec![(0.0, 10.0), (0.5, 20.0), (0.9, 40.0), (1.0, 360.0)]);
        for &(share, seconds) in &quantiles.0 {
            assert!((quantiles.at(share) - seconds).abs() < 1e-9);
        }
        assert!((quantiles.at(0.25) - 15.0).abs() < 1e-9);
        assert!((quantiles.at(0.95) - 120.0).abs() < 1e-9);
    }

    #[test]
    fn windows_are_left_at_their_end() {
        let windows = [Window {
            from_s: 5.0,
            to_s: 9.0,
        }];
        assert_eq!(
            [4.0, 5.0, 8.0, 9.0].map(|at| after(&windows, at)),
            [4.0, 9.0, 9.0, 9.0]
        );
    }
}
