//! Some items of a staged package on their way to another site, and no others: read by ranges from the
//! home store, written as a package of their own, in bounded memory.

use super::package::{ObjectReader, Staged};
use crate::failure::Failure;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use stoic_package::{Divider, Limits, Package, PackageError, Piece};
use stoic_store::{Store, StoreError, Transferred};
use tokio::time::Instant;

/// Bytes read from the home store at once, twice which is held in memory.
const READ: u64 = 1 << 20;

/// A staged package that can be divided.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    home: Store,
    key: String,
    content_type: String,
    divider: Arc<Divider>,
}

/// A part that lies in a site's store.
#[derive(Debug, Clone)]
pub(super) struct Piecework {
    /// Its items, as the whole package numbers them.
    pub(super) items: Range<usize>,
    pub(super) key: String,
    pub(super) bytes: u64,
}

fn refused(error: PackageError) -> Failure {
    let status = if error.code() == "package_unreadable" {
        502
    } else {
        400
    };
    Failure::new(status, error.code(), error.to_string())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PackageError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(PackageError::Io(io::Error::other(e.to_string()))))
        .map_err(refused)
}

impl Parts {
    /// Reads the index of a staged package.
    pub(super) async fn open(home: &Store, staged: &Staged) -> Result<Self, Failure> {
        let reader = Arc::new(ObjectReader::new(home, &staged.key, staged.bytes));
        let media = staged.content_type.clone();
        let divider =
            blocking(move || Package::open(reader, &media, Limits::default())?.divider()).await?;
        Ok(Self {
            home: home.clone(),
            key: staged.key.clone(),
            content_type: staged.content_type.clone(),
            divider: Arc::new(divider),
        })
    }

    /// About how many bytes these items take.
    pub(super) fn packed(&self, items: Range<usize>) -> u64 {
        self.divider.packed(items)
    }

    /// Sends these items to another store.
    pub(super) async fn send(
        &self,
        items: Range<usize>,
        to: &Store,
        key: String,
    ) -> Result<(Piecework, Transferred), Failure> {
        let begun = Instant::now();
        let (divider, range) = (Arc::clone(&self.divider), items.clone());
        let part = blocking(move || divider.part(range)).await?;
        let (home, source) = (self.home.clone(), self.key.clone());
        let reads = part.pieces.into_iter().flat_map(reads);
        let body = stream::iter(reads).map(move |piece| {
            let (home, source) = (home.clone(), source.clone());
            async move {
                match piece {
                    Piece::New(bytes) => Ok(bytes.into()),
                    Piece::Source(range) => {
                        let length = range.end - range.start;
                        let bytes = home.get_range(&source, range.start, length).await?;
                        if bytes.len() as u64 != length {
                            return Err(StoreError::NotFound {
                                what: format!("bytes {range:?} of the package"),
                            });
                        }
                        Ok(bytes)
                    }
                }
            }
        });
        // The next is read while one is sent.
        let body = body.buffered(2).into_stream();
        let length = Some(part.bytes);
        let stored = to
            .put_stream(&key, body, length, &self.content_type, u64::MAX)
            .await?;
        let piece = Piecework {
            items,
            key,
            bytes: stored.bytes,
        };
        let moved = Transferred {
            bytes: stored.bytes,
            seconds: begun.elapsed().as_secs_f64(),
        };
        Ok((piece, moved))
    }
}

/// A piece in such parts as are read at once.
fn reads(piece: Piece) -> Vec<Piece> {
    match piece {
        Piece::New(_) => vec![piece],
        Piece::Source(range) => (range.start..range.end)
            .step_by(READ as usize)
            .map(|start| Piece::Source(start..(start + READ).min(range.end)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_are_read_in_parts() {
        let parts = reads(Piece::Source(5..5 + 2 * READ + 1));
        let lengths: Vec<u64> = parts
            .iter()
            .map(|p| match p {
                Piece::Source(range) => range.end - range.start,
                Piece::New(_) => 0,
            })
            .collect();
        assert_eq!(lengths, [READ, READ, 1]);
        assert!(reads(Piece::Source(7..7)).is_empty());
    }
}
