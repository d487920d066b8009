//! TLS by rustls: what a front listens with, and what a client of another gateway connects with.

use crate::config::{InvalidConfig, TlsConfig};
use arc_swap::ArcSwap;
use hyper_rustls::ConfigBuilderExt;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

/// Files that changed are read again within this time.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a client shows and trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// PEM file with the authorities that may have signed the server's certificate; none: the system's.
    pub ca: Option<PathBuf>,
    /// PEM files with the certificate that is shown, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The TLS of a front; its files may change while it serves.
#[derive(Debug)]
pub struct FrontTls {
    files: TlsConfig,
    current: ArcSwap<ServerConfig>,
}

impl FrontTls {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is not what it should be: says which.
    pub fn load(files: &TlsConfig) -> Result<Arc<Self>, InvalidConfig> {
        let current = server(files).map_err(InvalidConfig)?;
        Ok(Arc::new(Self {
            files: files.clone(),
            current: ArcSwap::from_pointee(current),
        }))
    }

    /// What accepts the next connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Reads the files again whenever they change: certificates are renewed while a gateway runs.
    pub async fn watch(self: Arc<Self>) {
        let mut seen = changed(&self.files);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = changed(&self.files);
            if now == seen {
                continue;
            }
            match server(&self.files) {
                Ok(config) => {
                    self.current.store(Arc::new(config));
                    info!("the TLS certificate was read again");
                    seen = now;
                }
                // Half of them may be written: what was read before serves on.
                Err(error) => warn!("the TLS certificate that changed cannot be used: {error}"),
            }
        }
    }
}

fn changed(files: &TlsConfig) -> Vec<Option<SystemTime>> {
    let all = [
        Some(&files.cert),
        Some(&files.key),
        files.client_ca.as_ref(),
    ];
    let at = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    all.into_iter().map(|path| path.and_then(at)).collect()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server(files: &TlsConfig) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("tls: {e}"))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let roots = Arc::new(authorities("tls.client_ca", file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|e| format!("tls.client_ca {}: {e}", file.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates("tls.cert", &files.cert)?;
    let key = private_key("tls.key", &files.key)?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| format!("tls.key {}: {e}", files.key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What a client connects with.
///
/// # Errors
/// One of the files is not what it should be: says which.
pub fn client(files: &ClientFiles) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?;
    let builder = match &files.ca {
        Some(file) => builder.with_root_certificates(authorities("the authority", file)?),
        None => match builder.clone().with_native_roots() {
            Ok(builder) => builder,
            // An image may have none.
            Err(_) => builder.with_webpki_roots(),
        },
    };
    match &files.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((cert, key)) => builder
            .with_client_auth_cert(
                certificates("the client certificate", cert)?,
                private_key("its key", key)?,
            )
            .map_err(|e| format!("the client certificate {}: {e}", cert.display())),
    }
}

fn said(what: &str, path: &Path, error: &pem::Error) -> String {
    let why = match error {
        pem::Error::NoItemsFound => "there is none in it, in PEM".to_owned(),
        pem::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    };
    format!("{what} {}: {why}", path.display())
}

fn certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| said(what, path, &e))?;
    if all.is_empty() {
        return Err(said(what, path, &pem::Error::NoItemsFound));
    }
    Ok(all)
}

fn private_key(what: &str, path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| said(what, path, &e))
}

fn authorities(what: &str, path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, path)? {
        roots
            .add(certificate)
            .map_err(|e| format!("{what} {}: {e}", path.display()))?;
    }
    Ok(roots)
}
