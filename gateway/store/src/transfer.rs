//! Moving an object from one store to another: the transfer whose time the scheduler predicts
//! as T_t.

use std::sync::Arc;

use tokio::time::Instant;

use crate::put::Parcel;
use crate::{Store, StoreError};

/// Called as a transfer goes on, with the bytes handed over so far.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// What a transfer moved, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transferred {
    /// Length in bytes.
    pub bytes: u64,
    /// From the request to the source until the answer of the destination, in seconds.
    pub seconds: f64,
}

impl Store {
    /// Streams an object to the same key of another store, in bounded memory, and keeps its
    /// content type.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such object here; otherwise what either store
    /// answers. In every case nothing new is left behind in `other`.
    pub async fn copy_to(
        &self,
        key: &str,
        other: &Self,
        progress: Option<Progress>,
    ) -> Result<Transferred, StoreError> {
        let started = Instant::now();
        let object = self.get(key).await?;
        let parcel = Parcel {
            key,
            length: Some(object.bytes),
            content_type: &object.content_type,
            limit: u64::MAX,
            progress,
        };
        let stored = other.send(parcel, object.body).await?;
        Ok(Transferred {
            bytes: stored.bytes,
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}
