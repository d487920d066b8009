//! Blocking, seekable reads of an object by ranges: enough for a zip's central directory, which
//! lies at its end, without fetching the rest.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::{Store, StoreError};

/// How much is fetched and kept at a time, in bytes.
const WINDOW: u64 = 256 * 1024;

/// An object as a file. For threads that may block (`spawn_blocking`); on an async thread every
/// read would panic, as `Handle::block_on` does.
#[derive(Clone, Debug)]
pub struct Reader {
    store: Store,
    key: Arc<str>,
    bytes: u64,
    runtime: Option<Handle>,
    at: u64,
    window: (u64, Bytes),
}

impl Reader {
    pub(crate) fn new(store: Store, key: String, bytes: u64) -> Self {
        Self {
            store,
            key: key.into(),
            bytes,
            runtime: Handle::try_current().ok(),
            at: 0,
            window: (0, Bytes::new()),
        }
    }

    /// The object's length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads up to `buffer.len()` bytes from `offset` on, and says how many; fewer only at the
    /// object's end. One ranged request, past the window that `Read` keeps.
    ///
    /// # Errors
    /// What the store answers.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fetch(offset, buffer.len() as u64)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn fetch(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let length = length.min(self.bytes.saturating_sub(offset));
        let runtime = self
            .runtime
            .as_ref()
            .ok_or_else(|| io::Error::other("the reader was made outside of a runtime"))?;
        runtime
            .block_on(self.store.get_range(&self.key, offset, length))
            .map_err(|e| match e {
                StoreError::NotFound { .. } => io::Error::new(io::ErrorKind::NotFound, e),
                e => io::Error::other(e),
            })
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.bytes || buffer.is_empty() {
            return Ok(0);
        }
        let (start, window) = &self.window;
        if self.at < *start || self.at >= start + window.len() as u64 {
            let start = self.at / WINDOW * WINDOW;
            self.window = (start, self.fetch(start, WINDOW)?);
        }
        let (start, window) = &self.window;
        let rest = usize::try_from(self.at - start)
            .ok()
            .and_then(|skip| window.get(skip..))
            .filter(|rest| !rest.is_empty())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.bytes.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.at.checked_add_signed(delta),
        };
        self.at = target.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "seek before the beginning")
        })?;
        Ok(self.at)
    }
}
