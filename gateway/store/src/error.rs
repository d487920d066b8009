//! What can go wrong with an object store, in kinds that the gateway can act on.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::error::metadata::ErrorMetadata;

/// The code the embedded server answers with when its disk or quota is full (HTTP 507).
pub(crate) const CODE_FULL: &str = "InsufficientStorage";
/// The code the embedded server answers with when it may not write its directory.
pub(crate) const CODE_READ_ONLY: &str = "ReadOnlyStorage";

/// Why a storage operation failed. Texts name the cause and the way out, and never hold a secret
/// or the query string of a URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The object or bucket does not exist.
    #[error("{what} does not exist in the object store")]
    NotFound {
        /// Bucket and key.
        what: String,
    },
    /// The body is longer than allowed. Nothing was stored.
    #[error("the object is larger than {}", allowed(*limit))]
    TooLarge {
        /// The limit in bytes; 0 where the store named none.
        limit: u64,
    },
    /// The store's disk or quota is full. Nothing was stored.
    #[error("no space left in the object store for {what}: free space or expire old objects")]
    Full {
        /// What was being written.
        what: String,
    },
    /// The store cannot be written to.
    #[error("the object store is read-only, so {what} cannot be written: check its directory")]
    ReadOnly {
        /// What was being written.
        what: String,
    },
    /// The store refused the credentials or the operation.
    #[error("the object store denied access to {what}: check the credentials and policy")]
    Denied {
        /// What was asked for.
        what: String,
    },
    /// The store did not answer, or the connection broke.
    #[error("the object store at {endpoint} cannot be reached: {cause}")]
    Unreachable {
        /// The endpoint, without a query string.
        endpoint: String,
        /// The innermost cause.
        cause: String,
    },
    /// The body handed in failed, ended early or went on too long. Nothing was stored.
    #[error("the body broke off: {cause}")]
    BrokenBody {
        /// What the body's source said.
        cause: String,
    },
    /// Another process serves the embedded store's directory.
    #[error("the object store's directory {directory} is in use by another process")]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// Anything else.
    #[error("object store: {what}: {cause}")]
    Other {
        /// What was being done.
        what: String,
        /// The cause.
        cause: String,
    },
}

impl StoreError {
    /// A stable name for the kind of error, for codes and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not-found",
            Self::TooLarge { .. } => "too-large",
            Self::Full { .. } => "full",
            Self::ReadOnly { .. } => "read-only",
            Self::Denied { .. } => "denied",
            Self::Unreachable { .. } => "unreachable",
            Self::BrokenBody { .. } => "broken-body",
            Self::InUse { .. } => "in-use",
            Self::Other { .. } => "other",
        }
    }

    pub(crate) fn other(what: impl Into<String>, cause: impl ToString) -> Self {
        Self::Other {
            what: what.into(),
            cause: without_query(&cause.to_string()),
        }
    }

    /// From a failure on the embedded store's own disk.
    pub(crate) fn from_io(what: impl Into<String>, error: &io::Error) -> Self {
        let what = what.into();
        match DiskTrouble::of(error) {
            DiskTrouble::Full => Self::Full { what },
            DiskTrouble::ReadOnly => Self::ReadOnly { what },
            DiskTrouble::Other => Self::other(what, error),
        }
    }

    /// From a failure of the S3 client while it worked on `what`.
    pub(crate) fn from_sdk<E>(
        what: String,
        endpoint: &str,
        error: SdkError<E, HttpResponse>,
    ) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let unreachable = |cause: String| Self::Unreachable {
            endpoint: without_query(endpoint),
            cause: without_query(&cause),
        };
        match &error {
            SdkError::ServiceError(service) => {
                Self::from_answer(what, service.raw().status().as_u16(), service.err().meta())
            }
            SdkError::DispatchFailure(failure) => unreachable(
                failure
                    .as_connector_error()
                    .map_or_else(|| "no connection".to_owned(), |e| innermost(e)),
            ),
            SdkError::TimeoutError(_) => unreachable("no answer in time".to_owned()),
            SdkError::ResponseError(response) => match response.raw().status().as_u16() {
                200..=299 => unreachable("the answer broke off".to_owned()),
                status => Self::from_answer(what, status, &ErrorMetadata::builder().build()),
            },
            other => Self::other(what, innermost(other)),
        }
    }

    fn from_answer(what: String, status: u16, meta: &ErrorMetadata) -> Self {
        match (meta.code().unwrap_or_default(), status) {
            (CODE_READ_ONLY, _) => Self::ReadOnly { what },
            (CODE_FULL | "XMinioStorageFull" | "QuotaExceeded", _) | (_, 507) => {
                Self::Full { what }
            }
            ("EntityTooLarge", _) | (_, 413) => Self::TooLarge { limit: 0 },
            (_, 404) => Self::NotFound { what },
            (_, 401 | 403) => Self::Denied { what },
            ("IncompleteBody" | "RequestTimeout", _) => Self::BrokenBody {
                cause: meta.message().unwrap_or("it is incomplete").to_owned(),
            },
            (code, status) => {
                let message: String = meta
                    .message()
                    .unwrap_or_default()
                    .chars()
                    .take(200)
                    .collect();
                Self::other(what, format!("HTTP {status} {code} {message}").trim())
            }
        }
    }
}

fn allowed(limit: u64) -> String {
    match limit {
        0 => "the store takes".to_owned(),
        limit => format!("the {limit} bytes allowed"),
    }
}

/// The kinds of disk failures that a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskTrouble {
    Full,
    ReadOnly,
    Other,
}

impl DiskTrouble {
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly,
            _ => Self::Other,
        }
    }
}

/// The end of an error's chain of causes: the part that says what happened.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last: &dyn Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// A text without anything that looks like a URL's query string: a presigned one is a secret.
pub(crate) fn without_query(text: &str) -> String {
    text.split_inclusive(char::is_whitespace)
        .map(|word| match word.split_once('?') {
            Some((before, after)) if before.contains('/') => {
                let space = after.chars().next_back().filter(|c| c.is_whitespace());
                format!("{before}{}", space.map(String::from).unwrap_or_default())
            }
            _ => word.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_strings_are_cut_out() {
        assert_eq!(
            without_query("GET http://h/b/k?X-Amz-Signature=abc failed, why?"),
            "GET http://h/b/k failed, why?"
        );
        assert_eq!(without_query("/a?b=c"), "/a");
        assert_eq!(without_query(""), "");
    }

    #[test]
    fn answers_become_kinds() {
        let kind = |status, code: &str| {
            let meta = ErrorMetadata::builder().code(code).message("m").build();
            StoreError::from_answer("x".into(), status, &meta).kind()
        };
        assert_eq!(kind(507, CODE_FULL), "full");
        assert_eq!(kind(403, CODE_READ_ONLY), "read-only");
        assert_eq!(kind(403, "SignatureDoesNotMatch"), "denied");
        assert_eq!(kind(404, "NoSuchKey"), "not-found");
        assert_eq!(kind(400, "EntityTooLarge"), "too-large");
        assert_eq!(kind(400, "IncompleteBody"), "broken-body");
        assert_eq!(kind(500, "InternalError"), "other");
    }
}
