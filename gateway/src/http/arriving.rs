//! A caller's body on its way in, given up when it comes too slowly.

use crate::failure::Failure;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Bytes a second that earn a body more time: those that drip slower are given up.
const LEAST_RATE: f64 = 1024.0;

/// A body that broke off, or came too slowly; as an error of HTTP's bodies.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.problem)]
pub(super) struct Broken(pub(super) Failure);

/// What becomes of a body, told to whoever waits for the answer.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// What broke it: no fault of the pod.
    pub(super) broken: OnceLock<Failure>,
    /// The answer has begun: there is no hurry any more, caller and function talk.
    pub(super) answered: AtomicBool,
}

/// See the module. All the time that it lets its reader wait counts, not the time that its reader takes:
/// in sum it may be `patience`, and a second more for each KiB that came.
#[derive(Debug)]
pub(super) struct Arriving {
    incoming: Incoming,
    patience: Duration,
    received: u64,
    waited: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    pub(super) fn new(incoming: Incoming, patience: Duration) -> Self {
        Self {
            incoming,
            patience,
            received: 0,
            waited: Duration::ZERO,
            since: None,
            timer: None,
        }
    }

    fn allowed(&self) -> Duration {
        self.patience + Duration::from_secs_f64(self.received as f64 / LEAST_RATE)
    }

    /// Whether its time is over.
    fn late(&mut self, cx: &mut Context<'_>) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        let deadline = since + self.allowed().saturating_sub(self.waited);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).is_ready()
    }

    /// As [`HttpBody::poll_frame`], for a body whose course somebody follows.
    pub(super) fn poll_on(
        &mut self,
        course: Option<&Course>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            let hurry = course.is_none_or(|course| !course.answered.load(Relaxed));
            return match hurry && self.late(cx) {
                true => Poll::Ready(Some(Err(Broken(too_slow(self.received))))),
                false => Poll::Pending,
            };
        };
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| Broken(incomplete(&error)))?;
            self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
            Ok(frame)
        }))
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.get_mut().poll_on(None, cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

fn too_slow(received: u64) -> Failure {
    let detail =
        format!("the body came too slowly: {received} bytes, and the rest did not come in time");
    Failure::new(408, "body_timeout", detail)
}

fn incomplete(error: &hyper::Error) -> Failure {
    Failure::new(400, "body_incomplete", error.to_string())
}
