//! How often a token may ask.

use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Most requests in a second, a minute or an hour. Written `10/s`, `600/m`, `1000/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    count: u32,
    per: Per,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Per {
    Second,
    Minute,
    Hour,
}

/// It is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no rate: write for example 10/s, 600/m or 1000/h")]
pub struct RateError(String);

impl Rate {
    fn period(self) -> Duration {
        Duration::from_secs(match self.per {
            Per::Second => 1,
            Per::Minute => 60,
            Per::Hour => 3600,
        })
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let per = match self.per {
            Per::Second => "s",
            Per::Minute => "m",
            Per::Hour => "h",
        };
        write!(f, "{}/{per}", self.count)
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let error = || RateError(text.chars().take(32).collect());
        let (count, per) = text.trim().split_once('/').ok_or_else(error)?;
        let per = match per.trim() {
            "s" | "second" => Per::Second,
            "m" | "min" | "minute" => Per::Minute,
            "h" | "hour" => Per::Hour,
            _ => return Err(error()),
        };
        let count = count.trim().parse().ok();
        let count = count.filter(|count| (1..=1_000_000).contains(count));
        let count = count.ok_or_else(error)?;
        Ok(Self { count, per })
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

/// Counts against a rate: a whole period's requests may come at once, then they are spread. One number,
/// the time at which all that was taken is used up, so that threads share it without a lock.
#[derive(Debug)]
pub(super) struct Gauge {
    /// Nanoseconds that one request uses up, and a whole period.
    each: u64,
    period: u64,
    used_until: AtomicU64,
}

impl Gauge {
    pub(super) fn new(rate: Rate) -> Self {
        let period = rate.period().as_nanos() as u64;
        Self {
            each: period / u64::from(rate.count),
            period,
            used_until: AtomicU64::new(0),
        }
    }

    /// Takes one at this time since the gauge's clock began; else says how long to wait.
    pub(super) fn take(&self, now: Duration) -> Result<(), Duration> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2);
        let mut known = self.used_until.load(Relaxed);
        loop {
            let next = known.max(now) + self.each;
            let over = (next - now).saturating_sub(self.period);
            if over > 0 {
                return Err(Duration::from_nanos(over));
            }
            match self
                .used_until
                .compare_exchange_weak(known, next, Relaxed, Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(newer) => known = newer,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_or_refused() {
        for (text, written) in [
            ("10/s", "10/s"),
            (" 600 / min", "600/m"),
            ("1000/hour", "1000/h"),
        ] {
            assert_eq!(text.parse::<Rate>().expect(text).to_string(), written);
        }
        for wrong in ["", "10", "0/s", "-1/s", "10/d", "1.5/s", "9999999/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_period_may_come_at_once_and_the_rest_is_spread() {
        let gauge = Gauge::new("4/s".parse().expect("a rate"));
        let at = |ms| gauge.take(Duration::from_millis(ms));
        assert!((0..4).all(|_| at(0).is_ok()));
        assert_eq!(at(0), Err(Duration::from_millis(250)));
        assert_eq!(at(200), Err(Duration::from_millis(50)));
        assert_eq!(at(250), Ok(()));
        assert!(at(250).is_err());
        // What was not used is not saved up beyond a period.
        assert!((0..4).all(|_| at(60_000).is_ok()) && at(60_000).is_err());
    }
}
