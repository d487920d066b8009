//! Errors as they travel: `application/problem+json` (RFC 9457) with one stable `code`.

use serde::{Deserialize, Serialize};

/// A problem as a client sees it. `code` is stable and made for programs; `detail` is for people and
/// names the cause and the way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable identifier in snake case, such as `package_encrypted`.
    pub code: String,
    /// Short text, the same for every occurrence of the code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened this time, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The invocation it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
}

impl Problem {
    /// A problem of this code; the title is the code in words.
    #[must_use]
    pub fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            title: code.replace('_', " "),
            status,
            detail: Some(detail.into()),
            invocation: None,
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{} ({})", detail, self.code),
            None => write!(f, "{} ({})", self.title, self.code),
        }
    }
}

impl std::error::Error for Problem {}
