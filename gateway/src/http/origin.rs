//! Whose page a request comes from. A browser carries what any page asks of an address that it can reach,
//! one on loopback, too, where no token may be needed; and a page whose name is made to lead to loopback
//! (DNS rebinding) has that address for its own origin. So what a page asks has to be a page of this
//! gateway's or of a configured origin, and a gateway that trusts everybody on its machine answers to names
//! that nobody else can give it.
//!
//! What tells of the page: `Sec-Fetch-Site` (W3C, Fetch Metadata Request Headers), which browsers send to
//! loopback and over TLS, where it says that the page is of the same origin; else `Origin` (RFC 6454), and
//! where a browser leaves that out, which it does for a plain `GET`, `Referer`. Whoever is no browser sends
//! none of them.

use crate::config::{AllowedOrigin, Origin};
use crate::failure::Failure;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use std::net::IpAddr;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
/// Longest origin or name that is told back.
const SHOWN: usize = 100;

/// What of a request tells whose page it comes from, and by which name the gateway is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Its method.
    pub(super) method: &'a Method,
    /// Its headers.
    pub(super) headers: &'a HeaderMap,
    /// Name and port that it is for: `Host`, or `:authority`.
    pub(super) authority: Option<&'a str>,
    /// Whether it came over TLS.
    pub(super) secure: bool,
}

/// Refuses what a page of another origin asks.
///
/// # Errors
/// 403 `origin_refused`.
pub(super) fn check_page(asked: &Asked<'_>, configured: &[AllowedOrigin]) -> Result<(), Failure> {
    let site = asked.headers.get(FETCH_SITE);
    // The browser's own word, which no page can put there, for what it asked before any proxy gave the
    // request another `Host`, as that of a Kubernetes API server does.
    if site.is_some_and(|site| site == "same-origin") {
        return Ok(());
    }
    let mut origins = asked.headers.get_all(header::ORIGIN).iter().peekable();
    if origins.peek().is_some() {
        for origin in origins {
            check_origin(text(origin), asked, configured)?;
        }
        return Ok(());
    }
    // `same-site` is another port of the same name.
    if site.is_none_or(|site| site != "cross-site" && site != "same-site") {
        return Ok(());
    }
    let is = |name, value: &str| asked.headers.get(name).is_some_and(|it| it == value);
    let reads = [Method::GET, Method::HEAD].contains(asked.method);
    if reads && is(FETCH_MODE, "navigate") && is(FETCH_DEST, "document") {
        // A link that was followed: what it shows, the page that had it does not see.
        return Ok(());
    }
    let referer = asked.headers.get(header::REFERER).map(text);
    check_origin(referer.map_or("", of_url), asked, configured)
}

/// Refuses a name that somebody else may have led here.
///
/// # Errors
/// 403 `host_refused`.
pub(super) fn check_name(
    authority: Option<&str>,
    configured: &[AllowedOrigin],
) -> Result<(), Failure> {
    // Browsers always say it.
    let Some(authority) = authority.filter(|authority| !authority.is_empty()) else {
        return Ok(());
    };
    let known = Origin::of("http", authority).is_some_and(|own| {
        is_local(&own.host)
            || address(&own.host).is_some()
            || configured.iter().any(|one| match one {
                AllowedOrigin::Any => true,
                AllowedOrigin::One(one) => one.host == own.host,
            })
    });
    if known {
        return Ok(());
    }
    let shown: String = authority.chars().take(SHOWN).collect();
    let detail = format!(
        "without a token this gateway answers to localhost and to addresses, not to `{shown}`: ask so, name it in [http] origins (as http://NAME), or make a token"
    );
    Err(Failure::new(403, "host_refused", detail))
}

fn check_origin(
    origin: &str,
    asked: &Asked<'_>,
    configured: &[AllowedOrigin],
) -> Result<(), Failure> {
    if is_allowed(origin, asked, configured) {
        return Ok(());
    }
    let whose = match origin {
        "" => "that does not say whose it is".to_owned(),
        origin => format!("of `{}`", origin.chars().take(SHOWN).collect::<String>()),
    };
    let detail = format!(
        "a page {whose} may not use this gateway; if it is to, put its origin into [http] origins"
    );
    Err(Failure::new(403, "origin_refused", detail))
}

fn is_allowed(origin: &str, asked: &Asked<'_>, configured: &[AllowedOrigin]) -> bool {
    // Not `null`: sandboxed pages, files and redirects are of no origin that could be told from others.
    let Ok(page) = origin.parse::<Origin>() else {
        return false;
    };
    let listed = |one: &AllowedOrigin| match one {
        AllowedOrigin::Any => true,
        AllowedOrigin::One(one) => *one == page,
    };
    if configured.iter().any(listed) {
        return true;
    }
    // Where something before this gateway ends TLS, only the page knows which it was.
    let scheme = match asked.secure {
        true => "https",
        false if ["http", "https"].contains(&page.scheme.as_str()) => &page.scheme,
        false => return false,
    };
    let own = asked.authority.and_then(|own| Origin::of(scheme, own));
    own.is_some_and(|own| {
        let both_here = is_loopback(&own.host) && is_loopback(&page.host);
        own == page || (both_here && (&own.scheme, own.port) == (&page.scheme, page.port))
    })
}

/// The text of a header. What is none is the origin of nobody, and no name of anything.
pub(super) fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

/// The origin that a URL begins with.
fn of_url(url: &str) -> &str {
    let host = url.find("://").map_or(url.len(), |at| at + 3);
    let end = url[host..].find(['/', '?', '#']);
    &url[..end.map_or(url.len(), |end| host + end)]
}

/// Whether this name means this machine, whatever a name server says (RFC 6761, section 6.3).
fn is_local(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// The address that a host is, if it is no name.
fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

fn is_loopback(host: &str) -> bool {
    is_local(host) || address(host).is_some_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            let value = HeaderValue::from_str(value).expect("a value");
            (HeaderName::from_static(name), value)
        };
        all.iter().map(pair).collect()
    }

    fn allowed(text: &str) -> AllowedOrigin {
        AllowedOrigin::try_from(text.to_owned()).expect("an origin")
    }

    fn page(all: &[(&'static str, &str)], authority: &str, secure: bool) -> bool {
        let asked = Asked {
            method: &Method::GET,
            headers: &headers(all),
            authority: Some(authority),
            secure,
        };
        let configured = [allowed("https://lab.example:8443")];
        let checked = check_page(&asked, &configured);
        if let Err(failure) = &checked {
            assert_eq!(failure.problem.code, "origin_refused");
        }
        checked.is_ok()
    }

    #[test]
    fn only_pages_of_this_gateway_or_of_a_configured_origin_may_ask() {
        for (origin, authority, secure, may) in [
            ("http://localhost:8080", "localhost:8080", false, true),
            ("http://127.0.0.1:8080", "localhost:8080", false, true),
            ("http://[::1]:8080", "127.0.0.1:8080", false, true),
            ("http://LocalHost:8080", "localhost:8080", false, true),
            ("https://gw.example", "gw.example", true, true),
            ("https://gw.example", "gw.example:443", true, true),
            // TLS ends before this gateway.
            ("https://gw.example", "gw.example", false, true),
            ("https://lab.example:8443", "gw.example", true, true),
            ("https://LAB.example:8443", "gw.example", true, true),
            // Others.
            ("http://localhost:3000", "localhost:8080", false, false),
            ("http://localhost", "localhost:8080", false, false),
            ("https://localhost:8080", "localhost:8080", true, true),
            ("http://localhost:8080", "localhost:8080", true, false),
            ("http://evil.example", "localhost:8080", false, false),
            ("http://evil.example:8080", "127.0.0.1:8080", false, false),
            // A page on the caller's own machine, for a gateway that is elsewhere.
            ("http://localhost:8080", "gw.example:8080", false, false),
            ("http://lab.example:8443", "gw.example", true, false),
            ("https://lab.example", "gw.example", true, false),
            ("http://gw.example.evil.example", "gw.example", false, false),
            ("http://gw.example@evil.example", "gw.example", false, false),
            ("http://gw.example:99999", "gw.example", false, false),
            ("null", "localhost:8080", false, false),
            ("", "localhost:8080", false, false),
            ("file://", "localhost:8080", false, false),
            ("chrome-extension://abc", "abc", false, false),
        ] {
            let found = page(&[("origin", origin)], authority, secure);
            assert_eq!(found, may, "{origin} {authority} {secure}");
        }
        assert!(page(&[], "anything", false), "no browser");
        // A proxy on the way gave the request another name.
        let proxied = ("origin", "http://localhost:8001");
        let seen = |site| page(&[proxied, ("sec-fetch-site", site)], "10.0.0.7:8080", false);
        assert!(seen("same-origin"));
        assert!(!seen("same-site") && !seen("cross-site") && !seen("none"));
        let own = ("origin", "http://localhost:8080");
        let two = [own, ("origin", "http://evil.example")];
        assert!(!page(&two, "localhost:8080", false), "each of them");
    }

    #[test]
    fn a_get_without_an_origin_tells_by_fetch_metadata_whose_it_is() {
        let local = "localhost:8080";
        let ask = |all: &[(&'static str, &str)]| page(all, local, false);
        assert!(ask(&[("sec-fetch-site", "none")]));
        assert!(ask(&[("sec-fetch-site", "same-origin")]));
        for site in ["cross-site", "same-site"] {
            let site = ("sec-fetch-site", site);
            // An image, a script, a frame.
            assert!(!ask(&[site]));
            assert!(!ask(&[site, ("sec-fetch-mode", "no-cors")]));
            let navigate = ("sec-fetch-mode", "navigate");
            assert!(!ask(&[site, navigate, ("sec-fetch-dest", "iframe")]));
            assert!(ask(&[site, navigate, ("sec-fetch-dest", "document")]));
            assert!(!ask(&[site, ("referer", "https://evil.example/a")]));
            let listed = "https://lab.example:8443/page?x=http://evil.example";
            assert!(ask(&[site, ("referer", listed)]));
        }
    }

    #[test]
    fn without_a_token_only_names_that_nobody_else_can_give_are_answered_to() {
        let configured = [allowed("http://edge.lan")];
        for (authority, may) in [
            ("localhost:8080", true),
            ("stoic.localhost", true),
            ("LOCALHOST.", true),
            ("127.0.0.1:8080", true),
            ("192.168.1.5", true),
            ("[::1]:8080", true),
            ("edge.lan:8080", true),
            ("", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("edge", false),
            ("a b", false),
            ("x@localhost", false),
        ] {
            let checked = check_name(Some(authority), &configured);
            assert_eq!(checked.is_ok(), may, "{authority}");
            if let Err(failure) = checked {
                assert_eq!(failure.problem.code, "host_refused");
            }
        }
        assert!(check_name(None, &[]).is_ok());
        assert!(check_name(Some("evil.example"), &[AllowedOrigin::Any]).is_ok());
    }
}
