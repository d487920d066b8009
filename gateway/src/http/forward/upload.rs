//! The body of a request on its way to a pod.

use crate::failure::Failure;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

/// The body of a request on its way to a pod.
#[derive(Debug)]
pub(super) enum Upload {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes, no more than so many bytes; what breaks it is told apart from what ails the pod.
    Streaming(Incoming, u64, Arc<OnceLock<Failure>>),
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streaming(incoming, left, broken) => {
                Pin::new(incoming).poll_frame(cx).map(|frame| {
                    frame.map(|frame| {
                        let broke = |failure: Failure| {
                            let text = failure.problem.to_string();
                            let _ = broken.set(failure);
                            text
                        };
                        let frame = frame.map_err(|e| broke(incomplete(&e)))?;
                        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                        *left = left.checked_sub(size).ok_or_else(|| broke(too_large()))?;
                        Ok(frame)
                    })
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streaming(incoming, ..) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Streaming(incoming, ..) => incoming.size_hint(),
        }
    }
}

fn too_large() -> Failure {
    Failure::new(413, "body_too_large", "the body is over the limit")
}

pub(super) fn incomplete(error: &hyper::Error) -> Failure {
    Failure::new(400, "body_incomplete", error.to_string())
}
