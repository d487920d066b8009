//! Connections to pods. They belong to the thread that opened them and go back to it when an answer ends.

use super::upload::Upload;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Idle connections kept per pod and thread.
const IDLE_CONNECTIONS: usize = 64;

pub(super) type Sender = SendRequest<Upload>;

thread_local! {
    static IDLE: RefCell<HashMap<SocketAddr, Vec<Sender>>> = RefCell::default();
}

/// A connection to a pod that was kept, if any.
pub(super) fn kept(reach: SocketAddr) -> Option<Sender> {
    IDLE.with_borrow_mut(|idle| idle.get_mut(&reach).and_then(Vec::pop))
}

/// Keeps a connection whose answer has ended.
pub(super) fn keep(reach: SocketAddr, sender: Sender) {
    IDLE.with_borrow_mut(|idle| {
        let senders = idle.entry(reach).or_default();
        if senders.len() < IDLE_CONNECTIONS {
            senders.push(sender);
        }
    });
}

/// Opens a connection to a pod.
pub(super) async fn connect(
    reach: SocketAddr,
) -> Result<Sender, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(reach).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}
