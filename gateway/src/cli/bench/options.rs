//! What `stoic bench cold-warm` is asked, and what of it makes sense.

use super::ways::Way;
use crate::cli::client::{Access, Address};
use crate::cli::failed::Failed;
use crate::cli::output::Printing;
use crate::cli::quantity;
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Rounds below which nothing is concluded.
pub(super) const ENOUGH: u32 = 30;

const LONG: &str = "Measure how long calls take when their function has to be started, and when it is ready: on every \
backend named, in rounds that hold each way once, in an order drawn anew for each round.

What is measured, from before the request is sent to the last byte of its answer:
  cold          no process of the function exists at the site; its files are in the page cache
  cold-dropped  the same after the page cache was dropped (--drop-caches; needs root)
  zygote        no pod, but a parked process that has loaded everything is forked; the answer names the stage `fork`.
                A site that offers none has no such row, and the report says so
  standby       a ready pod waits that has never served a call of this caller's
  warm          the previous call has just been answered by the same pod
Baselines of the same run (--baseline):
  direct        the same request to a warm pod, around the gateway
  docker-run    `docker run --rm -p` of the same image until the same request is answered
  engine-floor  create and start by plain calls of the engine's API, until the same request is answered
  bare-pod      a pod of the same image made by one plain call of the cluster's API (KUBECONFIG), until the same request is
                answered

Medians, p90 and p99 have 95 % intervals by the bootstrap (1,000 resamples, of whole rounds); ratios are medians of the \
ratios within rounds. Load: closed-loop (each connection sends when it has its answer) and open-loop (a constant rate; \
each latency counts from the moment at which the request was due, sent or not, so that a stall is not left out). A \
fixed piece of arithmetic is timed before every measurement: where the middle 80 % of its times span more than 15 % of \
their median, the machine is too noisy to tell, and the report says so.

Without --gateway, the gateway at http://127.0.0.1:8080 is used; where none answers, the bench starts one of its own on \
a temporary folder, with a site per backend, says so, and ends it. Functions are those deployed there, or files of \
functions, which are deployed for the run; a gateway of the bench's own also knows `echo` and `wildlife`. Ctrl-C \
writes what was measured so far. What was changed (pods kept ready, functions deployed) is put back.

The page cache is dropped only when asked: it slows everybody else on the machine.";

/// Options of `stoic bench cold-warm`.
#[derive(Debug, Args)]
#[command(
    long_about = LONG,
    after_help = "Examples:\n  \
        stoic bench cold-warm --function wildlife --function hi --backend process,docker --out bench\n  \
        stoic bench cold-warm --function echo --own --out bench --baseline direct\n  \
        stoic bench cold-warm --function hi --backend docker --baseline docker-run,engine-floor,direct --burst 16 --out bench\n  \
        stoic bench cold-warm --function hi.yaml --own --backend kubernetes --baseline bare-pod,direct --out bench"
)]
pub(in crate::cli) struct ColdWarm {
    /// Function to measure: a name, or a file that is deployed for the run; may be given many times
    #[arg(short, long = "function", value_name = "NAME|FILE", required = true)]
    pub(super) functions: Vec<String>,
    /// Backends to measure on, comma-separated; each on the first runtime that it has
    #[arg(
        long = "backend",
        value_name = "KIND",
        value_delimiter = ',',
        default_value = "process"
    )]
    pub(super) backends: Vec<String>,
    /// Measure on this runtime of a backend, instead of its first: `process=edge`
    #[arg(long = "runtime", value_name = "KIND=RUNTIME", value_parser = quantity::pair)]
    runtimes: Vec<(String, String)>,
    /// Folder of the report
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Rounds; fewer than 30 need --short
    #[arg(long, value_name = "N", default_value_t = ENOUGH, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) rounds: u32,
    /// Allow fewer than 30 rounds; the report then says that nothing can be concluded
    #[arg(long)]
    pub(super) short: bool,
    /// Baselines to measure in the same rounds, comma-separated
    #[arg(
        long = "baseline",
        value_enum,
        value_name = "KIND",
        value_delimiter = ','
    )]
    baselines: Vec<Baseline>,
    /// Also measure with the page cache dropped (root; slows the whole machine for a moment)
    #[arg(long)]
    pub(super) drop_caches: bool,
    /// Also measure so many calls at once on a cold function
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(super) burst: Option<u32>,
    /// Rounds of bursts, each beside one cold start alone
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) burst_rounds: u32,
    /// Length of each load; 0 measures none
    #[arg(long, value_name = "TIME", value_parser = quantity::duration, default_value = "5s")]
    pub(super) load_time: Duration,
    /// Loads of each kind, interleaved
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) load_passes: u32,
    /// Connections of the closed loop
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(super) connections: u32,
    /// Requests a second of the open loop [default: half of what the closed loop reached]
    #[arg(allow_negative_numbers = true, long, value_name = "RATE")]
    pub(super) rate: Option<f64>,
    /// Items of each call of a batch function
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) items: u32,
    /// What to send to a function, instead of nothing (or its own sample, for batches)
    #[arg(long = "data", value_name = "NAME=FILE", value_parser = quantity::pair)]
    data: Vec<(String, String)>,
    /// Path inside a function
    #[arg(long = "path", value_name = "NAME=PATH", value_parser = quantity::pair)]
    paths: Vec<(String, String)>,
    /// Image of a function that the bench deploys, instead of its file's
    #[arg(long = "image", value_name = "NAME=IMAGE", value_parser = quantity::pair)]
    images: Vec<(String, String)>,
    /// Most pods of a function that the bench deploys [default: its file's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) max_pods: Option<u32>,
    /// Rest before each measurement, for what the one before left behind
    #[arg(long, value_name = "TIME", value_parser = quantity::duration, default_value = "200ms")]
    pub(super) settle: Duration,
    /// The same seed draws the same orders and the same intervals
    #[arg(long, value_name = "S", default_value_t = 2020)]
    pub(super) seed: u64,
    /// Start a gateway of the bench's own, whatever --gateway says or answers elsewhere
    #[arg(long)]
    pub(super) own: bool,
    /// URL of the gateway to talk to [default: http://127.0.0.1:8080 where one answers, else one of the bench's own]
    #[arg(long, env = "STOIC_GATEWAY", value_name = "URL")]
    pub(super) gateway: Option<Address>,
    #[command(flatten)]
    pub(super) access: Access,
    #[command(flatten)]
    pub(super) printing: Printing,
}

/// What calls are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Baseline {
    /// `docker run` of the same image
    DockerRun,
    /// The same request to a warm pod, around the gateway
    Direct,
    /// Create, start and first answer by plain calls of the engine's API
    EngineFloor,
    /// A bare pod of the same image, by plain calls of the cluster's API
    BarePod,
}

impl Baseline {
    fn way(self) -> Way {
        match self {
            Self::DockerRun => Way::DockerRun,
            Self::Direct => Way::Direct,
            Self::EngineFloor => Way::EngineFloor,
            Self::BarePod => Way::BarePod,
        }
    }
}

/// The options by function, checked.
#[derive(Debug, Default)]
pub(super) struct ByFunction {
    /// Files to send.
    pub(super) data: BTreeMap<String, PathBuf>,
    /// Paths inside.
    pub(super) paths: BTreeMap<String, String>,
    /// Images.
    pub(super) images: BTreeMap<String, String>,
}

impl ColdWarm {
    /// Refuses what makes no sense, before anything is started.
    pub(super) fn check(&self) -> Result<(), Failed> {
        let refuse = |text: String| Err(Failed::Input(text));
        if self.rounds < ENOUGH && !self.short {
            return refuse(format!(
                "--rounds {}: from fewer than {ENOUGH} rounds nothing can be concluded; say --short to run them all the same",
                self.rounds
            ));
        }
        if let Some(rate) = self.rate
            && !(rate.is_finite() && rate > 0.0 && rate <= 1e6)
        {
            return refuse(
                "--rate must be a number of requests a second above 0, at most 1000000".to_owned(),
            );
        }
        if self.load_time > Duration::from_secs(3600) || self.settle > Duration::from_secs(600) {
            return refuse("--load-time is at most 1h, --settle at most 10m".to_owned());
        }
        if let Some(twice) = twice(&self.functions) {
            return refuse(format!("--function {twice} is given twice"));
        }
        if let Some(twice) = twice(&self.backends) {
            return refuse(format!("--backend {twice} is given twice"));
        }
        for backend in &self.backends {
            let letters = backend.bytes().all(|b| b.is_ascii_lowercase());
            if backend.is_empty() || !letters {
                return refuse(format!(
                    "--backend: `{backend}` is no backend; write for example process,docker"
                ));
            }
        }
        for (backend, _) in &self.runtimes {
            if !self.backends.contains(backend) {
                return refuse(format!(
                    "--runtime {backend}=...: `{backend}` is not among --backend"
                ));
            }
        }
        for (_, path) in &self.paths {
            if !path.starts_with('/') || path.contains(char::is_whitespace) {
                return refuse(format!(
                    "--path: `{path}` must start with `/` and have no blanks"
                ));
            }
        }
        if self.drop_caches && !rustix::process::geteuid().is_root() {
            return refuse(
                "--drop-caches: only root may drop the page cache; leave it out, or run as root"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// The runtime of a backend that was named, if any.
    pub(super) fn runtime(&self, backend: &str) -> Option<&str> {
        self.runtimes
            .iter()
            .find(|(of, _)| of == backend)
            .map(|(_, runtime)| runtime.as_str())
    }

    /// The baselines.
    pub(super) fn baselines(&self) -> Vec<Way> {
        let mut ways: Vec<Way> = self.baselines.iter().map(|b| b.way()).collect();
        ways.sort_unstable();
        ways.dedup();
        ways
    }

    /// What was said of single functions, which have to be among those that are measured.
    pub(super) fn by_function(&self, names: &[String]) -> Result<ByFunction, Failed> {
        let keyed = |option: &str, pairs: &[(String, String)]| {
            let mut map = BTreeMap::new();
            for (name, value) in pairs {
                if !names.contains(name) {
                    return Err(Failed::Input(format!(
                        "--{option} {name}=...: `{name}` is not among the functions ({})",
                        names.join(", ")
                    )));
                }
                map.insert(name.clone(), value.clone());
            }
            Ok(map)
        };
        let data = keyed("data", &self.data)?;
        Ok(ByFunction {
            data: data.into_iter().map(|(k, v)| (k, v.into())).collect(),
            paths: keyed("path", &self.paths)?,
            images: keyed("image", &self.images)?,
        })
    }
}

fn twice(all: &[String]) -> Option<&String> {
    let mut seen = std::collections::BTreeSet::new();
    all.iter().find(|one| !seen.insert(*one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        bench: ColdWarm,
    }

    fn line(more: &[&str]) -> ColdWarm {
        let all = ["bench", "--function", "hi", "--out", "x"];
        let line = Line::try_parse_from(all.iter().chain(more));
        line.expect("parses").bench
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_option_named() {
        for (more, says) in [
            (&["--rounds", "5"][..], "--short"),
            (&["--rate", "0"], "--rate"),
            (&["--rate", "NaN"], "--rate"),
            (&["--backend", "process,process"], "given twice"),
            (&["--backend", "Docker!"], "is no backend"),
            (&["--backend", "process,"], "is no backend"),
            (&["--function", "hi"], "given twice"),
            (&["--runtime", "docker=x"], "not among --backend"),
            (&["--path", "hi=x"], "must start with `/`"),
        ] {
            let failed = line(more).check().expect_err(says);
            assert_eq!(failed.status(), 2);
            assert!(failed.to_string().contains(says), "{failed}");
        }
        line(&["--rounds", "3", "--short"]).check().expect("short");
        let failed = line(&["--data", "ho=x"])
            .by_function(&["hi".to_owned()])
            .expect_err("unknown");
        assert!(failed.to_string().contains("`ho`"), "{failed}");
    }

    #[test]
    fn every_way_is_defined_in_the_help() {
        for way in Way::ALL {
            let defined = format!("  {:<14}", way.name());
            assert!(LONG.contains(defined.trim_end()), "{}", way.name());
        }
    }
}
