//! Generated scenes, batches drawn from them, and the truth that labels are held against.

use crate::cli::call::Progress;
use crate::cli::failed::Failed;
use rand::rngs::StdRng;
use rand::seq::index;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use stoic_package::{Limits, Package};
use tokio::process::Command;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Has the wildlife binary, which lies beside this one, write a package of scenes.
pub(in crate::cli) async fn scenes(
    path: &Path,
    count: u32,
    seed: u64,
    labelled: bool,
    progress: &Progress,
) -> Result<PathBuf, Failed> {
    progress.phase(&format!("painting {count} scenes"));
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join("stoic-wildlife")))
        .filter(|exe| exe.is_file());
    let mut command = Command::new(beside.unwrap_or_else(|| PathBuf::from("stoic-wildlife")));
    command.arg("scenes").arg("--out").arg(path).args([
        "--count",
        &count.to_string(),
        "--seed",
        &seed.to_string(),
    ]);
    if labelled {
        command.arg("--labelled");
    }
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = output.map_err(|e| Failed::Machine(format!("stoic-wildlife cannot be started ({e}): it belongs beside the stoic binary; `make build` makes both")))?;
    if output.status.success() {
        return Ok(path.to_path_buf());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(Failed::Machine(format!(
        "stoic-wildlife scenes: {}",
        text.lines().last().unwrap_or("failed")
    )))
}

/// What the scenes really show.
#[derive(Debug)]
pub(super) struct Truth(HashMap<String, String>);

#[derive(Deserialize)]
struct TruthFile {
    images: Vec<TruthOfImage>,
}

#[derive(Deserialize)]
struct TruthOfImage {
    file: String,
    label: String,
}

impl Truth {
    /// Reads what was written beside a package.
    pub(super) fn read(package: &Path) -> Result<Self, Failed> {
        let path = package.with_extension("truth.json");
        let text = std::fs::read(&path).map_err(|e| Failed::io(path.display(), &e))?;
        let file: TruthFile = serde_json::from_slice(&text)
            .map_err(|e| Failed::Machine(format!("{}: {e}", path.display())))?;
        Ok(Self(
            file.images
                .into_iter()
                .map(|image| (image.file, image.label))
                .collect(),
        ))
    }

    /// How many labels of an answer are right, of how many.
    pub(super) fn judge(&self, answer: &serde_json::Value) -> (usize, usize) {
        let items = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
        let right = items.iter().filter(|item| {
            let label = item["label"].as_str();
            // Items drawn twice carry a number before their name.
            let name = item["name"]
                .as_str()
                .map(|name| name.rsplit('/').next().unwrap_or(name));
            name.and_then(|name| self.0.get(name)).map(String::as_str) == label && label.is_some()
        });
        (right.count(), items.len())
    }
}

/// Scenes that batches are drawn from.
#[derive(Debug)]
pub(in crate::cli) struct Pool(Package);

impl Pool {
    /// Opens a package of scenes.
    pub(in crate::cli) fn open(path: &Path) -> Result<Self, Failed> {
        let file = File::open(path).map_err(|e| Failed::io(path.display(), &e))?;
        let package = Package::open(
            Arc::new(file),
            stoic_protocol::ZIP_MEDIA_TYPE,
            Limits::default(),
        );
        package
            .map(Self)
            .map_err(|e| Failed::Machine(format!("{}: {e}", path.display())))
    }

    /// Whether there is nothing to draw from.
    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.0.items().is_empty()
    }

    /// Writes a batch of so many scenes, each at most once as long as there are enough.
    pub(in crate::cli) fn sample(
        &self,
        items: usize,
        seed: u64,
        path: &Path,
    ) -> Result<(), Failed> {
        let cannot =
            |e: &dyn std::fmt::Display| Failed::Machine(format!("{}: {e}", path.display()));
        let mut rng = StdRng::seed_from_u64(seed);
        let all = self.0.items();
        let mut drawn = index::sample(&mut rng, all.len(), items.min(all.len())).into_vec();
        drawn.extend((drawn.len()..items).map(|_| rng.random_range(0..all.len())));
        let mut zip =
            ZipWriter::new(File::create(path).map_err(|e| Failed::io(path.display(), &e))?);
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for (number, at) in drawn.into_iter().enumerate() {
            let bytes = self.0.read(at).map_err(|e| cannot(&e))?;
            zip.start_file(format!("{number:04}/{}", all[at].name), stored)
                .map_err(|e| cannot(&e))?;
            zip.write_all(&bytes).map_err(|e| cannot(&e))?;
        }
        zip.finish().map_err(|e| cannot(&e))?;
        Ok(())
    }
}
