//! What a client shows to a gateway, and how it knows it.

use crate::cli::failed::Failed;
use crate::tls::{self, ClientFiles};
use clap::Args;
use http::HeaderValue;
use rustls::ClientConfig;
use std::path::PathBuf;

/// Environment variable with a token. It has no option: others on the machine see those.
const TOKEN: &str = "STOIC_TOKEN";

/// The options for gateways that ask for a token, or have a certificate of their own.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct Access {
    /// File with the token that the gateway asks for [default: what STOIC_TOKEN holds]
    #[arg(long, env = "STOIC_TOKEN_FILE", value_name = "FILE")]
    pub(in crate::cli) token_file: Option<PathBuf>,
    /// PEM file with the authority of the gateway's certificate, instead of the system's
    #[arg(long, env = "STOIC_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file with the certificate to show to the gateway
    #[arg(
        long,
        env = "STOIC_CLIENT_CERT",
        value_name = "FILE",
        requires = "client_key"
    )]
    client_cert: Option<PathBuf>,
    /// PEM file with the key of that certificate
    #[arg(
        long,
        env = "STOIC_CLIENT_KEY",
        value_name = "FILE",
        requires = "client_cert"
    )]
    client_key: Option<PathBuf>,
    /// Whether the environment's token is shown, too: not to pods, nor to a gateway of a command's own.
    #[arg(skip = true)]
    from_environment: bool,
}

impl Access {
    /// The token as a header, where there is one.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, Failed> {
        let environment = std::env::var(TOKEN).ok().filter(|_| self.from_environment);
        let (text, from) = match (&self.token_file, environment) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file);
                let from = format!("--token-file {}", file.display());
                (
                    text.map_err(|e| Failed::Input(format!("{from}: {e}")))?,
                    from,
                )
            }
            (None, Some(text)) if !text.trim().is_empty() => (text, TOKEN.to_owned()),
            (None, _) => return Ok(None),
        };
        let text = text.trim();
        let value = (!text.is_empty()).then(|| HeaderValue::try_from(text).ok());
        let mut value = value
            .flatten()
            .ok_or_else(|| Failed::Input(format!("{from}: what it holds is no token")))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// What connections over TLS are made with.
    pub(super) fn tls(&self) -> Result<ClientConfig, Failed> {
        let files = ClientFiles {
            ca: self.ca.clone(),
            identity: self.client_cert.clone().zip(self.client_key.clone()),
        };
        tls::client(&files).map_err(Failed::Input)
    }
}
