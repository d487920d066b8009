//! What is known of a call: as it is stored, and as it is shown.

use serde::{Deserialize, Serialize};

/// Where a call is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallState {
    /// It waits for its turn, or for its next attempt.
    Queued,
    /// An attempt runs.
    Running,
    /// The function answered with success.
    Succeeded,
    /// The function refused it (4xx): it is not tried again.
    Failed,
    /// Every attempt failed: set aside until it is revived.
    Dead,
    /// Its caller took it back.
    Cancelled,
    /// It did not end in time.
    Expired,
}

impl CallState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Dead,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing more happens to it by itself.
    #[must_use]
    pub fn ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// One attempt of a call, when it has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began, in seconds since the epoch.
    pub at: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// `succeeded`, or why it did not.
    pub reason: String,
    /// Status of the answer, where there was one.
    pub status: Option<u16>,
    /// Runtime that it ran on, as far as it came.
    pub runtime: Option<String>,
    /// Site of that runtime.
    pub site: Option<String>,
    /// Pod that it ran in.
    pub pod: Option<String>,
    /// `cold` or `warm`.
    pub start: Option<String>,
    /// Parts of the response time as predicted (`X-Stoic-Predicted`).
    pub predicted: Option<String>,
    /// The same as they were (`X-Stoic-Actual`).
    pub actual: Option<String>,
}

/// What becomes of a callback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallbackView {
    /// Where the result is posted to.
    pub url: String,
    /// `waiting` (for the call to end), `due`, `delivered` or `given_up`.
    pub state: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// A call as `/v1/calls` shows it. Times are in seconds since the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallView {
    /// Its identity.
    pub id: String,
    /// The function.
    pub function: String,
    /// Method of the request.
    pub method: String,
    /// Path inside the function, with its query.
    pub path: String,
    /// Where it is on its way.
    pub state: CallState,
    /// When it was accepted.
    pub created: f64,
    /// When it is tried next, while it is queued.
    pub due: Option<f64>,
    /// When the last attempt began.
    pub started: Option<f64>,
    /// When it ended.
    pub finished: Option<f64>,
    /// Attempts that began, those that ended with a life of the gateway included.
    pub attempted: u32,
    /// Attempts that failed.
    pub failures: u32,
    /// Attempts that ended, the oldest first.
    pub attempts: Vec<Attempt>,
    /// Size of its body.
    pub body_bytes: u64,
    /// Status of the function's answer.
    pub status: Option<u16>,
    /// Size of the result.
    pub result_bytes: Option<u64>,
    /// What becomes of its callback.
    pub callback: Option<CallbackView>,
}

/// A page of calls, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallsPage {
    /// The calls.
    pub calls: Vec<CallView>,
    /// What `before` is to be for the next page; none at the end.
    pub next: Option<String>,
}

/// A call that is to be accepted.
#[derive(Debug)]
pub(super) struct NewCall {
    pub(super) id: String,
    pub(super) function: String,
    pub(super) method: String,
    pub(super) path: String,
    /// As JSON: pairs of name and value.
    pub(super) headers: String,
    pub(super) body: Stored,
    pub(super) digest: String,
    pub(super) idempotency: Option<String>,
    pub(super) callback: Option<String>,
    pub(super) created: f64,
}

/// Where bytes are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// In the row, if they are few.
    pub(super) inline: Option<Vec<u8>>,
    /// In the home store under this key.
    pub(super) key: Option<String>,
    pub(super) bytes: u64,
}

/// What an attempt needs.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) function: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: String,
    pub(super) body: Stored,
    pub(super) attempt: u32,
    pub(super) failures: u32,
}

/// The function's answer, kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    pub(super) status: Option<u16>,
    pub(super) headers: String,
    pub(super) body: Stored,
}

/// What a callback needs.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) id: String,
    pub(super) function: String,
    pub(super) url: String,
    pub(super) state: String,
    pub(super) seconds: f64,
    pub(super) attempts: u32,
    pub(super) outcome: Outcome,
}
