//! Quantities as people read and write them on the command line.

use bytesize::ByteSize;
use std::time::Duration;

/// Reads a size: `40M`, `1.5 GiB`, `1000`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    text.trim()
        .parse::<ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| format!("`{text}` is no size; write for example 40M, 1.5GiB or 40000000"))
}

/// Reads a length of time: `1h`, `90s`, `1h 30m`; `0` alone is zero.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match text.trim() {
        "0" => Ok(Duration::ZERO),
        text => humantime::parse_duration(text).map_err(|_| {
            format!("`{text}` is no length of time; write for example 90s, 10m or 1h 30m")
        }),
    }
}

/// Reads `key=value`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` must be written key=value")),
    }
}

/// A part of a response time, to a tenth of a millisecond and three figures, without a unit.
pub(super) fn seconds(value: f64) -> String {
    match value.abs() {
        v if v < 0.00005 => "0".to_owned(),
        v if v < 0.1 => format!("{value:.4}"),
        v if v < 10.0 => format!("{value:.3}"),
        v if v < 100.0 => format!("{value:.2}"),
        _ => format!("{value:.1}"),
    }
}

/// An age: `12s`, `3m20s`, `2h5m`, `4d3h`.
pub(super) fn age(seconds: f64) -> String {
    let whole = if seconds.is_finite() && seconds > 0.0 {
        seconds as u64
    } else {
        0
    };
    let (days, hours, minutes, rest) = (
        whole / 86_400,
        whole / 3600 % 24,
        whole / 60 % 60,
        whole % 60,
    );
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m{rest}s"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// Decimal bytes: `38.1 MB`.
pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().si().to_string()
}

/// A moment, seconds since the Unix epoch, as UTC.
pub(super) fn moment(unix: f64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    if !unix.is_finite() {
        return "-".to_owned();
    }
    time::OffsetDateTime::from_unix_timestamp(unix as i64)
        .ok()
        .and_then(|at| at.format(&format).ok())
        .unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units_or_refused() {
        assert_eq!(bytes("40M"), Ok(40_000_000));
        assert_eq!(bytes("1.5 GiB"), Ok(1_610_612_736));
        assert_eq!(bytes(" 1000 "), Ok(1000));
        for wrong in ["", "fast", "-1", "4 parsecs", "M"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_or_refused() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "1", "soon", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn parameters_need_a_key() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("=b").is_err() && pair("ab").is_err());
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!(seconds(0.0), "0");
        assert_eq!(seconds(0.00002), "0");
        assert_eq!(seconds(0.01234), "0.0123");
        assert_eq!(seconds(3.21987), "3.220");
        assert_eq!(seconds(1234.56), "1234.6");
        assert_eq!(age(59.9), "59s");
        assert_eq!(age(200.0), "3m20s");
        assert_eq!(age(7500.0), "2h5m");
        assert_eq!(age(f64::NAN), "0s");
        assert_eq!(moment(1_790_000_000.0), "2026-09-21 14:13:20");
        assert_eq!(moment(f64::INFINITY), "-");
        assert_eq!(size(38_100_000), "38.1 MB");
    }
}
