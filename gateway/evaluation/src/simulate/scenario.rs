//! The scenario: what is simulated, read from a TOML file. Every key is checked; a wrong one is an error with its line.

use serde::{Deserialize, Serialize};
use stoic_placement::hedge::Budget;
use thiserror::Error;

use super::units::{Count, Factor, Name, Positive, Quantiles, Seconds, Share, Window};
use crate::workload::Sizes;

/// The built-in scenario of the paper's edge and cloud.
const NAUTILUS: &str = include_str!("nautilus.toml");

/// A scenario file that cannot be used: one line, with the line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {what}")]
pub struct ScenarioError {
    /// Line of the file, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// What is simulated. `nautilus.toml` beside this file is the example of every part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// A name for tables.
    pub name: String,
    /// The batches.
    #[serde(default)]
    pub workload: Workload,
    /// The way from the edge to the cloud.
    #[serde(default)]
    pub link: Link,
    /// How the cloud is watched.
    #[serde(default)]
    pub inquisitor: Inquisitor,
    /// What hedging may spend per invocation.
    #[serde(default)]
    pub hedge: Budget,
    /// How many batches at most are learned from, spread evenly; the time of a fit bounds what a long simulation can
    /// afford.
    #[serde(default)]
    pub learning: Learning,
    /// The runtimes, the preferred first; one of them is the edge.
    #[serde(rename = "runtime")]
    pub runtimes: Vec<Runtime>,
}

/// The batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workload {
    /// Where sizes come from.
    pub sizes: SizeSource,
    /// Mean seconds between two batches.
    pub every_s: Positive,
    /// When they come.
    pub arrivals: Arrivals,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            sizes: SizeSource::Trap(Trap::CameraTrap),
            every_s: Positive(3600.0),
            arrivals: Arrivals::Periodic,
        }
    }
}

/// Where batch sizes come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SizeSource {
    /// A built-in distribution.
    Trap(Trap),
    /// Sizes that are equally likely.
    List(Vec<Count>),
}

/// A built-in distribution of batch sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trap {
    /// The hourly batches of the paper's Figure 4.
    CameraTrap,
}

/// When batches come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// At equal distances.
    Periodic,
    /// At random, as of many independent sources.
    Poisson,
}

/// The way from the edge to the cloud. One batch's items travel one after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// Bytes of an item.
    pub bytes_per_item: Seconds,
    /// Bytes per second.
    pub bytes_per_s: Positive,
    /// Round trip, seconds.
    pub rtt_s: Seconds,
    /// Standard deviation of the logarithm of a batch's bandwidth.
    pub noise: Seconds,
    /// When nothing passes: seconds from the start of the simulation.
    pub outages: Vec<Window>,
}

impl Default for Link {
    /// The authors' default link and images.
    fn default() -> Self {
        Self {
            bytes_per_item: Seconds(212_000.0),
            bytes_per_s: Positive(70.79e6 / 8.0),
            rtt_s: Seconds(0.02),
            noise: Seconds(0.0),
            outages: Vec::new(),
        }
    }
}

/// How the cloud is watched.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inquisitor {
    /// Seconds between two probes of a runtime.
    pub every_s: Positive,
    /// Seconds after which a deployment is given up.
    pub timeout_s: Positive,
}

impl Default for Inquisitor {
    fn default() -> Self {
        Self {
            every_s: Positive(60.0),
            timeout_s: Positive(600.0),
        }
    }
}

/// How the histories learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Learning {
    /// Batches learned from at most, spread evenly over all.
    pub batches: usize,
    /// Probes of the inquisitor taken into the history before each of them.
    pub probes: usize,
}

impl Default for Learning {
    fn default() -> Self {
        Self {
            batches: 2000,
            probes: 3,
        }
    }
}

/// A runtime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Its name.
    pub name: Name,
    /// Whether it is the edge: one server with a standby pod, where the batch already is.
    #[serde(default)]
    pub edge: bool,
    /// GPUs: how much a second of it counts for on the account.
    #[serde(default = "one")]
    pub units: Count,
    /// What running takes.
    pub processing: Processing,
    /// What bringing a pod up takes; left out, a standby is always ready.
    #[serde(default)]
    pub deployment: Option<Deployment>,
    /// Seconds that each chunk of a cooperative batch costs beside its items.
    #[serde(default)]
    pub chunk_overhead_s: Seconds,
    /// Chance that the pod dies while it works a batch, at any moment alike.
    #[serde(default)]
    pub dies: Share,
    /// When no pod of it comes up: seconds from the start of the simulation.
    #[serde(default)]
    pub outages: Vec<Window>,
    /// Changes of regime, in order of time; the last one begun holds.
    #[serde(default)]
    pub regimes: Vec<Regime>,
}

const fn one() -> Count {
    Count(1)
}

/// T_p of n items: `(start_s + per_item_s * n)`, times a batch's noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processing {
    /// Seconds before the first item.
    #[serde(default)]
    pub start_s: Seconds,
    /// Seconds an item.
    pub per_item_s: Positive,
    /// Standard deviation of the logarithm of a batch's pace.
    #[serde(default)]
    pub noise: Seconds,
    /// Chance that a batch meets a slow machine.
    #[serde(default)]
    pub slow_chance: Share,
    /// How much slower it then is.
    #[serde(default)]
    pub slow_factor: Factor,
}

/// T_d.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Points of its distribution, share and seconds, rising, from 0 to 1. Between two points it is linear up to 90 %
    /// and geometric above, where tails are long.
    pub quantiles: Quantiles,
    /// Chance that a try fails half-way and is made again, after a pause of 100 ms that doubles (section 3.7); ten
    /// failures in a row give the runtime up.
    #[serde(default)]
    pub fails: Share,
}

/// A change of a runtime's ways.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regime {
    /// Seconds from the start of the simulation from which it holds.
    pub from_s: Seconds,
    /// What processing takes is multiplied by this.
    #[serde(default)]
    pub processing: Factor,
    /// What deployment takes is multiplied by this.
    #[serde(default)]
    pub deployment: Factor,
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// It is no TOML, has an unknown or missing key or a value out of range; names the line.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            let line = 1 + text.as_bytes()[..start]
                .iter()
                .filter(|b| **b == b'\n')
                .count();
            let what = error.message().trim().replace('\n', "; ");
            ScenarioError { line, what }
        })?;
        scenario.check().map_err(|(key, what)| {
            let found = text.lines().position(|line| line.contains(&key));
            ScenarioError {
                line: 1 + found.unwrap_or(0),
                what,
            }
        })?;
        Ok(scenario)
    }

    /// The built-in scenario.
    ///
    /// # Panics
    /// Never: the built-in file is read by a test.
    #[must_use]
    pub fn nautilus() -> Self {
        #[expect(
            clippy::expect_used,
            reason = "the built-in file is part of the binary"
        )]
        Self::parse(NAUTILUS).expect("the built-in scenario is valid")
    }

    /// What no single value tells: with the words to look for in the file.
    fn check(&self) -> Result<(), (String, String)> {
        let edges = self.runtimes.iter().filter(|r| r.edge).count();
        if edges != 1 {
            return Err((
                "[[runtime]]".into(),
                format!("{edges} runtimes have `edge = true`; exactly one must"),
            ));
        }
        if self.runtimes.len() < 2 {
            return Err((
                "[[runtime]]".into(),
                "there is one runtime; add at least one in the cloud".into(),
            ));
        }
        for (index, runtime) in self.runtimes.iter().enumerate() {
            let name = &runtime.name.0;
            if self.runtimes[..index].iter().any(|r| r.name.0 == *name) {
                return Err((
                    format!("\"{name}\""),
                    format!("two runtimes are called `{name}`; give each its own name"),
                ));
            }
            if runtime.edge && runtime.deployment.is_some() {
                return Err((
                    format!("\"{name}\""),
                    format!("`{name}` is the edge, which has a standby; remove its `deployment`"),
                ));
            }
            if runtime
                .regimes
                .windows(2)
                .any(|w| w[0].from_s.0 > w[1].from_s.0)
            {
                return Err((
                    "regimes".into(),
                    format!("the regimes of `{name}` are not in order of `from_s`"),
                ));
            }
        }
        if let SizeSource::List(sizes) = &self.workload.sizes
            && sizes.is_empty()
        {
            return Err((
                "sizes".into(),
                "`sizes` is empty; list sizes or write \"camera-trap\"".into(),
            ));
        }
        Ok(())
    }

    /// The distribution of batch sizes.
    pub(super) fn sizes(&self) -> Sizes {
        match &self.workload.sizes {
            SizeSource::Trap(Trap::CameraTrap) => Sizes::embedded(),
            SizeSource::List(list) => {
                let sizes: Vec<u32> = list.iter().map(|size| size.0).collect();
                Sizes::of(&sizes).unwrap_or_else(Sizes::embedded)
            }
        }
    }

    /// Index of the edge.
    pub(super) fn edge(&self) -> usize {
        self.runtimes.iter().position(|r| r.edge).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
name = "small"
[[runtime]]
name = "edge"
edge = true
processing = { per_item_s = 1.0 }
[[runtime]]
name = "gpu1"
processing = { per_item_s = 0.2, start_s = 5 }
deployment = { quantiles = [[0, 10], [1, 20]] }
"#;

    fn error(text: &str) -> String {
        Scenario::parse(text).expect_err("an error").to_string()
    }

    #[test]
    fn the_built_in_scenario_is_valid_and_a_small_one_has_defaults() {
        assert_eq!(Scenario::nautilus().runtimes.len(), 4);
        let small = Scenario::parse(SMALL).expect("valid");
        assert_eq!((small.edge(), small.runtimes[1].units.0), (0, 1));
        assert_eq!(small.workload, Workload::default());
    }

    #[test]
    fn errors_name_the_line_and_what_is_wrong() {
        let with = |from: &str, to: &str| SMALL.replacen(from, to, 1);
        for (text, line, word) in [
            (with("edge = true", "egde = true"), 5, "egde"),
            (
                with("per_item_s = 1.0", "per_item_s = -1.0"),
                6,
                "greater than zero",
            ),
            (
                with("per_item_s = 1.0", "per_item_s = nan"),
                6,
                "greater than zero",
            ),
            (with("per_item_s = 0.2, ", ""), 9, "per_item_s"),
            (with("[0, 10]", "[0.5, 10]"), 10, "from 0 to 1"),
            (with("[0, 10]", "[0, 30]"), 10, "rising"),
            (with("edge = true", "edge = false"), 3, "exactly one"),
            (with("\"gpu1\"", "\"edge\""), 4, "own name"),
            (with("\"gpu1\"", "\"\""), 8, "empty"),
            (with("name = \"small\"", "name = "), 2, ""),
            (
                with("name = \"small\"", "name = 'x'\n[workload]\nsizes = []"),
                4,
                "empty",
            ),
        ] {
            let said = error(&text);
            assert!(
                said.starts_with(&format!("line {line}: ")),
                "{said}\n{text}"
            );
            assert!(said.contains(word), "{said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }
}
