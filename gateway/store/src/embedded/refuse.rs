//! Disk failures as S3 errors.

use std::cell::RefCell;
use std::fmt::Display;
use std::io;

use s3s::{S3Error, S3ErrorCode};
use tokio::task::JoinError;

use crate::error::{CODE_FULL, CODE_READ_ONLY, DiskTrouble};

tokio::task_local! {
    /// What went wrong in the request under way, for the log: the S3 service itself is kept from
    /// logging, because it would log presigned URLs.
    pub(super) static TROUBLE: RefCell<Option<String>>;
}

fn note(trouble: &dyn Display) {
    // Outside of a request there is nobody to tell.
    let _ = TROUBLE.try_with(|t| *t.borrow_mut() = Some(trouble.to_string()));
}

/// The answer to a failure of the disk. Details stay in the log.
pub(super) fn disk_error(error: &io::Error) -> S3Error {
    let custom = |code: &'static str, status, message: &'static str| {
        let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
        error.set_status_code(status);
        error
    };
    note(error);
    match DiskTrouble::of(error) {
        DiskTrouble::Full => custom(
            CODE_FULL,
            http::StatusCode::INSUFFICIENT_STORAGE,
            "no space left for the object",
        ),
        DiskTrouble::ReadOnly => custom(
            CODE_READ_ONLY,
            http::StatusCode::FORBIDDEN,
            "the store's directory cannot be written to",
        ),
        DiskTrouble::Other => {
            S3Error::with_message(S3ErrorCode::InternalError, "the store's disk failed")
        }
    }
}

/// The answer when a blocking task was cancelled by the end of the runtime, or panicked.
pub(super) fn blocking_failed(error: JoinError) -> S3Error {
    note(&error);
    S3Error::with_message(S3ErrorCode::InternalError, "the store is stopping")
}
