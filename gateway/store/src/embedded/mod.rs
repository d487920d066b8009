//! The embedded S3 server: the default object store, in the gateway's process, over a directory.

mod body;
mod conditions;
mod disk;
mod listing;
mod object;
mod receive;
mod refuse;
mod request;
mod server;
mod service;
mod uploads;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{Credentials, StoreError};
use disk::Disk;
use service::Service;
use uploads::Uploads;

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

/// A running embedded server. Dropping it stops it at once; nothing acknowledged is lost.
#[derive(Debug)]
pub struct Embedded {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Embedded {
    /// Opens the directory, removes what an earlier run left unfinished, and serves.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::ReadOnly`], or why the address cannot be used.
    pub async fn start(options: EmbeddedOptions) -> Result<Self, StoreError> {
        let directory = options.directory.clone();
        let disk = tokio::task::spawn_blocking(move || Disk::open(&directory))
            .await
            .map_err(|e| StoreError::other("embedded store", e))??;
        let failed = |e: std::io::Error| {
            StoreError::other(format!("embedded store on {}", options.listen), e)
        };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let service = Service {
            disk: Arc::new(disk),
            uploads: Arc::new(Uploads::default()),
            max_object_bytes: options.max_object_bytes,
            idle: options.idle,
        };
        let (stop, stopped) = oneshot::channel();
        let server = server::serve(
            listener,
            service,
            options.credentials,
            options.upload_age,
            stopped,
        );
        Ok(Self {
            address,
            stop: Some(stop),
            server: tokio::spawn(server),
        })
    }

    /// The endpoint for [`StoreOptions`](crate::StoreOptions): `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        let mut address = self.address;
        // Listening everywhere, it is reached by loopback from here.
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        format!("http://{address}")
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, gives running ones 5 seconds, and ends.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // If it is gone already there is nothing to stop.
            let _ = stop.send(());
        }
        let _ = (&mut self.server).await;
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.server.abort();
    }
}
