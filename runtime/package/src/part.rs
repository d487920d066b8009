//! Some items of a package as a package of their own, without unpacking anything: the entries as they
//! lie in the source, and a new index.

use crate::zip_index::RECORD_BYTES;
use crate::{Item, PackageError, ReadAt};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use tar::{Builder, EntryType, Header};

/// A zip ends with this record, without a comment.
const END_BYTES: usize = 22;
/// More than a zip without 64-bit fields can say.
const ZIP_LIMIT: u64 = u32::MAX as u64;
const ENTRIES_LIMIT: usize = u16::MAX as usize;
/// Tar is written in blocks of so many bytes.
const BLOCK: u64 = 512;

/// Writes parts of one package. Made by [`Package::divider`](crate::Package::divider).
pub struct Divider {
    source: Arc<dyn ReadAt>,
    items: Vec<Item>,
    /// Where the records of a zip's items lie; none for a tar.
    records: Option<Vec<Range<u64>>>,
}

impl fmt::Debug for Divider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Divider")
            .field("items", &self.items.len())
            .field("zip", &self.records.is_some())
            .finish_non_exhaustive()
    }
}

/// A package that is yet to be written: its pieces, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its length in bytes.
    pub bytes: u64,
    /// What it is made of.
    pub pieces: Vec<Piece>,
}

/// A piece of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes of the source package.
    Source(Range<u64>),
    /// New bytes.
    New(Vec<u8>),
}

impl Part {
    fn new() -> Self {
        Self {
            bytes: 0,
            pieces: Vec::new(),
        }
    }

    fn source(&mut self, range: Range<u64>) {
        self.bytes += range.end - range.start;
        match self.pieces.last_mut() {
            // Items that lie side by side are read as one.
            Some(Piece::Source(last)) if last.end == range.start => last.end = range.end,
            _ if range.is_empty() => {}
            _ => self.pieces.push(Piece::Source(range)),
        }
    }

    fn new_bytes(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        match self.pieces.last_mut() {
            Some(Piece::New(last)) => last.extend_from_slice(bytes),
            _ if bytes.is_empty() => {}
            _ => self.pieces.push(Piece::New(bytes.to_vec())),
        }
    }
}

impl Divider {
    pub(crate) fn new(
        source: Arc<dyn ReadAt>,
        items: &[Item],
        records: Option<Vec<Range<u64>>>,
    ) -> Self {
        Self {
            source,
            items: items.to_vec(),
            records,
        }
    }

    /// Items of the whole package.
    #[must_use]
    pub fn items(&self) -> usize {
        self.items.len()
    }

    /// About how many bytes the entries of these items take; exact up to headers and index.
    #[must_use]
    pub fn packed(&self, range: Range<usize>) -> u64 {
        let items = self.items.get(range).unwrap_or(&[]);
        items.iter().map(|item| item.packed).sum()
    }

    /// The package of these items alone, in their order. Of a zip, the records of the items are read.
    ///
    /// # Errors
    /// [`PackageError::Invalid`] where there are no such items, [`PackageError::Unsupported`] where a
    /// zip would be larger than 4 GiB, or the source cannot be read.
    pub fn part(&self, range: Range<usize>) -> Result<Part, PackageError> {
        let items = self
            .items
            .get(range.clone())
            .filter(|some| !some.is_empty());
        let items = items.ok_or_else(|| {
            PackageError::Invalid(format!(
                "items {} to {} are not in a package of {}",
                range.start,
                range.end,
                self.items.len()
            ))
        })?;
        match &self.records {
            Some(records) => self.zip(items, records.get(range).unwrap_or(&[])),
            None => tar(items),
        }
    }

    fn zip(&self, items: &[Item], records: &[Range<u64>]) -> Result<Part, PackageError> {
        let mut part = Part::new();
        // The records lie side by side, but for those of files that are no items: one read for all.
        let span = records.first().map_or(0, |r| r.start)..records.last().map_or(0, |r| r.end);
        let length = |range: &Range<u64>| usize::try_from(range.end - range.start).unwrap_or(0);
        let mut read = vec![0; length(&span)];
        self.source
            .read_at(span.start, &mut read)
            .map_err(PackageError::Io)?;
        let mut directory = Vec::with_capacity(read.len());
        for (item, record) in items.iter().zip(records) {
            let offset = small(part.bytes)?;
            part.source(item.span.clone());
            let from = length(&(span.start..record.start));
            let start = directory.len();
            directory.extend_from_slice(&read[from..from + length(record)]);
            // The entry lies elsewhere now, and there is one disk.
            put(&mut directory[start..], 34, &0u16.to_le_bytes())?;
            put(&mut directory[start..], 42, &offset.to_le_bytes())?;
        }
        let count = u16::try_from(items.len())
            .ok()
            .filter(|_| items.len() < ENTRIES_LIMIT)
            .ok_or_else(too_large)?;
        let mut end = Vec::with_capacity(END_BYTES);
        end.extend_from_slice(b"PK\x05\x06");
        end.extend_from_slice(&[0; 4]);
        end.extend_from_slice(&count.to_le_bytes());
        end.extend_from_slice(&count.to_le_bytes());
        end.extend_from_slice(&small(directory.len() as u64)?.to_le_bytes());
        end.extend_from_slice(&small(part.bytes)?.to_le_bytes());
        end.extend_from_slice(&[0; 2]);
        part.new_bytes(&directory);
        part.new_bytes(&end);
        Ok(part)
    }
}

fn put(record: &mut [u8], at: usize, bytes: &[u8]) -> Result<(), PackageError> {
    debug_assert!(at + bytes.len() <= RECORD_BYTES);
    match record.get_mut(at..at + bytes.len()) {
        Some(place) => {
            place.copy_from_slice(bytes);
            Ok(())
        }
        None => Err(PackageError::Invalid(
            "a record of the zip's directory is cut short".to_owned(),
        )),
    }
}

fn small(value: u64) -> Result<u32, PackageError> {
    u32::try_from(value)
        .ok()
        .filter(|_| value < ZIP_LIMIT)
        .ok_or_else(too_large)
}

fn too_large() -> PackageError {
    PackageError::Unsupported("a part of a zip has to stay below 4 GiB and 65,535 items".to_owned())
}

/// Headers are made anew: of the old ones nothing but name and size matters to an item.
fn tar(items: &[Item]) -> Result<Part, PackageError> {
    let mut part = Part::new();
    for item in items {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(item.size);
        let mut builder = Builder::new(Vec::new());
        // The header alone: its content is a piece of the source.
        builder
            .append_data(&mut header, &item.name, std::io::empty())
            .map_err(PackageError::Io)?;
        let head: &Vec<u8> = builder.get_ref();
        part.new_bytes(head);
        part.source(item.span.clone());
        let over = usize::try_from(item.size % BLOCK).unwrap_or(0);
        if over > 0 {
            part.new_bytes(&[0; BLOCK as usize][over..]);
        }
    }
    part.new_bytes(&[0; 2 * BLOCK as usize]);
    Ok(part)
}
