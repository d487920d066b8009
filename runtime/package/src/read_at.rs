//! A source that can be read at any offset, and a cursor over it for libraries that read and seek.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// Something with a length that can be read at any offset, from many threads at once.
pub trait ReadAt: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the source ends before `buf` is full; else what the
    /// source says.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Whether it holds nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn slice_at(bytes: &[u8], offset: u64, buf: &mut [u8]) -> io::Result<()> {
    let end = offset.checked_add(buf.len() as u64);
    let range = usize::try_from(offset)
        .ok()
        .zip(end.and_then(|e| usize::try_from(e).ok()));
    let part = range
        .and_then(|(start, end)| bytes.get(start..end))
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    buf.copy_from_slice(part);
    Ok(())
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        slice_at(self, offset, buf)
    }
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        slice_at(self, offset, buf)
    }
}

impl ReadAt for std::fs::File {
    fn len(&self) -> u64 {
        self.metadata().map_or(0, |meta| meta.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buf, offset)
    }
}

/// Reads and seeks over a [`ReadAt`]. The length is asked once.
pub(crate) struct Cursor<'a> {
    source: &'a dyn ReadAt,
    length: u64,
    position: u64,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start, behind a buffer of `buffer` bytes.
    pub(crate) fn buffered(source: &'a dyn ReadAt, buffer: usize) -> BufReader<Self> {
        let length = source.len();
        BufReader::with_capacity(
            buffer,
            Self {
                source,
                length,
                position: 0,
            },
        )
    }
}

impl Read for Cursor<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        if wanted == 0 {
            return Ok(0);
        }
        self.source.read_at(self.position, &mut buf[..wanted])?;
        self.position += wanted as u64;
        Ok(wanted)
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.length.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
