//! Another gateway as a site.

use super::{BackendKind, Config, RuntimeConfig, SiteConfig, default_runtimes};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where the gateway is that a site stands for, and what is shown to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Its URL, `https://` where it is beyond a network that is trusted.
    pub url: String,
    /// File with the token that it asks for: scopes `invoke` and `deploy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the authority of its certificate, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// PEM file with the certificate that is shown to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<PathBuf>,
    /// PEM file with the key of that certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
}

impl GatewayConfig {
    /// What is wrong with it, and at which key.
    pub(super) fn fault(&self) -> Option<(&'static str, String)> {
        let uri: Option<http::Uri> = self.url.parse().ok();
        let scheme = uri.as_ref().and_then(http::Uri::scheme_str);
        let host = uri.as_ref().and_then(http::Uri::host);
        if !matches!(scheme, Some("http" | "https")) || host.is_none_or(str::is_empty) {
            let why = format!("`{}` is no URL: write https://HOST:PORT", self.url);
            return Some(("url", why));
        }
        let authority = uri.as_ref().and_then(http::Uri::authority);
        if authority.is_some_and(|authority| authority.as_str().contains('@')) {
            // Not shown: the URL is, in messages and logs.
            let why =
                "a user and a password do not belong into it: its token is read from `token_file`";
            return Some(("url", why.to_owned()));
        }
        if self.client_cert.is_some() != self.client_key.is_some() {
            let why = "client_cert and client_key belong together".to_owned();
            return Some(("client_key", why));
        }
        None
    }

    /// Whether whoever listens on the way to it reads the token.
    #[must_use]
    pub fn shows_its_token(&self) -> bool {
        let Some(uri) = self.url.parse::<http::Uri>().ok() else {
            return false;
        };
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address: Option<std::net::IpAddr> = bare.parse().ok();
        let here = host == "localhost" || address.is_some_and(|ip| ip.to_canonical().is_loopback());
        self.token_file.is_some() && uri.scheme_str() == Some("http") && !here
    }
}

impl SiteConfig {
    /// Has another gateway run the pods: what was emulated here is real then.
    pub fn stand_for(&mut self, gateway: GatewayConfig) {
        *self = Self {
            backend: BackendKind::Gateway,
            gateway: Some(gateway),
            ..Self::default()
        };
    }
}

impl Config {
    /// Where runtimes were not configured, those of the default go that another gateway brings itself.
    pub fn leave_runtimes_to_gateways(&mut self) {
        let is_gateway = |site: &SiteConfig| site.backend == BackendKind::Gateway;
        if !self.sites.values().any(is_gateway) || !self.runtimes_are_default() {
            return;
        }
        let sites = &self.sites;
        self.runtimes
            .retain(|_, runtime| sites.get(&runtime.site).is_some_and(|s| !is_gateway(s)));
    }

    fn runtimes_are_default(&self) -> bool {
        let cores =
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        self.runtimes == default_runtimes(cores, crate::sites::gpus_present())
    }

    /// The runtimes of a site that are configured.
    pub fn runtimes_at<'a>(
        &'a self,
        site: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a RuntimeConfig)> {
        let all = self.runtimes.iter();
        all.filter(move |(_, runtime)| runtime.site == site)
            .map(|(name, runtime)| (name.as_str(), runtime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> GatewayConfig {
        GatewayConfig {
            url: url.to_owned(),
            token_file: Some("token".into()),
            ..GatewayConfig::default()
        }
    }

    #[test]
    fn no_password_stands_in_a_url_and_a_token_that_is_read_on_the_way_is_known() {
        for (url, shows) in [
            ("https://campus.example:8443", false),
            ("http://campus.example:8080", true),
            ("http://192.0.2.1", true),
            ("http://localhost:8080", false),
            ("http://127.0.0.1:8080", false),
            ("http://[::1]:8080", false),
        ] {
            assert_eq!(at(url).fault(), None, "{url}");
            assert_eq!(at(url).shows_its_token(), shows, "{url}");
        }
        let mut none = at("http://campus.example");
        none.token_file = None;
        assert!(!none.shows_its_token());
        let (key, why) = at("https://me:secret@campus.example")
            .fault()
            .expect("a fault");
        assert!(key == "url" && !why.contains("secret"), "{why}");
        for wrong in ["campus.example", "ftp://campus.example", "https://"] {
            assert!(at(wrong).fault().is_some(), "{wrong}");
        }
    }
}
