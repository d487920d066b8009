//! `stoic evaluate replay`.

use super::{default_out, deliver};
use crate::cli::failed::Failed;
use clap::Args;
use std::path::PathBuf;
use stoic_evaluation::log::{Deployments, Runs, hourly_activity, sizes};
use stoic_evaluation::report::{self, Folder};
use stoic_evaluation::workload::{Activity, Sizes};

/// Options of `stoic evaluate replay`.
#[derive(Debug, Args)]
#[command(
    long_about = "Walk a log of invocations in the order of time and predict each row from the rows before it, by the \
        paper's own method and by ours; play every policy on the batches that ran on several runtimes.\n\n\
        RUNS.csv has the columns epoch, image_num, runtime, act_total, act_transfer, act_deploy, act_proc and, where \
        the log has them, pred_total, pred_transfer, pred_deploy, pred_proc, file; seconds, rows in the order of time. \
        DEP.csv has batch, runtime, act_deploy and image_num, which may be empty.\n\n\
        Writes report.md, index.html, summary.json, tables/*.csv and figures/*.svg. Files in the folder that no \
        evaluation wrote are never replaced.",
    after_help = "Examples:\n  \
        stoic evaluate replay --runs runs.csv\n  \
        stoic evaluate replay --runs runs.csv --deployments deployments.csv --out target/evaluation"
)]
pub(in crate::cli) struct Replay {
    /// Log of invocations
    #[arg(long, value_name = "RUNS.csv")]
    runs: PathBuf,
    /// Log of deployments
    #[arg(long, value_name = "DEP.csv")]
    deployments: Option<PathBuf>,
    /// Hourly batch sizes (column images) for Figure 4 [default: the authors' camera, from an embedded table]
    #[arg(long, value_name = "SIZES.csv")]
    sizes: Option<PathBuf>,
    /// Mean images by hour of day (columns hour, mean_images) for Figure 4 [default: embedded]
    #[arg(long, value_name = "HOURLY.csv")]
    activity: Option<PathBuf>,
    /// Folder of the report
    #[arg(long, value_name = "DIR", default_value_os_t = default_out())]
    out: PathBuf,
    /// The same seed gives the same report
    #[arg(long, value_name = "S", default_value_t = 2020)]
    seed: u64,
}

impl Replay {
    pub(super) fn run(self) -> Result<(), Failed> {
        let runs = Runs::read(&self.runs)?;
        let deployments = self
            .deployments
            .as_deref()
            .map(Deployments::read)
            .transpose()?;
        let (mut workload, mut embedded) = (Vec::new(), Vec::new());
        let sizes = match &self.sizes {
            Some(path) => {
                workload.push(format!("the sizes in {}", path.display()));
                let seen = sizes(path)?;
                Sizes::of(&seen)
                    .ok_or_else(|| Failed::Input(format!("{}: no batch", path.display())))?
            }
            None => {
                embedded.push("sizes");
                Sizes::embedded()
            }
        };
        let mean_images = match &self.activity {
            Some(path) => {
                workload.push(format!("the activity in {}", path.display()));
                hourly_activity(path)?
            }
            None => {
                embedded.push("activity");
                Activity::published()
            }
        };
        if !embedded.is_empty() {
            workload.push(format!(
                "the {} of the authors' camera (embedded)",
                embedded.join(" and ")
            ));
        }
        let folder = Folder::open(&self.out)?;
        let replay = report::Replay {
            runs: &runs,
            deployments: deployments.as_ref(),
            sizes: &sizes,
            mean_images: &mean_images,
            workload: workload.join(" and "),
            seed: self.seed,
        };
        deliver(&folder, &self.out, &replay.report(), "replay")
    }
}
