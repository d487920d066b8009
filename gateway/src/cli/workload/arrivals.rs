//! `stoic workload arrivals`.

use super::source;
use crate::cli::failed::Failed;
use crate::cli::output::say;
use clap::Args;
use std::path::PathBuf;
use stoic_evaluation::log::hourly_activity;
use stoic_evaluation::workload::{self, Activity, Arrival, EMPTY_HOURS, TRACE_BEGINS};

/// Most days drawn at once.
const DAYS: i64 = 400_000;

/// Where arrivals are drawn from, for commands that need some.
#[derive(Debug, Clone, Args)]
pub(super) struct Source {
    /// Hourly batch sizes (column images); where it holds zeros, their share is that of hours without images
    #[arg(long, value_name = "SIZES.csv")]
    from: Option<PathBuf>,
    /// Mean images by hour of day (columns hour, mean_images) [default: the authors' camera, embedded]
    #[arg(long, value_name = "HOURLY.csv")]
    activity: Option<PathBuf>,
    /// Days to draw
    #[arg(long, value_name = "D", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=DAYS))]
    days: u32,
    /// The same seed draws the same arrivals
    #[arg(long, value_name = "S", default_value_t = 2020)]
    seed: u64,
}

impl Source {
    /// Every hour, those without images as zeros.
    pub(super) fn draw(&self) -> Result<impl Iterator<Item = Arrival>, Failed> {
        let (sizes, empty) = source(self.from.as_deref())?;
        let means = match &self.activity {
            Some(path) => hourly_activity(path)?,
            None => Activity::published(),
        };
        let activity = Activity::of(&means, empty.unwrap_or(EMPTY_HOURS));
        let drawn: Vec<Arrival> =
            workload::arrivals(&sizes, &activity, self.days, self.seed).collect();
        Ok(drawn.into_iter())
    }

    /// What the draws come from.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }
}

/// Options of `stoic workload arrivals`.
#[derive(Debug, Args)]
#[command(
    long_about = "Draw arrivals over days and print them as CSV (epoch, images): the beginning of each hour that brings \
        images, and how many.\n\n\
        66.53 % of hours bring none, as in the authors' trace, unless --from holds hours without images; the others \
        follow the activity by hour of day, in UTC from the first hour on, which is midnight.",
    after_help = "Examples:\n  \
        stoic workload arrivals --days 30 --seed 7 > arrivals.csv\n  \
        stoic workload arrivals --from hourly_batch_sizes.csv --activity hourly.csv --days 365 --all-hours"
)]
pub(in crate::cli) struct DrawArrivals {
    #[command(flatten)]
    source: Source,
    /// Epoch of the first hour [default: the authors' trace, 13 July 2013]
    #[arg(long, value_name = "EPOCH", default_value_t = TRACE_BEGINS as u64)]
    start: u64,
    /// Print hours without images too
    #[arg(long)]
    all_hours: bool,
}

impl DrawArrivals {
    pub(super) fn run(self) -> Result<(), Failed> {
        let mut text = String::from("epoch,images\n");
        for arrival in self.source.draw()? {
            if arrival.images > 0 || self.all_hours {
                let epoch = self.start.saturating_add(arrival.hour * 3600);
                text += &format!("{epoch},{}\n", arrival.images);
            }
        }
        say(&text)
    }
}
