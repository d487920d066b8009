//! T_d, the time to bring up a pod, as the paper's section 3.4.2 predicts it:
//! by a sliding window's mean or median, whichever did better lately.
//!
//! Each new measurement is first held against what every window width would
//! have predicted for it; so each width is judged on the very same
//! measurements, those of the last [`DeploymentConfig::history`]. After every
//! [`DeploymentConfig::calibrate_every`] new measurements the width and method
//! of least mean absolute error are chosen anew. A window wider than the past
//! takes all there is. Until the first calibration the median of the widest
//! window is used, since it is the safer one with outliers. The interval comes
//! from the chosen window's own one-step-ahead errors.
//!
//! Adding a method means adding a [`Method`] and its column of errors.

pub(crate) mod windows;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::band::Band;
use crate::estimate::{Part, sane_seconds};

/// Periods and limits of the deployment model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeploymentConfig {
    /// How many of the newest measurements judge the widths (the paper: 100).
    pub history: usize,
    /// New measurements between two calibrations (the paper: 10).
    pub calibrate_every: usize,
    /// The widest window tried (the paper's Figure 2 goes to about 100).
    pub max_width: usize,
}

impl Default for DeploymentConfig {
    fn default() -> Self {
        Self {
            history: 100,
            calibrate_every: 10,
            max_width: 100,
        }
    }
}

/// How a window is turned into a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// Average sliding window.
    Mean,
    /// Median sliding window.
    Median,
}

/// A method with its window width and how it did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Mean or median.
    pub method: Method,
    /// Newest measurements taken into account.
    pub width: usize,
    /// Mean absolute one-step-ahead error when it was chosen, in seconds;
    /// `None` before the first calibration.
    pub mae: Option<f64>,
}

/// Measured deployment times of one runtime, and what follows from them.
///
/// Mutable and owned by one task; [`fit`](Self::fit) gives the immutable value
/// to publish.
#[derive(Debug, Clone)]
pub struct DeploymentHistory {
    config: DeploymentConfig,
    /// Oldest first; at most `history + max_width`.
    values: Vec<f64>,
    /// Measurements ever taken in.
    seen: usize,
    uncalibrated: usize,
    errors: windows::Errors,
    chosen: Window,
    /// Signed one-step-ahead errors of the chosen window, newest last.
    residuals: VecDeque<f64>,
}

impl DeploymentHistory {
    /// An empty history. Zero limits are read as one.
    #[must_use]
    pub fn new(config: DeploymentConfig) -> Self {
        let config = DeploymentConfig {
            history: config.history.max(1),
            calibrate_every: config.calibrate_every.max(1),
            max_width: config.max_width.max(1),
        };
        Self {
            config,
            values: Vec::new(),
            seen: 0,
            uncalibrated: 0,
            errors: windows::Errors::new(config.max_width),
            chosen: Window {
                method: Method::Median,
                width: config.max_width,
                mae: None,
            },
            residuals: VecDeque::new(),
        }
    }

    /// Takes in one measured deployment, in seconds, and re-chooses the window
    /// when it is due. Returns false, changing nothing, for what is no
    /// measurement (negative, infinite, not a number).
    pub fn push(&mut self, seconds: f64) -> bool {
        let Some(seconds) = sane_seconds(seconds) else {
            return false;
        };
        if !self.values.is_empty() {
            let expected = windows::predict(&self.values, self.chosen.method, self.chosen.width);
            self.residuals.push_back(seconds - expected);
            self.errors.add(&self.values, seconds);
        }
        self.values.push(seconds);
        self.seen += 1;
        self.forget();
        self.uncalibrated += 1;
        if self.uncalibrated >= self.config.calibrate_every && self.errors.steps() > 0 {
            self.calibrate();
        }
        true
    }

    /// Drops what has left the horizon: the oldest judged step and, once no
    /// judged step's window reaches it, the oldest value.
    fn forget(&mut self) {
        while self.errors.steps() > self.config.history {
            let step = self.values.len() - self.errors.steps();
            self.errors.remove(&self.values[..step], self.values[step]);
        }
        while self.residuals.len() > self.config.history {
            self.residuals.pop_front();
        }
        let keep = self.config.history + self.config.max_width;
        if self.values.len() > keep {
            self.values.drain(..self.values.len() - keep);
        }
    }

    /// Chooses method and width of least mean absolute error now. [`push`]
    /// does it when due; there is no need to call this otherwise.
    ///
    /// [`push`]: Self::push
    pub fn calibrate(&mut self) {
        self.uncalibrated = 0;
        if let Some(best) = self.errors.best() {
            self.chosen = best;
            self.residuals.clear();
            windows::residuals(
                &self.values,
                self.errors.steps(),
                best.method,
                best.width,
                &mut self.residuals,
            );
        }
    }

    /// Number of measurements ever taken in.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// The window in use.
    #[must_use]
    pub fn window(&self) -> Window {
        self.chosen
    }

    /// The least mean absolute error of one method over the judged
    /// measurements, with its width: a row of the paper's Table 2.
    #[must_use]
    pub fn best_of(&self, method: Method) -> Option<Window> {
        self.errors.best_of(method)
    }

    /// The immutable model of this moment.
    #[must_use]
    pub fn fit(&self) -> DeploymentModel {
        if self.values.is_empty() {
            return DeploymentModel {
                part: Part::UNKNOWN,
                window: self.chosen,
            };
        }
        let mean = windows::predict(&self.values, self.chosen.method, self.chosen.width);
        let band = Band::of(self.residuals.iter().copied(), mean);
        DeploymentModel {
            part: Part::around(mean, band.p50, band.p90, self.seen),
            window: self.chosen,
        }
    }
}

impl Default for DeploymentHistory {
    fn default() -> Self {
        Self::new(DeploymentConfig::default())
    }
}

/// A fitted deployment model: what the next deployment is expected to take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeploymentModel {
    part: Part,
    window: Window,
}

impl DeploymentModel {
    /// The model of a runtime that was never deployed.
    #[must_use]
    pub fn unknown() -> Self {
        DeploymentHistory::default().fit()
    }

    /// T_d of a cold start, in seconds.
    #[must_use]
    pub fn predict(&self) -> Part {
        self.part
    }

    /// The window behind it.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }
}
