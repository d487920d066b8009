//! Who may reach the gateway, and over what.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Largest size of `audit.log`, and of `audit-refused.log`: one that would grow beyond it becomes `.1`,
    /// and the `.1` before it goes.
    pub audit_size: ByteSize,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            required: false,
            open: false,
            metrics_open: false,
            admin_token_file: None,
            audit_size: ByteSize::mib(64),
        }
    }
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
