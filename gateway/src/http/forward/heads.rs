//! The heads of requests and answers on their way through: what is of one connection stays on it, and
//! what the pod is told beside.

use crate::http::caller::Caller;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Version, request};
use std::cell::RefCell;
use std::time::{Duration, SystemTime};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const TOKEN: HeaderName = HeaderName::from_static(stoic_protocol::headers::TOKEN);
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What functions written for kubeless are told of the event that they work.
const EVENT_ID: HeaderName = HeaderName::from_static("event-id");
const EVENT_TYPE: HeaderName = HeaderName::from_static("event-type");
const EVENT_TIME: HeaderName = HeaderName::from_static("event-time");
const EVENT_NAMESPACE: HeaderName = HeaderName::from_static("event-namespace");
/// Where events that are HTTP requests come from.
const NAMESPACE: HeaderValue = HeaderValue::from_static("http.stoic.dev");

/// Headers that are added to a request at most.
const ADDED: usize = 8;

/// Whether a header is of one connection (RFC 9110, section 7.6.1), as the gateway's own token is.
/// `Trailer` is not: it tells the receiver of the message what comes at its end.
fn of_one_connection(name: &HeaderName) -> bool {
    name == header::CONNECTION
        || name == header::TRANSFER_ENCODING
        || name == header::TE
        || name == header::UPGRADE
        || name == header::PROXY_AUTHORIZATION
        || name == header::PROXY_AUTHENTICATE
        || name == KEEP_ALIVE
        || name == PROXY_CONNECTION
        || name == HTTP2_SETTINGS
        || name == TOKEN
}

/// Removes the headers that are of one connection, and those that `Connection` names.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have none of them: one look at what is there costs less than looking for each.
    if !headers.keys().any(of_one_connection) {
        return;
    }
    let mut named = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        let names = value.to_str().unwrap_or_default().split(',');
        named.extend(names.filter_map(|name| HeaderName::try_from(name.trim()).ok()));
    }
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::TE,
        header::UPGRADE,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        HTTP2_SETTINGS,
        TOKEN,
    ] {
        headers.remove(name);
    }
}

/// Makes of the head that came the head that a pod gets.
pub(super) fn for_pod(head: &mut request::Parts, caller: &Caller) {
    let headers = &mut head.headers;
    headers.reserve(ADDED);
    // Who can take trailers says so to each neighbour.
    let trailers = headers.get_all(header::TE).iter().any(takes_trailers);
    remove_hop_by_hop(headers);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // The gateway says `100 Continue` itself, as soon as it reads the body.
    headers.remove(header::EXPECT);
    if head.version == Version::HTTP_2 {
        join_cookies(headers);
    }
    head.version = Version::HTTP_11;

    let address = match headers.get(&FORWARDED_FOR) {
        None => caller.address.clone(),
        Some(_) => append(headers, &caller.address),
    };
    headers.insert(FORWARDED_FOR, address);
    let host = headers.get(header::HOST).cloned();
    set(headers, FORWARDED_HOST, || host);
    set(headers, FORWARDED_PROTO, || {
        Some(HeaderValue::from_static(match caller.secure {
            true => "https",
            false => "http",
        }))
    });
}

/// Tells the pod of the event that it works: who called may have done so himself.
pub(super) fn tell_event(headers: &mut HeaderMap, invocation: &HeaderValue) {
    let content_type = headers.get(header::CONTENT_TYPE).cloned();
    set(headers, EVENT_ID, || Some(invocation.clone()));
    set(headers, EVENT_TYPE, || {
        content_type.or(Some(HeaderValue::from_static("application/octet-stream")))
    });
    set(headers, EVENT_TIME, || Some(now()));
    set(headers, EVENT_NAMESPACE, || Some(NAMESPACE));
}

/// Sets a header that is not there yet.
fn set(headers: &mut HeaderMap, name: HeaderName, value: impl FnOnce() -> Option<HeaderValue>) {
    if let header::Entry::Vacant(vacant) = headers.entry(name)
        && let Some(value) = value()
    {
        vacant.insert(value);
    }
}

fn takes_trailers(value: &HeaderValue) -> bool {
    let codings = value.to_str().unwrap_or_default().split(',');
    codings
        .filter_map(|coding| coding.split(';').next())
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// The chain of addresses with one more at its end.
fn append(headers: &HeaderMap, address: &HeaderValue) -> HeaderValue {
    let mut chain = Vec::new();
    for value in headers.get_all(&FORWARDED_FOR).iter().chain([address]) {
        if !chain.is_empty() {
            chain.extend_from_slice(b", ");
        }
        chain.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_bytes(&chain).unwrap_or_else(|_| address.clone())
}

/// HTTP/2 may send cookies in several headers; HTTP/1.1 has one (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let all: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if all.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

thread_local! {
    /// The second that was written last, and as what.
    static WRITTEN: RefCell<(u64, HeaderValue)> =
        const { RefCell::new((0, HeaderValue::from_static(""))) };
}

/// The time as RFC 3339 has it, to the second: written once a second.
fn now() -> HeaderValue {
    let seconds = crate::scheduler::unix_now() as u64;
    WRITTEN.with_borrow_mut(|(second, written)| {
        if *second != seconds {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let text = humantime::format_rfc3339_seconds(time).to_string();
            if let Ok(value) = HeaderValue::try_from(text) {
                (*second, *written) = (seconds, value);
            }
        }
        written.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        all.iter().map(pair).collect()
    }

    #[test]
    fn what_is_of_one_connection_is_removed_with_what_it_names() {
        let mut all = headers(&[
            ("connection", "close, x-own"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("http2-settings", "AAMAAABk"),
            ("upgrade", "h2c"),
            ("x-stoic-token", "secret"),
            ("trailer", "x-sum"),
            ("x-open", "2"),
        ]);
        remove_hop_by_hop(&mut all);
        assert_eq!(all, headers(&[("trailer", "x-sum"), ("x-open", "2")]));
    }

    #[test]
    fn a_pod_learns_who_asked_and_of_which_event() {
        let caller = Caller::new(([10, 0, 0, 7], 4711).into(), false, false);
        let mut head = http::Request::new(()).into_parts().0;
        head.headers = headers(&[
            ("host", "example.org"),
            ("te", "gzip, trailers;q=0.5"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("event-type", "photo.taken"),
            ("expect", "100-continue"),
        ]);
        for_pod(&mut head, &caller);
        tell_event(&mut head.headers, &HeaderValue::from_static("id"));
        let time = head.headers.remove("event-time").expect("a time");
        assert!(humantime::parse_rfc3339(time.to_str().expect("text")).is_ok());
        let expected = headers(&[
            ("host", "example.org"),
            ("te", "trailers"),
            ("x-forwarded-for", "192.0.2.1, 10.0.0.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "example.org"),
            ("event-type", "photo.taken"),
            ("event-id", "id"),
            ("event-namespace", "http.stoic.dev"),
        ]);
        assert_eq!(head.headers, expected);
    }
}
