//! Origins of web pages.

use http::uri::Authority;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// An origin (RFC 6454): scheme, name and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Scheme, in lower case.
    pub scheme: String,
    /// Name or address, in lower case; an address of IPv6 in brackets.
    pub host: String,
    /// None where the scheme has no usual one.
    pub port: Option<u16>,
}

/// It is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no origin: write a scheme and a name, with a port if it has one, as https://lab.example:8443, or `*`"
)]
pub struct OriginError(String);

/// Whose pages may use the gateway. Written as an origin, or `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AllowedOrigin {
    /// Anybody's.
    Any,
    /// Those of this origin.
    One(Origin),
}

impl Origin {
    /// The origin of what a scheme and an authority (`name`, `name:port`) lead to; none where the authority
    /// is none.
    #[must_use]
    pub fn of(scheme: &str, authority: &str) -> Option<Self> {
        if authority.contains(['@', '*']) {
            return None;
        }
        let authority: Authority = authority.parse().ok()?;
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        // A port that is none must not pass for the usual one.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => match scheme {
                "http" => Some(80),
                "https" => Some(443),
                _ => None,
            },
            Some(port) => Some(port.strip_prefix(':')?.parse().ok()?),
            None => return None,
        };
        (!host.is_empty()).then(|| Self {
            scheme: scheme.to_owned(),
            host,
            port,
        })
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let read = || {
            let (scheme, authority) = text.split_once("://")?;
            let scheme = scheme.to_ascii_lowercase();
            (!scheme.is_empty()).then(|| Self::of(&scheme, authority))?
        };
        read().ok_or_else(|| OriginError(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for AllowedOrigin {
    type Error = OriginError;

    fn try_from(text: String) -> Result<Self, OriginError> {
        match text.as_str() {
            "*" => Ok(Self::Any),
            text => text.parse().map(Self::One),
        }
    }
}

impl From<AllowedOrigin> for String {
    fn from(allowed: AllowedOrigin) -> Self {
        let AllowedOrigin::One(Origin { scheme, host, port }) = allowed else {
            return "*".to_owned();
        };
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{scheme}://{host}{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_has_to_be_an_origin() {
        for (text, written) in [
            ("https://Lab.example", "https://lab.example:443"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("*", "*"),
        ] {
            let allowed = AllowedOrigin::try_from(text.to_owned()).expect(text);
            assert_eq!(String::from(allowed), written);
        }
        for wrong in [
            "null",
            "lab.example",
            "https://lab.example/",
            "https://lab.example/page",
            "https://lab.example:99999",
            "https://lab.example:",
            "https://me@lab.example",
            "https://*.example",
            "https://",
            "://lab.example",
            "",
        ] {
            assert!(
                AllowedOrigin::try_from(wrong.to_owned()).is_err(),
                "{wrong}"
            );
        }
    }
}
