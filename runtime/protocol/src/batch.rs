//! A batch: one invocation whose input is a package of items, named by a presigned URL.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Body of `POST /` with media type [`crate::BATCH_MEDIA_TYPE`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchRequest {
    /// Identity of the invocation.
    pub invocation: String,
    /// `infer`, `train`, or another action that the function knows.
    #[serde(default = "default_action")]
    pub action: String,
    /// Where the package is.
    pub input: PackageRef,
    /// Where the result goes. Absent: the result travels in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputRef>,
    /// The items to work, of those that the package holds; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<ItemRange>,
    /// Present where this is one part of a larger batch, worked by several pods: the result is then in
    /// the function's own mergeable form, which `POST /_stoic/merge` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PartRef>,
    /// Where a newly trained model goes, for actions that make one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_output: Option<ModelRef>,
    /// Query parameters of the invocation, passed through: `format=megadetector`, `epochs=20`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

fn default_action() -> String {
    "infer".to_owned()
}

/// A package of items at a presigned URL that answers range requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageRef {
    /// Presigned `GET`.
    pub url: String,
    /// Size in bytes.
    pub bytes: u64,
    /// `application/zip` or `application/x-tar`, or the type of a single item (`image/jpeg`).
    pub content_type: String,
}

/// A presigned `PUT` for the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRef {
    /// Presigned `PUT`.
    pub url: String,
}

/// A published model, or the place for one that is being trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRef {
    /// Version, such as `v3`.
    pub version: String,
    /// Presigned `GET` of a model to load, presigned `PUT` of one to write; or a path.
    pub url: String,
}

/// Items `start..end` in the package's order (zip: order of the central directory; directories and
/// files that are no items are not counted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemRange {
    /// First item.
    pub start: u64,
    /// One past the last item.
    pub end: u64,
}

/// Where the items of a part stand in the whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRef {
    /// Position in the whole batch of the first item that is worked.
    pub first: u64,
    /// Items of the whole batch.
    pub total: u64,
}

/// Body of `POST /_stoic/merge`: puts the results of the parts of one batch together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeRequest {
    /// Identity of the invocation.
    pub invocation: String,
    /// The action of the batch.
    pub action: String,
    /// The results of its parts, in the order of the items; what is taken of them is the whole batch.
    pub parts: Vec<MergePart>,
    /// Where the result goes. Absent: the result travels in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputRef>,
    /// Query parameters of the invocation; such as `format` apply here, and not to the parts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// The result of one part of a batch, and which of its items are taken: two pods may have worked the
/// same items, and each counts once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergePart {
    /// Presigned `GET`.
    pub url: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Items taken, counted from the part's first.
    pub take: ItemRange,
}

/// Body of `PUT /_stoic/limit`: a part that is being worked ends earlier than it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRequest {
    /// Identity of the invocation.
    pub invocation: String,
    /// `first` of the part's [`PartRef`].
    pub first: u64,
    /// Items of the part that are still wanted, from its first on.
    pub items: u64,
}
