//! Where a gateway is.

use http::Uri;
use http::uri::Scheme;
use std::str::FromStr;

/// URL of a gateway: `http` or `https`, a host, perhaps a path in front of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Address {
    text: String,
    secure: bool,
}

impl Address {
    /// Whether it is reached over TLS.
    pub(super) fn secure(&self) -> bool {
        self.secure
    }

    /// The host, as the URL has it.
    pub(in crate::cli) fn host(&self) -> &str {
        let rest = self.text.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => host,
            _ => authority,
        }
    }

    /// The URL of a path of the gateway.
    pub(super) fn join(&self, path: &str) -> Result<Uri, http::uri::InvalidUri> {
        Uri::from_str(&format!("{}{path}", self.text))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "`{text}` is no URL of a gateway ({why}); write for example http://127.0.0.1:8080"
            )
        };
        let text = text.trim();
        let full = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let uri: Uri = full.parse().map_err(|_| wrong("it cannot be read"))?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(wrong("only http and https are spoken")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.host().is_empty() {
            return Err(wrong("it names no host"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("it may hold no user name"));
        }
        // An authority may end in a colon, or name a port over 65535.
        if authority.as_str().ends_with(':')
            || (authority.port_u16().is_none() && authority.port().is_some())
        {
            return Err(wrong("its port is no number"));
        }
        if authority.port_u16().is_none()
            && authority
                .as_str()
                .rsplit_once(':')
                .is_some_and(|(_, port)| !port.contains(']'))
        {
            return Err(wrong("its port is out of range"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(wrong("it may hold no query"));
        }
        Ok(Self {
            text: full.trim_end_matches('/').to_owned(),
            secure,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_or_refused() {
        for (text, joined) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/pods"),
            ("http://[::1]:8080/", "http://[::1]:8080/v1/pods"),
            ("edge-7:8080", "http://edge-7:8080/v1/pods"),
            (
                "https://a.example/stoic/",
                "https://a.example/stoic/v1/pods",
            ),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.join("/v1/pods").expect(text).to_string(), joined);
        }
        for (text, host) in [
            ("http://127.0.0.1:8080/x", "127.0.0.1"),
            ("http://[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
            ("https://a.example/stoic", "a.example"),
        ] {
            assert_eq!(text.parse::<Address>().expect(text).host(), host);
        }
        for wrong in [
            "",
            "ftp://a",
            "http://",
            "http://a:99999",
            "http://a:",
            "http://u:p@a",
            "http://a/?x",
            "not a url",
            "http://a#b",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
