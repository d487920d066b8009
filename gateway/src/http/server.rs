//! The front's threads: one event loop each over one shared listening socket.

use super::connection::connection;
use crate::gateway::Gateway;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tracing::{debug, warn};

/// The running front.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    stop: watch::Sender<Option<Duration>>,
    threads: Vec<JoinHandle<()>>,
}

impl Front {
    /// Serves on a socket that is bound already, with so many threads.
    ///
    /// # Errors
    /// The socket or a thread is not to be had.
    pub fn start(
        gateway: &Arc<Gateway>,
        listener: &TcpListener,
        threads: usize,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = watch::channel(None);
        let threads = (0..threads.max(1))
            .map(|number| {
                let (gateway, listener, stopped) =
                    (Arc::clone(gateway), listener.try_clone()?, stopped.clone());
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                std::thread::Builder::new()
                    .name(format!("http-{number}"))
                    .spawn(move || {
                        LocalSet::new().block_on(&runtime, serve(gateway, listener, stopped))
                    })
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self {
            address,
            stop,
            threads,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new connections, lets requests finish within the grace, and returns when all is done.
    pub fn stop(self, grace: Duration) {
        let _ = self.stop.send(Some(grace));
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

async fn serve(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    mut stopped: watch::Receiver<Option<Duration>>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!("cannot listen: {error}"),
    };
    let mut connections = JoinSet::new();
    let each = stopped.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => drop(connections.spawn_local(connection(Arc::clone(&gateway), stream, peer, each.clone()))),
                Err(error) => {
                    // Out of descriptors, most likely: others will be given back soon.
                    debug!("cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            _ = stopped.wait_for(Option::is_some) => break,
        }
    }
    drop(listener);
    let grace = stopped.borrow().unwrap_or_default();
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, all).await.is_err() {
        warn!(
            "requests were cut off after {}",
            humantime::format_duration(grace)
        );
    }
}
