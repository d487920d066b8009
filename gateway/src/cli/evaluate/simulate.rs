//! `stoic evaluate simulate`.

use super::{default_out, deliver};
use crate::cli::call::Progress;
use crate::cli::failed::Failed;
use clap::Args;
use std::path::PathBuf;
use stoic_evaluation::report::{Folder, simulation};
use stoic_evaluation::simulate::{Scenario, run_telling};

/// The scenario that is built in.
const NAUTILUS: &str = "nautilus";

/// Options of `stoic evaluate simulate`.
#[derive(Debug, Args)]
#[command(
    long_about = "Simulate batches on a scenario: links, runtimes, deployments, processing and failures as a file says, \
        predictions and decisions by the gateway's own code. Nothing in it is measured.\n\n\
        `nautilus`, which is built in, is the paper's edge and cloud by the published facts.",
    after_help = "Examples:\n  \
        stoic evaluate simulate --scenario nautilus --batches 10000 --seed 7\n  \
        stoic evaluate simulate --scenario farm.toml --batches 100000 --out /tmp/farm"
)]
pub(in crate::cli) struct Simulate {
    /// Scenario file (TOML), or `nautilus`
    #[arg(long, value_name = "FILE|nautilus", default_value = NAUTILUS)]
    scenario: PathBuf,
    /// Batches to simulate
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    batches: u32,
    /// The same seed draws the same batches, deployments and failures
    #[arg(long, value_name = "S", default_value_t = 2020)]
    seed: u64,
    /// Folder of the report
    #[arg(long, value_name = "DIR", default_value_os_t = default_out())]
    out: PathBuf,
}

impl Simulate {
    pub(super) fn run(self) -> Result<(), Failed> {
        let scenario = if self.scenario.as_os_str() == NAUTILUS {
            Scenario::nautilus()
        } else {
            let name = self.scenario.display();
            let text = std::fs::read_to_string(&self.scenario).map_err(|e| {
                Failed::Input(format!(
                    "{name}: {e}; name a scenario file, or the built-in `nautilus`"
                ))
            })?;
            Scenario::parse(&text).map_err(|e| Failed::Input(format!("{name}: {e}")))?
        };
        let folder = Folder::open(&self.out)?;
        let progress = Progress::new(false);
        progress.phase("drawing batches and learning from them");
        let outcome = run_telling(&scenario, self.batches as usize, self.seed, &|done, of| {
            progress.steps("policies simulated", done as u64, of as u64);
        });
        progress.phase("writing the report");
        let report = simulation(&scenario, &outcome);
        progress.finish();
        deliver(&folder, &self.out, &report, "simulate")
    }
}
