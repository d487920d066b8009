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
