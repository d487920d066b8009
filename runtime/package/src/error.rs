//! What can be wrong with a package as a whole, and with one item of it.

use std::fmt;

/// Why a package cannot be worked at all. [`PackageError::code`] is stable and made for programs.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Not a package of its kind, or cut short.
    #[error("{0}")]
    Invalid(String),
    /// It holds no item.
    #[error("the package holds no items; directories and files such as .DS_Store do not count")]
    Empty,
    /// An entry is encrypted.
    #[error("entry {0:?} is encrypted; send the package without a password")]
    Encrypted(String),
    /// An entry's name points outside the package.
    #[error("entry name {0:?} is unsafe: names are relative, with `/`, without `..`")]
    UnsafeName(String),
    /// Two entries have the same name.
    #[error("two entries have the same name{0}; give each its own")]
    DuplicateName(String),
    /// It would unpack to too much.
    #[error("{0}")]
    Bomb(String),
    /// More items than the limit.
    #[error("the package holds more than {limit} items; split it")]
    TooManyItems {
        /// The limit.
        limit: usize,
    },
    /// A kind of package, or a feature of one, that is not read.
    #[error("{0}")]
    Unsupported(String),
    /// The source could not be read.
    #[error("the package could not be read: {0}")]
    Io(#[source] std::io::Error),
}

impl PackageError {
    /// Stable identifier in snake case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "package_invalid",
            Self::Empty => "package_empty",
            Self::Encrypted(_) => "package_encrypted",
            Self::UnsafeName(_) => "package_unsafe_name",
            Self::DuplicateName(_) => "package_duplicate_name",
            Self::Bomb(_) => "package_bomb",
            Self::TooManyItems { .. } => "package_too_many_items",
            Self::Unsupported(_) => "package_unsupported",
            Self::Io(_) => "package_unreadable",
        }
    }
}

/// Why one item could not be read; the others are not touched by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// Stable identifier in snake case: `item_corrupt`, `item_unsupported`, `item_unreadable`.
    pub code: String,
    /// What happened, for people.
    pub detail: String,
}

impl ItemError {
    /// An error of this code.
    #[must_use]
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            detail: detail.into(),
        }
    }
}

impl fmt::Display for ItemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)
    }
}

impl std::error::Error for ItemError {}
