//! What duplicator mode saved the cloud and what it cost it (the paper's
//! Table 5), in seconds of runtime, per GPU.
//!
//! Savings are the cloud seconds that the batch would have taken and that were
//! returned because the edge ran alone. Loss is the cloud time used and thrown
//! away: the edge ended first, or the cloud failed. As in the paper's table, the
//! time of a runtime with two GPUs counts twice. A race ends in exactly one of
//! five ways, each with its function.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::estimate::{MAX_SECONDS, sane_seconds};

/// Sums over races against one cloud runtime, or of a single race. All times in
/// seconds; those of the cloud are multiplied by its units (GPUs).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Races run to an end.
    pub races: u64,
    /// Races that the edge won, alone or not.
    pub edge_wins: u64,
    /// Cloud time returned, since the edge alone ran.
    pub saved_s: f64,
    /// Cloud time used in vain.
    pub lost_s: f64,
    /// Cloud time used for the answer.
    pub used_s: f64,
    /// Time that answers came later, since the edge ran alone and the cloud
    /// would have been faster; where it is known (in a simulation or a replay).
    pub delayed_s: f64,
}

impl Entry {
    /// Savings less losses, seconds.
    #[must_use]
    pub fn balance_s(&self) -> f64 {
        self.saved_s - self.lost_s
    }

    /// Adds another's sums.
    pub fn add(&mut self, other: &Self) {
        self.races += other.races;
        self.edge_wins += other.edge_wins;
        self.saved_s = bounded(self.saved_s + other.saved_s);
        self.lost_s = bounded(self.lost_s + other.lost_s);
        self.used_s = bounded(self.used_s + other.used_s);
        self.delayed_s = bounded(self.delayed_s + other.delayed_s);
    }
}

/// Sums stay finite whatever is added.
fn bounded(seconds: f64) -> f64 {
    seconds.min(MAX_SECONDS)
}

/// The account by cloud runtime.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Account {
    runtimes: BTreeMap<String, Entry>,
}

impl Account {
    /// The cloud pod was up, and the edge ran on alone: what the cloud would
    /// have taken is returned. `delayed_s` is by how much the answer came later
    /// than the cloud's would have, where that is known. Returns what was added.
    pub fn edge_alone(
        &mut self,
        runtime: &str,
        units: u32,
        cloud_processing_s: f64,
        delayed_s: Option<f64>,
    ) -> Entry {
        self.put(
            runtime,
            Entry {
                edge_wins: 1,
                saved_s: unit_seconds(cloud_processing_s, units),
                delayed_s: delayed_s.and_then(sane_seconds).unwrap_or(0.0),
                ..Entry::default()
            },
        )
    }

    /// The edge ended before the cloud pod was up: what the cloud would have
    /// taken is returned. Returns what was added.
    pub fn edge_before_pod(&mut self, runtime: &str, units: u32, cloud_processing_s: f64) -> Entry {
        self.edge_alone(runtime, units, cloud_processing_s, None)
    }

    /// Both ran and the edge ended first: `cloud_ran_s` was in vain. Returns
    /// what was added.
    pub fn edge_first(&mut self, runtime: &str, units: u32, cloud_ran_s: f64) -> Entry {
        self.put(
            runtime,
            Entry {
                edge_wins: 1,
                lost_s: unit_seconds(cloud_ran_s, units),
                ..Entry::default()
            },
        )
    }

    /// Both ran and the cloud ended first after `cloud_ran_s`. Returns what was
    /// added.
    pub fn cloud_first(&mut self, runtime: &str, units: u32, cloud_ran_s: f64) -> Entry {
        self.put(
            runtime,
            Entry {
                used_s: unit_seconds(cloud_ran_s, units),
                ..Entry::default()
            },
        )
    }

    /// The cloud failed after `cloud_ran_s`, and the edge's answer was taken.
    /// Returns what was added.
    pub fn cloud_failed(&mut self, runtime: &str, units: u32, cloud_ran_s: f64) -> Entry {
        self.edge_first(runtime, units, cloud_ran_s)
    }

    fn put(&mut self, runtime: &str, mut entry: Entry) -> Entry {
        entry.races = 1;
        if let Some(sums) = self.runtimes.get_mut(runtime) {
            sums.add(&entry);
        } else {
            self.runtimes.insert(runtime.to_owned(), entry);
        }
        entry
    }

    /// Adds another's sums.
    pub fn add(&mut self, other: &Self) {
        for (runtime, entry) in &other.runtimes {
            self.runtimes.entry(runtime.clone()).or_default().add(entry);
        }
    }

    /// The sums of one runtime.
    #[must_use]
    pub fn runtime(&self, runtime: &str) -> Entry {
        self.runtimes.get(runtime).copied().unwrap_or_default()
    }

    /// All runtimes in order of their names.
    pub fn runtimes(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.runtimes
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// The sums of all runtimes.
    #[must_use]
    pub fn total(&self) -> Entry {
        let mut total = Entry::default();
        for entry in self.runtimes.values() {
            total.add(entry);
        }
        total
    }
}

fn unit_seconds(seconds: f64, units: u32) -> f64 {
    bounded(sane_seconds(seconds).unwrap_or(0.0) * f64::from(units.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_gpus_count_twice_and_sums_add_up() {
        let mut account = Account::default();
        let alone = account.edge_alone("gpu2", 2, 30.0, Some(4.0));
        assert_eq!(
            (alone.saved_s, alone.delayed_s, alone.races),
            (60.0, 4.0, 1)
        );
        account.edge_before_pod("gpu2", 2, 10.0);
        account.edge_first("gpu1", 1, 7.0);
        account.cloud_first("gpu1", 1, 25.0);
        account.cloud_failed("gpu1", 1, 3.0);
        let gpu1 = account.runtime("gpu1");
        assert_eq!((gpu1.races, gpu1.edge_wins), (3, 2));
        assert_eq!((gpu1.lost_s, gpu1.used_s, gpu1.saved_s), (10.0, 25.0, 0.0));
        let total = account.total();
        assert_eq!((total.races, total.saved_s, total.lost_s), (5, 80.0, 10.0));
        assert_eq!(total.balance_s(), 70.0);
    }

    #[test]
    fn what_is_no_time_adds_none() {
        let mut account = Account::default();
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            let entry = account.edge_first("gpu1", 0, bad);
            assert_eq!((entry.lost_s, entry.races), (0.0, 1));
        }
        account.cloud_first("gpu1", u32::MAX, f64::MAX);
        assert!(account.total().used_s.is_finite());
    }

    #[test]
    fn it_reads_as_runtime_to_sums() {
        let mut account = Account::default();
        account.edge_first("gpu1", 1, 2.5);
        let text = serde_json::to_string(&account).unwrap();
        assert!(text.starts_with(r#"{"gpu1":{"races":1"#), "{text}");
        assert_eq!(serde_json::from_str::<Account>(&text).unwrap(), account);
    }
}
