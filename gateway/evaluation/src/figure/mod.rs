//! The figures of the paper and those it leaves out, as SVG.

pub mod plot;

pub use plot::{Axis, COLOURS, Figure, Mark, Panel, Shape};
