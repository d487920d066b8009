//! An emulated link: a relay on loopback that holds bytes to a bandwidth and adds half a round trip
//! each way. All connections of a link share its bandwidth, as they would share a microwave link's.
//!
//! An outage can be asked for with a file: while it is there the link is down. One that holds the word
//! `hold` holds everything back, as a link does whose packets are lost; any other breaks all connections
//! and refuses new ones.

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tracing::warn;

/// Bytes taken at once; at 70 Mbit/s one takes 2 ms.
const CHUNK: usize = 16 * 1024;
/// Chunks on their way in one direction of one connection.
const IN_FLIGHT: usize = 64;
/// A timer wakes up to this late. A lane that was busy until then goes on from where it should have
/// been: else every chunk would lose the rest of a millisecond, and the link two fifths of its
/// bandwidth. No byte arrives sooner for it than half a round trip after it was sent.
const LATE: Duration = Duration::from_millis(10);

/// How often the file of an outage is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// One link, shared by every relay over it.
#[derive(Debug)]
pub struct EmulatedLink {
    bytes_per_s: f64,
    one_way: Duration,
    up: Mutex<Instant>,
    down: Mutex<Instant>,
    relays: Mutex<HashMap<SocketAddr, Relay>>,
    state: watch::Sender<State>,
}

/// Whether bytes pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// They do.
    Up,
    /// They wait.
    Held,
    /// Connections break.
    Cut,
}

/// A listener whose connections reach a target over the link. Dropped, it closes them.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl EmulatedLink {
    /// A link of this bandwidth (each way) and round-trip time.
    #[must_use]
    pub fn new(bytes_per_s: f64, rtt: Duration) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            bytes_per_s,
            one_way: rtt / 2,
            up: Mutex::new(now),
            down: Mutex::new(now),
            relays: Mutex::default(),
            state: watch::Sender::new(State::Up),
        })
    }

    /// Takes the link down while a file is there. Looks every few milliseconds, for as long as the link
    /// is in use.
    pub fn down_while(self: &Arc<Self>, file: PathBuf) {
        let link = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut look = tokio::time::interval(LOOK);
            loop {
                look.tick().await;
                let asked = match tokio::fs::read_to_string(&file).await {
                    Ok(text) if text.trim() == "hold" => State::Held,
                    Ok(_) => State::Cut,
                    Err(_) => State::Up,
                };
                let Some(link) = link.upgrade() else { return };
                let changed = link.state.send_if_modified(|state| {
                    let changed = *state != asked;
                    *state = asked;
                    changed
                });
                if changed {
                    warn!(file = %file.display(), state = ?asked, "an outage of the emulated link begins or ends");
                }
            }
        });
    }

    /// Returns when bytes pass.
    async fn passable(&self) -> std::io::Result<()> {
        let mut state = self.state.subscribe();
        let passable = state.wait_for(|state| *state != State::Held).await;
        match passable.map(|state| *state) {
            Ok(State::Up | State::Held) => Ok(()),
            Ok(State::Cut) | Err(_) => Err(std::io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Returns when the link is cut.
    async fn cut(&self) {
        let mut state = self.state.subscribe();
        if state.wait_for(|state| *state == State::Cut).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Round-trip time of the link.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.one_way * 2
    }

    /// Opens a relay to a target, and returns the address to connect to instead.
    ///
    /// # Errors
    /// No port is to be had.
    pub async fn open(self: &Arc<Self>, target: SocketAddr) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let link = Arc::clone(self);
        let task = tokio::spawn(async move { link.accept(listener, target).await }).abort_handle();
        self.relays.lock().insert(target, Relay { address, task });
        Ok(address)
    }

    /// Closes the relay to a target.
    pub fn close(&self, target: SocketAddr) {
        self.relays.lock().remove(&target);
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, target: SocketAddr) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        let link = Arc::clone(&self);
                        connections.spawn(async move { let _ = link.relay(stream, target).await; });
                    }
                }
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
    }

    async fn relay(&self, near: TcpStream, target: SocketAddr) -> std::io::Result<()> {
        // The handshake of a real connection takes one round trip.
        tokio::time::sleep(self.rtt()).await;
        self.passable().await?;
        let far = TcpStream::connect(target).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        let both = async {
            tokio::try_join!(
                self.carry(near_read, far_write, &self.up),
                self.carry(far_read, near_write, &self.down)
            )
        };
        tokio::select! {
            ended = both => ended.map(|_| ()),
            () = self.cut() => Err(std::io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Carries one direction. An error on either end ends the whole connection, so that a caller who
    /// leaves is seen at the far end.
    async fn carry(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        lane: &Mutex<Instant>,
    ) -> std::io::Result<()> {
        let (send, mut receive) = mpsc::channel::<(Instant, Bytes)>(IN_FLIGHT);
        let read = async move {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(CHUNK);
                let mut part = buffer.split_off(0);
                let count = from.read_buf(&mut part).await?;
                if count == 0 {
                    return Ok::<(), std::io::Error>(());
                }
                for piece in part.freeze().chunks(CHUNK).map(Bytes::copy_from_slice) {
                    let through = self.reserve(lane, piece.len());
                    // Read no faster than the link carries: the sender must feel it.
                    until(through).await;
                    if send.send((through + self.one_way, piece)).await.is_err() {
                        return Ok(());
                    }
                }
            }
        };
        let write = async move {
            while let Some((due, piece)) = receive.recv().await {
                until(due).await;
                self.passable().await?;
                to.write_all(&piece).await?;
            }
            to.shutdown().await
        };
        tokio::try_join!(read, write).map(|_| ())
    }

    /// When so many bytes will have passed a lane that is busy until then.
    fn reserve(&self, lane: &Mutex<Instant>, bytes: usize) -> Instant {
        let mut free = lane.lock();
        let now = Instant::now();
        let start = if *free + LATE < now { now } else { *free };
        *free = start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        (*free).max(now)
    }
}

/// Waits for a moment, unless it is there: a timer takes a millisecond even for the past.
async fn until(moment: Instant) {
    if moment > Instant::now() {
        tokio::time::sleep_until(moment).await;
    }
}

impl Relay {
    /// The address to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An echo server on a link of 8 Mbit/s and 40 ms.
    async fn echo_over_link() -> TcpStream {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let target = server.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let link = EmulatedLink::new(1e6, Duration::from_millis(40));
        let address = link.open(target).await.expect("relay");
        std::mem::forget(link);
        TcpStream::connect(address).await.expect("connects")
    }

    #[tokio::test]
    async fn a_small_message_takes_a_round_trip_and_a_large_one_its_bandwidth() {
        let mut stream = echo_over_link().await;
        stream.write_all(b"x").await.expect("sent");
        let mut byte = [0];
        stream.read_exact(&mut byte).await.expect("back");
        let begun = Instant::now();
        stream.write_all(b"y").await.expect("sent");
        stream.read_exact(&mut byte).await.expect("back");
        let small = begun.elapsed();
        assert!(small >= Duration::from_millis(40), "{small:?}");

        let sent = vec![7u8; 200_000];
        let begun = Instant::now();
        let (mut read, mut write) = stream.split();
        let mut back = vec![0; sent.len()];
        let (a, b) = tokio::join!(write.write_all(&sent), read.read_exact(&mut back));
        a.and(b.map(|_| ())).expect("echoed");
        assert_eq!(back, sent);
        let large = begun.elapsed();
        assert!(
            large >= Duration::from_millis(200),
            "200 kB at 1 MB/s: {large:?}"
        );
    }

    #[tokio::test]
    async fn an_outage_holds_bytes_or_breaks_connections() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let target = server.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("outage");
        let link = EmulatedLink::new(1e9, Duration::ZERO);
        link.down_while(file.clone());
        let address = link.open(target).await.expect("relay");
        let mut stream = TcpStream::connect(address).await.expect("connects");
        let mut byte = [0];
        stream.write_all(b"x").await.expect("sent");
        stream.read_exact(&mut byte).await.expect("back");

        std::fs::write(&file, "hold").expect("written");
        tokio::time::sleep(LOOK * 5).await;
        stream.write_all(b"y").await.expect("sent");
        let held = tokio::time::timeout(LOOK * 10, stream.read_exact(&mut byte)).await;
        assert!(held.is_err(), "nothing passes");
        std::fs::remove_file(&file).expect("removed");
        stream.read_exact(&mut byte).await.expect("it passes now");

        std::fs::write(&file, "cut").expect("written");
        let ended = stream.read_exact(&mut byte).await;
        assert!(ended.is_err(), "the connection breaks");
    }

    /// Timers that wake a millisecond late once cost a link of 70.79 Mbit/s two fifths of it.
    #[tokio::test]
    async fn a_busy_link_carries_what_it_is_said_to() {
        let link = EmulatedLink::new(10e6, Duration::ZERO);
        let fast = EmulatedLink::new(125e6, Duration::ZERO);
        let lane = Mutex::new(Instant::now());
        for (link, chunks) in [(&fast, 2000), (&link, 200)] {
            let begun = Instant::now();
            for _ in 0..chunks {
                until(link.reserve(&lane, CHUNK)).await;
            }
            let seconds = begun.elapsed().as_secs_f64();
            let share = (chunks * CHUNK) as f64 / link.bytes_per_s / seconds;
            assert!((0.75..=1.05).contains(&share), "{share} of its bandwidth");
        }
        // A pause is no credit: what follows it passes no faster.
        tokio::time::sleep(LATE * 3).await;
        let begun = Instant::now();
        assert!(link.reserve(&lane, 1_000_000) >= begun + Duration::from_millis(100));
    }
}
