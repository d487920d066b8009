//! The embedded S3 server: the default object store, in the gateway's process, over a directory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Credentials, StoreError};

/// How to run the embedded server.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Where objects lie; made where it is absent. One server at a time.
    pub directory: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The only key pair that is accepted.
    pub credentials: Credentials,
    /// The largest object taken, in bytes.
    pub max_object_bytes: u64,
    /// A request whose body brings nothing for so long is refused.
    pub idle: Duration,
    /// Unfinished multipart uploads are removed after so long, and at every start.
    pub upload_age: Duration,
}

impl EmbeddedOptions {
    /// Objects up to 5 GiB, 60 s of silence, one day for unfinished uploads.
    pub fn new(
        directory: impl Into<PathBuf>,
        listen: SocketAddr,
        credentials: Credentials,
    ) -> Self {
        Self {
            directory: directory.into(),
            listen,
            credentials,
            max_object_bytes: 5 * 1024 * 1024 * 1024,
            idle: Duration::from_secs(60),
            upload_age: Duration::from_secs(24 * 3600),
        }
    }
}

/// A running embedded server. Dropping it stops it at once.
#[derive(Debug)]
pub struct Embedded {
    address: SocketAddr,
}

impl Embedded {
    /// Opens the directory, removes what an earlier run left unfinished, and serves.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::ReadOnly`], or why the address cannot be used.
    pub async fn start(options: EmbeddedOptions) -> Result<Self, StoreError> {
        Err(StoreError::other(
            "embedded store",
            format!("{} is being built", options.listen),
        ))
    }

    /// The endpoint for [`StoreOptions`](crate::StoreOptions): `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, gives running ones 5 seconds, and ends.
    pub async fn shutdown(self) {}
}
