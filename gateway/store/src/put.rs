//! Streaming an object into a store without holding it in memory.
//!
//! A body of known length is one PUT, streamed. One of unknown length is collected to at most one
//! part (8 MiB): if it ends there it is one PUT, otherwise a multipart upload, part by part.
//! Whatever breaks, nothing is left behind.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body::{Frame, SizeHint};

use crate::{Progress, Store, StoreError};

/// The size of a part of a multipart upload, in bytes: the most that is held in memory.
const PART: usize = 8 * 1024 * 1024;
/// The most parts S3 allows in one upload.
const MOST_PARTS: u64 = 10_000;
/// The largest object S3 takes in one PUT, in bytes.
const LARGEST_PUT: u64 = 5 * 1024 * 1024 * 1024;

/// What was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Length in bytes.
    pub bytes: u64,
}

/// What travels with a body.
pub(crate) struct Parcel<'a> {
    pub(crate) key: &'a str,
    pub(crate) length: Option<u64>,
    pub(crate) content_type: &'a str,
    pub(crate) limit: u64,
    pub(crate) progress: Option<Progress>,
}

impl Store {
    /// Streams `body` into an object of at most `limit` bytes, replacing what was there only once
    /// everything has arrived. `length` is the body's length in bytes where it is known.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], or [`StoreError::BrokenBody`] when the body fails or has another
    /// length; otherwise what the store answers. In every case nothing new is left behind.
    pub async fn put_stream<S, E>(
        &self,
        key: &str,
        body: S,
        length: Option<u64>,
        content_type: &str,
        limit: u64,
    ) -> Result<Stored, StoreError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let body = body.map(|chunk| {
            chunk.map_err(|e| StoreError::BrokenBody {
                cause: crate::error::without_query(&e.to_string()),
            })
        });
        let parcel = Parcel {
            key,
            length,
            content_type,
            limit,
            progress: None,
        };
        self.send(parcel, body).await
    }

    /// Stores a body that is in memory already.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn put_bytes(
        &self,
        key: &str,
        bytes: Bytes,
        content_type: &str,
    ) -> Result<Stored, StoreError> {
        let stored = Stored {
            bytes: bytes.len() as u64,
        };
        if let Some(objects) = self.objects() {
            let body = futures_util::stream::iter([Ok(bytes)]).boxed();
            let length = Some(stored.bytes);
            return objects
                .put(key, body, length, content_type)
                .await
                .map(|()| stored);
        }
        self.client()?
            .put_object()
            .bucket(self.bucket())
            .key(key)
            .content_type(content_type)
            .content_length(signed(stored.bytes))
            .body(ByteStream::from(bytes))
            .send()
            .await
            .map(|_| stored)
            .map_err(|e| self.error(key, e))
    }

    pub(crate) async fn send<S>(&self, parcel: Parcel<'_>, body: S) -> Result<Stored, StoreError>
    where
        S: Stream<Item = Result<Bytes, StoreError>> + Send + 'static,
    {
        let limit = parcel.limit;
        if let Some(objects) = self.objects() {
            return crate::elsewhere::send(objects, parcel, body).await;
        }
        match parcel.length {
            Some(length) if length > limit => Err(StoreError::TooLarge { limit }),
            Some(length) if length <= LARGEST_PUT => self.put_whole(parcel, length, body).await,
            _ => self.put_parts(parcel, body).await,
        }
    }

    async fn put_whole<S>(
        &self,
        parcel: Parcel<'_>,
        length: u64,
        body: S,
    ) -> Result<Stored, StoreError>
    where
        S: Stream<Item = Result<Bytes, StoreError>> + Send + 'static,
    {
        let fault = Fault::default();
        let body = Measured {
            stream: Mutex::new(Box::pin(body)),
            length,
            sent: 0,
            fault: fault.clone(),
            progress: parcel.progress,
        };
        let put = self
            .client()?
            .put_object()
            .bucket(self.bucket())
            .key(parcel.key)
            .content_type(parcel.content_type)
            .content_length(signed(length))
            .body(ByteStream::new(SdkBody::from_body_1_x(body)))
            .send()
            .await;
        match put {
            Ok(_) => Ok(Stored { bytes: length }),
            // What the body said comes before what the client made of it.
            Err(e) => Err(fault.take().unwrap_or_else(|| self.error(parcel.key, e))),
        }
    }

    async fn put_parts<S>(&self, parcel: Parcel<'_>, body: S) -> Result<Stored, StoreError>
    where
        S: Stream<Item = Result<Bytes, StoreError>> + Send + 'static,
    {
        let key = parcel.key;
        let mut source = Source {
            stream: Box::pin(body),
            left_over: Bytes::new(),
            ended: false,
            taken: 0,
            limit: parcel.limit.min(MOST_PARTS * PART as u64),
        };
        let first = source.part().await?;
        if source.ended {
            source.check(parcel.length)?;
            let stored = self.put_bytes(key, first, parcel.content_type).await?;
            report(parcel.progress.as_ref(), stored.bytes);
            return Ok(stored);
        }
        let created = self
            .client()?
            .create_multipart_upload()
            .bucket(self.bucket())
            .key(key)
            .content_type(parcel.content_type)
            .send()
            .await
            .map_err(|e| self.error(key, e))?;
        let upload = Upload {
            store: self.clone(),
            key: key.to_owned(),
            id: created.upload_id.unwrap_or_default(),
            finished: false,
        };
        match upload.run(first, &mut source, &parcel).await {
            Ok((mut upload, parts)) => {
                upload.complete(parts).await?;
                upload.finished = true;
                Ok(Stored {
                    bytes: source.taken,
                })
            }
            Err((mut upload, error)) => {
                upload.finished = true;
                upload.abort().await;
                Err(error)
            }
        }
    }
}

/// A multipart upload under way. Dropped unfinished (its caller went away), it is aborted.
struct Upload {
    store: Store,
    key: String,
    id: String,
    finished: bool,
}

impl Upload {
    async fn run<S>(
        self,
        first: Bytes,
        source: &mut Source<S>,
        parcel: &Parcel<'_>,
    ) -> Result<(Self, Vec<CompletedPart>), (Self, StoreError)>
    where
        S: Stream<Item = Result<Bytes, StoreError>>,
    {
        match self.parts(first, source, parcel).await {
            Ok(parts) => Ok((self, parts)),
            Err(error) => Err((self, error)),
        }
    }

    async fn parts<S>(
        &self,
        first: Bytes,
        source: &mut Source<S>,
        parcel: &Parcel<'_>,
    ) -> Result<Vec<CompletedPart>, StoreError>
    where
        S: Stream<Item = Result<Bytes, StoreError>>,
    {
        let mut parts = Vec::new();
        let mut part = first;
        let mut sent = 0;
        for number in 1.. {
            sent += part.len() as u64;
            let uploaded = self
                .store
                .client()?
                .upload_part()
                .bucket(self.store.bucket())
                .key(&self.key)
                .upload_id(&self.id)
                .part_number(number)
                .content_length(signed(part.len() as u64))
                .body(ByteStream::from(std::mem::take(&mut part)))
                .send()
                .await
                .map_err(|e| self.store.error(&self.key, e))?;
            report(parcel.progress.as_ref(), sent);
            parts.push(
                CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(uploaded.e_tag)
                    .set_checksum_crc32(uploaded.checksum_crc32)
                    .build(),
            );
            if source.ended {
                break;
            }
            part = source.part().await?;
            if part.is_empty() {
                break;
            }
        }
        source.check(parcel.length)?;
        Ok(parts)
    }

    async fn complete(&self, parts: Vec<CompletedPart>) -> Result<(), StoreError> {
        self.store
            .client()?
            .complete_multipart_upload()
            .bucket(self.store.bucket())
            .key(&self.key)
            .upload_id(&self.id)
            .multipart_upload(
                CompletedMultipartUpload::builder()
                    .set_parts(Some(parts))
                    .build(),
            )
            .send()
            .await
            .map(|_| ())
            .map_err(|e| self.store.error(&self.key, e))
    }

    async fn abort(&self) {
        let Ok(client) = self.store.client() else {
            return;
        };
        let aborted = client
            .abort_multipart_upload()
            .bucket(self.store.bucket())
            .key(&self.key)
            .upload_id(&self.id)
            .send()
            .await;
        if let Err(e) = aborted {
            let error = self.store.error(&self.key, e);
            tracing::warn!(key = self.key, %error, "an abandoned upload could not be removed");
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let upload = Self {
            store: self.store.clone(),
            key: std::mem::take(&mut self.key),
            id: std::mem::take(&mut self.id),
            finished: true,
        };
        runtime.spawn(async move { upload.abort().await });
    }
}

/// A body cut into parts.
struct Source<S> {
    stream: Pin<Box<S>>,
    left_over: Bytes,
    ended: bool,
    taken: u64,
    limit: u64,
}

impl<S: Stream<Item = Result<Bytes, StoreError>>> Source<S> {
    /// The next part: full, or shorter at the end.
    async fn part(&mut self) -> Result<Bytes, StoreError> {
        let mut part = BytesMut::new();
        loop {
            let room = PART - part.len();
            let chunk = self.left_over.split_to(self.left_over.len().min(room));
            part.extend_from_slice(&chunk);
            if part.len() == PART || self.ended {
                return Ok(part.freeze());
            }
            match self.stream.next().await {
                Some(chunk) => {
                    let chunk = chunk?;
                    self.taken += chunk.len() as u64;
                    if self.taken > self.limit {
                        return Err(StoreError::TooLarge { limit: self.limit });
                    }
                    self.left_over = chunk;
                }
                None => self.ended = true,
            }
        }
    }

    fn check(&self, length: Option<u64>) -> Result<(), StoreError> {
        match length {
            Some(length) if length != self.taken => Err(wrong_length(self.taken, length)),
            _ => Ok(()),
        }
    }
}

/// What a body had to say about itself, kept for after the client has given up on it.
#[derive(Clone, Default)]
struct Fault(Arc<Mutex<Option<StoreError>>>);

impl Fault {
    fn set(&self, error: StoreError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> Option<StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A stream as an HTTP body of a promised length. The mutex is never locked: it makes a stream
/// that is only `Send` also `Sync`, as the client asks.
struct Measured<S> {
    stream: Mutex<Pin<Box<S>>>,
    length: u64,
    sent: u64,
    fault: Fault,
    progress: Option<Progress>,
}

impl<S> Measured<S> {
    fn fail(&self, error: StoreError) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let text = error.to_string();
        self.fault.set(error);
        Poll::Ready(Some(Err(std::io::Error::other(text))))
    }
}

impl<S> http_body::Body for Measured<S>
where
    S: Stream<Item = Result<Bytes, StoreError>>,
{
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let stream = self
            .stream
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        match ready!(stream.as_mut().poll_next(cx)) {
            Some(Ok(chunk)) => {
                self.sent += chunk.len() as u64;
                if self.sent > self.length {
                    let error = wrong_length(self.sent, self.length);
                    return self.fail(error);
                }
                report(self.progress.as_ref(), self.sent);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Some(Err(error)) => self.fail(error),
            None if self.sent < self.length => {
                let error = wrong_length(self.sent, self.length);
                self.fail(error)
            }
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length - self.sent.min(self.length))
    }
}

pub(crate) fn wrong_length(sent: u64, promised: u64) -> StoreError {
    let cause = if sent > promised {
        format!("it goes on beyond the {promised} bytes announced")
    } else {
        format!("it ended after {sent} of the {promised} bytes announced")
    };
    StoreError::BrokenBody { cause }
}

fn report(progress: Option<&Progress>, sent: u64) {
    if let Some(progress) = progress {
        progress(sent);
    }
}

fn signed(length: u64) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
