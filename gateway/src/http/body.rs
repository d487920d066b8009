//! Bodies of answers: whole, proxied from a pod, or streamed.

use super::forward::Held;
use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// The body of an answer.
pub enum Body {
    /// All of it, or nothing.
    Whole(Option<Bytes>),
    /// A pod's answer on its way through. What is held goes back when the answer ends.
    Proxied {
        /// The pod's body.
        incoming: Incoming,
        /// The lease and the connection; boxed, since it is much larger than the other kinds.
        held: Option<Box<Held>>,
    },
    /// Pieces as they come, with their length in all where it is known.
    Stream {
        /// The pieces.
        pieces: ByteStream,
        /// Bytes in all.
        length: Option<u64>,
    },
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Proxied { .. } => "Proxied",
            Self::Stream { .. } => "Stream",
        })
    }
}

impl Body {
    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self::Whole(None)
    }

    /// A streamed body.
    pub fn stream<E: Into<BoxError> + 'static>(
        pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
        length: Option<u64>,
    ) -> Self {
        use futures_util::TryStreamExt;
        Self::Stream {
            pieces: Box::pin(pieces.map_err(Into::into)),
            length,
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Proxied { incoming, held } => {
                let polled = Pin::new(&mut *incoming).poll_frame(cx);
                let ended = match &polled {
                    Poll::Ready(None) => true,
                    Poll::Ready(Some(Ok(_))) => {
                        if let Some(held) = held {
                            held.heard();
                        }
                        incoming.is_end_stream()
                    }
                    Poll::Ready(Some(Err(_))) => false,
                    Poll::Pending => {
                        if held.as_mut().is_some_and(|held| held.silent(cx)) {
                            // Given up: its place is free, its connection closed.
                            *held = None;
                            return Poll::Ready(Some(Err("the pod fell silent".into())));
                        }
                        false
                    }
                };
                if ended && let Some(held) = held.take() {
                    held.finish();
                }
                polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Self::Stream { pieces, .. } => pieces
                .as_mut()
                .poll_next(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Proxied { incoming, held } => held.is_none() && incoming.is_end_stream(),
            Self::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Proxied { incoming, .. } => incoming.size_hint(),
            Self::Stream { length, .. } => {
                length.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
