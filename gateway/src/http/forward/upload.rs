//! The body of a request on its way to a pod.

use crate::failure::Failure;
use crate::http::arriving::{Arriving, Broken, Course};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// See the module.
#[derive(Debug)]
pub(super) enum Upload {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes.
    Streaming(Box<Streaming>),
}

/// A body that is passed on as it comes.
#[derive(Debug)]
pub(super) struct Streaming {
    body: Arriving,
    /// Bytes that may still come.
    left: u64,
    course: Arc<Course>,
}

impl Upload {
    /// A whole body.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// A body that is passed on as it comes, no more than so many bytes. What breaks it is told apart
    /// from what ails the pod.
    pub(super) fn streaming(body: Arriving, limit: u64, course: Arc<Course>) -> Self {
        Self::Streaming(Box::new(Streaming {
            body,
            left: limit,
            course,
        }))
    }
}

impl Streaming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let polled = self.body.poll_on(Some(&self.course), cx);
        polled.map(|frame| {
            frame.map(|frame| {
                let frame = frame.map_err(|Broken(failure)| failure)?;
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.left = self.left.checked_sub(size).ok_or_else(too_large)?;
                Ok(frame)
            })
        })
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streaming(streaming) => streaming.poll_frame(cx).map(|frame| {
                frame.map(|frame| {
                    frame.map_err(|failure| {
                        let _ = streaming.course.broken.set(failure.clone());
                        Broken(failure)
                    })
                })
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streaming(streaming) => streaming.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Streaming(streaming) => streaming.body.size_hint(),
        }
    }
}

fn too_large() -> Failure {
    Failure::new(413, "body_too_large", "the body is over the limit")
}
