//! Seconds as a straight line over a size, made physical.

use serde::Serialize;

use crate::estimate::{MAX_SECONDS, sane_size};

/// A line that never falls and never goes below zero.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Line {
    /// Seconds per item, at least zero.
    pub slope: f64,
    /// Seconds at no items; may be negative.
    pub intercept: f64,
    /// Smallest batch seen; below it the line does not fall under the one from
    /// the origin.
    pub least_items: f64,
}

impl Line {
    /// Seconds expected for `items` items: finite, at least zero, never less
    /// for more items.
    #[must_use]
    pub fn at(&self, items: f64) -> f64 {
        let items = sane_size(items).unwrap_or(0.0);
        let on_line = self.intercept + self.slope * items;
        let seconds = if self.intercept < 0.0 && items < self.least_items {
            let at_least = self.intercept + self.slope * self.least_items;
            on_line.max(at_least * (items / self.least_items))
        } else {
            on_line
        };
        seconds.clamp(0.0, MAX_SECONDS)
    }

    /// Whether every number can be worked with.
    pub(super) fn is_sound(&self) -> bool {
        self.slope.is_finite() && self.slope >= 0.0 && self.intercept.is_finite()
    }

    /// The line with all its seconds multiplied.
    pub(super) fn times(&self, factor: f64) -> Self {
        Self {
            slope: self.slope * factor,
            intercept: self.intercept * factor,
            ..*self
        }
    }

    /// The line with seconds added.
    pub(super) fn plus(&self, seconds: f64) -> Self {
        Self {
            intercept: self.intercept + seconds,
            ..*self
        }
    }
}
