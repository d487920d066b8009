//! The figures of the paper and those it leaves out, as SVG.

pub mod plot;

pub(crate) use plot::escape;
pub use plot::{Axis, COLOURS, Figure, Mark, Panel, Shape};
