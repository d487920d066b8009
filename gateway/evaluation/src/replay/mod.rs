//! Replay of logs: what the paper's method and ours would have predicted and chosen, row by row, knowing only the rows
//! before.

pub mod accuracy;
pub mod batches;
pub mod deployments;
pub mod method;
pub mod policies;
pub mod walk;

pub use walk::{Batch, Predicted, Walk, walk};
