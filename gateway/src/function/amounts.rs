//! Memory and cores as Docker, Kubernetes and people write them.

use bytesize::ByteSize;
use serde::de::{Deserialize, Deserializer, Error};

/// Reads memory: `2g` and `512m` are binary as Docker's are, `512Mi` and `1Gi` as Kubernetes', `2GB` is
/// decimal.
///
/// # Errors
/// Says how to write it.
pub fn memory(text: &str) -> Result<ByteSize, String> {
    let wrong = || format!("`{text}` is no amount of memory; write for example 512Mi, 2g or 2GB");
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit.trim() {
        "" | "b" | "B" => 1.0,
        "k" | "Ki" | "KiB" => 1024.0,
        "m" | "Mi" | "MiB" => f64::from(1 << 20),
        "g" | "Gi" | "GiB" => f64::from(1 << 30),
        "K" | "kB" | "KB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        _ => return Err(wrong()),
    };
    let bytes = number * factor;
    if (1.0..1e18).contains(&bytes) {
        Ok(ByteSize(bytes as u64))
    } else {
        Err(wrong())
    }
}

/// Reads CPU cores: `0.5`, `2`, or thousandths of one, `250m`.
///
/// # Errors
/// Says how to write it.
pub fn cores(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no number of CPU cores; write for example 2, 0.5 or 500m");
    let text = text.trim();
    let (number, thousandths) = match text.strip_suffix('m') {
        Some(number) => (number, true),
        None => (text, false),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let cores = if thousandths { number / 1e3 } else { number };
    if (0.001..=4096.0).contains(&cores) {
        Ok(cores)
    } else {
        Err(wrong())
    }
}

/// The same in an object, where it may be a number.
pub(super) fn read_cores<'de, D: Deserializer<'de>>(value: D) -> Result<Option<f64>, D::Error> {
    use serde_json::Value;
    let text = match Value::deserialize(value)? {
        Value::Null => return Ok(None),
        Value::String(text) => text,
        other => other.to_string(),
    };
    cores(&text).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_docker_and_kubernetes_write_it() {
        for (text, bytes) in [
            ("2g", 2 << 30),
            ("512m", 512 << 20),
            ("128Mi", 128 << 20),
            ("1.5Gi", 3 << 29),
            ("2GB", 2_000_000_000),
            ("40000000", 40_000_000),
        ] {
            assert_eq!(memory(text), Ok(ByteSize(bytes)), "{text}");
        }
        for wrong in [
            "",
            "g",
            "-1g",
            "0",
            "2 parsecs",
            "1e9",
            "99999999999G",
            "1.2.3g",
        ] {
            assert!(memory(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cores_are_whole_broken_or_thousandths() {
        assert_eq!(cores("2"), Ok(2.0));
        assert_eq!(cores("250m"), Ok(0.25));
        for wrong in ["", "m", "0", "-1", "nan", "inf", "two", "5000"] {
            assert!(cores(wrong).is_err(), "{wrong}");
        }
    }
}
