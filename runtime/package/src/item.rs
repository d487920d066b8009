//! One item as the index tells it, and how much a package may hold.

use crate::PackageError;
use std::ops::Range;

/// A file in a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Position among the package's items, from 0.
    pub index: usize,
    /// Path inside the package, with `/`; never absolute, never with `..`.
    pub name: String,
    /// Uncompressed size in bytes, as the index states it.
    pub size: u64,
    /// Size in the package in bytes.
    pub packed: u64,
    /// The bytes of the package that hold the item, its header included. In most packages spans
    /// follow each other, so that a run of items is one range; a span may take in a gap behind it.
    pub span: Range<u64>,
}

/// How much a package may hold. Sizes are those that the index states; reading an item stops at its
/// stated size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Items.
    pub items: usize,
    /// Uncompressed bytes of all items.
    pub total: u64,
    /// Uncompressed bytes of one item.
    pub item: u64,
    /// Uncompressed bytes of all items over the bytes of the package, where these are over 1 MiB.
    pub ratio: u64,
}

impl Default for Limits {
    /// 100,000 items, 64 GiB in all, 1 GiB an item, 200 to 1.
    fn default() -> Self {
        Self {
            items: 100_000,
            total: 64 << 30,
            item: 1 << 30,
            ratio: 200,
        }
    }
}

/// Uncompressed bytes up to which no ratio is suspicious.
const RATIO_FLOOR: u64 = 1 << 20;

impl Limits {
    /// Checks what an index states of the package as a whole.
    pub(crate) fn check(&self, items: &[Item], package_bytes: u64) -> Result<(), PackageError> {
        if items.is_empty() {
            return Err(PackageError::Empty);
        }
        if items.len() > self.items {
            return Err(PackageError::TooManyItems { limit: self.items });
        }
        let mut total = 0u64;
        for item in items {
            if item.size > self.item {
                return Err(PackageError::Bomb(format!(
                    "item {:?} unpacks to {} bytes; the limit for one is {}",
                    item.name, item.size, self.item
                )));
            }
            total = total.saturating_add(item.size);
        }
        if total > self.total {
            return Err(PackageError::Bomb(format!(
                "the package unpacks to {total} bytes; the limit is {}",
                self.total
            )));
        }
        if total > RATIO_FLOOR && total / self.ratio.max(1) > package_bytes {
            return Err(PackageError::Bomb(format!(
                "the package unpacks to {total} bytes from {package_bytes}, more than {} to 1",
                self.ratio
            )));
        }
        Ok(())
    }
}

/// Refuses names that would lead outside of a directory, on any system.
pub(crate) fn check_name(name: &str) -> Result<(), PackageError> {
    let drive = name.as_bytes().get(1) == Some(&b':')
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    let bad = name.is_empty()
        || name.starts_with('/')
        || drive
        || name.contains(['\\', '\0'])
        || name.split('/').any(|part| part == "..");
    if bad {
        return Err(PackageError::UnsafeName(name.to_owned()));
    }
    Ok(())
}

/// Whether a file is an item, and not something that a desktop left in the package.
pub(crate) fn is_item(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    !(name.starts_with("__MACOSX/")
        || name.contains("/__MACOSX/")
        || file.is_empty()
        || file == ".DS_Store"
        || file.eq_ignore_ascii_case("Thumbs.db"))
}
