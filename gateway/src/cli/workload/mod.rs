//! `stoic workload`: batches as the paper's cameras made them (section 3.5).

mod arrivals;
pub(super) mod batches;
mod replay;
mod sizes;

use super::failed::Failed;
use clap::Subcommand;
use std::path::Path;
use stoic_evaluation::log;
use stoic_evaluation::workload::Sizes;

/// What of the workload.
#[derive(Debug, Subcommand)]
pub(super) enum Workload {
    /// Draw batch sizes
    Sizes(sizes::DrawSizes),
    /// Draw arrivals over days, hour by hour
    Arrivals(arrivals::DrawArrivals),
    /// Send arrivals to a gateway, faster than real time
    Replay(Box<replay::Replay>),
}

impl Workload {
    pub(super) async fn run(self) -> Result<(), Failed> {
        match self {
            Self::Sizes(command) => command.run(),
            Self::Arrivals(command) => command.run(),
            Self::Replay(command) => command.run().await,
        }
    }
}

/// The sizes in a file with the share of hours without images there, or those embedded.
fn source(from: Option<&Path>) -> Result<(Sizes, Option<f64>), Failed> {
    let Some(path) = from else {
        return Ok((Sizes::embedded(), None));
    };
    let seen = log::sizes(path)?;
    let empty = seen.iter().filter(|size| **size == 0).count();
    let sizes = Sizes::of(&seen)
        .ok_or_else(|| Failed::Input(format!("{}: no batch with images", path.display())))?;
    // A list of batches tells nothing of the hours between them.
    let share = (empty > 0).then(|| empty as f64 / seen.len() as f64);
    Ok((sizes, share))
}
