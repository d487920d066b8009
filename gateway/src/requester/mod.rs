//! Carries an invocation through: stage, acquire, send, collect, record (paper, section 3.1).
//!
//! One file per way: [`batch`] for packages, [`request`] for what passes straight through.

pub mod batch;
pub mod bootstrap;
pub mod events;
pub mod package;
pub mod pod;
pub mod request;
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
    let Parts {
        queueing,
        transfer,
        deployment,
        processing,
    } = *parts;
    let mut text = format!(
        "queueing={queueing:.4};transfer={transfer:.4};deployment={deployment:.4};processing={processing:.4};response={:.4}",
        parts.response()
    );
    if let Some((low, high)) = interval_90 {
        text.push_str(&format!(";low90={low:.4};high90={high:.4}"));
    }
    text
}
