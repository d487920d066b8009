//! T_t, the time the bytes travel (the paper's section 3.4.1,
//! T_t = F_b / B_c), plus the round trips that small bodies consist of.
//!
//! [`Bandwidth`] is the mutable estimator, [`LinkModel`] the value it yields.
//! Real transfers are the best probes; where there were none for a while,
//! [`Bandwidth::probe_due`] says that a small one should be sent, and of what
//! size. It is then observed like any other.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::band::Band;
use crate::conformal::Conformal;
use crate::estimate::{MAX_SECONDS, Part, sane_seconds, sane_size};

/// The way to a site at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LinkModel {
    /// Bytes per second; infinite for the local site.
    pub bandwidth_bytes_per_s: f64,
    /// One round trip, seconds.
    pub rtt_s: f64,
    /// Round trips that a transfer costs besides its bytes.
    pub round_trips: f64,
    /// Recent errors, relative to the prediction.
    pub errors: Band,
    /// Transfers it stands on; zero when it is as configured.
    pub points: usize,
}

impl LinkModel {
    /// The local site: nothing has to travel.
    pub const LOCAL: Self = Self {
        bandwidth_bytes_per_s: f64::INFINITY,
        rtt_s: 0.0,
        round_trips: 0.0,
        errors: Band::NONE,
        points: 0,
    };

    /// T_t of `bytes` bytes, in seconds. Zero over [`LinkModel::LOCAL`];
    /// unknown over a link without bandwidth.
    #[must_use]
    pub fn predict(&self, bytes: f64) -> Part {
        let seconds = self.seconds(bytes);
        if !seconds.is_finite() {
            return Part::UNKNOWN;
        }
        let scaled = |(low, high): (f64, f64)| (low * seconds, high * seconds);
        Part::around(
            seconds,
            scaled(self.errors.p50),
            scaled(self.errors.p90),
            self.points,
        )
    }

    fn seconds(&self, bytes: f64) -> f64 {
        let bytes = sane_size(bytes).unwrap_or(0.0);
        (bytes / self.bandwidth_bytes_per_s + self.round_trips * self.rtt_s).min(MAX_SECONDS)
    }
}

/// What a link is taken for before it is measured, and how it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkConfig {
    /// Bytes per second until transfers were observed.
    pub bandwidth_bytes_per_s: f64,
    /// Round trip until one was observed, seconds.
    pub rtt_s: f64,
    /// Round trips that a transfer costs besides its bytes: the connection and
    /// the answer.
    pub round_trips: f64,
    /// Seconds after which an observation weighs half.
    pub half_life_s: f64,
    /// A transfer of this many bytes weighs half of a very large one; smaller
    /// ones measure latency more than bandwidth.
    pub half_weight_bytes: f64,
    /// Observations kept.
    pub observations: usize,
    /// Seconds without a transfer after which a probe is due; none ever when it
    /// is not positive.
    pub probe_after_s: f64,
}

impl Default for LinkConfig {
    /// The authors' default link of 70.79 Mbit/s, and 20 ms.
    fn default() -> Self {
        Self {
            bandwidth_bytes_per_s: 70.79e6 / 8.0,
            rtt_s: 0.020,
            round_trips: 2.0,
            half_life_s: 300.0,
            half_weight_bytes: 256.0 * 1024.0,
            observations: 32,
            probe_after_s: 300.0,
        }
    }
}

/// Seconds of the link that a probe may take, as far as the bandwidth is known:
/// longer than the round trips of most links, shorter than anybody notices.
const PROBE_S: f64 = 0.2;

/// Bytes of the smallest and the largest probe. Less measures latency only; more
/// costs where transfers are paid by the byte.
const PROBE_BYTES: (f64, f64) = (64.0 * 1024.0, 2.0 * 1024.0 * 1024.0);

/// Step of the stretch of the intervals.
const STEP: f64 = 0.1;

/// Weight of the configured bandwidth among the observed: one transfer that is
/// not tiny outweighs it.
const CONFIGURED_WEIGHT: f64 = 0.1;

/// Slowest bandwidth believed, bytes per second.
const LEAST_BANDWIDTH: f64 = 1.0;

/// Estimates a link's bandwidth and round trip from observed transfers: the
/// median of recent rates, weighted by size and age. A median, since a single
/// stalled transfer says little about the next.
#[derive(Debug, Clone)]
pub struct Bandwidth {
    config: LinkConfig,
    rates: VecDeque<Rate>,
    round_trips: VecDeque<f64>,
    errors: Conformal,
    /// When a transfer as large as a probe last ended.
    measured_at: Option<f64>,
    seen: usize,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    bytes_per_s: f64,
    weight: f64,
    at: f64,
}

impl Bandwidth {
    /// An estimator that knows only what is configured.
    #[must_use]
    pub fn new(config: LinkConfig) -> Self {
        Self {
            config,
            rates: VecDeque::new(),
            round_trips: VecDeque::new(),
            errors: Conformal::new(config.observations, STEP),
            measured_at: None,
            seen: 0,
        }
    }

    /// Takes in one transfer of `bytes` bytes in `seconds` that ended at `at`
    /// (seconds on any clock that does not go back). Returns false, changing
    /// nothing, for what is no measurement or moved nothing.
    pub fn observe(&mut self, bytes: f64, seconds: f64, at: f64) -> bool {
        let (Some(bytes), Some(seconds)) = (sane_size(bytes), sane_seconds(seconds)) else {
            return false;
        };
        if bytes <= 0.0 || !at.is_finite() {
            return false;
        }
        let before = self.fit(at);
        let weight = bytes / (bytes + self.config.half_weight_bytes.max(1.0));
        let expected = before.seconds(bytes);
        if weight >= 0.5 && expected.is_finite() && expected > 0.0 {
            self.errors.observe((seconds - expected) / expected);
        }
        // What the round trips took is no bandwidth, but they may not eat the
        // whole transfer.
        let moving = (seconds - before.round_trips * before.rtt_s)
            .max(seconds * 0.1)
            .max(1e-6);
        let rate = Rate {
            bytes_per_s: (bytes / moving).max(LEAST_BANDWIDTH),
            weight,
            at,
        };
        push_bounded(&mut self.rates, rate, self.config.observations);
        if bytes >= PROBE_BYTES.0 {
            self.measured_at = Some(self.measured_at.map_or(at, |before| before.max(at)));
        }
        self.seen += 1;
        true
    }

    /// The bytes of a probe, when one should be sent at `now` (same clock as
    /// [`observe`](Self::observe)): no transfer of a probe's size was seen for
    /// [`LinkConfig::probe_after_s`], or none ever. As many as move in a fifth
    /// of a second at the bandwidth last seen, from 64 KiB to 2 MiB.
    #[must_use]
    pub fn probe_due(&self, now: f64) -> Option<u64> {
        let after = self.config.probe_after_s;
        let wanted = after.is_finite() && after > 0.0 && now.is_finite();
        let due = self.measured_at.is_none_or(|at| now - at >= after);
        (wanted && due).then(|| {
            let bytes = self.fit(now).bandwidth_bytes_per_s * PROBE_S;
            bytes.clamp(PROBE_BYTES.0, PROBE_BYTES.1) as u64
        })
    }

    /// Takes in one measured round trip, in seconds.
    pub fn observe_rtt(&mut self, seconds: f64) -> bool {
        let Some(seconds) = sane_seconds(seconds) else {
            return false;
        };
        push_bounded(&mut self.round_trips, seconds, self.config.observations);
        true
    }

    /// The link as seen at `now` (same clock as `observe`).
    #[must_use]
    pub fn fit(&self, now: f64) -> LinkModel {
        let mut weighted: Vec<(f64, f64)> = Vec::with_capacity(self.rates.len() + 1);
        weighted.push((
            self.config.bandwidth_bytes_per_s.max(LEAST_BANDWIDTH),
            CONFIGURED_WEIGHT,
        ));
        // Ages count from the newest observation when `now` is long after it:
        // old news is still better than the configuration.
        let newest = self.rates.iter().map(|r| r.at).fold(f64::MIN, f64::max);
        let now = now.min(newest);
        for rate in &self.rates {
            let lives = (now - rate.at).max(0.0) / self.config.half_life_s.max(1e-3);
            weighted.push((rate.bytes_per_s, rate.weight * (-lives).exp2()));
        }
        let mut round_trips: Vec<f64> = self.round_trips.iter().copied().collect();
        round_trips.sort_unstable_by(f64::total_cmp);
        let rtt_s = round_trips
            .get(round_trips.len() / 2)
            .copied()
            .or(sane_seconds(self.config.rtt_s))
            .unwrap_or(0.0);
        LinkModel {
            bandwidth_bytes_per_s: weighted_median(&mut weighted),
            rtt_s,
            round_trips: sane_size(self.config.round_trips).unwrap_or(0.0),
            errors: self.errors.band(),
            points: self.seen,
        }
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, value: T, limit: usize) {
    queue.push_back(value);
    while queue.len() > limit.max(1) {
        queue.pop_front();
    }
}

/// The value at which half of the weight is reached.
fn weighted_median(values: &mut [(f64, f64)]) -> f64 {
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let half = values.iter().map(|v| v.1).sum::<f64>() / 2.0;
    let mut reached = 0.0;
    for &(value, weight) in values.iter() {
        reached += weight;
        if reached >= half {
            return value;
        }
    }
    values.last().map_or(LEAST_BANDWIDTH, |v| v.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_site_costs_nothing_for_certain() {
        assert_eq!(LinkModel::LOCAL.predict(1e12), Part::ZERO);
    }

    #[test]
    fn unmeasured_it_is_as_configured() {
        let link = Bandwidth::new(LinkConfig::default()).fit(0.0);
        let part = link.predict(70.79e6 / 8.0 * 10.0);
        assert!((part.mean - 10.04).abs() < 1e-9);
        assert!(part.known && part.points == 0);
    }

    #[test]
    fn one_large_transfer_outweighs_the_configuration_and_many_small_ones() {
        let mut bandwidth = Bandwidth::new(LinkConfig::default());
        for i in 0..20 {
            // A kilobyte in a round trip measures no bandwidth.
            bandwidth.observe(1000.0, 0.041, f64::from(i));
        }
        bandwidth.observe(40e6, 20.04, 21.0);
        let seen = bandwidth.fit(22.0).bandwidth_bytes_per_s;
        assert!((seen - 2e6).abs() < 1e4, "{seen}");
    }

    #[test]
    fn old_transfers_fade_before_new_ones() {
        let mut bandwidth = Bandwidth::new(LinkConfig::default());
        for i in 0..8 {
            bandwidth.observe(40e6, 4.0, f64::from(i));
        }
        for i in 0..3 {
            bandwidth.observe(40e6, 40.0, 3600.0 + f64::from(i));
        }
        let seen = bandwidth.fit(3700.0).bandwidth_bytes_per_s;
        assert!(seen < 1.1e6, "{seen}");
        // Much later, with nothing new, it still is what was seen last.
        assert!(bandwidth.fit(1e9).bandwidth_bytes_per_s < 1.1e6);
    }

    #[test]
    fn a_probe_is_due_when_nothing_was_seen_for_a_while() {
        let mut bandwidth = Bandwidth::new(LinkConfig::default());
        // At 70.79 Mbit/s, a fifth of a second.
        assert_eq!(bandwidth.probe_due(0.0), Some(1_769_750));
        bandwidth.observe(4096.0, 0.03, 1.0);
        assert!(bandwidth.probe_due(2.0).is_some(), "too small to tell");
        bandwidth.observe(1e6, 5.0, 10.0);
        assert_eq!(bandwidth.probe_due(309.0), None);
        // At 0.2 MB/s the smallest; sent and seen, it is not due again.
        let bytes = bandwidth.probe_due(310.0).unwrap();
        assert_eq!(bytes, 65_536);
        bandwidth.observe(bytes as f64, 0.4, 311.0);
        assert_eq!(bandwidth.probe_due(312.0), None);
        let never = LinkConfig {
            probe_after_s: 0.0,
            ..LinkConfig::default()
        };
        assert_eq!(Bandwidth::new(never).probe_due(1e9), None);
    }

    #[test]
    fn absurd_links_and_observations_are_borne() {
        let mut bandwidth = Bandwidth::new(LinkConfig {
            bandwidth_bytes_per_s: 0.0,
            rtt_s: f64::NAN,
            round_trips: f64::INFINITY,
            half_life_s: 0.0,
            half_weight_bytes: -1.0,
            observations: 0,
            probe_after_s: f64::NAN,
        });
        assert!(!bandwidth.observe(f64::NAN, 1.0, 0.0));
        assert!(!bandwidth.observe(0.0, 1.0, 0.0));
        assert!(!bandwidth.observe(1.0, 1.0, f64::NAN));
        assert!(bandwidth.observe(1e15, 0.0, 0.0));
        assert!(bandwidth.observe(1.0, 1e300, -5.0));
        assert!(bandwidth.fit(f64::NAN).predict(1e300).mean.is_finite());
        assert_eq!(bandwidth.probe_due(1e9), None);
        let dead = LinkModel {
            bandwidth_bytes_per_s: 0.0,
            ..bandwidth.fit(0.0)
        };
        assert!(dead.predict(0.0).mean.is_finite());
    }
}
