//! What a request says about an object, checked.

use std::collections::BTreeMap;

use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

/// The longest key of S3, in bytes.
const LONGEST_KEY: usize = 1024;
/// The most user metadata of S3, in bytes.
const MOST_USER_METADATA: usize = 2048;

/// Keys with characters that XML cannot carry would make a bucket impossible to list.
pub(super) fn check_key(key: &str) -> S3Result<&str> {
    if key.len() > LONGEST_KEY {
        return Err(s3_error!(KeyTooLongError, "keys have at most 1024 bytes"));
    }
    if key.is_empty()
        || key
            .chars()
            .any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
    {
        return Err(s3_error!(
            InvalidArgument,
            "keys hold text without control characters"
        ));
    }
    Ok(key)
}

pub(super) fn promised_length(length: Option<i64>) -> S3Result<Option<u64>> {
    length
        .map(u64::try_from)
        .transpose()
        .map_err(|_| s3_error!(InvalidArgument, "the length is negative"))
}

/// `aws-chunked` says how the body travelled, not what it is.
pub(super) fn stored_encoding(encoding: Option<&str>) -> Option<String> {
    let kept: Vec<_> = encoding?
        .split(',')
        .map(str::trim)
        .filter(|e| !e.is_empty() && !e.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

pub(super) fn user_metadata(
    metadata: Option<&s3s::dto::Metadata>,
) -> S3Result<BTreeMap<String, String>> {
    let kept: BTreeMap<_, _> = metadata
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let size: usize = kept
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if size > MOST_USER_METADATA {
        return Err(S3Error::with_message(
            S3ErrorCode::MetadataTooLarge,
            "user metadata has at most 2048 bytes",
        ));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_a_body_travelled_is_not_stored() {
        assert_eq!(stored_encoding(Some("aws-chunked")), None);
        assert_eq!(stored_encoding(Some("aws-chunked, gzip")).unwrap(), "gzip");
        assert_eq!(stored_encoding(Some("gzip,AWS-Chunked")).unwrap(), "gzip");
        assert_eq!(stored_encoding(Some("br, gzip")).unwrap(), "br,gzip");
        assert_eq!(stored_encoding(Some("")), None);
        assert_eq!(stored_encoding(None), None);
    }
}
