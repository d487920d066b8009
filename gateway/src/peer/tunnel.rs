//! The way to a pod of a peer's: an address on loopback whose connections go on there, each through a
//! connection to the peer of its own. What closes on one side closes on the other, so that leaving a
//! request cancels it there, too.

use super::client::{Peer, PeerError, whole};
use super::protocol::{TUNNEL, paths};
pub use crate::link::join;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// Longest time to open a tunnel.
const OPEN: Duration = Duration::from_secs(10);

/// See the module. Dropped, it closes, and all its connections with it.
#[derive(Debug)]
pub struct Entrance {
    /// The address on loopback.
    pub address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Entrance {
    /// Opens the way to the pod of a lease.
    ///
    /// # Errors
    /// No port is to be had.
    pub async fn open(peer: Arc<Peer>, lease: String) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            // Ends with this task, and its connections with it.
            let mut connections = JoinSet::new();
            let lease: Arc<str> = lease.into();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                };
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let (peer, lease) = (Arc::clone(&peer), Arc::clone(&lease));
                connections.spawn(async move {
                    match tokio::time::timeout(OPEN, tunnel(&peer, &lease)).await {
                        Ok(Ok(there)) => join(stream, TokioIo::new(there)).await,
                        Ok(Err(error)) => debug!("no tunnel: {error}"),
                        Err(_) => debug!("no tunnel in time"),
                    }
                });
            }
        });
        Ok(Self {
            address,
            _task: AbortOnDropHandle::new(task),
        })
    }
}

async fn tunnel(peer: &Peer, lease: &str) -> Result<Upgraded, PeerError> {
    let path = format!("{}/{lease}", paths::LEASES);
    let mut request = peer.request(Method::GET, &path, whole(Bytes::new()))?;
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(TUNNEL));
    let answer = peer.accepted(request).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(peer.unreachable(format!("no tunnel: it answered {}", answer.status())));
    }
    hyper::upgrade::on(answer)
        .await
        .map_err(|error| peer.unreachable(error))
}
