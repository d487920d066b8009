//! Certificates made for one test, and a client that speaks TLS and shows what was agreed on.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// An authority of a test's own; its files go when it does.
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What came over TLS.
#[derive(Debug)]
pub struct Secured {
    /// The protocol that was agreed on.
    pub protocol: String,
    /// Head and body of the answer, as text.
    pub text: String,
}

impl Default for Authority {
    fn default() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = called("An authority of a test");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { folder, issuer }
    }
}

impl Authority {
    /// PEM file with its certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for this machine, signed by it.
    #[must_use]
    pub fn identity(&self, name: &str) -> Identity {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = called(name);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed");
        let identity = Identity {
            cert: self.folder.path().join(format!("{name}.pem")),
            key: self.folder.path().join(format!("{name}.key")),
        };
        std::fs::write(&identity.cert, cert.pem()).expect("written");
        std::fs::write(&identity.key, key.serialize_pem()).expect("written");
        identity
    }

    /// The authority's own certificate as if it were a server's: what `openssl req -x509` makes unless told
    /// otherwise.
    #[must_use]
    pub fn itself(&self) -> Identity {
        let key = self.folder.path().join("ca.key");
        std::fs::write(&key, self.issuer.key().serialize_pem()).expect("written");
        Identity {
            cert: self.file(),
            key,
        }
    }
}

impl Identity {
    /// The `[tls]` table of a gateway that has it.
    #[must_use]
    pub fn table(&self, client_ca: Option<&Path>) -> String {
        let more = client_ca.map_or_else(String::new, |file| {
            format!("client_ca = \"{}\"\n", file.display())
        });
        format!(
            "[tls]\ncert = \"{}\"\nkey = \"{}\"\n{more}",
            self.cert.display(),
            self.key.display()
        )
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

/// Sends bytes over TLS and reads to the end; trusts this authority, shows this identity.
///
/// # Errors
/// The handshake failed, or the connection broke off.
pub fn over_tls(
    address: SocketAddr,
    trusted: &Path,
    identity: Option<&Identity>,
    protocols: &[&str],
    bytes: &[u8],
) -> std::io::Result<Secured> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(trusted).expect("a certificate");
    roots.add(certificate).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&identity.cert).expect("a certificate")],
                PrivateKeyDer::from_pem_file(&identity.key).expect("a key"),
            )
            .expect("they belong together"),
    };
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection =
        ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
    let tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut stream = StreamOwned::new(connection, tcp);
    stream.write_all(bytes)?;
    let mut first = [0; 1];
    stream.read_exact(&mut first)?;
    let protocol = stream.conn.alpn_protocol().unwrap_or_default();
    let protocol = String::from_utf8_lossy(protocol).into_owned();
    let mut all = first.to_vec();
    // The other side may close without a word of TLS.
    let _ = stream.read_to_end(&mut all);
    Ok(Secured {
        protocol,
        text: String::from_utf8_lossy(&all).into_owned(),
    })
}
