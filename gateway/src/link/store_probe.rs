//! A probe of the way to a site's store: what a small object and a tiny request take over it.

use bytes::Bytes;
use rand::RngCore;
use stoic_store::{Store, StoreError};
use tokio::time::Instant;

/// Prefix of the objects that probes leave for a moment.
pub const PREFIX: &str = "probes/";

/// What a probe measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Bytes sent.
    pub bytes: u64,
    /// Seconds from the first byte to the store's answer.
    pub seconds: f64,
    /// Seconds of a request that carries nothing, on a connection that was open already.
    pub rtt_s: f64,
}

/// Sends an object of `bytes` bytes that no link can compress to a store, and deletes it.
///
/// # Errors
/// What the store answers.
pub async fn probe_store(store: &Store, id: &str, bytes: usize) -> Result<Measured, StoreError> {
    let key = format!("{PREFIX}{id}");
    let mut body = vec![0; bytes];
    rand::rng().fill_bytes(&mut body);
    // The first request may have to open a connection, which is no part of a round trip.
    let mut rtt_s = f64::INFINITY;
    for _ in 0..2 {
        let asked = Instant::now();
        store.head(&key).await?;
        rtt_s = rtt_s.min(asked.elapsed().as_secs_f64());
    }
    let begun = Instant::now();
    let sent = store
        .put_bytes(&key, Bytes::from(body), "application/octet-stream")
        .await;
    let seconds = begun.elapsed().as_secs_f64();
    // What cannot be deleted now expires.
    let _ = store.delete(&key).await;
    sent.map(|_| Measured {
        bytes: bytes as u64,
        seconds,
        rtt_s,
    })
}
