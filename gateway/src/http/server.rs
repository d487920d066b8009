//! The front's threads: one event loop each over one shared listening socket.

use super::connection::{Stopped, connection};
use super::lookout::Lookout;
use crate::gateway::Gateway;
use crate::tls::FrontTls;
use socket2::{SockRef, TcpKeepalive};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::LocalOptions;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// How callers come in.
#[derive(Debug, Clone)]
pub enum Door {
    /// Over HTTP as it is.
    Plain,
    /// Over TLS.
    Tls(Arc<FrontTls>),
    /// Over HTTP on loopback, for the gateway itself where everybody else comes over TLS.
    Inside,
}

impl Door {
    /// What it does with a new connection, before HTTP.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        match self {
            Self::Tls(tls) => Some(tls.acceptor()),
            Self::Plain | Self::Inside => None,
        }
    }

    /// Whether it is for the gateway alone.
    pub(super) fn inside(&self) -> bool {
        matches!(self, Self::Inside)
    }

    /// Whether what comes in is encrypted.
    pub(super) fn secure(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

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
        door: &Door,
        threads: usize,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        listen_for_life(listener)?;
        let (stop, stopped) = watch::channel(None);
        let threads = (0..threads.max(1))
            .map(|number| {
                let (gateway, listener, stopped) =
                    (Arc::clone(gateway), listener.try_clone()?, stopped.clone());
                start_thread(number, gateway, listener, door.clone(), stopped)
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

/// Starts one thread of the front. Its tasks never leave it, and the runtime knows that: a task that
/// another one on the thread wakes, or the arrival of bytes, costs no system call.
fn start_thread(
    number: usize,
    gateway: Arc<Gateway>,
    listener: TcpListener,
    door: Door,
    stopped: Stopped,
) -> std::io::Result<JoinHandle<()>> {
    let (built, started) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name(format!("http-{number}"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    let _ = built.send(Ok(()));
                    runtime.block_on(serve(gateway, listener, door, stopped));
                }
                Err(error) => drop(built.send(Err(error))),
            }
        })?;
    started
        .recv()
        .unwrap_or_else(|_| Err(std::io::Error::other("the thread ended at once")))?;
    Ok(thread)
}

/// Accepted connections inherit this from their listener: a caller who vanishes without a word, while it
/// waits or listens, is noticed within half a minute, and what is held for it given back.
fn listen_for_life(listener: &TcpListener) -> std::io::Result<()> {
    let life = TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    SockRef::from(listener).set_tcp_keepalive(&life)
}

async fn serve(gateway: Arc<Gateway>, listener: TcpListener, door: Door, mut stopped: Stopped) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!("cannot listen: {error}"),
    };
    let mut connections = JoinSet::new();
    let each = stopped.clone();
    let lookout = Lookout::new(gateway.config.http.head_timeout);
    let mut ticks = lookout.ticks();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => drop(connections.spawn_local(connection(Arc::clone(&gateway), stream, peer, door.clone(), Rc::clone(&lookout), each.clone()))),
                Err(error) => {
                    // Out of descriptors, most likely: others will be given back soon.
                    debug!("cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            _ = ticks.tick() => lookout.look(),
            _ = stopped.wait_for(Option::is_some) => break,
        }
    }
    drop(listener);
    lookout.stop();
    let grace = stopped.borrow().unwrap_or_default();
    let all = async {
        while !connections.is_empty() {
            tokio::select! {
                _ = connections.join_next() => {}
                _ = ticks.tick() => lookout.look(),
            }
        }
    };
    if tokio::time::timeout(grace, all).await.is_err() {
        warn!(
            "requests were cut off after {}",
            humantime::format_duration(grace)
        );
    }
}
