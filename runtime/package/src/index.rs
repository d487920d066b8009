//! A package: its items, and the bytes of each.

use crate::part::Divider;
use crate::tar_index;
use crate::zip_index::ZipIndex;
use crate::{Item, ItemError, Limits, PackageError, ReadAt};
use std::fmt;
use std::sync::Arc;

/// The kinds of package that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `application/zip`: stored or deflated entries, zip64.
    Zip,
    /// `application/x-tar`, not compressed as a whole.
    Tar,
}

impl Kind {
    /// The kind that a media type names, parameters ignored; none where it names no package.
    #[must_use]
    pub fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("application/zip") || is("application/x-zip-compressed") || is("application/x-zip") {
            Some(Self::Zip)
        } else if is("application/x-tar") || is("application/tar") {
            Some(Self::Tar)
        } else {
            None
        }
    }
}

/// An opened package. Cheap to share between threads.
pub struct Package {
    source: Arc<dyn ReadAt>,
    items: Vec<Item>,
    limits: Limits,
    /// Present for zip; the items of a tar lie there as they are.
    zip: Option<ZipIndex>,
}

impl fmt::Debug for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Package")
            .field("items", &self.items.len())
            .field("zip", &self.zip.is_some())
            .finish_non_exhaustive()
    }
}

impl Package {
    /// Reads the index: of a zip the central directory alone, of a tar every header.
    ///
    /// # Errors
    /// A [`PackageError`] where the package as a whole cannot be worked.
    pub fn open(
        source: Arc<dyn ReadAt>,
        content_type: &str,
        limits: Limits,
    ) -> Result<Self, PackageError> {
        let kind = Kind::of(content_type).ok_or_else(|| {
            PackageError::Unsupported(format!(
                "a package is application/zip or application/x-tar, not {content_type:?}"
            ))
        })?;
        let bytes = source.len();
        let (items, zip) = match kind {
            Kind::Zip => {
                let (items, zip) = ZipIndex::read(source.as_ref(), &limits)?;
                (items, Some(zip))
            }
            Kind::Tar => (tar_index::read(source.as_ref(), &limits)?, None),
        };
        limits.check(&items, bytes)?;
        Ok(Self {
            source,
            items,
            limits,
            zip,
        })
    }

    /// The items in the package's order.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// How to write some of the items as packages of their own. Of a zip the directory is read once
    /// more, here.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn divider(&self) -> Result<Divider, PackageError> {
        let records = match &self.zip {
            Some(zip) => Some(zip.records(self.source.as_ref())?),
            None => None,
        };
        Ok(Divider::new(Arc::clone(&self.source), &self.items, records))
    }

    /// The limits it was opened with.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The bytes of one item, unpacked and, in a zip, checked against their checksum. From any
    /// number of threads at once.
    ///
    /// # Errors
    /// An [`ItemError`] where this item cannot be read.
    pub fn read(&self, index: usize) -> Result<Vec<u8>, ItemError> {
        self.read_from(index, self.source.as_ref())
    }

    /// The same, with the bytes taken from another source, which has to hold the item's span at the
    /// package's own offsets: for one who has fetched a run of items already.
    ///
    /// # Errors
    /// An [`ItemError`] where this item cannot be read.
    pub fn read_from(&self, index: usize, source: &dyn ReadAt) -> Result<Vec<u8>, ItemError> {
        let item = self.items.get(index).ok_or_else(|| {
            ItemError::new(
                "item_unreadable",
                format!("the package has no item {index}"),
            )
        })?;
        match &self.zip {
            Some(zip) => zip.unpack(source, item),
            None => tar_index::unpack(source, item),
        }
    }
}
