//! Which representative tasks a new version of a function must still run
//! before its first prediction (the paper's section 3.7).

use serde::{Deserialize, Serialize};

/// The representative tasks per runtime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BootstrapConfig {
    /// Batch sizes, one task each, in order. Two different sizes are the least
    /// that tell a slope.
    pub sizes: Vec<u32>,
}

impl Default for BootstrapConfig {
    /// The authors' two batches, of 33 and 10 images.
    fn default() -> Self {
        Self {
            sizes: vec![33, 10],
        }
    }
}

/// What one runtime has measured of a function version.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// The runtime's name.
    pub runtime: &'a str,
    /// Processing times measured so far, representative or not.
    pub points: usize,
}

/// A representative task to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootstrapTask {
    /// Where.
    pub runtime: String,
    /// Items in the batch.
    pub items: u32,
}

/// The tasks still needed. Every point counts as one task done, in the order of
/// the sizes; a runtime with as many points as sizes needs none. The first
/// sizes of all runtimes come before the second ones, so that each runtime has
/// some estimate soon.
#[must_use]
pub fn bootstrap(config: &BootstrapConfig, measured: &[Measured<'_>]) -> Vec<BootstrapTask> {
    config
        .sizes
        .iter()
        .enumerate()
        .flat_map(|(index, &items)| {
            measured
                .iter()
                .filter(move |m| m.points <= index)
                .map(move |m| BootstrapTask {
                    runtime: m.runtime.to_owned(),
                    items: items.max(1),
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runtime_runs_what_it_lacks_first_sizes_first() {
        let measured = [("edge", 0), ("cpu", 1), ("gpu1", 2)]
            .map(|(runtime, points)| Measured { runtime, points });
        let tasks = bootstrap(&BootstrapConfig::default(), &measured);
        let tasks: Vec<_> = tasks
            .iter()
            .map(|t| (t.runtime.as_str(), t.items))
            .collect();
        assert_eq!(tasks, [("edge", 33), ("edge", 10), ("cpu", 10)]);
    }
}
