//! Bodies on their way: request bodies that can be read to their end after an error, and files as
//! response bodies.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use s3s::StdError;
use s3s::stream::{ByteStream, RemainingLength};
use tokio::task::JoinHandle;

/// How much of a file is read at a time, in bytes.
const READ: usize = 256 * 1024;

/// A request body that stays readable after the service has dropped it. A client that is still
/// sending when it is refused would see a broken connection instead of the reason.
#[derive(Clone, Debug)]
pub(super) struct SharedBody(Arc<Mutex<Incoming>>);

impl SharedBody {
    pub(super) fn new(body: Incoming) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    /// Reads and forgets the rest, at most `limit` bytes of it.
    pub(super) async fn drain(mut self, limit: u64) {
        let mut drained = 0;
        loop {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await;
            match frame {
                Some(Ok(frame)) => drained += frame.data_ref().map_or(0, Bytes::len) as u64,
                Some(Err(_)) | None => return,
            }
            if drained > limit {
                return;
            }
        }
    }
}

impl Body for SharedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.size_hint()
    }
}

/// A range of a file. Each piece is read on a blocking thread, which is free again while a slow
/// client takes it.
#[derive(Debug)]
pub(super) struct FileRange {
    file: Arc<File>,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileRange {
    pub(super) fn new(file: File, at: u64, end: u64) -> Self {
        Self {
            file: Arc::new(file),
            at,
            end,
            reading: None,
        }
    }
}

impl Stream for FileRange {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.at >= self.end {
            return Poll::Ready(None);
        }
        let (at, end) = (self.at, self.end);
        let length = usize::try_from(end - at).unwrap_or(READ).min(READ);
        let file = Arc::clone(&self.file);
        let reading = self.reading.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; length];
                file.read_exact_at(&mut piece, at)?;
                Ok(Bytes::from(piece))
            })
        });
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        Poll::Ready(Some(match read {
            Ok(Ok(piece)) => {
                self.at += piece.len() as u64;
                Ok(piece)
            }
            Ok(Err(error)) => {
                self.at = self.end;
                Err(error.into())
            }
            Err(error) => {
                self.at = self.end;
                Err(error.into())
            }
        }))
    }
}

impl ByteStream for FileRange {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.end - self.at)
            .map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}
