//! Evaluation of the placement layer (paper, sections 3.5 and 4): what its predictions and choices would have been
//! worth.
//!
//! It reads logs, walks them in time order with the very code that the gateway places with, and writes tables, figures
//! and a page. Here is no async code and no HTTP: what runs batches on a living gateway is the command line's, which
//! hands its measurements over as the rows of a log.

pub mod figure;
pub mod log;
pub mod replay;
pub mod report;
pub mod score;
pub mod simulate;
pub mod workload;
