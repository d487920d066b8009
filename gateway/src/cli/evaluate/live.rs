//! `stoic evaluate live`: every batch on every runtime of a running gateway and in every mode.

use super::measured::Measured;
use super::{default_out, deliver};
use crate::cli::call::Progress;
use crate::cli::client::{Client, Gateway};
use crate::cli::failed::Failed;
use crate::cli::output::{complain, say};
use crate::cli::workload::batches::{self, Batches};
use crate::function::Input;
use clap::Args;
use std::path::PathBuf;
use stoic_evaluation::report::Folder;
use stoic_evaluation::workload::Sizes;

/// Modes beyond the selector, which a gateway may or may not know.
const MODES: [&str; 4] = ["hedged", "duplicator", "cooperative", "auto"];

/// Options of `stoic evaluate live`.
#[derive(Debug, Args)]
#[command(
    long_about = "Run batches on a running gateway, each on every runtime (pinned) and then in every mode that the \
        gateway knows, and compare them with what the selector would have chosen. Sizes are those of the paper's \
        cameras. Items come from --data, or are scenes that stoic-wildlife paints.\n\n\
        Every batch runs as often as there are runtimes and modes: this takes a while.",
    after_help = "Examples:\n  \
        stoic evaluate live --function wildlife --batches 30\n  \
        stoic evaluate live --function wildlife --batches 10 --largest 50 --data photos.zip --out /tmp/live"
)]
pub(in crate::cli) struct Live {
    /// The function; its input must be `batch`
    #[arg(long, value_name = "NAME")]
    function: String,
    /// Batches to run
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batches: u32,
    /// Larger batches are cut to so many items
    #[arg(long, value_name = "ITEMS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    largest: u32,
    /// Package that items are drawn from [default: painted scenes]
    #[arg(long, value_name = "ZIP")]
    data: Option<PathBuf>,
    /// Modes to run besides pinned ones [default: all that the gateway knows]
    #[arg(long, value_name = "MODE", value_delimiter = ',', value_parser = MODES)]
    modes: Option<Vec<String>>,
    /// The same seed draws the same batches
    #[arg(long, value_name = "S", default_value_t = 2020)]
    seed: u64,
    /// Folder of the report
    #[arg(long, value_name = "DIR", default_value_os_t = default_out())]
    out: PathBuf,
    #[command(flatten)]
    gateway: Gateway,
}

impl Live {
    pub(super) async fn run(self) -> Result<(), Failed> {
        let client = Client::new(&self.gateway)?;
        let view = client.function(&self.function).await?;
        if view.object.spec.input != Input::Batch {
            return Err(Failed::Input(format!(
                "{} has input `request`: only functions with `input: batch` can be evaluated",
                self.function
            )));
        }
        let folder = Folder::open(&self.out)?;
        let progress = Progress::new(false);
        let sizes = Sizes::embedded().stratified(self.batches as usize, self.largest, self.seed);
        let most = sizes.iter().copied().max().unwrap_or(1);
        let source = Batches::open(self.data.as_deref(), most, self.seed, &progress).await?;
        batches::bootstrapped(&client, &self.function, &progress).await?;
        progress.finish();

        let runtimes: Vec<String> = client
            .runtimes()
            .await?
            .into_iter()
            .map(|runtime| runtime.name)
            .collect();
        let mut modes: Vec<String> = self
            .modes
            .clone()
            .unwrap_or_else(|| MODES.map(str::to_owned).to_vec());
        let mut notes = Vec::new();
        let mut measured = Measured::default();
        for (number, items) in sizes.iter().copied().enumerate() {
            let package = source.package(items, self.seed + 100 + number as u64)?;
            let bytes = std::fs::metadata(package.path()).map_or(0, |data| data.len());
            let choice = client
                .predict(&self.function, u64::from(items), bytes, None)
                .await?
                .choice;
            measured.batch(items);
            for runtime in &runtimes {
                progress.phase(&format!("batch {}: {items} items on {runtime}", number + 1));
                let call = batches::call(&self.function, Some(runtime), None);
                match batches::send(&client, package.path(), call, &Progress::Quiet).await {
                    Ok(carried) => measured.ran(items, &carried),
                    Err(failed) => note(&mut notes, &progress, failed, number, runtime)?,
                }
            }
            // What no runtime takes once, none will take again.
            if measured.is_empty() {
                break;
            }
            if let Some(runtime) = &choice {
                measured.chosen(runtime);
            }
            let mut unknown = None;
            for mode in &modes {
                progress.phase(&format!("batch {}: {items} items, mode {mode}", number + 1));
                let call = batches::call(&self.function, None, Some(mode));
                match batches::send(&client, package.path(), call, &Progress::Quiet).await {
                    Ok(carried) => measured.in_mode(mode, &carried),
                    // An older gateway says so of the first batch, at once.
                    Err(failed) if failed.status() == crate::cli::failed::BAD_INPUT => {
                        notes.push(format!("This gateway does not run mode {mode}: {failed}."));
                        unknown = Some(mode.clone());
                        break;
                    }
                    Err(failed) => note(&mut notes, &progress, failed, number, mode)?,
                }
            }
            modes.retain(|mode| Some(mode) != unknown.as_ref());
            progress.finish();
            if let Some(case) = measured.over() {
                say(&line(number, items, choice.as_deref(), case))?;
            }
        }
        if measured.is_empty() {
            return Err(Failed::Machine(format!(
                "no batch ran: {}",
                notes.first().map_or("", String::as_str)
            )));
        }
        let gateway = self.gateway.address.to_string();
        let report = measured.report(&gateway, &self.function, notes, self.seed);
        say("")?;
        deliver(&folder, &self.out, &report, "live")
    }
}

/// One run that failed is said and left out; a gateway that is gone ends the evaluation.
fn note(
    notes: &mut Vec<String>,
    progress: &Progress,
    failed: Failed,
    number: usize,
    place: &str,
) -> Result<(), Failed> {
    if matches!(failed, Failed::Unreachable { .. } | Failed::Interrupted(_)) {
        return Err(failed);
    }
    progress.finish();
    let text = format!("batch {}, {place}: {failed}", number + 1);
    complain(&text);
    notes.push(format!("Left out: {text}."));
    Ok(())
}

fn line(
    number: usize,
    items: u32,
    choice: Option<&str>,
    case: &stoic_evaluation::score::Case,
) -> String {
    let mut text = format!("batch {:3}  {items:5} items ", number + 1);
    for (runtime, seconds) in &case.everywhere_s {
        let mark = if Some(runtime.as_str()) == choice {
            "*"
        } else {
            ""
        };
        text += &format!("  {runtime}{mark} {seconds:.2} s");
    }
    for mode in MODES {
        if let Some(outcome) = case.outcomes.get(mode) {
            text += &format!("  {mode} {:.2} s", outcome.response_s);
        }
    }
    text
}
