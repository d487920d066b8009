//! Packages of items: what is in a zip or tar, and the bytes of one item, over any source that can
//! be read at an offset: a file, memory, or an object behind range requests.
//!
//! A pod that works a part of a package reads the index and then that part alone; the gateway reads
//! the index alone, to count, and writes parts of packages as packages of their own ([`Divider`]).
//! Both use this crate, so they agree on what an item is. It knows no
//! HTTP, no storage and no image format.

mod error;
mod index;
mod item;
mod part;
mod read_at;
mod tar_index;
mod zip_index;

pub use error::{ItemError, PackageError};
pub use index::{Kind, Package};
pub use item::{Item, Limits};
pub use part::{Divider, Part, Piece};
pub use read_at::ReadAt;
