//! A store that is reached by something else than S3: another gateway's, over its own HTTP. Whoever
//! speaks that implements [`Objects`]; everything above sees a [`Store`].

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::Stream;

use crate::put::{Parcel, wrong_length};
use crate::{Head, Progress, StoreError, Stored};

/// A future of [`Objects`].
pub type ObjectsFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;
/// The bytes of an object on their way.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// An object that is being read.
pub struct Found {
    /// Its length in bytes, or that of the part that was asked for.
    pub bytes: u64,
    /// The media type it was stored with.
    pub content_type: String,
    /// The bytes.
    pub pieces: Pieces,
}

impl Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// What is stored elsewhere, by keys.
pub trait Objects: Send + Sync + Debug {
    /// Where that is, for messages.
    fn endpoint(&self) -> &str;

    /// Stores a body whole or not at all. One that fails makes the request break off.
    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Pieces,
        length: Option<u64>,
        content_type: &'a str,
    ) -> ObjectsFuture<'a, ()>;

    /// Opens an object, or so many bytes of it from an offset on; fewer at its end.
    /// [`StoreError::NotFound`] where there is none.
    fn get<'a>(&'a self, key: &'a str, range: Option<(u64, u64)>) -> ObjectsFuture<'a, Found>;

    /// Length and media type of an object; none where there is none.
    fn head<'a>(&'a self, key: &'a str) -> ObjectsFuture<'a, Option<(u64, String)>>;

    /// Removes an object; that it is not there is fine.
    fn delete<'a>(&'a self, key: &'a str) -> ObjectsFuture<'a, ()>;

    /// A URL at which the pods there read the object, or write it, until it expires.
    fn presign<'a>(
        &'a self,
        key: &'a str,
        write: bool,
        expires: Duration,
    ) -> ObjectsFuture<'a, String>;
}

/// The answer to a head.
pub(crate) fn head((bytes, content_type): (u64, String)) -> Head {
    Head {
        bytes,
        content_type,
        // Nothing is expired from here: the other side does that.
        modified: SystemTime::UNIX_EPOCH,
    }
}

/// Stores a body within its limit and length, and tells of its progress.
pub(crate) async fn send<S>(
    objects: &dyn Objects,
    parcel: Parcel<'_>,
    body: S,
) -> Result<Stored, StoreError>
where
    S: Stream<Item = Result<Bytes, StoreError>> + Send + 'static,
{
    let noted = Arc::new(Mutex::new(Noted::default()));
    let checked = Checked {
        body: Box::pin(body),
        length: parcel.length,
        limit: parcel.limit,
        progress: parcel.progress,
        noted: Arc::clone(&noted),
    };
    let sent = objects
        .put(
            parcel.key,
            Box::pin(checked),
            parcel.length,
            parcel.content_type,
        )
        .await;
    let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
    // What the body had to say about itself says more than that it broke off.
    if let Some(fault) = noted.fault.take() {
        return Err(fault);
    }
    sent.map(|()| Stored { bytes: noted.sent })
}

#[derive(Default)]
struct Noted {
    sent: u64,
    fault: Option<StoreError>,
}

/// A body that is held to what was said of it.
struct Checked<S> {
    body: Pin<Box<S>>,
    length: Option<u64>,
    limit: u64,
    progress: Option<Progress>,
    noted: Arc<Mutex<Noted>>,
}

impl<S: Stream<Item = Result<Bytes, StoreError>>> Stream for Checked<S> {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.body.as_mut().poll_next(cx));
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = match next {
            Some(Ok(piece)) => {
                noted.sent += piece.len() as u64;
                let sent = noted.sent;
                match self.length {
                    Some(length) if sent > length => wrong_length(sent, length),
                    _ if sent > self.limit => StoreError::TooLarge { limit: self.limit },
                    _ => {
                        if let Some(progress) = &self.progress {
                            progress(sent);
                        }
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
            }
            Some(Err(error)) => error,
            None => match self.length {
                Some(length) if noted.sent < length => wrong_length(noted.sent, length),
                _ => return Poll::Ready(None),
            },
        };
        let said = StoreError::BrokenBody {
            cause: fault.to_string(),
        };
        noted.fault = Some(fault);
        Poll::Ready(Some(Err(said)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use futures_util::{StreamExt, TryStreamExt, stream};
    use std::collections::HashMap;

    /// Objects in memory, with nothing between.
    #[derive(Debug, Default)]
    struct Memory(Mutex<HashMap<String, (Bytes, String)>>);

    impl Objects for Memory {
        fn endpoint(&self) -> &str {
            "memory"
        }

        fn put<'a>(
            &'a self,
            key: &'a str,
            body: Pieces,
            _length: Option<u64>,
            content_type: &'a str,
        ) -> ObjectsFuture<'a, ()> {
            Box::pin(async move {
                let all: Vec<Bytes> = body.try_collect().await?;
                let object = (Bytes::from(all.concat()), content_type.to_owned());
                let mut objects = self.0.lock().expect("unpoisoned");
                objects.insert(key.to_owned(), object);
                Ok(())
            })
        }

        fn get<'a>(&'a self, key: &'a str, range: Option<(u64, u64)>) -> ObjectsFuture<'a, Found> {
            Box::pin(async move {
                let objects = self.0.lock().expect("unpoisoned");
                let (bytes, content_type) =
                    objects.get(key).ok_or_else(|| StoreError::NotFound {
                        what: key.to_owned(),
                    })?;
                let (from, count) = range.unwrap_or((0, bytes.len() as u64));
                let from = usize::try_from(from).expect("small").min(bytes.len());
                let end = (from + usize::try_from(count).expect("small")).min(bytes.len());
                let part = bytes.slice(from..end);
                Ok(Found {
                    bytes: part.len() as u64,
                    content_type: content_type.clone(),
                    pieces: stream::iter([Ok(part)]).boxed(),
                })
            })
        }

        fn head<'a>(&'a self, key: &'a str) -> ObjectsFuture<'a, Option<(u64, String)>> {
            Box::pin(async move {
                let objects = self.0.lock().expect("unpoisoned");
                let known = objects.get(key);
                Ok(known.map(|(bytes, kind)| (bytes.len() as u64, kind.clone())))
            })
        }

        fn delete<'a>(&'a self, key: &'a str) -> ObjectsFuture<'a, ()> {
            Box::pin(async move {
                self.0.lock().expect("unpoisoned").remove(key);
                Ok(())
            })
        }

        fn presign<'a>(
            &'a self,
            key: &'a str,
            write: bool,
            _expires: Duration,
        ) -> ObjectsFuture<'a, String> {
            Box::pin(async move { Ok(format!("memory:{write}:{key}")) })
        }
    }

    fn body(parts: &[&'static str]) -> impl Stream<Item = Result<Bytes, String>> + use<> {
        let parts: Vec<_> = parts
            .iter()
            .map(|p| Ok(Bytes::from_static(p.as_bytes())))
            .collect();
        stream::iter(parts)
    }

    #[tokio::test]
    async fn a_store_elsewhere_is_a_store() {
        let store = Store::elsewhere(Arc::new(Memory::default()));
        let put = |parts, length| store.put_stream("k", body(parts), length, "a/b", 10);
        assert_eq!(put(&["abc", "def"], Some(6)).await.expect("put").bytes, 6);
        let object = store.get("k").await.expect("there");
        assert_eq!((object.bytes, &*object.content_type), (6, "a/b"));
        assert_eq!(object.body.collect(10).await.expect("whole"), "abcdef");
        assert_eq!(store.get_range("k", 2, 3).await.expect("part"), "cde");
        assert_eq!(
            store.head("k").await.expect("asked").expect("there").bytes,
            6
        );
        assert_eq!(
            store.presign_get("k", Duration::ZERO).await.expect("url"),
            "memory:false:k"
        );
        assert_eq!(
            store.presign_put("k", Duration::ZERO).await.expect("url"),
            "memory:true:k"
        );

        // What is wrong with a body is said as it is, and what was there stays.
        assert_eq!(
            put(&["abcdefghijk"], None).await.expect_err("long").kind(),
            "too-large"
        );
        for length in [5, 7] {
            let wrong = put(&["abc", "def"], Some(length)).await.expect_err("wrong");
            assert_eq!(wrong.kind(), "broken-body");
        }
        let broken = stream::iter([Ok(Bytes::from_static(b"a")), Err("gone")]);
        let broken = store.put_stream("k", broken, None, "a/b", 10).await;
        assert!(broken.expect_err("broken").to_string().contains("gone"));
        assert_eq!(store.get_range("k", 0, 9).await.expect("part"), "abcdef");

        let other = Store::elsewhere(Arc::new(Memory::default()));
        let seen = Arc::new(Mutex::new(0));
        let note = Arc::clone(&seen);
        let progress: Progress = Arc::new(move |bytes| *note.lock().expect("unpoisoned") = bytes);
        let moved = store
            .copy_to("k", &other, Some(progress))
            .await
            .expect("copied");
        assert_eq!((moved.bytes, *seen.lock().expect("unpoisoned")), (6, 6));
        store.delete("k").await.expect("deleted");
        assert!(store.head("k").await.expect("asked").is_none());
        assert_eq!(store.get("k").await.expect_err("gone").kind(), "not-found");
    }
}
