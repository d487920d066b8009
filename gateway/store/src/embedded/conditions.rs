//! Conditional requests (RFC 9110, section 13).

use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Result, s3_error};

use super::disk::Precondition;
use super::object::Metadata;

/// The conditions of a GET or HEAD.
#[derive(Debug)]
pub(super) struct Read<'a> {
    pub(super) if_match: Option<&'a ETagCondition>,
    pub(super) if_none_match: Option<&'a ETagCondition>,
    pub(super) if_modified_since: Option<&'a Timestamp>,
    pub(super) if_unmodified_since: Option<&'a Timestamp>,
}

impl Read<'_> {
    /// Lets a read go on, or answers 412 or 304.
    pub(super) fn check(&self, metadata: &Metadata) -> S3Result {
        let etag = metadata.etag();
        // HTTP dates know only whole seconds.
        let seconds = std::time::Duration::from_secs(metadata.modified / 1000);
        let modified = Timestamp::from(std::time::SystemTime::UNIX_EPOCH + seconds);
        let fails = match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) => {
                !condition.is_any() && condition.as_etag().is_none_or(|e| !e.strong_cmp(&etag))
            }
            (None, Some(since)) => modified > *since,
            (None, None) => false,
        };
        if fails {
            return Err(s3_error!(PreconditionFailed, "the condition does not hold"));
        }
        let same = match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) => {
                condition.is_any() || condition.as_etag().is_some_and(|e| e.weak_cmp(&etag))
            }
            (None, Some(since)) => modified <= *since,
            (None, None) => false,
        };
        if same {
            return Err(s3_error!(NotModified));
        }
        Ok(())
    }
}

/// The condition of a write.
pub(super) fn precondition(
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<Precondition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Precondition::None),
        (None, Some(condition)) if condition.is_any() => Ok(Precondition::Absent),
        (Some(condition), None) => Ok(match condition.as_etag() {
            Some(etag) => Precondition::Etag(etag.value().to_owned()),
            None => Precondition::Present,
        }),
        _ => Err(s3_error!(
            NotImplemented,
            "writes take If-Match, or If-None-Match: *"
        )),
    }
}
