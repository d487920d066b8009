//! Carries an invocation through: stage, acquire, send, collect, record (paper, section 3.1).
//!
//! One file per way: [`batch`] for packages, which go by their mode to one runtime (`single`), two that
//! race (`duplicator`) or two that share the work (`cooperative`); [`request`] for what passes straight
//! through.

pub mod batch;
pub mod bootstrap;
mod cooperative;
mod duplicator;
pub mod events;
mod loser;
pub mod package;
mod part;
mod places;
pub mod pod;
pub mod request;
mod single;
mod train;

use crate::history::Parts;
use std::fmt::Write;

/// What of an invocation's way was emulated: `link`, `deployment`, both, or nothing.
#[must_use]
pub fn emulated(link: bool, deployment: bool) -> String {
    match (link, deployment) {
        (true, true) => "link,deployment",
        (true, false) => "link",
        (false, true) => "deployment",
        (false, false) => "",
    }
    .to_owned()
}

/// Writes the parts of a response time as the `X-Stoic-*` headers carry them, in seconds.
pub(crate) fn write_parts(text: &mut impl Write, parts: &Parts, interval_90: Option<(f64, f64)>) {
    let named = [
        ("queueing=", parts.queueing),
        (";transfer=", parts.transfer),
        (";deployment=", parts.deployment),
        (";processing=", parts.processing),
        (";response=", parts.response()),
    ];
    for (name, seconds) in named {
        write_fixed(text, name, seconds);
    }
    if let Some((low, high)) = interval_90 {
        write_fixed(text, ";low90=", low);
        write_fixed(text, ";high90=", high);
    }
}

/// Writes a name and a number that is not negative, with four decimals. Formatting floats in general costs
/// more than anything else that a warm request needs.
pub(crate) fn write_fixed(text: &mut impl Write, name: &str, value: f64) {
    // Writing text into memory does not fail.
    let _ = text.write_str(name);
    let units = (value.max(0.0) * 1e4 + 0.5) as u64;
    if units == 0 {
        // Most parts of a warm request.
        let _ = text.write_str("0.0000");
        return;
    }
    let mut digits = [0u8; 24];
    let mut at = digits.len();
    let mut left = units;
    let mut count = 0;
    while left > 0 || count < 5 {
        if count == 4 {
            at -= 1;
            digits[at] = b'.';
        }
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        count += 1;
    }
    let _ = text.write_str(std::str::from_utf8(&digits[at..]).unwrap_or("0"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_numbers_read_as_they_were_written() {
        for value in [
            0.0,
            0.00004,
            0.00005,
            0.1234,
            1.0,
            9.99995,
            12.5,
            123_456.789,
            1e9,
        ] {
            let mut text = String::new();
            write_fixed(&mut text, "", value);
            assert_eq!(
                text,
                format!("{:.4}", (value * 1e4_f64).round() / 1e4),
                "{value}"
            );
        }
        let mut text = String::new();
        write_fixed(&mut text, "", f64::NAN);
        write_fixed(&mut text, "", f64::INFINITY);
        assert!(text.starts_with("0.0000"));
    }
}
