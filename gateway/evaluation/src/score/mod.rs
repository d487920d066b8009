//! What predictions and choices were worth: rates with bootstrap confidence intervals, errors by part, and policies
//! against MIN-LAT (paper, section 4). Quantiles of what a bench measured, and their ratios, by the same bootstrap.

mod bootstrap;
mod policy;
mod quantile;

pub use bootstrap::{Rate, rate};
pub use policy::{Case, Outcome, Score, score};
pub use quantile::{
    Interval, block_quantile, paired_ratio, plain_quantile, quantile, quantile_ratio, spread,
};
