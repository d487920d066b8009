//! What predictions and choices were worth: rates with bootstrap confidence intervals, errors by part, and policies
//! against MIN-LAT (paper, section 4).

mod bootstrap;
mod policy;

pub use bootstrap::{Rate, rate};
pub use policy::{Case, Outcome, Score, score};
