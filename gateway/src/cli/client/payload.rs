//! The body of a call, read as it is sent.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

/// Bytes read at a time.
const PIECE: usize = 256 * 1024;

type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// What a request carries.
pub(in crate::cli) enum Payload {
    /// Nothing, or what is at hand.
    Whole(Option<Bytes>),
    /// What a reader gives, never in memory as a whole.
    Stream {
        /// The pieces.
        pieces: ReaderStream<Reader>,
        /// Bytes in all, where that is known.
        length: Option<u64>,
        /// Bytes sent so far.
        sent: Arc<AtomicU64>,
    },
}

impl Payload {
    /// What a reader gives; `sent` counts on as it goes.
    pub(in crate::cli) fn stream(
        reader: impl AsyncRead + Send + 'static,
        length: Option<u64>,
        sent: &Arc<AtomicU64>,
    ) -> Self {
        Self::Stream {
            pieces: ReaderStream::with_capacity(Box::pin(reader), PIECE),
            length,
            sent: Arc::clone(sent),
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole({})", bytes.as_ref().map_or(0, Bytes::len)),
            Self::Stream { length, .. } => write!(f, "Stream({length:?})"),
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        use futures_util::Stream;
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { pieces, sent, .. } => Pin::new(pieces).poll_next(cx).map(|piece| {
                piece.map(|piece| {
                    piece.map(|bytes| {
                        sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                        Frame::data(bytes)
                    })
                })
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream { length, .. } => *length == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream { length, .. } => {
                length.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
