//! What every answer of an invocation says of it.

use crate::history::Parts;
use crate::metrics::write_server_timing;
use crate::requester::write_parts;
use bytes::{BufMut, BytesMut};
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
/// Bytes of their values, in most cases.
const ROOM: usize = 512;

/// Writes the `X-Stoic-*` headers and `Server-Timing`.
pub(in crate::http) fn stamp(headers: &mut HeaderMap, stamp: &Stamp<'_>) {
    headers.reserve(MOST);
    // One piece of memory for the values of all.
    let mut text = BytesMut::with_capacity(ROOM);
    let mut put = |name: &'static str, write: &dyn Fn(&mut BytesMut)| {
        write(&mut text);
        if let Ok(value) = HeaderValue::from_maybe_shared(text.split().freeze()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put(headers::RUNTIME, &|text| text.put(stamp.runtime.as_bytes()));
    put(headers::SITE, &|text| text.put(stamp.site.as_bytes()));
    put(headers::POD, &|text| text.put(stamp.pod.as_bytes()));
    put(headers::ACTUAL, &|text| {
        write_parts(text, stamp.actual, None);
    });
    put("server-timing", &|text| {
        write_server_timing(text, stamp.actual, stamp.started);
    });
    if let Some((parts, interval)) = &stamp.predicted {
        put(headers::PREDICTED, &|text| {
            write_parts(text, parts, *interval);
        });
    }
    if !stamp.emulated.is_empty() {
        put(headers::EMULATED, &|text| {
            text.put(stamp.emulated.as_bytes());
        });
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
