//! A link that can be cut: connections to an address go on to another as long as it is up.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const UP: u8 = 0;
/// Connections break, new ones are refused.
const CUT: u8 = 1;
/// Nothing passes, and nobody is told.
const HELD: u8 = 2;

/// See the module.
#[derive(Debug)]
pub struct Link {
    /// Where to connect.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    sent: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// A link to this address.
    ///
    /// # Panics
    /// No port is to be had.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            state: AtomicU8::new(UP),
            sent: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let link = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if link.state.load(Ordering::SeqCst) == CUT {
                    continue;
                }
                let Ok(there) = TcpStream::connect(target) else {
                    continue;
                };
                let mut open = link.open.lock().expect("unpoisoned");
                for (from, to) in [(&stream, &there), (&there, &stream)] {
                    let _ = from.set_nodelay(true);
                    open.extend(from.try_clone());
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else {
                        continue;
                    };
                    let link = Arc::clone(&link);
                    std::thread::spawn(move || pass(&link, from, to));
                }
            }
        });
        Self { address, shared }
    }

    /// Breaks all connections, and takes no new ones.
    ///
    /// # Panics
    /// A thread of it panicked.
    pub fn cut(&self) {
        self.shared.state.store(CUT, Ordering::SeqCst);
        for stream in self.shared.open.lock().expect("unpoisoned").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets nothing pass, and tells nobody.
    pub fn hold(&self) {
        self.shared.state.store(HELD, Ordering::SeqCst);
    }

    /// It is up again.
    pub fn restore(&self) {
        self.shared.state.store(UP, Ordering::SeqCst);
    }

    /// Bytes that passed, both ways.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

fn pass(link: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut piece) {
        while link.state.load(Ordering::SeqCst) == HELD {
            std::thread::sleep(Duration::from_millis(5));
        }
        if count == 0 || to.write_all(&piece[..count]).is_err() {
            break;
        }
        link.sent.fetch_add(count as u64, Ordering::SeqCst);
    }
    let _ = to.shutdown(Shutdown::Write);
}
