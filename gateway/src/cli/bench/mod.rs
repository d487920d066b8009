//! `stoic bench`: what the gateway costs, measured on a machine of the user's own.
//!
//! `cold_warm` is the command: it plans, measures, restores and reports. `place` finds a gateway or starts one, `target`
//! is a function at a site and what brings it to a known state, `rounds` are the interleaved measurements, `burst` and
//! `load` the two that need many callers, `engine` and `baseline` what it is held against. Statistics are
//! `stoic_evaluation::score`; what is here knows no formula.

mod bare_pod;
mod baseline;
mod burst;
mod cold_warm;
mod engine;
mod figures;
mod load;
mod machine;
mod options;
mod place;
mod report;
mod results;
mod rounds;
mod sample;
mod target;
mod ways;
mod zygotes;

use super::failed::Failed;
use clap::Subcommand;

/// Kinds of benches.
#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Cold starts against warm calls, by stage, with baselines of the same run
    ColdWarm(Box<options::ColdWarm>),
}

impl Bench {
    /// Minds signals itself: what was measured by then is written, what was changed is put back.
    pub(super) async fn run(self) -> Result<(), Failed> {
        match self {
            Self::ColdWarm(command) => cold_warm::run(*command).await,
        }
    }
}
