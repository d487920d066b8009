//! What can go wrong with a model, as one type; `problem` turns it into what a client sees.

use stoic_protocol::Problem;
use tch::TchError;

/// A model could not be loaded or could not compute.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// libtorch refused; its first line says why.
    #[error("libtorch: {}", first_line(.0))]
    Torch(#[from] TchError),
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file is there but is no model that this crate reads.
    #[error("{0}")]
    Invalid(String),
    /// The input has a shape or type that the model does not take.
    #[error("{0}")]
    Input(String),
    /// The device asked for is not there.
    #[error("{0}")]
    Device(String),
}

/// libtorch appends a C++ stack trace, of no use to a reader.
fn first_line(error: &TchError) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("Internal torch error: ").unwrap_or(&text);
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("unknown error")
        .to_owned()
}

impl ModelError {
    /// The problem a client sees: its own fault (400), or the pod's (500).
    #[must_use]
    pub fn problem(&self) -> Problem {
        let (status, code) = match self {
            Self::Torch(_) => (500, "model_failed"),
            Self::File { .. } => (500, "model_unreadable"),
            Self::Invalid(_) => (400, "model_invalid"),
            Self::Input(_) => (400, "input_invalid"),
            Self::Device(_) => (500, "device_unavailable"),
        };
        Problem::new(status, code, self.to_string())
    }
}

impl From<ModelError> for Problem {
    fn from(error: ModelError) -> Self {
        error.problem()
    }
}
