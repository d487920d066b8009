//! What a simulation showed: a row per policy.

use serde::Serialize;
use stoic_placement::Account;

use crate::score::{Rate, rate};

/// Cases that the bootstrap draws from: of more batches, neighbours are added up first.
const CASES: usize = 1000;

/// What a simulation showed.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Name of the scenario.
    pub scenario: String,
    /// Seed of all draws.
    pub seed: u64,
    /// Batches simulated.
    pub batches: usize,
    /// Items in them.
    pub items: u64,
    /// Batches that the histories learned from.
    pub learned: usize,
    /// Response times in sum of the oracle that may use one place only, seconds.
    pub min_lat_s: f64,
    /// What no division of the items among the places could be faster than (fluid, with hindsight), by MIN-LAT.
    pub fluid: Vec<Bound>,
    /// The policies, oracles first.
    pub policies: Vec<Row>,
}

/// A fluid lower bound on any cooperative policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bound {
    /// The places that work together.
    pub places: String,
    /// Response times in sum, seconds.
    pub total_s: f64,
    /// By MIN-LAT.
    pub versus_min_lat: f64,
}

/// What a policy made of the batches.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The policy: `min_lat`, `worst`, `always_<runtime>`, `paper_selector`, `selector`, ...
    pub policy: String,
    /// Share of right decisions as the paper defines it, with its 95 % confidence interval: of a selector, whether the
    /// fastest runtime was taken; of the duplicator, whether the one predicted to end first did. Of a cooperative
    /// policy, whether it was no slower than the fastest single runtime.
    pub success: Rate,
    /// Share of batches answered within 5 % of MIN-LAT.
    pub within_5_percent: Rate,
    /// Response times in sum, seconds.
    pub total_s: f64,
    /// MIN-LAT in sum, seconds.
    pub min_lat_s: f64,
    /// `total_s` by `min_lat_s`.
    pub versus_min_lat: Rate,
    /// `total_s` by the sum of the fastest of the places this policy may use; equal to `versus_min_lat` where it may use
    /// all.
    pub versus_own_min_lat: Rate,
    /// `total_s` less `min_lat_s`.
    pub regret_s: f64,
    /// Median response, seconds.
    pub median_s: f64,
    /// 99 % of responses lie below, seconds.
    pub p99_s: f64,
    /// Batches that no place could answer; their time counts until they were given up.
    pub failed: usize,
    /// Cloud seconds, times GPUs, of pods that worked on the answer.
    pub cloud_used_s: f64,
    /// Cloud seconds, times GPUs, that were returned since the edge ran alone.
    pub cloud_saved_s: f64,
    /// Cloud seconds, times GPUs, that pods worked in vain.
    pub cloud_lost_s: f64,
    /// Seconds, times GPUs, of deployments: awaited, hedged and returned.
    pub cloud_deploying_s: f64,
    /// The duplicator's account by runtime (Table 5); empty for others.
    pub account: Account,
}

/// What a policy made of one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Ended {
    pub(super) response_s: f64,
    /// The fastest single place for this policy at this moment, and of those it may use.
    pub(super) best_s: f64,
    pub(super) own_best_s: f64,
    pub(super) right: bool,
    pub(super) failed: bool,
    pub(super) cloud: Cloud,
}

/// Cloud seconds, times GPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cloud {
    pub(super) used_s: f64,
    pub(super) saved_s: f64,
    pub(super) lost_s: f64,
    pub(super) deploying_s: f64,
}

impl Cloud {
    pub(super) fn add(&mut self, other: &Self) {
        self.used_s += other.used_s;
        self.saved_s += other.saved_s;
        self.lost_s += other.lost_s;
        self.deploying_s += other.deploying_s;
    }
}

impl Row {
    /// `min_lat` are the oracle's own response times, batch by batch.
    pub(super) fn of(
        policy: &str,
        ended: &[Ended],
        min_lat: &[f64],
        account: Account,
        seed: u64,
    ) -> Self {
        let over = |of: &dyn Fn(usize, &Ended) -> (f64, f64)| {
            let size = ended.len().div_ceil(CASES).max(1);
            let cases: Vec<(f64, f64)> = ended
                .chunks(size)
                .enumerate()
                .map(|(block, chunk)| {
                    chunk.iter().enumerate().fold((0.0, 0.0), |sum, (i, e)| {
                        let (a, b) = of(block * size + i, e);
                        (sum.0 + a, sum.1 + b)
                    })
                })
                .collect();
            let none = Rate {
                value: 1.0,
                low: 1.0,
                high: 1.0,
                cases: 0,
            };
            Rate {
                cases: ended.len(),
                ..rate(&cases, seed).unwrap_or(none)
            }
        };
        let mut cloud = Cloud::default();
        let mut times: Vec<f64> = Vec::with_capacity(ended.len());
        for e in ended {
            cloud.add(&e.cloud);
            times.push(e.response_s);
        }
        let total_s: f64 = times.iter().sum();
        let min_lat_s: f64 = min_lat.iter().sum();
        times.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (share * times.len() as f64) as usize;
            times
                .get(place.min(times.len().saturating_sub(1)))
                .copied()
                .unwrap_or(0.0)
        };
        Self {
            policy: policy.to_owned(),
            success: over(&|_, e| (f64::from(e.right), 1.0)),
            within_5_percent: over(&|_, e| {
                let near = !e.failed && e.response_s <= 1.05 * e.best_s + 1e-9;
                (f64::from(near), 1.0)
            }),
            total_s,
            min_lat_s,
            versus_min_lat: over(&|i, e| (e.response_s, min_lat.get(i).copied().unwrap_or(0.0))),
            versus_own_min_lat: over(&|_, e| (e.response_s, e.own_best_s)),
            regret_s: total_s - min_lat_s,
            median_s: at(0.5),
            p99_s: at(0.99),
            failed: ended.iter().filter(|e| e.failed).count(),
            cloud_used_s: cloud.used_s,
            cloud_saved_s: cloud.saved_s,
            cloud_lost_s: cloud.lost_s,
            cloud_deploying_s: cloud.deploying_s,
            account,
        }
    }
}
