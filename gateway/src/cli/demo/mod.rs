//! `stoic demo`: the main job on one machine, from nothing to labels.
//!
//! Starts a gateway of its own, deploys wildlife, trains it on generated scenes, runs batches whose sizes
//! follow the paper's workload, each on the runtime that the selector chose and then on the others, and
//! says how well the choice and the predictions held.

pub(super) mod child;
pub(super) mod packages;
mod plot;
mod report;

use super::call::{Carried, Destination, Progress};
use super::client::{Call, Client, Gateway};
use super::failed::Failed;
use super::output::say;
use super::quantity::seconds;
use super::workload::batches::{self, bootstrapped, send};
use child::Child;
use clap::Args;
use packages::{Pool, Truth};
use report::{Batch, Report};
use std::path::{Path, PathBuf};
use std::time::Instant;
use stoic_evaluation::workload::Sizes;

/// The function of the demo, as it is in `functions/wildlife`.
pub(super) const FUNCTION: &str = include_str!("../../../../functions/wildlife/function.yaml");
/// Largest batch: larger ones are cut, so that the demo ends in time.
const LARGEST: u32 = 200;
/// Altered copies of each labelled scene, for the same reason.
const COPIES: u32 = 3;

/// Options of `stoic demo`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stoic demo --batches 24 --seed 7 --out /tmp/demo")]
pub(super) struct Demo {
    /// Folder for labels, plot and summary
    #[arg(long, value_name = "DIR", default_value = "stoic-demo")]
    out: PathBuf,
    /// Batches to run
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=500))]
    batches: u32,
    /// Generated scenes to train on
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u32).range(10..=5000))]
    train: u32,
    /// The same seed draws the same scenes and batch sizes
    #[arg(long, value_name = "S", default_value_t = 2020)]
    seed: u64,
    /// Pixels per side of the network's input
    #[arg(long, value_name = "PIXELS", default_value_t = 384, value_parser = clap::value_parser!(u32).range(64..=1024))]
    size: u32,
    /// Share of the paper's deployment delays that the cloud's emulated ones have
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    deployment_scale: f64,
}

impl Demo {
    pub(super) async fn run(self) -> Result<(), Failed> {
        let begun = Instant::now();
        if !(self.deployment_scale.is_finite() && (0.0..=10.0).contains(&self.deployment_scale)) {
            return Err(Failed::Input(
                "--deployment-scale must be from 0 to 10".to_owned(),
            ));
        }
        let out = self.out.as_path();
        std::fs::create_dir_all(out.join("labels")).map_err(|e| Failed::io(out.display(), &e))?;
        let scratch = tempfile::tempdir().map_err(|e| Failed::io("a temporary folder", &e))?;

        say("1. A gateway with two sites on this machine, and the function wildlife on it")?;
        let config = format!(
            "[sites.edge]\n[sites.cloud]\n\
             emulated_link = {{ bandwidth = \"70.79 Mbit/s\", rtt = \"20ms\" }}\n\
             emulated_deployment = {{ trace = \"nautilus\", scale = {} }}\n",
            self.deployment_scale
        );
        let child = Child::start(scratch.path(), &out.join("gateway.log"), &config).await?;
        for line in &child.announced {
            say(&format!("   {line}"))?;
        }
        let client = Client::new(&Gateway::at(child.address.clone()))?;
        let progress = Progress::new(false);
        client.deploy(FUNCTION.to_owned()).await?;
        let sizes = Sizes::embedded().stratified(self.batches as usize, LARGEST, self.seed);
        let most = sizes.iter().copied().max().unwrap_or(1);

        say(&format!(
            "2. Scenes: {} labelled ones to train on, {most} others to work on (1920x1080 JPEG)",
            self.train
        ))?;
        let labelled = packages::scenes(
            &scratch.path().join("labelled.zip"),
            self.train,
            self.seed,
            true,
            &progress,
        )
        .await?;
        let pool = packages::scenes(
            &scratch.path().join("pool.zip"),
            most,
            self.seed + 1,
            false,
            &progress,
        )
        .await?;
        let truth = Truth::read(&pool)?;
        bootstrapped(&client, "wildlife", &progress).await?;

        say("3. Training: the pretrained backbone frozen, two dense layers of 1024 on top")?;
        let training = Call {
            action: Some("train".to_owned()),
            parameters: vec![
                ("size".to_owned(), self.size.to_string()),
                ("copies".to_owned(), COPIES.to_string()),
            ],
            ..empty_call()
        };
        let trained = send(&client, &labelled, training, &progress).await?;
        progress.finish();
        let answer = fetch(&client, &trained, &out.join("training.json")).await?;
        say(&format!(
            "   model {} in {} s on {}{}",
            trained.summary.model.as_deref().unwrap_or("?"),
            seconds(trained.summary.actual.response()),
            trained.summary.runtime,
            report::validation(&answer)
                .map_or_else(String::new, |v| format!("; on images set aside: {v}")),
        ))?;

        // A new model is a new version: its representative tasks come before its first prediction.
        bootstrapped(&client, "wildlife", &progress).await?;
        progress.finish();

        say(
            "4. Batches: sizes as the paper's cameras made them. Each runs where the selector chose, then elsewhere to compare",
        )?;
        say(report::HEADING)?;
        let pool = Pool::open(&pool)?;
        let mut report = Report::default();
        let runtimes: Vec<String> = client
            .runtimes()
            .await?
            .into_iter()
            .map(|runtime| runtime.name)
            .collect();
        for (number, items) in sizes.iter().enumerate() {
            let package = scratch.path().join("batch.zip");
            pool.sample(*items as usize, self.seed + 100 + number as u64, &package)?;
            let carried = send(&client, &package, empty_call(), &Progress::Quiet).await?;
            let labels = fetch(
                &client,
                &carried,
                &out.join("labels")
                    .join(format!("batch_{:02}.json", number + 1)),
            )
            .await?;
            let mut batch = Batch::new(number + 1, &carried, truth.judge(&labels));
            progress.finish();
            say(&batch.line())?;
            for other in runtimes
                .iter()
                .filter(|runtime| **runtime != carried.summary.runtime)
            {
                let pinned = Call {
                    runtime: Some(other.clone()),
                    ..empty_call()
                };
                let compared = send(&client, &package, pinned, &Progress::Quiet).await?;
                batch.compare(&compared);
            }
            report.add(batch);
        }
        progress.finish();

        let summary = report.finish(&runtimes);
        say(&summary.text())?;
        report.write(out, &summary)?;
        let measured =
            "stoic predict, stoic pods and stoic measurements show the same of a gateway of yours";
        say(&format!(
            "Written: {out}/labels/*.json, {out}/predicted-actual.svg, {out}/summary.json, {out}/training.json\n\
             Took {} s. The gateway of the demo is gone; to go on:\n\
             \x20 target/release/stoic up &                                       # a gateway that stays\n\
             \x20 target/release/stoic function deploy functions/wildlife/function.yaml\n\
             \x20 target/release/stoic function call wildlife --action train --data YOUR_PHOTOS.zip   # one folder per class\n\
             \x20 target/release/stoic function call wildlife --data MORE_PHOTOS.zip --output labels.json\n\
             {measured}.",
            begun.elapsed().as_secs(),
            out = out.display()
        ))?;
        child.stop().await;
        Ok(())
    }
}

fn empty_call() -> Call {
    batches::call("wildlife", None, None)
}

/// Brings a result to a file and reads it.
async fn fetch(
    client: &Client,
    carried: &Carried,
    path: &Path,
) -> Result<serde_json::Value, Failed> {
    let destination = Destination::open(Some(path))?;
    destination
        .write(client.result(&carried.result).await?)
        .await?;
    let text = std::fs::read(path).map_err(|e| Failed::io(path.display(), &e))?;
    serde_json::from_slice(&text).map_err(|e| Failed::Machine(format!("{}: {e}", path.display())))
}
