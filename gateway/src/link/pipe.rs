//! Two streams joined: bytes pass both ways until one side closes.

use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What is on its way when one side has closed may still arrive.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes taken at a time, each way.
const PIECE: usize = 16 * 1024;

/// Passes bytes both ways until one side closes, and a moment longer the other way.
pub async fn join(
    one: impl AsyncRead + AsyncWrite + Unpin,
    other: impl AsyncRead + AsyncWrite + Unpin,
) {
    let (mut from_one, mut to_one) = tokio::io::split(one);
    let (mut from_other, mut to_other) = tokio::io::split(other);
    let mut there = std::pin::pin!(pass(&mut from_one, &mut to_other));
    let mut back = std::pin::pin!(pass(&mut from_other, &mut to_one));
    tokio::select! {
        () = there.as_mut() => drop(tokio::time::timeout(LINGER, back).await),
        () = back.as_mut() => drop(tokio::time::timeout(LINGER, there).await),
    }
}

/// Passes bytes on as they come, until the sender closes or the receiver is gone.
async fn pass(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                if to.write_all(&piece[..count]).await.is_err() || to.flush().await.is_err() {
                    return;
                }
            }
        }
    }
    let _ = to.shutdown().await;
}
