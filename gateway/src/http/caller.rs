//! The connection on which requests come: whose it is, whether it waits for anything, and what is left to
//! do on it when it no longer speaks HTTP.

use super::wire::Wire;
use http::HeaderValue;
use parking_lot::Mutex;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What goes on with a connection after an upgrade.
pub(super) type Tunnel = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See the module. Its connection's thread writes it; what works a change elsewhere only reads its address.
pub(super) struct Caller {
    /// Its address, as `X-Forwarded-For` has it.
    pub(super) address: HeaderValue,
    /// Whether it came through the door that is the gateway's own.
    pub(super) inside: bool,
    /// Whether it speaks TLS.
    pub(super) secure: bool,
    /// Requests that are worked or answered now.
    busy: AtomicUsize,
    /// Requests so far.
    requests: AtomicU64,
    /// Whether bytes have come that are no whole head of a request yet.
    begun: AtomicBool,
    /// Whether it has taken bytes since that was looked at last.
    took: AtomicBool,
    tunnel: Mutex<Option<Tunnel>>,
    /// The name that it asked for last, where that is one of ours.
    name: Mutex<String>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Caller {
    pub(super) fn new(address: SocketAddr, inside: bool, secure: bool) -> Arc<Self> {
        let ip = match address.ip() {
            // A socket for both families shows IPv4 callers so.
            IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
            ip @ IpAddr::V4(_) => ip,
        };
        Arc::new(Self {
            address: HeaderValue::try_from(ip.to_string())
                .unwrap_or(HeaderValue::from_static("unknown")),
            inside,
            secure,
            busy: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            took: AtomicBool::new(false),
            tunnel: Mutex::default(),
            name: Mutex::default(),
        })
    }

    /// The head of a request is whole; it is busy until the answer has ended.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.begun.store(false, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.busy.fetch_add(1, Relaxed);
        Busy(Arc::clone(self))
    }

    /// Whether anything is owed to it.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed) > 0
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Whether the head of a request has begun, and not ended.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Relaxed)
    }

    /// Whether it has taken bytes since this was asked last. Who reads slowly what was answered is not
    /// busy any more, and yet not to be cut off.
    pub(super) fn took(&self) -> bool {
        self.took.swap(false, Relaxed)
    }

    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(polled, Poll::Ready(Ok(_))) {
            self.took.store(true, Relaxed);
        }
        polled
    }

    /// Whether this is the name that it asked for last, and that was found to be one of ours.
    pub(super) fn is_known(&self, name: Option<&str>) -> bool {
        name.is_some_and(|name| !name.is_empty() && *self.name.lock() == name)
    }

    /// The name that it asks for is one of ours.
    pub(super) fn knows(&self, name: Option<&str>) {
        let mut known = self.name.lock();
        known.clear();
        known.push_str(name.unwrap_or_default());
    }

    /// Goes on with the connection when its answer, an upgrade, has been sent.
    pub(super) fn tunnel(&self, tunnel: Tunnel) {
        *self.tunnel.lock() = Some(tunnel);
    }

    /// What goes on with the connection, if anything does.
    pub(super) fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel.lock().take()
    }
}

/// A request that is worked or answered.
#[derive(Debug)]
pub(super) struct Busy(Arc<Caller>);

impl Drop for Busy {
    fn drop(&mut self) {
        // What came meanwhile was its body.
        self.0.begun.store(false, Relaxed);
        self.0.busy.fetch_sub(1, Relaxed);
    }
}

/// A caller's stream: it notes that bytes came.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) stream: Wire,
    pub(super) caller: Arc<Caller>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.caller.begun.store(true, Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.caller.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.caller.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
