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

/// Parts of a response time as the `X-Stoic-*` headers carry them, in seconds.
#[must_use]
pub fn parts_header(parts: &Parts, interval_90: Option<(f64, f64)>) -> String {
    let mut text = String::with_capacity(128);
    let named = [
        ("queueing=", parts.queueing),
        (";transfer=", parts.transfer),
        (";deployment=", parts.deployment),
        (";processing=", parts.processing),
        (";response=", parts.response()),
    ];
    for (name, seconds) in named {
        text.push_str(name);
        push_fixed(&mut text, seconds);
    }
    if let Some((low, high)) = interval_90 {
        text.push_str(";low90=");
        push_fixed(&mut text, low);
        text.push_str(";high90=");
        push_fixed(&mut text, high);
    }
    text
}

/// Appends a number that is not negative, with four decimals. Formatting floats in general costs more
/// than anything else that a warm request needs.
pub(crate) fn push_fixed(text: &mut String, value: f64) {
    let units = (value.max(0.0) * 1e4).round() as u64;
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
    text.push_str(std::str::from_utf8(&digits[at..]).unwrap_or("0"));
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
            push_fixed(&mut text, value);
            assert_eq!(
                text,
                format!("{:.4}", (value * 1e4_f64).round() / 1e4),
                "{value}"
            );
        }
        let mut text = String::new();
        push_fixed(&mut text, f64::NAN);
        push_fixed(&mut text, f64::INFINITY);
        assert!(text.starts_with("0.0000"));
    }
}
