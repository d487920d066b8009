//! Policies against the oracle MIN-LAT and against the worst choice (paper, section 4.2), over batches whose time on
//! every runtime is known.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Rate, rate};

/// An answer that comes this much later than the fastest possible counts as right in `within_5_percent`.
const NEAR: f64 = 1.05;
/// Two times that differ by less are equal: logs have microseconds, sums have rounding.
const EQUAL_S: f64 = 1e-6;

/// One batch with what it took on each runtime and under each policy.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// Images in it.
    pub items: f64,
    /// Response time on each runtime that it ran on, in seconds, by name.
    pub everywhere_s: Vec<(String, f64)>,
    /// What each policy made of it, by name. Policies that cannot be told from what is known are absent.
    pub outcomes: BTreeMap<String, Outcome>,
}

/// What a policy made of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Response time, seconds.
    pub response_s: f64,
    /// Whether the choice was right as the paper defines it: of a selector, whether the fastest runtime was chosen; of
    /// the duplicator, whether the one that it predicted to end first did.
    pub right: bool,
    /// Seconds of cloud runtime, times GPUs, that were used or held and gave nothing: pods returned by hedging,
    /// duplicates that lost.
    pub extra_cloud_s: f64,
}

impl Case {
    /// MIN-LAT: the least response time of any single runtime.
    #[must_use]
    pub fn min_lat_s(&self) -> f64 {
        self.times().fold(f64::INFINITY, f64::min)
    }

    /// The worst choice.
    #[must_use]
    pub fn worst_s(&self) -> f64 {
        self.times().fold(0.0, f64::max)
    }

    fn times(&self) -> impl Iterator<Item = f64> {
        self.everywhere_s.iter().map(|(_, seconds)| *seconds)
    }

    /// Adds a policy that takes one runtime, by its index in `everywhere_s`.
    pub fn choose(&mut self, policy: &str, index: usize) {
        let Some((_, response_s)) = self.everywhere_s.get(index) else {
            return;
        };
        let outcome = Outcome {
            response_s: *response_s,
            right: *response_s <= self.min_lat_s() + EQUAL_S,
            extra_cloud_s: 0.0,
        };
        self.outcomes.insert(policy.to_owned(), outcome);
    }

    /// Adds the policies that need no prediction: `min_lat`, `worst` and `always_<runtime>`.
    pub fn choose_blindly(&mut self) {
        for index in 0..self.everywhere_s.len() {
            let policy = format!("always_{}", self.everywhere_s[index].0);
            self.choose(&policy, index);
        }
        for (policy, response_s) in [("min_lat", self.min_lat_s()), ("worst", self.worst_s())] {
            let index = self.times().position(|seconds| seconds == response_s);
            self.choose(policy, index.unwrap_or(0));
        }
    }
}

/// A policy over many batches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Share of batches with the right choice, as the paper defines it.
    pub success: f64,
    /// Share of batches answered within 5 % of MIN-LAT.
    pub within_5_percent: f64,
    /// Response times in sum, seconds.
    pub total_s: f64,
    /// MIN-LAT in sum over the same batches, seconds.
    pub min_lat_s: f64,
    /// What the policy took beyond MIN-LAT in sum, seconds; negative where it was faster than any single runtime.
    pub regret_s: f64,
    /// The worst choice in sum over the same batches, seconds.
    pub worst_s: f64,
    /// Seconds of cloud runtime, times GPUs, that were used or held and gave nothing.
    pub extra_cloud_s: f64,
    /// Batches it could be told for.
    pub batches: usize,
    /// 95 % confidence interval of `success`.
    pub success_95: (f64, f64),
    /// 95 % confidence interval of `within_5_percent`.
    pub within_5_percent_95: (f64, f64),
    /// `total_s` by `min_lat_s`.
    pub versus_min_lat: f64,
    /// Its 95 % confidence interval.
    pub versus_min_lat_95: (f64, f64),
    /// `total_s` by `worst_s`.
    pub versus_worst: f64,
}

/// Scores every policy that any of the cases has, each over the cases that have it.
#[must_use]
pub fn score(cases: &[Case], seed: u64) -> BTreeMap<String, Score> {
    let mut by_policy: BTreeMap<&str, Vec<(&Case, &Outcome)>> = BTreeMap::new();
    for case in cases {
        for (policy, outcome) in &case.outcomes {
            by_policy.entry(policy).or_default().push((case, outcome));
        }
    }
    by_policy
        .into_iter()
        .filter_map(|(policy, told)| Some((policy.to_owned(), Score::of(&told, seed)?)))
        .collect()
}

impl Score {
    fn of(told: &[(&Case, &Outcome)], seed: u64) -> Option<Self> {
        let sum = |of: &dyn Fn(&Case, &Outcome) -> f64| told.iter().map(|(c, o)| of(c, o)).sum();
        let over = |of: &dyn Fn(&Case, &Outcome) -> (f64, f64)| -> Option<Rate> {
            rate(
                &told.iter().map(|(c, o)| of(c, o)).collect::<Vec<_>>(),
                seed,
            )
        };
        let success = over(&|_, o| (f64::from(o.right), 1.0))?;
        let near = over(&|c, o| {
            let near = o.response_s <= NEAR * c.min_lat_s() + EQUAL_S;
            (f64::from(near), 1.0)
        })?;
        let versus = over(&|c, o| (o.response_s, c.min_lat_s()));
        let (total_s, min_lat_s): (f64, f64) =
            (sum(&|_, o| o.response_s), sum(&|c, _| c.min_lat_s()));
        let worst_s: f64 = sum(&|c, _| c.worst_s());
        Some(Self {
            success: success.value,
            within_5_percent: near.value,
            total_s,
            min_lat_s,
            regret_s: total_s - min_lat_s,
            worst_s,
            extra_cloud_s: sum(&|_, o| o.extra_cloud_s),
            batches: told.len(),
            success_95: (success.low, success.high),
            within_5_percent_95: (near.low, near.high),
            versus_min_lat: versus.map_or(1.0, |rate| rate.value),
            versus_min_lat_95: versus.map_or((1.0, 1.0), |rate| (rate.low, rate.high)),
            versus_worst: if worst_s > 0.0 {
                total_s / worst_s
            } else {
                1.0
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_held_against_the_best_and_the_worst_of_the_same_batches() {
        let case = |times: &[f64], chosen: usize| {
            let mut case = Case {
                items: 1.0,
                everywhere_s: ["edge", "gpu"]
                    .iter()
                    .zip(times)
                    .map(|(name, seconds)| ((*name).to_owned(), *seconds))
                    .collect(),
                outcomes: BTreeMap::new(),
            };
            case.choose_blindly();
            case.choose("selector", chosen);
            case
        };
        // The third batch never ran on `gpu`.
        let cases = [
            case(&[10.0, 30.0], 0),
            case(&[104.0, 100.0], 0),
            case(&[7.0], 0),
        ];
        let scores = score(&cases, 1);
        let selector = &scores["selector"];
        assert_eq!(
            (selector.batches, selector.total_s, selector.regret_s),
            (3, 121.0, 4.0)
        );
        assert!((selector.success - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(selector.within_5_percent, 1.0);
        let gpu = &scores["always_gpu"];
        assert_eq!(
            (gpu.batches, gpu.total_s, gpu.min_lat_s, gpu.regret_s),
            (2, 130.0, 110.0, 20.0)
        );
        assert_eq!(scores["min_lat"].regret_s, 0.0);
        assert_eq!(scores["min_lat"].success, 1.0);
        assert_eq!(scores["worst"].total_s, 30.0 + 104.0 + 7.0);
    }
}
