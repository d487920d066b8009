//! Pages of a listing: prefix, delimiter, and where the last page ended.

use std::ops::Bound;
use std::time::{Duration, SystemTime};

use s3s::dto::{CommonPrefix, ETag, ListObjectsV2Input, ListObjectsV2Output, Object};
use s3s::{S3Result, s3_error};

use super::disk::{Index, Summary};
use super::object::{hex, unhex};

/// The most lines on one page of a listing.
pub(super) const MOST_LISTED: i32 = 1000;

/// What a listing asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pub(super) prefix: String,
    pub(super) delimiter: Option<String>,
    /// The last key or common prefix of the page before.
    pub(super) after: Option<String>,
    pub(super) most: usize,
}

impl Query {
    /// What a request asks for.
    pub(super) fn of(input: &ListObjectsV2Input) -> S3Result<Self> {
        let after = match &input.continuation_token {
            Some(token) => Some(
                unhex(token)
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .ok_or_else(|| s3_error!(InvalidArgument, "not a continuation token"))?,
            ),
            None => input.start_after.clone(),
        };
        Ok(Self {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            after,
            most: usize::try_from(most(input))
                .map_err(|_| s3_error!(InvalidArgument, "max-keys is negative"))?,
        })
    }
}

fn most(input: &ListObjectsV2Input) -> i32 {
    input.max_keys.unwrap_or(MOST_LISTED).min(MOST_LISTED)
}

/// One page.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<(String, Summary)>,
    pub(super) prefixes: Vec<String>,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<String>,
}

impl Page {
    pub(super) fn len(&self) -> usize {
        self.objects.len() + self.prefixes.len()
    }

    /// The page as an answer to the request.
    pub(super) fn answer(self, input: ListObjectsV2Input) -> ListObjectsV2Output {
        let most = most(&input);
        let lines = i32::try_from(self.len()).ok();
        let objects = self.objects.into_iter().map(|(key, summary)| Object {
            key: Some(key),
            size: i64::try_from(summary.bytes).ok(),
            e_tag: Some(ETag::Strong(summary.etag)),
            last_modified: Some(
                (SystemTime::UNIX_EPOCH + Duration::from_millis(summary.modified)).into(),
            ),
            ..Default::default()
        });
        let prefixes = self.prefixes.into_iter().map(|prefix| CommonPrefix {
            prefix: Some(prefix),
        });
        ListObjectsV2Output {
            key_count: lines,
            is_truncated: Some(self.next.is_some()),
            next_continuation_token: self.next.map(|next| hex(next.as_bytes())),
            contents: Some(objects.collect()),
            common_prefixes: Some(prefixes.collect()),
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            start_after: input.start_after,
            continuation_token: input.continuation_token,
            max_keys: Some(most),
            ..Default::default()
        }
    }
}

/// The page of `index` that `query` asks for.
pub(super) fn page(index: &Index, query: &Query) -> Page {
    let mut page = Page::default();
    if query.most == 0 {
        return page;
    }
    let mut last: Option<String> = None;
    let after = query.after.as_deref();
    let begin = match after {
        Some(after) if after >= query.prefix.as_str() => Bound::Excluded(after),
        _ => Bound::Included(query.prefix.as_str()),
    };
    for (key, summary) in index.range::<str, _>((begin, Bound::Unbounded)) {
        let Some(rest) = key.strip_prefix(&query.prefix) else {
            break;
        };
        let common = query
            .delimiter
            .as_deref()
            .filter(|d| !d.is_empty())
            .and_then(|d| rest.find(d).map(|at| at + d.len()))
            .map(|end| &key[..query.prefix.len() + end]);
        if let Some(common) = common {
            let told = page.prefixes.last().is_some_and(|p| p == common)
                || after.is_some_and(|after| common <= after);
            if told {
                continue;
            }
        }
        if page.len() == query.most {
            page.next = last;
            return page;
        }
        match common {
            Some(common) => page.prefixes.push(common.to_owned()),
            None => page.objects.push((key.clone(), summary.clone())),
        }
        last = Some(common.unwrap_or(key).to_owned());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(keys: &[&str]) -> Index {
        let summary = Summary {
            bytes: 0,
            etag: String::new(),
            modified: 0,
        };
        keys.iter()
            .map(|k| ((*k).to_owned(), summary.clone()))
            .collect()
    }

    fn all(index: &Index, prefix: &str, delimiter: Option<&str>, most: usize) -> Vec<String> {
        let mut told = Vec::new();
        let mut query = Query {
            prefix: prefix.into(),
            delimiter: delimiter.map(Into::into),
            after: None,
            most,
        };
        loop {
            let page = page(index, &query);
            assert!(page.len() <= most);
            let mut lines: Vec<_> = page.objects.into_iter().map(|(k, _)| k).collect();
            lines.extend(page.prefixes);
            lines.sort();
            told.extend(lines);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return told,
            }
        }
    }

    #[test]
    fn pages_of_every_size_tell_the_same() {
        let index = index(&[
            "a", "a/b", "a/b/c", "a/d", "ab", "b/x", "b/y", "c", "é/ü", "~",
        ]);
        for most in 1..12 {
            assert_eq!(all(&index, "", None, most).len(), 10, "{most}");
            let top = ["a", "a/", "ab", "b/", "c", "~", "é/"];
            assert_eq!(all(&index, "", Some("/"), most), top, "{most}");
            assert_eq!(all(&index, "a/", Some("/"), most), ["a/b", "a/b/", "a/d"]);
            assert_eq!(
                all(&index, "a", None, most),
                ["a", "a/b", "a/b/c", "a/d", "ab"]
            );
            assert!(all(&index, "zzz", None, most).is_empty());
        }
        assert_eq!(page(&index, &Query::default()).len(), 0);
    }
}
