//! Zip: the central directory, and one entry unpacked.

use crate::item::{check_name, is_item};
use crate::read_at::Cursor;
use crate::{Item, ItemError, Limits, PackageError, ReadAt};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use zip::read::{ZipArchiveMetadata, ZipReadOptions};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

/// Bytes asked of the source at once while the central directory is read.
const DIRECTORY_BUFFER: usize = 64 * 1024;
/// The same while an entry is unpacked.
const ENTRY_BUFFER: usize = 32 * 1024;
/// The end record and the longest comment behind it.
const END_BYTES: u64 = 22 + 65_535;
/// Local header without name and extra field, plus a data descriptor with zip64 sizes.
const ENTRY_OVERHEAD: u64 = 30 + 24;
/// A record of the central directory without name, extra field and comment.
pub(crate) const RECORD_BYTES: usize = 46;
/// Most that deflate can make of one byte; bounds what is allocated on the word of an index.
const DEFLATE_MOST: u64 = 1032;

/// A central directory as the zip library read it, and the entry behind each item.
pub(crate) struct ZipIndex {
    metadata: Arc<ZipArchiveMetadata>,
    entries: Vec<usize>,
    /// Where the central directory begins.
    directory: u64,
}

fn package_error(error: ZipError) -> PackageError {
    match error {
        ZipError::Io(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::InvalidInput
            ) =>
        {
            PackageError::Io(error)
        }
        ZipError::UnsupportedArchive(what) => {
            PackageError::Unsupported(format!("this zip is not read: {what}"))
        }
        other => PackageError::Invalid(format!("not a zip, or a truncated one: {other}")),
    }
}

/// Looks for the record that ends a zip where alone it may be, so that a large file that is no zip is
/// not searched from end to start.
fn check_end(source: &dyn ReadAt) -> Result<(), PackageError> {
    let length = source.len().min(END_BYTES);
    let mut end = vec![0; usize::try_from(length).unwrap_or(0)];
    source
        .read_at(source.len() - length, &mut end)
        .map_err(|error| package_error(ZipError::Io(error)))?;
    if end.windows(4).any(|bytes| bytes == b"PK\x05\x06") {
        return Ok(());
    }
    Err(PackageError::Invalid(
        "not a zip, or a truncated one: its end is missing".to_owned(),
    ))
}

impl ZipIndex {
    /// Reads the central directory and nothing else.
    pub(crate) fn read(
        source: &dyn ReadAt,
        limits: &Limits,
    ) -> Result<(Vec<Item>, Self), PackageError> {
        check_end(source)?;
        let archive =
            ZipArchive::new(Cursor::buffered(source, DIRECTORY_BUFFER)).map_err(package_error)?;
        if archive.has_duplicate_names() {
            return Err(PackageError::DuplicateName(String::new()));
        }
        let metadata = archive.metadata();
        let mut starts = vec![archive.central_directory_start()];
        let mut items = Vec::new();
        let mut entries = Vec::new();
        for number in 0..metadata.len() {
            let entry = metadata.entry(number).map_err(package_error)?;
            let name = entry.name().map_err(package_error)?.into_owned();
            starts.push(entry.header_start());
            check_name(&name)?;
            if entry.encrypted() {
                return Err(PackageError::Encrypted(name));
            }
            if entry.is_dir() || entry.is_symlink() || !is_item(&name) {
                continue;
            }
            if items.len() == limits.items {
                return Err(PackageError::TooManyItems {
                    limit: limits.items,
                });
            }
            // The end is found below, once all starts are known.
            let start = entry.header_start();
            items.push(Item {
                index: items.len(),
                name,
                size: entry.size(),
                packed: entry.compressed_size(),
                span: start..start,
            });
            entries.push(number);
        }
        starts.sort_unstable();
        for item in &mut items {
            end_span(item, &starts, source.len())?;
        }
        let directory = archive.central_directory_start();
        Ok((
            items,
            Self {
                metadata,
                entries,
                directory,
            },
        ))
    }

    /// Where each item's record of the central directory lies.
    pub(crate) fn records(&self, source: &dyn ReadAt) -> Result<Vec<Range<u64>>, PackageError> {
        let mut reader = Cursor::buffered(source, DIRECTORY_BUFFER);
        let io = |error| package_error(ZipError::Io(error));
        reader.seek(SeekFrom::Start(self.directory)).map_err(io)?;
        let mut at = self.directory;
        let mut records = Vec::with_capacity(self.entries.len());
        let mut items = self.entries.iter().copied().peekable();
        for number in 0..self.metadata.len() {
            let mut head = [0; RECORD_BYTES];
            reader.read_exact(&mut head).map_err(io)?;
            if !head.starts_with(b"PK\x01\x02") {
                return Err(PackageError::Invalid(
                    "a record of the zip's directory is missing".to_owned(),
                ));
            }
            // Name, extra field and comment follow.
            let length = |at: usize| i64::from(u16::from_le_bytes([head[at], head[at + 1]]));
            let more = length(28) + length(30) + length(32);
            reader.seek_relative(more).map_err(io)?;
            let end = at + RECORD_BYTES as u64 + more.unsigned_abs();
            if items.next_if_eq(&number).is_some() {
                records.push(at..end);
            }
            at = end;
        }
        Ok(records)
    }

    /// Unpacks one item, checking size and checksum.
    pub(crate) fn unpack(&self, source: &dyn ReadAt, item: &Item) -> Result<Vec<u8>, ItemError> {
        let number = self.entries.get(item.index).copied().unwrap_or(usize::MAX);
        let mut reader = Cursor::buffered(source, ENTRY_BUFFER);
        let entry = self.metadata.entry(number).map_err(item_error)?;
        if !matches!(
            entry.compression(),
            CompressionMethod::Stored | CompressionMethod::Deflated
        ) {
            return Err(ItemError::new(
                "item_unsupported",
                format!(
                    "compressed with {}; only stored and deflated entries are read",
                    entry.compression()
                ),
            ));
        }
        let mut file = entry
            .with_reader(&mut reader, ZipReadOptions::new())
            .map_err(item_error)?;
        let expected = item.size.min(item.packed.saturating_mul(DEFLATE_MOST));
        let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
        // One byte more than stated, so that an entry that holds more is noticed.
        (&mut file)
            .take(item.size.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| item_error(ZipError::Io(error)))?;
        if bytes.len() as u64 != item.size {
            return Err(ItemError::new(
                "item_corrupt",
                format!(
                    "the index states {} bytes, the entry holds another number",
                    item.size
                ),
            ));
        }
        Ok(bytes)
    }
}

/// An entry ends where the next thing begins, or earlier where a gap follows.
fn end_span(item: &mut Item, starts: &[u64], package_bytes: u64) -> Result<(), PackageError> {
    let start = item.span.start;
    let next = starts
        .get(starts.partition_point(|other| *other <= start))
        .copied()
        .unwrap_or(package_bytes);
    let least = start.saturating_add(30).saturating_add(item.packed);
    if next < least {
        return Err(PackageError::Invalid(format!(
            "entry {:?} overlaps what follows it",
            item.name
        )));
    }
    // Name and extra field of the local header take at most 64 KiB each.
    let most = start
        .saturating_add(item.packed)
        .saturating_add(ENTRY_OVERHEAD + 2 * 65_535);
    item.span = start..next.min(most);
    Ok(())
}

fn item_error(error: ZipError) -> ItemError {
    match error {
        ZipError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            ItemError::new("item_corrupt", format!("the entry is damaged: {error}"))
        }
        ZipError::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::Other
            ) =>
        {
            ItemError::new("item_corrupt", format!("the entry is damaged: {error}"))
        }
        ZipError::Io(error) => ItemError::new("item_unreadable", error.to_string()),
        ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
            ItemError::new("item_unsupported", error.to_string())
        }
        other => ItemError::new("item_corrupt", format!("the entry is damaged: {other}")),
    }
}
