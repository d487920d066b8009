//! `stoic-wildlife scenes`: writes a package of synthetic scenes with their truth.

use crate::scenes::{Class, PackageOptions, write_package};
use anyhow::{Context, Result, bail};
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

/// Write a package of synthetic camera-trap scenes (1920x1080 JPEG, about 0.2 MB each)
#[derive(Debug, clap::Args)]
pub struct ScenesCommand {
    /// The zip to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Number of scenes
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    count: u64,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One folder per class, classes of equal size: a package to train on
    #[arg(long)]
    labelled: bool,
    /// Classes to draw from [default: all five]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CLASS")]
    classes: Vec<Class>,
    /// Where the truth goes, as JSON [default: beside the zip, as NAME.truth.json]
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Size of the images
    #[arg(long, default_value = "1920x1080", value_parser = size)]
    size: (usize, usize),
    /// Threads [default: all]
    #[arg(long)]
    threads: Option<usize>,
}

fn size(text: &str) -> Result<(usize, usize), String> {
    let parsed = text
        .split_once('x')
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match parsed {
        Some((w, h)) if (48..=8192).contains(&w) && (48..=8192).contains(&h) => Ok((w, h)),
        _ => Err("write it as 1920x1080, each side from 48 to 8192".to_owned()),
    }
}

impl ScenesCommand {
    /// Writes the package; an older file of the name is replaced only when the new one is whole.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn run(&self) -> Result<()> {
        let Some(name) = self.out.file_name() else {
            bail!("--out {} names no file", self.out.display())
        };
        let options = PackageOptions {
            count: self.count,
            seed: self.seed,
            labelled: self.labelled,
            classes: self.classes.clone(),
            size: self.size,
            threads: self
                .threads
                .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        };
        let folder = self
            .out
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .map_or(PathBuf::from("."), PathBuf::from);
        let file = tempfile::Builder::new()
            .prefix(name)
            .tempfile_in(&folder)
            .with_context(|| format!("cannot write in {}", folder.display()))?;
        let began = Instant::now();
        let shown = std::io::stderr().is_terminal();
        let summary = write_package(BufWriter::new(file.as_file()), &options, |done| {
            if shown {
                // Progress on a terminal is a courtesy; losing it loses nothing.
                let _ = write!(std::io::stderr(), "\r{done} of {} scenes", self.count);
            }
        })?;
        if shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        file.as_file().sync_all()?;
        file.persist(&self.out)
            .with_context(|| format!("cannot write {}", self.out.display()))?;
        let truth = self
            .truth
            .clone()
            .unwrap_or_else(|| self.out.with_extension("truth.json"));
        let json = serde_json::to_vec_pretty(&summary)?;
        std::fs::write(&truth, json)
            .with_context(|| format!("cannot write {}", truth.display()))?;
        let seconds = began.elapsed().as_secs_f64();
        let classes: Vec<String> = summary
            .classes
            .iter()
            .map(|(class, n)| format!("{n} {class}"))
            .collect();
        println!(
            "{}: {} scenes ({}), {:.1} MB, {:.1} scenes/s; truth in {}",
            self.out.display(),
            self.count,
            classes.join(", "),
            summary.bytes as f64 / 1e6,
            self.count as f64 / seconds,
            truth.display()
        );
        Ok(())
    }
}
