//! Takes a package in: streamed into the home store, then read from its index. Nothing of it is held in
//! memory beyond one part.

use crate::failure::Failure;
use crate::storage::{Stores, package_key};
use bytes::Bytes;
use futures_util::Stream;
use std::io;
use std::sync::Arc;
use stoic_package::{Kind, Limits, Package, PackageError, ReadAt};
use stoic_store::{Reader, Store};

/// A package in the home store, valid as far as its index tells.
#[derive(Debug, Clone)]
pub struct Staged {
    /// Key in the home store.
    pub key: String,
    /// Size.
    pub bytes: u64,
    /// Media type.
    pub content_type: String,
    /// Items in it; 1 for a single image.
    pub items: u64,
}

/// Blocking reads of an object, for the parser of packages.
pub(super) struct ObjectReader(Reader);

impl ObjectReader {
    /// Must be made inside an async runtime, and used outside of its async threads.
    pub(super) fn new(store: &Store, key: &str, bytes: u64) -> Self {
        Self(store.reader(key, bytes))
    }
}

impl ReadAt for ObjectReader {
    fn len(&self) -> u64 {
        self.0.bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(offset + done as u64, &mut buffer[done..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }
}

/// Stores a body and reads its index.
///
/// # Errors
/// The body is too large, breaks off, or is no valid package; nothing is left behind then.
pub async fn stage<S, E>(
    stores: &Stores,
    invocation: &str,
    body: S,
    length: Option<u64>,
    content_type: &str,
    limit: u64,
) -> Result<Staged, Failure>
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let store = stores.home()?;
    let key = package_key(invocation);
    let stored = store
        .put_stream(&key, body, length, content_type, limit)
        .await?;
    let checked = if stored.bytes == 0 {
        Err(Failure::new(
            400,
            "body_empty",
            "the body is empty; send a zip or tar of images, or one image",
        ))
    } else if Kind::of(content_type).is_some() {
        let reader = ObjectReader::new(store, &key, stored.bytes);
        let content_type = content_type.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            Package::open(Arc::new(reader), &content_type, Limits::default())
                .map(|package| package.items().len() as u64)
        });
        opened
            .await
            .unwrap_or_else(|e| Err(PackageError::Io(io::Error::other(e.to_string()))))
            .map_err(refused)
    } else {
        Ok(1)
    };
    match checked {
        Ok(items) => Ok(Staged {
            key,
            bytes: stored.bytes,
            content_type: content_type.to_owned(),
            items,
        }),
        Err(failure) => {
            let _ = store.delete(&key).await;
            Err(failure)
        }
    }
}

fn refused(error: PackageError) -> Failure {
    let status = if error.code() == "package_unreadable" {
        502
    } else {
        400
    };
    Failure::new(status, error.code(), error.to_string())
}
