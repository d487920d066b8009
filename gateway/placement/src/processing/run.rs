//! A run of a function as it was measured, and what is known of one before.

use serde::{Deserialize, Serialize};

use crate::estimate::{MAX_SIZE, sane_size};

/// What a run works on; what is not known stays `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunFeatures {
    /// Items (images) in the batch.
    pub items: f64,
    /// Bytes of the input.
    pub bytes: Option<f64>,
    /// Pixels of all its images.
    pub pixels: Option<f64>,
    /// GPUs that share the work.
    pub gpus: Option<f64>,
    /// True when the run had to load its model first, false when it was warm.
    pub cold: Option<bool>,
}

impl RunFeatures {
    /// A batch of which only the size is known.
    #[must_use]
    pub const fn of_items(items: f64) -> Self {
        Self {
            items,
            bytes: None,
            pixels: None,
            gpus: None,
            cold: None,
        }
    }

    /// The size by each measure, in the order of [`Measure::ALL`].
    pub(super) fn sizes(&self) -> [Option<f64>; MEASURES] {
        let positive = |size: Option<f64>| size.and_then(sane_size).filter(|size| *size > 0.0);
        let items = sane_size(self.items);
        [
            items,
            positive(self.bytes),
            positive(self.pixels),
            positive(self.gpus).and_then(|gpus| Some((items? / gpus).min(MAX_SIZE))),
        ]
    }
}

/// A run that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// What it worked on.
    pub features: RunFeatures,
    /// T_p, seconds.
    pub seconds: f64,
}

impl Run {
    /// A run of which only size and time are known.
    #[must_use]
    pub const fn new(items: f64, seconds: f64) -> Self {
        Self {
            features: RunFeatures::of_items(items),
            seconds,
        }
    }
}

/// What a line is drawn over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Measure {
    /// Items, the paper's.
    Items,
    /// Bytes of the input.
    Bytes,
    /// Pixels of the images.
    Pixels,
    /// Items per GPU.
    ItemsPerGpu,
}

pub(super) const MEASURES: usize = 4;

impl Measure {
    pub(super) const ALL: [Self; MEASURES] =
        [Self::Items, Self::Bytes, Self::Pixels, Self::ItemsPerGpu];
}
