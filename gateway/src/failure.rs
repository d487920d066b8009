//! Errors on their way to a client: the one place that gives each its status and stable code.

use crate::function::InvalidFunction;
use crate::history::HistoryError;
use crate::pods::AcquireError;
use crate::sites::StartError;
use stoic_placement::ChoiceError;
use stoic_protocol::Problem;
use stoic_store::StoreError;

/// A problem, with what HTTP wants beside it.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What the client sees.
    pub problem: Problem,
    /// Seconds after which it is worth trying again.
    pub retry_after_s: Option<u64>,
}

impl Failure {
    /// A failure of this status and code.
    #[must_use]
    pub fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        Self {
            problem: Problem::new(status, code, detail),
            retry_after_s: None,
        }
    }

    /// The same, worth trying again after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The invocation it happened to.
    #[must_use]
    pub fn of(mut self, invocation: &str) -> Self {
        self.problem.invocation = Some(invocation.to_owned());
        self
    }

    /// No function of this name.
    #[must_use]
    pub fn unknown_function(name: &str) -> Self {
        Self::new(
            404,
            "unknown_function",
            format!("there is no function `{name}`; `stoic function list` shows those there are"),
        )
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            retry_after_s: None,
        }
    }
}

impl From<InvalidFunction> for Failure {
    fn from(error: InvalidFunction) -> Self {
        Self::new(400, "function_invalid", error.to_string())
    }
}

impl From<ChoiceError> for Failure {
    fn from(error: ChoiceError) -> Self {
        let status = match error.code() {
            "unknown_runtime" => 400,
            _ => 503,
        };
        let failure = Self::new(status, error.code(), error.to_string());
        if status == 503 {
            failure.retry_after(5)
        } else {
            failure
        }
    }
}

impl From<AcquireError> for Failure {
    fn from(error: AcquireError) -> Self {
        let text = error.to_string();
        match error {
            AcquireError::QueueFull { retry_after_s, .. } => {
                Self::new(429, "queue_full", text).retry_after(retry_after_s)
            }
            AcquireError::TimedOut { .. } => Self::new(503, "queue_timeout", text).retry_after(5),
            // Refused: trying again is no use, nor is waiting. Else the tries are used up (paper,
            // section 3.7: "claims timeout and returns an error").
            AcquireError::Start(failures) => match failures.last() {
                Some(error @ (StartError::ImageAbsent(_) | StartError::NoRoom(_))) => {
                    Self::new(503, error.code(), text).retry_after(60)
                }
                Some(error) if failures.hopeless() => Self::new(502, error.code(), text),
                _ => Self::new(504, "deployment_timeout", text).retry_after(60),
            },
            AcquireError::Unavailable { .. } => {
                Self::new(503, "runtime_unavailable", text).retry_after(60)
            }
            AcquireError::Closed => Self::new(503, "function_closing", text).retry_after(1),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::TooLarge { .. } => Self::new(413, "body_too_large", text),
            StoreError::BrokenBody { .. } => Self::new(400, "body_incomplete", text),
            StoreError::Full { .. } => Self::new(507, "storage_full", text),
            StoreError::ReadOnly { .. } => Self::new(507, "storage_read_only", text),
            StoreError::NotFound { .. } => Self::new(404, "not_found", text),
            _ => Self::new(502, "storage_unavailable", text).retry_after(5),
        }
    }
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        if error.is_full() {
            return Self::new(
                507,
                "storage_full",
                format!("{error}; free some space in the data folder"),
            );
        }
        Self::new(500, "history_unavailable", error.to_string())
    }
}

/// What an error's innermost cause says, which is most.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    with_the_way_out(cause.to_string())
}

/// Certificates that are refused, with what to do about them: rustls names the rule that was broken.
fn with_the_way_out(text: String) -> String {
    let way_out = if text.contains("CaUsedAsEndEntity") {
        "the other side shows the certificate of an authority; have that authority sign one for it, or make it with \
         basicConstraints CA:FALSE"
    } else if text.contains("UnknownIssuer") {
        "its authority is not trusted here; name a file with it as `ca` of the site, or --ca"
    } else {
        return text;
    };
    format!("{text}: {way_out}")
}
