//! The workload of the paper's section 3.5: how many images an hour with images brings, and when.
//!
//! A batch is what the cameras took within an hour. Its size is drawn from the conditional empirical distribution
//! Pr(x < K | x > 0); whether an hour has images at all follows the activity by hour of day.

mod arrivals;
mod kolmogorov;
mod sizes;

pub use arrivals::{Activity, Arrival, arrivals};
pub use kolmogorov::{Kolmogorov, kolmogorov_smirnov};
pub use sizes::Sizes;

/// Share of hours without any image in the authors' trace (18,139 of 27,264; paper, section 3.5).
pub const EMPTY_HOURS: f64 = 18_139.0 / 27_264.0;

/// The first hour of the authors' trace, 13 July 2013: seconds since 1970.
pub const TRACE_BEGINS: f64 = 1_373_673_600.0;
