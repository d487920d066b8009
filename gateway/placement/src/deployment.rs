//! T_d, the time to bring up a pod (the paper's section 3.4.2), predicted by
//! whichever of four estimators did best lately:
//!
//! * **windows**, the paper's: the mean or the median of the newest
//!   measurements. Each new measurement is first held against what every width
//!   would have predicted for it, so each width is judged on the very same
//!   measurements, those of the last [`DeploymentConfig::history`]. After every
//!   [`DeploymentConfig::calibrate_every`] new ones the width and method of
//!   least mean absolute error are chosen anew. A window wider than the past
//!   takes all there is. Until the first calibration it is the median of the
//!   widest window.
//! * **autoregression**, fitted anew with each calibration
//!   ([`AutoRegression`]);
//! * **forgetting medians** ([`Method::Forgetting`]), the one in force until
//!   another shows that it is better: medians that forget at six speeds, mixed
//!   by their recent prequential losses. Where the [`Regime`] tells whether the
//!   image is present, the medians of such deployments alone join the mixture;
//!   standby and time of day scale what is expected once the errors show that
//!   this pays.
//!
//! Deployments have a heavy tail (of the authors' 230, one took 1648 s at a
//! median of 27). The mean absolute error asks for the median, which the tail
//! does not move, and errors are cut when estimators are compared. The tail is
//! in the intervals: quantiles of recent errors, stretched as their own
//! coverage asks for (see `conformal`).
//!
//! Tried and left out: what other runtimes took in the same minutes. On the
//! authors' logs, halves apart, it gained nothing in February and under half a
//! per cent in January.
//!
//! Adding a method means adding a [`Method`] and its prediction.

mod autoregression;
mod forgetting;
mod regime;
pub(crate) mod windows;

use serde::{Deserialize, Serialize};

pub use autoregression::{AutoRegression, MAX_ORDER};
pub use regime::{DeploymentSample, Regime};

use crate::conformal::Conformal;
use crate::estimate::{Basis, MAX_SECONDS, Part, sane_seconds};
use crate::mixture::{Losses, WORST};
use forgetting::{Medians, SPEEDS};
use regime::{DAY_PARTS, Factor, day_part};

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

/// How the past is turned into a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// Average sliding window.
    Mean,
    /// Median sliding window.
    Median,
    /// Autoregression, its order by AIC.
    AutoRegression,
    /// Forgetting medians, mixed by their recent losses.
    Forgetting,
}

impl Method {
    /// In the order of the loss tables; the default comes first.
    const ALL: [Self; METHODS] = [
        Self::Forgetting,
        Self::Median,
        Self::Mean,
        Self::AutoRegression,
    ];

    /// Its name in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean window",
            Self::Median => "median window",
            Self::AutoRegression => "autoregression",
            Self::Forgetting => "forgetting medians",
        }
    }
}

const METHODS: usize = 4;

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

/// Half-life, in measurements, of the losses by which the speeds are mixed.
const SPEED_MEMORY: f64 = 10.0;

/// How sharply the mixture follows the losses. Values of 0.5 to 4 and memories
/// of 5 to 50 differ by half a per cent on the authors' logs.
const SPEED_RATE: f64 = 1.0;

/// Half-life of the losses by which the method in force is chosen.
const METHOD_MEMORY: f64 = 20.0;

/// Another method must have less than this share of the loss of the one in
/// force: what is chosen by chance predicts worse than what is kept.
const METHOD_SHARE: f64 = 0.8;

/// Outcomes before another method may come into force.
const METHOD_LEAST: f64 = 10.0;

/// Errors behind the intervals, and the step of their stretch.
const ERRORS: usize = 100;
const STEP: f64 = 0.1;

/// Errors are relative to the prediction, and to this when it is less, seconds.
const LEAST_SCALE: f64 = 1e-3;

/// How one state of the image (unknown, present, absent) is predicted.
#[derive(Debug, Clone)]
struct View {
    /// Of the medians of all deployments, then of those with this state.
    speeds: Losses<{ 2 * SPEEDS }>,
    methods: Losses<METHODS>,
    in_force: usize,
    errors: Conformal,
}

impl View {
    fn new() -> Self {
        Self {
            speeds: Losses::NONE,
            methods: Losses::NONE,
            in_force: 0,
            errors: Conformal::new(ERRORS, STEP),
        }
    }

    /// The mixture of the medians of all and, where there are any, of its own:
    /// their weighted geometric mean.
    fn mix(&self, all: &[f64; SPEEDS], own: Option<&[f64; SPEEDS]>) -> f64 {
        let weights = self.speeds.weights(SPEED_RATE);
        let awake = all.iter().chain(own.into_iter().flatten());
        let (sum, total) = awake
            .zip(weights)
            .fold((0.0, 0.0), |(sum, total), (value, weight)| {
                (sum + value.ln() * weight, total + weight)
            });
        if total > 0.0 {
            (sum / total).exp()
        } else {
            all[0]
        }
    }
}

const VIEWS: usize = 3;

/// The view of an image's state.
fn view_of(image_present: Option<bool>) -> usize {
    match image_present {
        None => 0,
        Some(true) => 1,
        Some(false) => 2,
    }
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
    /// The best median window and the best mean window, when last calibrated.
    windows: [Window; 2],
    autoregression: Option<AutoRegression>,
    /// What each view's methods predict of the next measurement.
    predictions: Option<[[f64; METHODS]; VIEWS]>,
    /// Of all deployments, with the image present, with it absent.
    medians: [Medians; VIEWS],
    views: [View; VIEWS],
    hours: Factor<DAY_PARTS>,
    standby: Factor<2>,
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
            windows: [Method::Median, Method::Mean].map(|method| Window {
                method,
                width: config.max_width,
                mae: None,
            }),
            autoregression: None,
            predictions: None,
            medians: std::array::from_fn(|_| Medians::default()),
            views: std::array::from_fn(|_| View::new()),
            hours: Factor::NONE,
            standby: Factor::NONE,
        }
    }

    /// Takes in one measured deployment, in seconds, of which nothing else is
    /// known; see [`observe`](Self::observe).
    pub fn push(&mut self, seconds: f64) -> bool {
        self.observe(&DeploymentSample::new(seconds))
    }

    /// Takes in one measured deployment, judges every estimator on it, and
    /// calibrates when that is due. Returns false, changing nothing, for what
    /// is no measurement (negative, infinite, not a number).
    pub fn observe(&mut self, sample: &DeploymentSample) -> bool {
        let Some(seconds) = sane_seconds(sample.seconds) else {
            return false;
        };
        let regime = sample.regime();
        self.judge(seconds, &regime);
        if !self.values.is_empty() {
            self.errors.add(&self.values, seconds);
        }
        let view = view_of(regime.image_present);
        self.medians[0].push(seconds);
        if view > 0 {
            self.medians[view].push(seconds);
        }
        self.values.push(seconds);
        self.seen += 1;
        self.forget();
        self.uncalibrated += 1;
        if self.uncalibrated >= self.config.calibrate_every && self.errors.steps() > 0 {
            self.calibrate();
        } else {
            self.refresh();
        }
        true
    }

    /// Predicts the next measurement by every method.
    fn refresh(&mut self) {
        self.predictions = self.medians[0].predict().map(|all| {
            let mut of_all = self.predict_by_windows_and_lags();
            // Lags carry an outlier of the tail on: hold them near the medians.
            let least = all.iter().copied().fold(f64::INFINITY, f64::min);
            let most = all.iter().copied().fold(0.0, f64::max);
            of_all[METHODS - 1] = of_all[METHODS - 1].clamp(least / 2.0, 2.0 * most);
            let mut predictions = [of_all; VIEWS];
            predictions[0][0] = self.views[0].mix(&all, None);
            for view in 1..VIEWS {
                // A state of the image never seen is predicted as unknown.
                predictions[view][0] = match self.medians[view].predict() {
                    Some(own) => self.views[view].mix(&all, Some(&own)),
                    None => predictions[0][0],
                };
            }
            predictions
        });
    }

    /// Holds a new measurement against what was predicted for it.
    fn judge(&mut self, seconds: f64, regime: &Regime) {
        let (Some(all), Some(predictions)) = (self.medians[0].predict(), self.predictions) else {
            return;
        };
        // Errors are compared on the scale of what is usual, since relative to
        // the outcome they would favour what predicts too little.
        let scale = all[SPEEDS - 1].max(LEAST_SCALE);
        let loss = |predicted: f64| ((seconds - predicted).abs() / scale).min(WORST);
        let view = view_of(regime.image_present);
        let factor = self.factor(regime);
        let mut plain = 0.0;
        for index in 0..=view {
            if index > 0 && index < view {
                continue;
            }
            let predicted = predictions[index];
            plain = predicted[self.views[index].in_force];
            let own = (index > 0).then(|| self.medians[index].predict()).flatten();
            let expected = if index == 0 { plain } else { plain * factor };
            let view = &mut self.views[index];
            // Who sleeps is given the mixture's loss.
            let mixed = loss(predicted[0]);
            let mut losses = [mixed; 2 * SPEEDS];
            for (to, from) in losses
                .iter_mut()
                .zip(all.iter().chain(own.iter().flatten()))
            {
                *to = loss(*from);
            }
            view.speeds.observe(&losses, SPEED_MEMORY);
            view.methods.observe(&predicted.map(loss), METHOD_MEMORY);
            view.in_force = view
                .methods
                .in_force(view.in_force, METHOD_SHARE, METHOD_LEAST);
            view.errors
                .observe((seconds - expected) / expected.max(LEAST_SCALE));
        }
        self.hours
            .observe(regime.hour.map(day_part), plain, seconds);
        self.standby
            .observe(regime.standby.map(usize::from), plain, seconds);
    }

    /// What each method predicts, in the order of [`Method::ALL`]; the first
    /// place is left for the mixture of a view.
    fn predict_by_windows_and_lags(&self) -> [f64; METHODS] {
        let [median, mean] = self
            .windows
            .map(|window| windows::predict(&self.values, window.method, window.width));
        let lags = self
            .autoregression
            .and_then(|fitted| fitted.predict(&self.values))
            .map_or(median, |seconds| seconds.clamp(0.0, MAX_SECONDS));
        [median, median, mean, lags]
    }

    /// Drops what has left the horizon: the oldest judged step and, once no
    /// judged step's window reaches it, the oldest value.
    fn forget(&mut self) {
        while self.errors.steps() > self.config.history {
            let step = self.values.len() - self.errors.steps();
            self.errors.remove(&self.values[..step], self.values[step]);
        }
        let keep = self.config.history + self.config.max_width;
        if self.values.len() > keep {
            self.values.drain(..self.values.len() - keep);
        }
    }

    /// Chooses the window of least mean absolute error and fits the
    /// autoregression now. [`observe`](Self::observe) does it when due; there is
    /// no need to call this otherwise.
    pub fn calibrate(&mut self) {
        self.uncalibrated = 0;
        for window in &mut self.windows {
            if let Some(best) = self.errors.best_of(window.method) {
                *window = best;
            }
        }
        let recent = self.values.len().saturating_sub(self.config.history);
        self.autoregression = AutoRegression::fit(&self.values[recent..], MAX_ORDER);
        self.refresh();
    }

    /// Number of measurements ever taken in.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// The window chosen when it was last due.
    #[must_use]
    pub fn window(&self) -> Window {
        let [median, mean] = self.windows;
        if mean.mae < median.mae { mean } else { median }
    }

    /// The autoregression fitted when it was last due.
    #[must_use]
    pub fn autoregression(&self) -> Option<AutoRegression> {
        self.autoregression
    }

    /// The least mean absolute error of one window method over the judged
    /// measurements, with its width: a row of the paper's Table 2. `None` for
    /// methods without a window.
    #[must_use]
    pub fn best_of(&self, method: Method) -> Option<Window> {
        self.errors.best_of(method)
    }

    /// What one method predicts of the next deployment, in seconds, where
    /// nothing is known of the regime; `None` without measurements.
    #[must_use]
    pub fn predict_by(&self, method: Method) -> Option<f64> {
        let index = Method::ALL.iter().position(|other| *other == method)?;
        Some(self.predictions?[0][index])
    }

    /// The recent loss of every method where nothing is known of the regime:
    /// mean absolute error relative to the usual time, the most recent counting
    /// most.
    #[must_use]
    pub fn methods(&self) -> [(Method, Option<f64>); 4] {
        let view = &self.views[0];
        std::array::from_fn(|index| (Method::ALL[index], view.methods.mean(index)))
    }

    fn factor(&self, regime: &Regime) -> f64 {
        self.hours.of(regime.hour.map(day_part)) * self.standby.of(regime.standby.map(usize::from))
    }

    /// The immutable model of this moment.
    #[must_use]
    pub fn fit(&self) -> DeploymentModel {
        let basis = Basis {
            estimator: Method::ALL[self.views[0].in_force].name(),
            points: self.seen,
            recent_error: self.views[0].methods.mean(self.views[0].in_force),
        };
        let mut model = DeploymentModel {
            parts: [Part::UNKNOWN; VIEWS],
            hours: std::array::from_fn(|part| self.hours.of(Some(part))),
            standby: std::array::from_fn(|level| self.standby.of(Some(level))),
            window: self.window(),
            basis,
        };
        let Some(predictions) = self.predictions else {
            return model;
        };
        for (index, part) in model.parts.iter_mut().enumerate() {
            // A state of the image that was never seen is predicted as unknown.
            let index = if self.medians[index].predict().is_some() {
                index
            } else {
                0
            };
            let view = &self.views[index];
            let mean = predictions[index][view.in_force];
            let scale = mean.max(LEAST_SCALE);
            let scaled = |(low, high): (f64, f64)| (low * scale, high * scale);
            let band = view.errors.band();
            *part = Part::around(mean, scaled(band.p50), scaled(band.p90), self.seen);
        }
        model
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
    /// By the state of the image: unknown, present, absent.
    parts: [Part; VIEWS],
    hours: [f64; DAY_PARTS],
    standby: [f64; 2],
    window: Window,
    basis: Basis,
}

impl DeploymentModel {
    /// The model of a runtime that was never deployed.
    #[must_use]
    pub fn unknown() -> Self {
        DeploymentHistory::default().fit()
    }

    /// T_d of a cold start of which nothing else is known, in seconds.
    #[must_use]
    pub fn predict(&self) -> Part {
        self.parts[0]
    }

    /// T_d of a cold start in a regime, in seconds.
    #[must_use]
    pub fn predict_in(&self, regime: &Regime) -> Part {
        let part = &self.parts[view_of(regime.image_present)];
        let hour = regime.hour.map_or(1.0, |hour| self.hours[day_part(hour)]);
        let standby = regime
            .standby
            .map_or(1.0, |standby| self.standby[usize::from(standby)]);
        part.scaled(hour * standby)
    }

    /// The model whose [`predict`](Self::predict) speaks of that regime: for
    /// callers that know it before they ask (the request path).
    #[must_use]
    pub fn within(&self, regime: &Regime) -> Self {
        Self {
            parts: [self.predict_in(regime); VIEWS],
            hours: [1.0; DAY_PARTS],
            standby: [1.0; 2],
            ..*self
        }
    }

    /// The best sliding window when it was last calibrated.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// What a prediction stands on.
    #[must_use]
    pub fn basis(&self) -> Basis {
        self.basis
    }
}
