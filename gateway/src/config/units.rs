//! Quantities with units as users write them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::str::FromStr;

/// A bandwidth, written `70.79 Mbit/s`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bandwidth {
    bits_per_s: f64,
}

impl Bandwidth {
    /// So many megabits (10^6 bits) a second.
    #[must_use]
    pub const fn megabits(value: f64) -> Self {
        Self {
            bits_per_s: value * 1e6,
        }
    }

    /// Bytes a second.
    #[must_use]
    pub fn bytes_per_s(self) -> f64 {
        self.bits_per_s / 8.0
    }
}

impl FromStr for Bandwidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no bandwidth; write for example `70.79 Mbit/s`");
        let text = text.trim();
        let split = text
            .find(|c: char| c.is_ascii_alphabetic())
            .ok_or_else(wrong)?;
        let value: f64 = text[..split].trim().parse().map_err(|_| wrong())?;
        let factor = match text[split..].trim().to_ascii_lowercase().as_str() {
            "bit/s" | "bps" => 1.0,
            "kbit/s" | "kbps" => 1e3,
            "mbit/s" | "mbps" => 1e6,
            "gbit/s" | "gbps" => 1e9,
            _ => return Err(wrong()),
        };
        let bits_per_s = value * factor;
        if bits_per_s.is_finite() && bits_per_s >= 1000.0 {
            Ok(Self { bits_per_s })
        } else {
            Err(wrong())
        }
    }
}

impl std::fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} Mbit/s", self.bits_per_s / 1e6)
    }
}

impl Serialize for Bandwidth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bandwidth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidths_are_read_with_their_unit_or_refused() {
        assert_eq!(
            "70.79 Mbit/s"
                .parse::<Bandwidth>()
                .map(Bandwidth::bytes_per_s),
            Ok(8_848_750.0)
        );
        for wrong in [
            "",
            "70",
            "fast",
            "-1 Mbit/s",
            "NaN Mbit/s",
            "1 MB",
            "0 Mbit/s",
        ] {
            assert!(wrong.parse::<Bandwidth>().is_err(), "{wrong}");
        }
    }
}
