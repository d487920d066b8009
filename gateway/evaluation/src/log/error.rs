//! What is wrong with a log, where, and what may have been meant.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a log cannot be used. Its `Display` is one line that names the file and, where there is one, the line.
#[derive(Debug, Error)]
#[error("{}{}: {what}", .file.display(), .line.map_or_else(String::new, |line| format!(":{line}")))]
pub struct LogError {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Its line, from 1; `None` for what concerns the whole file.
    pub line: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl LogError {
    pub(crate) fn whole(file: &Path, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            what: what.into(),
        }
    }

    pub(crate) fn at(file: &Path, line: u64, what: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            ..Self::whole(file, what)
        }
    }
}
