//! Tar: its headers one after the other, and one entry's bytes.

use crate::item::{check_name, is_item};
use crate::read_at::Cursor;
use crate::{Item, ItemError, Limits, PackageError, ReadAt};
use std::collections::HashSet;
use std::io;
use tar::{Archive, EntryType};

/// Bytes asked of the source at once while headers are read: a header is 512.
const HEADER_BUFFER: usize = 4 * 1024;

fn package_error(error: io::Error) -> PackageError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            PackageError::Invalid(format!("not a tar, or a truncated one: {error}"))
        }
        _ => PackageError::Io(error),
    }
}

/// Reads every header, seeking over the contents.
pub(crate) fn read(source: &dyn ReadAt, limits: &Limits) -> Result<Vec<Item>, PackageError> {
    let mut archive = Archive::new(Cursor::buffered(source, HEADER_BUFFER));
    let mut items: Vec<Item> = Vec::new();
    let mut names = HashSet::new();
    for entry in archive.entries_with_seek().map_err(package_error)? {
        let entry = entry.map_err(package_error)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        let kind = entry.header().entry_type();
        if kind == EntryType::Directory || name.is_empty() || name.ends_with('/') {
            continue;
        }
        check_name(&name)?;
        if matches!(kind, EntryType::GNUSparse) {
            return Err(PackageError::Unsupported(format!(
                "entry {name:?} is a sparse file; pack it without --sparse"
            )));
        }
        if !matches!(kind, EntryType::Regular | EntryType::Continuous) || !is_item(&name) {
            continue;
        }
        if items.len() == limits.items {
            return Err(PackageError::TooManyItems {
                limit: limits.items,
            });
        }
        if !names.insert(name.clone()) {
            return Err(PackageError::DuplicateName(format!(", {name:?}")));
        }
        let start = entry.raw_file_position();
        let size = entry.size();
        let end = start.checked_add(size).filter(|end| *end <= source.len());
        let Some(end) = end else {
            return Err(PackageError::Invalid(format!(
                "the tar is truncated: entry {name:?} ends behind its end"
            )));
        };
        items.push(Item {
            index: items.len(),
            name,
            size,
            packed: size,
            span: start..end,
        });
    }
    if items.is_empty() && !source.len().is_multiple_of(512) {
        return Err(PackageError::Invalid("not a tar".to_owned()));
    }
    Ok(items)
}

/// The bytes of one item.
pub(crate) fn unpack(source: &dyn ReadAt, item: &Item) -> Result<Vec<u8>, ItemError> {
    let length = usize::try_from(item.size)
        .map_err(|_| ItemError::new("item_unsupported", "too large for this machine"))?;
    let mut bytes = vec![0; length];
    source
        .read_at(item.span.start, &mut bytes)
        .map_err(|error| ItemError::new("item_unreadable", error.to_string()))?;
    Ok(bytes)
}
