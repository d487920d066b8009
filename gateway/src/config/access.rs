//! Who may reach the gateway, and over what.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Whether every request needs a token, although there is none yet.
    pub required: bool,
    /// Whether a gateway without any token may listen beyond this machine, and then answer everybody.
    pub open: bool,
    /// Whether `/metrics` needs no token.
    pub metrics_open: bool,
    /// File with a token of scope `admin`; `$STOIC_ADMIN_TOKEN` goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_token_file: Option<PathBuf>,
}

/// TLS of the HTTP front. The files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate, and those up to its authority.
    pub cert: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
    /// PEM file with the authorities whose certificates callers have to show; absent: they show none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}
