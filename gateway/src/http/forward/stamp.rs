//! What every answer of an invocation says of it.

use crate::history::Parts;
use crate::requester::parts_header;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use stoic_protocol::headers;

/// What every answer of an invocation says of it.
pub(in crate::http) struct Stamp<'a> {
    pub(in crate::http) invocation: HeaderValue,
    pub(in crate::http) runtime: &'a str,
    pub(in crate::http) site: &'a str,
    pub(in crate::http) start: &'static str,
    pub(in crate::http) pod: &'a str,
    pub(in crate::http) predicted: Option<(Parts, Option<(f64, f64)>)>,
    pub(in crate::http) actual: &'a Parts,
    pub(in crate::http) emulated: &'a str,
    /// Stages of the pod's start, in seconds, where the invocation waited for it.
    pub(in crate::http) started: &'a [(&'static str, f64)],
}

/// Headers that are added at most.
const MOST: usize = 9;

/// Writes the `X-Stoic-*` headers and `Server-Timing`.
pub(in crate::http) fn stamp(headers: &mut HeaderMap, stamp: &Stamp<'_>) {
    headers.reserve(MOST);
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put(headers::RUNTIME, stamp.runtime);
    put(headers::SITE, stamp.site);
    put(headers::POD, stamp.pod);
    put(headers::ACTUAL, &parts_header(stamp.actual, None));
    put(
        "server-timing",
        &crate::metrics::server_timing(stamp.actual, stamp.started),
    );
    if let Some((parts, interval)) = &stamp.predicted {
        put(headers::PREDICTED, &parts_header(parts, *interval));
    }
    if !stamp.emulated.is_empty() {
        put(headers::EMULATED, stamp.emulated);
    }
    headers.insert(
        HeaderName::from_static(headers::INVOCATION),
        stamp.invocation.clone(),
    );
    headers.insert(
        HeaderName::from_static(headers::START),
        HeaderValue::from_static(stamp.start),
    );
}
