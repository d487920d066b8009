//! The paper's own method and nothing beyond it: the baseline that every table
//! of the evaluation replays on the same rows.
//!
//! * [`Deployment`], section 3.4.2: the median sliding window, its width chosen
//!   anew after every 10 measurements as the one of least mean absolute error
//!   over the last 100. The paper chose the median over the mean window and
//!   autoregression once, from data of January 2020 (Table 2); the two others
//!   are here for that table.
//! * [`Processing`], section 3.4.3: Bayesian ridge regression of seconds on
//!   batch size over the last 10 points, by Algorithm 1 as printed (no last
//!   regression on the inliers, no change of regime, no physical line). The
//!   parameters that the paper leaves open are those of [`RansacConfig`].
//!
//! What the paper leaves open is settled so that the baseline is not weakened:
//! until the first calibration the widest window is used; a first measurement
//! is a prediction for the second; a prediction below zero is read as zero.
//! The paper predicts no intervals: these parts have none.

use std::collections::VecDeque;

use crate::deployment::windows;
use crate::deployment::{AutoRegression, DeploymentConfig, MAX_ORDER, Method};
use crate::estimate::{Part, sane_seconds, sane_size};
use crate::processing::RansacConfig;
use crate::processing::ransac::{self, Consensus, Point};

/// Points regressed (section 3.4.3: "e.g. 10 data points").
pub const POINTS: usize = 10;

/// T_d by one method of the paper's Table 2, its width re-chosen when due.
#[derive(Debug, Clone)]
pub struct Deployment {
    method: Method,
    config: DeploymentConfig,
    /// Oldest first; at most `history + max_width`.
    values: Vec<f64>,
    seen: usize,
    uncalibrated: usize,
    errors: windows::Errors,
    width: usize,
    /// Fitted when the width would be re-chosen, for that method alone.
    autoregression: Option<AutoRegression>,
}

impl Deployment {
    /// The paper's choice: the median window over 100, re-chosen after 10.
    #[must_use]
    pub fn new() -> Self {
        Self::by(Method::Median, DeploymentConfig::default())
    }

    /// Another row of Table 2, or other periods. Zero limits are read as one.
    #[must_use]
    pub fn by(method: Method, config: DeploymentConfig) -> Self {
        let config = DeploymentConfig {
            history: config.history.max(1),
            calibrate_every: config.calibrate_every.max(1),
            max_width: config.max_width.max(1),
        };
        Self {
            method,
            config,
            values: Vec::new(),
            seen: 0,
            uncalibrated: 0,
            errors: windows::Errors::new(config.max_width),
            width: config.max_width,
            autoregression: None,
        }
    }

    /// Takes in one measured deployment, in seconds. Returns false, changing
    /// nothing, for what is no measurement.
    pub fn push(&mut self, seconds: f64) -> bool {
        let Some(seconds) = sane_seconds(seconds) else {
            return false;
        };
        if !self.values.is_empty() {
            self.errors.add(&self.values, seconds);
        }
        self.values.push(seconds);
        self.seen += 1;
        while self.errors.steps() > self.config.history {
            let step = self.values.len() - self.errors.steps();
            self.errors.remove(&self.values[..step], self.values[step]);
        }
        let keep = self.config.history + self.config.max_width;
        if self.values.len() > keep {
            self.values.drain(..self.values.len() - keep);
        }
        self.uncalibrated += 1;
        if self.method == Method::AutoRegression && self.uncalibrated >= self.config.calibrate_every
        {
            self.uncalibrated = 0;
            let recent = self.values.len().saturating_sub(self.config.history);
            self.autoregression = AutoRegression::fit(&self.values[recent..], MAX_ORDER);
        } else if self.uncalibrated >= self.config.calibrate_every
            && let Some(best) = self.errors.best_of(self.method)
        {
            self.uncalibrated = 0;
            self.width = best.width;
        }
        true
    }

    /// T_d of the next deployment, in seconds; a part without intervals.
    #[must_use]
    pub fn predict(&self) -> Part {
        if self.values.is_empty() {
            return Part::UNKNOWN;
        }
        let by_lags = self
            .autoregression
            .and_then(|fitted| fitted.predict(&self.values));
        // Before an autoregression is fitted, the median window stands in.
        let seconds =
            by_lags.unwrap_or_else(|| windows::predict(&self.values, self.method, self.width));
        Part {
            points: self.seen,
            ..Part::exact(seconds)
        }
    }

    /// The window width in use.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The width of least mean absolute error over the judged measurements of
    /// this moment, with the error, in seconds; `None` before the second.
    #[must_use]
    pub fn best_width(&self) -> Option<(usize, f64)> {
        let best = self.errors.best_of(self.method)?;
        Some((best.width, best.mae?))
    }
}

impl Default for Deployment {
    fn default() -> Self {
        Self::new()
    }
}

/// Mean absolute error of one-step-ahead predictions of a whole series by a
/// window of one width, in seconds: a point of the paper's Figure 2. A window
/// wider than the past takes all there is; the first value is not predicted.
/// `None` for fewer than two values or a width of zero.
#[must_use]
pub fn window_mae(values: &[f64], method: Method, width: usize) -> Option<f64> {
    if values.len() < 2 || width == 0 {
        return None;
    }
    let mut errors = VecDeque::new();
    windows::residuals(values, values.len() - 1, method, width, &mut errors);
    Some(errors.iter().map(|e| e.abs()).sum::<f64>() / errors.len() as f64)
}

/// Mean absolute error of one-step-ahead predictions of a whole series by
/// autoregression, its order by AIC and at most `max_order`, fitted anew after
/// every 10 values on the last 100 before them, in seconds: a row of the
/// paper's Table 2. The first ten values are not predicted. `None` for fewer
/// than eleven.
#[must_use]
pub fn autoregression_mae(values: &[f64], max_order: usize) -> Option<f64> {
    let config = DeploymentConfig::default();
    let (mut fitted, mut sum, mut count) = (None, 0.0, 0.0);
    for (at, actual) in values.iter().enumerate() {
        if at >= config.calibrate_every && at % config.calibrate_every == 0 {
            let recent = at.saturating_sub(config.history);
            fitted = AutoRegression::fit(&values[recent..at], max_order);
        }
        if let Some(expected) = fitted.and_then(|f| f.predict(&values[..at])) {
            sum += (actual - expected.max(0.0)).abs();
            count += 1.0;
        }
    }
    (count > 0.0).then(|| sum / count)
}

/// T_p by Algorithm 1 over the last ten points.
#[derive(Debug, Clone)]
pub struct Processing {
    config: RansacConfig,
    seed: u64,
    points: VecDeque<Point>,
    seen: usize,
    fitted: Option<Consensus>,
}

impl Processing {
    /// An empty history. Equal seeds and measurements give equal predictions.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            config: RansacConfig::default(),
            seed,
            points: VecDeque::new(),
            seen: 0,
            fitted: None,
        }
    }

    /// Takes in one run of `items` items in `seconds`, and fits anew. Returns
    /// false, changing nothing, for what is no measurement.
    pub fn push(&mut self, items: f64, seconds: f64) -> bool {
        let (Some(items), Some(seconds)) = (sane_size(items), sane_seconds(seconds)) else {
            return false;
        };
        self.points.push_back((items, seconds));
        if self.points.len() > POINTS {
            self.points.pop_front();
        }
        self.seen += 1;
        let seed = self.seed.wrapping_add(self.seen as u64);
        self.fitted = ransac::as_printed(self.points.make_contiguous(), &self.config, seed);
        true
    }

    /// T_p of a batch of `items` items, in seconds; a part without intervals.
    #[must_use]
    pub fn predict(&self, items: f64) -> Part {
        let (Some(fitted), Some(items)) = (&self.fitted, sane_size(items)) else {
            return Part::UNKNOWN;
        };
        Part {
            points: self.seen,
            ..Part::exact(fitted.at(items))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_is_rechosen_after_every_ten_measurements() {
        let mut deployment = Deployment::new();
        assert_eq!(deployment.predict(), Part::UNKNOWN);
        // Alternating values: the middle of an even window is best.
        for i in 0..9 {
            deployment.push(if i % 2 == 0 { 20.0 } else { 30.0 });
        }
        assert_eq!(deployment.width(), 100);
        deployment.push(30.0);
        assert_eq!(deployment.width() % 2, 0, "{}", deployment.width());
        // A level that lasts is best followed by the narrowest window, once due.
        for i in 0..70 {
            deployment.push(80.0 + f64::from(i));
        }
        assert_eq!((deployment.width(), deployment.predict().mean), (1, 149.0));
        assert!(!deployment.push(f64::NAN));
    }

    #[test]
    fn autoregression_follows_what_windows_cannot() {
        let wave = |i: usize| 30.0 + 10.0 * (i as f64 * 0.7).sin();
        let values: Vec<f64> = (0..60).map(wave).collect();
        let mut by_lags = Deployment::by(Method::AutoRegression, DeploymentConfig::default());
        for value in &values {
            by_lags.push(*value);
        }
        assert!((by_lags.predict().mean - wave(60)).abs() < 0.01);
        let lags = autoregression_mae(&values, MAX_ORDER).unwrap();
        assert!(lags < window_mae(&values, Method::Median, 1).unwrap());
        assert_eq!(autoregression_mae(&values[..10], MAX_ORDER), None);
    }

    #[test]
    fn a_point_of_figure_2_is_the_mean_error_of_one_width() {
        let values = [10.0, 12.0, 20.0, 11.0];
        let median = window_mae(&values, Method::Median, 2).unwrap();
        assert_eq!(median, (2.0 + 9.0 + 5.0) / 3.0);
        assert_eq!(window_mae(&values, Method::Mean, 0), None);
        assert_eq!(window_mae(&values[..1], Method::Mean, 3), None);
    }

    #[test]
    fn processing_is_the_line_through_the_last_ten_without_outliers() {
        let mut processing = Processing::new(1);
        assert_eq!(processing.predict(5.0), Part::UNKNOWN);
        for i in 0..30 {
            let items = f64::from(i % 10 * 10 + 5);
            let outlier = if i % 5 == 3 { 300.0 } else { 0.0 };
            processing.push(items, 0.2 * items + 14.0 + outlier);
        }
        let part = processing.predict(100.0);
        assert!((part.mean - 34.0).abs() < 0.5, "{part:?}");
        assert_eq!((part.points, part.p90.high), (30, part.mean));
        assert!(!processing.push(1.0, -1.0));
    }
}
