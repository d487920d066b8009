//! What pods wrote, as their site gives it.

use bytes::Bytes;
use futures_util::stream::BoxStream;

/// What is wanted of a pod's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogAsk {
    /// Only so many of the last lines; none: all that is kept.
    pub tail: Option<u64>,
    /// Whether to go on with what is written from now on, until the pod is gone.
    pub follow: bool,
}

/// Output of a pod, standard output and standard error as they came, in pieces of any size.
pub type LogStream = BoxStream<'static, std::io::Result<Bytes>>;
