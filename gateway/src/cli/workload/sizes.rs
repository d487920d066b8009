//! `stoic workload sizes`.

use super::source;
use crate::cli::failed::Failed;
use crate::cli::output::say;
use clap::Args;
use std::path::PathBuf;

/// Options of `stoic workload sizes`.
#[derive(Debug, Args)]
#[command(
    long_about = "Draw batch sizes from the conditional empirical distribution Pr(x < K | x > 0) of a list of hourly \
        batch sizes, and print them as CSV (images).\n\n\
        Without --from the sizes are those of the authors' camera, from an embedded table of its quantiles.",
    after_help = "Examples:\n  \
        stoic workload sizes --count 162 --seed 7\n  \
        stoic workload sizes --from hourly_batch_sizes.csv --count 10000 > sizes.csv"
)]
pub(in crate::cli) struct DrawSizes {
    /// Hourly batch sizes (column images); zeros are hours without images
    #[arg(long, value_name = "SIZES.csv")]
    from: Option<PathBuf>,
    /// How many to draw
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    count: u32,
    /// The same seed draws the same sizes
    #[arg(long, value_name = "S", default_value_t = 2020)]
    seed: u64,
}

impl DrawSizes {
    pub(super) fn run(self) -> Result<(), Failed> {
        let (sizes, _) = source(self.from.as_deref())?;
        let mut text = String::from("images\n");
        for size in sizes.draws(self.count as usize, self.seed) {
            text += &format!("{size}\n");
        }
        say(&text)
    }
}
