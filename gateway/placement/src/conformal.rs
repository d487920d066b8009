//! Intervals whose long-run coverage does not depend on what was assumed:
//! adaptive conformal inference (Gibbs and Candes 2021), over a [`Band`] of
//! recent errors.
//!
//! The band's quantiles hold their coverage when errors are exchangeable. They
//! are not: machines become busy, a log pauses for days. So each range is
//! stretched by a factor that learns from its own misses: `ln s` rises by
//! `step * (missed - allowed)` with each outcome. However the errors behave,
//! after `T` outcomes the share of misses lies within
//! `(ln s_T - ln s_0) / (step * T)` of the share allowed.
//!
//! The step is a trade: a larger one holds coverage over shorter stretches and
//! lets the width swing more.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::band::Band;

/// The stretch stays within `exp(±LIMIT)`: it bears any change of scale that is
/// a machine's and stays finite for any other.
const LIMIT: f64 = 8.0;

/// Stretches of the 50 % and the 90 % range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stretch {
    step: f64,
    ln50: f64,
    ln90: f64,
}

impl Stretch {
    pub(crate) const fn new(step: f64) -> Self {
        Self {
            step,
            ln50: 0.0,
            ln90: 0.0,
        }
    }

    /// Learns from one outcome, inside or outside of the stretched ranges.
    pub(crate) fn learn(&mut self, within50: bool, within90: bool) {
        let missed = |within: bool| f64::from(u8::from(!within));
        self.ln50 = (self.ln50 + self.step * (missed(within50) - 0.5)).clamp(-LIMIT, LIMIT);
        self.ln90 = (self.ln90 + self.step * (missed(within90) - 0.1)).clamp(-LIMIT, LIMIT);
    }

    /// The factors for the 50 % and the 90 % range.
    pub(crate) fn factors(&self) -> (f64, f64) {
        (self.ln50.exp(), self.ln90.exp())
    }
}

/// Recent errors of predictions made in advance, and the ranges they give.
#[derive(Debug, Clone)]
pub(crate) struct Conformal {
    limit: usize,
    errors: VecDeque<f64>,
    sorted: Vec<f64>,
    stretch: Stretch,
}

impl Conformal {
    /// Remembers the last `limit` errors.
    pub(crate) fn new(limit: usize, step: f64) -> Self {
        Self {
            limit: limit.max(1),
            errors: VecDeque::new(),
            sorted: Vec::new(),
            stretch: Stretch::new(step),
        }
    }

    /// Takes in one error (outcome minus prediction, in the unit of
    /// [`band`](Self::band)).
    pub(crate) fn observe(&mut self, error: f64) {
        if !error.is_finite() {
            return;
        }
        let band = self.band();
        let within = |(low, high): (f64, f64)| low.min(0.0) <= error && error <= high.max(0.0);
        self.stretch.learn(within(band.p50), within(band.p90));
        if self.errors.len() >= self.limit
            && let Some(oldest) = self.errors.pop_front()
        {
            let at = self.sorted.partition_point(|other| *other < oldest);
            self.sorted.remove(at);
        }
        self.errors.push_back(error);
        let at = self.sorted.partition_point(|other| *other < error);
        self.sorted.insert(at, error);
    }

    /// The ranges of this moment, relative to a unit of one.
    pub(crate) fn band(&self) -> Band {
        let plain = Band::of_sorted(&self.sorted, 1.0);
        let (s50, s90) = self.stretch.factors();
        let scaled = |(low, high): (f64, f64), s: f64| (low * s, high * s);
        let (p50, p90) = (scaled(plain.p50, s50), scaled(plain.p90, s90));
        Band {
            p50,
            p90: (p90.0.min(p50.0), p90.1.max(p50.1)),
        }
    }
}
