//! The one task that owns every measurement's history and fits the models anew, off the request path.

use super::models::{ActionAccuracy, FunctionModels};
use super::recent::Recent;
use super::{LinkState, Scheduler};
use crate::config::Config;
use crate::history::{
    DeploymentRecord, History, HistoryError, LinkProbe, Measurement, TransferRecord,
};
use crate::metrics::Metrics;
use crate::runnable::processing_key;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;
use stoic_placement::cooperative::{Sharing, SharingHistory};
use stoic_placement::{
    Bandwidth, DeploymentConfig, DeploymentHistory, DeploymentModel, DeploymentSample, Interval,
    LinkConfig, Part, ProcessingConfig, ProcessingHistory, ProcessingModel, Regime,
    ResponseCalibrator, Run, RunFeatures,
};
use tokio::sync::{mpsc, oneshot};

/// Actions of one version that are learned from.
const ACTIONS: usize = 16;

/// What the learner is told.
#[derive(Debug)]
pub enum Lesson {
    /// An invocation ended well.
    Measured(Box<Measurement>),
    /// A pod was deployed.
    Deployed(DeploymentRecord),
    /// A package was moved to a site.
    Transferred(TransferRecord),
    /// A link was probed.
    LinkProbed(LinkProbe),
    /// A function version was deployed: publish what is known of it.
    Publish {
        /// Function.
        function: String,
        /// Its version.
        version: String,
        /// Told when it is done.
        done: oneshot::Sender<()>,
    },
}

/// The way to tell it; lessons are dropped when it is far behind.
#[derive(Debug, Clone)]
pub struct Teacher(mpsc::Sender<Lesson>);

impl Teacher {
    /// Tells the learner.
    pub fn tell(&self, lesson: Lesson) {
        let _ = self.0.try_send(lesson);
    }

    /// Has what is known of a function version published, and returns when it is.
    pub async fn publish(&self, function: &str, version: &str) {
        let (done, published) = oneshot::channel();
        let lesson = Lesson::Publish {
            function: function.to_owned(),
            version: version.to_owned(),
            done,
        };
        if self.0.send(lesson).await.is_ok() {
            let _ = published.await;
        }
    }
}

/// Where new fits go: function name, version, models.
pub(super) type Publish = Box<dyn Fn(&str, &str, FunctionModels) + Send>;

/// A link with what was measured on it.
struct Link {
    bandwidth: Bandwidth,
    transfer_at: Option<f64>,
    probe_at: Option<f64>,
    accuracy: Recent,
}

/// What one version of a function taught.
#[derive(Default)]
struct VersionHistories {
    /// By action, then by runtime.
    actions: HashMap<String, Vec<ActionHistory>>,
    /// By action, then by the runtime away from home.
    shared: HashMap<String, Vec<SharingHistory>>,
    /// By runtime.
    deployments: Vec<DeploymentRecords>,
    models: FunctionModels,
}

/// Runs of one action on one runtime.
struct ActionHistory {
    processing: ProcessingHistory,
    /// What the next run is predicted by.
    model: ProcessingModel,
    queueing: Recent,
    processing_accuracy: Recent,
    response: Recent,
}

/// Deployments on one runtime.
#[derive(Clone)]
struct DeploymentRecords {
    history: DeploymentHistory,
    /// What the next deployment is predicted by.
    model: DeploymentModel,
    accuracy: Recent,
}

impl VersionHistories {
    fn forget_former_models(&mut self) {
        self.actions.retain(|key, _| !key.contains('@'));
        self.models.processing.retain(|key, _| !key.contains('@'));
    }

    /// Brings what is published of an action up to date.
    fn refresh_action(&mut self, action: &str) {
        let Some(histories) = self.actions.get(action) else {
            return;
        };
        let models = histories.iter().map(|history| history.model).collect();
        self.models.processing.insert(action.to_owned(), models);
        let accuracy = histories.iter().map(|history| ActionAccuracy {
            queueing: history.queueing.summary(),
            processing: history.processing_accuracy.summary(),
            response: history.response.summary(),
        });
        let accuracy = accuracy.collect();
        let all = Arc::make_mut(&mut self.models.accuracy);
        all.actions.insert(action.to_owned(), accuracy);
    }

    /// Brings what is published of deployments up to date.
    fn refresh_deployments(&mut self) {
        let records = &self.deployments;
        self.models.deployment = records.iter().map(|record| record.model).collect();
        let all = Arc::make_mut(&mut self.models.accuracy);
        all.deployment = records.iter().map(|r| r.accuracy.summary()).collect();
    }
}

fn key_of(m: &Measurement) -> Cow<'_, str> {
    processing_key(&m.action, m.model.as_deref())
}

/// See the module.
pub struct Learner {
    scheduler: Arc<Scheduler>,
    metrics: Arc<Metrics>,
    processing_config: ProcessingConfig,
    deployment_config: DeploymentConfig,
    seed: u64,
    versions: HashMap<(String, String), VersionHistories>,
    /// By function: what any of its versions teaches of intervals serves them all.
    calibrators: HashMap<String, ResponseCalibrator>,
    /// By function: the version whose deployments were learned from last.
    newest: HashMap<String, String>,
    links: HashMap<String, Link>,
    publish: Publish,
}

impl std::fmt::Debug for Learner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Learner")
            .field("versions", &self.versions.len())
            .finish_non_exhaustive()
    }
}

impl Learner {
    /// A learner that knows nothing yet but the configured links.
    #[must_use]
    pub fn new(
        scheduler: Arc<Scheduler>,
        metrics: Arc<Metrics>,
        config: &Config,
        publish: Publish,
    ) -> Self {
        let links = config
            .sites
            .iter()
            .filter(|(name, _)| *name != config.home_site())
            .map(|(name, site)| {
                // Connections to stores are kept: a transfer costs one round trip, the answer's.
                let kept = LinkConfig {
                    round_trips: 1.0,
                    ..LinkConfig::default()
                };
                let configured = site.emulated_link.as_ref().map_or(kept, |link| LinkConfig {
                    bandwidth_bytes_per_s: link.bandwidth.bytes_per_s(),
                    rtt_s: link.rtt.as_secs_f64(),
                    ..kept
                });
                let link = Link {
                    bandwidth: Bandwidth::new(configured),
                    transfer_at: None,
                    probe_at: None,
                    accuracy: Recent::default(),
                };
                (name.clone(), link)
            })
            .collect();
        let placement = &config.placement;
        Self {
            scheduler,
            metrics,
            processing_config: ProcessingConfig {
                points: placement.processing_points,
                ..ProcessingConfig::default()
            },
            deployment_config: DeploymentConfig {
                history: placement.calibration_window,
                calibrate_every: placement.calibration_period,
                max_width: placement.calibration_window,
            },
            seed: placement.seed,
            versions: HashMap::new(),
            calibrators: HashMap::new(),
            newest: HashMap::new(),
            links,
            publish,
        }
    }

    /// Learns from what an earlier life of the gateway recorded.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn recall(&mut self, history: &History) -> Result<(), HistoryError> {
        for deployment in history.deployments(2000).await? {
            self.learn_deployment(&deployment);
        }
        // Before the measurements, which are held against what the links were known for.
        // In the order in which they happened: the estimator forgets by time.
        let mut links: Vec<(f64, Lesson)> = Vec::new();
        for transfer in history.transfers(200).await? {
            links.push((transfer.at, Lesson::Transferred(transfer)));
        }
        for probe in history.link_probes(200).await? {
            links.push((probe.transfer.at, Lesson::LinkProbed(probe)));
        }
        links.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, lesson) in links {
            match lesson {
                Lesson::LinkProbed(probe) => self.learn_link_probe(&probe),
                Lesson::Transferred(transfer) => self.learn_transfer(&transfer),
                _ => {}
            }
        }
        for measurement in history.measurements(None, None, 5000).await?.iter().rev() {
            self.learn_run(measurement);
        }
        self.publish_links();
        Ok(())
    }

    /// Runs until every teacher is gone.
    pub fn spawn(mut self, runtime: &tokio::runtime::Handle) -> Teacher {
        let (teacher, mut lessons) = mpsc::channel(4096);
        runtime.spawn(async move {
            while let Some(lesson) = lessons.recv().await {
                self.take(lesson);
            }
        });
        Teacher(teacher)
    }

    fn take(&mut self, lesson: Lesson) {
        match lesson {
            Lesson::Measured(measurement) => {
                self.count(&measurement);
                if self.learn_run(&measurement) {
                    self.put_in_force(&measurement.function, &measurement.version);
                }
            }
            Lesson::Deployed(deployment) => {
                if let Some((predicted, actual)) = self.learn_deployment(&deployment) {
                    let (function, runtime) = (&deployment.function, &deployment.runtime);
                    self.metrics
                        .predicted(function, runtime, "deployment", &predicted, actual);
                    let version = self.version_of(&deployment);
                    self.put_in_force(function, &version);
                }
            }
            Lesson::Transferred(transfer) => {
                self.learn_transfer(&transfer);
                self.publish_links();
            }
            Lesson::LinkProbed(probe) => {
                self.learn_link_probe(&probe);
                self.publish_links();
            }
            Lesson::Publish {
                function,
                version,
                done,
            } => {
                let histories = self.version(&function, &version);
                let actions: Vec<String> = histories.actions.keys().cloned().collect();
                for action in &actions {
                    histories.refresh_action(action);
                }
                histories.refresh_deployments();
                self.put_in_force(&function, &version);
                let _ = done.send(());
            }
        }
    }

    /// The histories of a version. Those of its deployments begin with what was learned of the
    /// version before it: a new one is most often of the same kind, and if it is not, forgetting
    /// soon tells.
    fn version(&mut self, function: &str, version: &str) -> &mut VersionHistories {
        let key = (function.to_owned(), version.to_owned());
        if !self.versions.contains_key(&key) {
            let (count, config) = (self.scheduler.runtimes().len(), self.deployment_config);
            let former = self.newest.get(function);
            let former = former.and_then(|version| {
                let key = (function.to_owned(), version.clone());
                Some(self.versions.get(&key)?.deployments.clone())
            });
            let fresh = || DeploymentRecords {
                history: DeploymentHistory::new(config),
                model: DeploymentHistory::new(config).fit(),
                accuracy: Recent::default(),
            };
            let histories = VersionHistories {
                deployments: former.unwrap_or_else(|| (0..count).map(|_| fresh()).collect()),
                ..VersionHistories::default()
            };
            self.versions.insert(key.clone(), histories);
        }
        self.versions.entry(key).or_default()
    }

    /// Counts what was predicted for an invocation, part by part, before anything is learned from it.
    fn count(&self, m: &Measurement) {
        let metrics = &self.metrics;
        let Some(runtime) = self.scheduler.runtime(&m.runtime) else {
            return;
        };
        if let Some(given) = given(m) {
            let actual = m.actual.response();
            metrics.predicted(&m.function, &m.runtime, "response", &given, actual);
        }
        let key = (m.function.clone(), m.version.clone());
        let model = self
            .versions
            .get(&key)
            .and_then(|version| version.actions.get(&*key_of(m)))
            .and_then(|action| action.get(runtime))
            .map(|history| history.model);
        if let Some(model) = model {
            let predicted = model.predict_run(&self.features(m, runtime));
            let actual = m.actual.processing;
            metrics.predicted(&m.function, &m.runtime, "processing", &predicted, actual);
        }
        if m.actual.transfer > 0.0 {
            let predicted = self.scheduler.link(runtime).predict(m.bytes as f64);
            let actual = m.actual.transfer;
            metrics.predicted(&m.function, &m.runtime, "transfer", &predicted, actual);
        }
    }

    fn features(&self, m: &Measurement, runtime: usize) -> RunFeatures {
        self.scheduler
            .run_features(runtime, m.items as f64, m.bytes as f64, m.start == "cold")
    }

    /// Holds what was predicted of the whole response against what it took; gives the prediction back.
    fn calibrate(&mut self, m: &Measurement) -> Option<Part> {
        let given = given(m)?;
        let calibrator = self.calibrators.entry(m.function.clone()).or_default();
        calibrator.observe_part(&given, m.actual.response());
        Some(given)
    }

    /// Learns what a batch that two runtimes shared took beyond the fluid view.
    fn learn_shared(&mut self, m: &Measurement) -> bool {
        let Some(fluid_s) = m.fluid_s.filter(|_| m.outcome == "ok") else {
            return false;
        };
        // Also where one side did all of it: that the other one came too late is what is to be known.
        let names = m.items_by.keys();
        let sides: Option<Vec<usize>> = names.map(|name| self.scheduler.runtime(name)).collect();
        let Some(&[one, other]) = sides.as_deref() else {
            return false;
        };
        let runtimes = self.scheduler.runtimes();
        let away = if runtimes[one].remote { one } else { other };
        let count = runtimes.len();
        let _ = self.calibrate(m);
        let version = self.version(&m.function, &m.version);
        if version.shared.len() >= ACTIONS && !version.shared.contains_key(&m.action) {
            return false;
        }
        let histories = version.shared.entry(m.action.clone());
        let histories = histories.or_insert_with(|| vec![SharingHistory::default(); count]);
        if !histories[away].observe(fluid_s, m.actual.response()) {
            return false;
        }
        let fits = version.models.sharing.entry(m.action.clone());
        fits.or_insert_with(|| vec![Sharing::default(); count])[away] = histories[away].fit();
        true
    }

    fn learn_run(&mut self, m: &Measurement) -> bool {
        if !m.items_by.is_empty() {
            return self.learn_shared(m);
        }
        let Some(runtime) = self
            .scheduler
            .runtime(&m.runtime)
            .filter(|_| m.outcome == "ok")
        else {
            return false;
        };
        let given = self.calibrate(m);
        let run = Run {
            features: self.features(m, runtime),
            seconds: m.actual.processing,
        };
        let count = self.scheduler.runtimes().len();
        let (config, seed) = (self.processing_config, self.seed);
        let version = self.version(&m.function, &m.version);
        let key = key_of(m);
        // Actions are words of clients: nobody may fill the memory with them. Former models go first.
        if version.actions.len() >= ACTIONS && !version.actions.contains_key(&*key) {
            version.forget_former_models();
            if version.actions.len() >= ACTIONS {
                return false;
            }
        }
        let fresh = || {
            let processing = ProcessingHistory::new(config, seed);
            ActionHistory {
                model: processing.fit(),
                processing,
                queueing: Recent::default(),
                processing_accuracy: Recent::default(),
                response: Recent::default(),
            }
        };
        let histories = version
            .actions
            .entry(key.clone().into_owned())
            .or_insert_with(|| (0..count).map(|_| fresh()).collect());
        let history = &mut histories[runtime];
        let predicted = history.model.predict_run(&run.features);
        if !history.processing.observe(&run) {
            return false;
        }
        history.processing_accuracy.observe(&predicted, run.seconds);
        history.model = history.processing.fit();
        if let Some(given) = &given {
            history.response.observe(given, m.actual.response());
        }
        if let Some(parts) = m.predicted.filter(|_| m.start == "warm") {
            history
                .queueing
                .add(parts.queueing, None, m.actual.queueing);
        }
        version.refresh_action(&key);
        true
    }

    /// The version that a record is of; those of older gateways do not say.
    fn version_of(&self, d: &DeploymentRecord) -> String {
        match (d.version.is_empty(), self.newest.get(&d.function)) {
            (true, Some(newest)) => newest.clone(),
            _ => d.version.clone(),
        }
    }

    /// What had been predicted for the deployment, and what it took.
    fn learn_deployment(&mut self, d: &DeploymentRecord) -> Option<(Part, f64)> {
        let runtime = self.scheduler.runtime(&d.runtime).filter(|_| d.ok)?;
        let sample = DeploymentSample {
            seconds: d.seconds,
            at_s: Some(d.at),
            regime: Regime {
                standby: Some(d.standby),
                ..Regime::UNKNOWN
            },
        };
        let version = self.version_of(d);
        let histories = self.version(&d.function, &version);
        let records = histories.deployments.get_mut(runtime)?;
        let regime = Regime {
            hour: Some(hour(d.at)),
            ..sample.regime
        };
        let predicted = records.model.predict_in(&regime);
        if !records.history.observe(&sample) {
            return None;
        }
        records.accuracy.observe(&predicted, d.seconds);
        records.model = records.history.fit();
        histories.refresh_deployments();
        self.newest.insert(d.function.clone(), version);
        Some((predicted, d.seconds))
    }

    fn learn_transfer(&mut self, t: &TransferRecord) {
        if let Some(link) = self.links.get_mut(&t.site) {
            let predicted = link.bandwidth.fit(t.at).predict(t.bytes as f64);
            link.accuracy.observe(&predicted, t.seconds);
            link.bandwidth.observe(t.bytes as f64, t.seconds, t.at);
            link.transfer_at = Some(t.at);
        }
    }

    fn learn_link_probe(&mut self, probe: &LinkProbe) {
        let t = &probe.transfer;
        if let Some(link) = self.links.get_mut(&t.site) {
            link.bandwidth.observe_rtt(probe.rtt_s);
            link.bandwidth.observe(t.bytes as f64, t.seconds, t.at);
            link.probe_at = Some(t.at);
        }
    }

    fn publish_links(&self) {
        let now = unix_now();
        let of = |runtime: &super::RuntimeInfo| {
            let link = self.links.get(&runtime.site);
            link.map_or(LinkState::LOCAL, |link| LinkState {
                model: link.bandwidth.fit(now),
                transfer_at: link.transfer_at,
                probe_at: link.probe_at,
                accuracy: link.accuracy.summary(),
                // The size alone: whether one is due depends on when it is asked.
                probe_bytes: link.bandwidth.probe_due(f64::MAX).unwrap_or(0),
            })
        };
        self.scheduler
            .publish_links(self.scheduler.runtimes().iter().map(of).collect());
    }

    /// Publishes what is known of a version.
    fn put_in_force(&mut self, function: &str, version: &str) {
        let calibrator = self.calibrators.get(function).copied().unwrap_or_default();
        let histories = self.version(function, version);
        histories.models.calibrator = calibrator;
        let models = histories.models.clone();
        (self.publish)(function, version, models);
    }
}

/// The response time as it was predicted for an invocation. Records of earlier lives have the 90 %
/// interval only: the other one is taken to lie where it lies for normal errors.
fn given(m: &Measurement) -> Option<Part> {
    /// Half-widths of the 50 % over the 90 % interval of a normal distribution.
    const NORMAL: f64 = 0.41;
    let mean = m.predicted?.response();
    let (low, high) = m.predicted_90?;
    let towards = |end: f64| mean + NORMAL * (end - mean);
    let (low_50, high_50) = m.predicted_50.unwrap_or((towards(low), towards(high)));
    Some(Part {
        mean,
        p50: Interval {
            low: low_50,
            high: high_50,
        },
        p90: Interval { low, high },
        known: true,
        points: 1,
    })
}

/// The hour of the day, UTC, of a moment since the Unix epoch.
pub(super) fn hour(at: f64) -> u8 {
    (at.rem_euclid(86_400.0) / 3600.0) as u8
}

/// Seconds since the Unix epoch.
#[must_use]
pub fn unix_now() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
