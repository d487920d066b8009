//! The figures of the paper and those it leaves out, as SVG.

mod measured;
pub mod plot;
mod predictions;

pub use measured::{histograms, of_min_lat, regret, workload};
pub(crate) use plot::escape;
pub use plot::{Axis, COLOURS, Figure, Mark, Panel, Shape};
pub use predictions::{Curve, Moment, calibration, mae_by_window, over_time};
