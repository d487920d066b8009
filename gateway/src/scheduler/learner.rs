//! The one task that owns every measurement's history and fits the models anew, off the request path.

use super::{FunctionModels, LinkState, Scheduler};
use crate::config::Config;
use crate::history::{
    DeploymentRecord, History, HistoryError, LinkProbe, Measurement, TransferRecord,
};
use crate::runnable::processing_key;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;
use stoic_placement::{
    Bandwidth, DeploymentConfig, DeploymentHistory, DeploymentModel, LinkConfig, ProcessingConfig,
    ProcessingHistory, ProcessingModel,
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
}

#[derive(Default)]
struct VersionHistories {
    /// By action, then by runtime.
    processing: HashMap<String, Vec<ProcessingHistory>>,
    fitted: HashMap<String, Vec<ProcessingModel>>,
}

impl VersionHistories {
    fn forget_former_models(&mut self) {
        self.processing.retain(|key, _| !key.contains('@'));
        self.fitted.retain(|key, _| !key.contains('@'));
    }
}

fn key_of(m: &Measurement) -> Cow<'_, str> {
    processing_key(&m.action, m.model.as_deref())
}

/// See the module.
pub struct Learner {
    scheduler: Arc<Scheduler>,
    processing_config: ProcessingConfig,
    deployment_config: DeploymentConfig,
    seed: u64,
    versions: HashMap<(String, String), VersionHistories>,
    deployments: HashMap<String, Vec<DeploymentHistory>>,
    fitted_deployments: HashMap<String, Vec<DeploymentModel>>,
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
    pub fn new(scheduler: Arc<Scheduler>, config: &Config, publish: Publish) -> Self {
        let links = config
            .sites
            .iter()
            .filter(|(name, _)| *name != config.home_site())
            .map(|(name, site)| {
                let configured =
                    site.emulated_link
                        .as_ref()
                        .map_or_else(LinkConfig::default, |link| LinkConfig {
                            bandwidth_bytes_per_s: link.bandwidth.bytes_per_s(),
                            rtt_s: link.rtt.as_secs_f64(),
                            ..LinkConfig::default()
                        });
                let link = Link {
                    bandwidth: Bandwidth::new(configured),
                    transfer_at: None,
                    probe_at: None,
                };
                (name.clone(), link)
            })
            .collect();
        let placement = &config.placement;
        Self {
            scheduler,
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
            deployments: HashMap::new(),
            fitted_deployments: HashMap::new(),
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
            self.learn_processing(measurement);
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
                if self.learn_processing(&measurement) {
                    let key = key_of(&measurement);
                    self.refit(&measurement.function, &measurement.version, Some(&key));
                }
            }
            Lesson::Deployed(deployment) => {
                self.learn_deployment(&deployment);
                let versions: Vec<String> = self
                    .versions
                    .keys()
                    .filter(|(function, _)| *function == deployment.function)
                    .map(|(_, version)| version.clone())
                    .collect();
                for version in versions {
                    self.refit(&deployment.function, &version, None);
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
                let key = (function.clone(), version.clone());
                let histories = self.versions.entry(key).or_default();
                let actions: Vec<String> = histories.processing.keys().cloned().collect();
                for action in &actions {
                    self.refit(&function, &version, Some(action));
                }
                self.refit(&function, &version, None);
                let _ = done.send(());
            }
        }
    }

    fn learn_processing(&mut self, m: &Measurement) -> bool {
        let Some(runtime) = self
            .scheduler
            .runtime(&m.runtime)
            .filter(|_| m.outcome == "ok")
        else {
            return false;
        };
        let count = self.scheduler.runtimes().len();
        let (config, seed) = (self.processing_config, self.seed);
        let version = self
            .versions
            .entry((m.function.clone(), m.version.clone()))
            .or_default();
        let key = key_of(m);
        // Actions are words of clients: nobody may fill the memory with them. Former models go first.
        if version.processing.len() >= ACTIONS && !version.processing.contains_key(&*key) {
            version.forget_former_models();
            if version.processing.len() >= ACTIONS {
                return false;
            }
        }
        let histories = version
            .processing
            .entry(key.into_owned())
            .or_insert_with(|| {
                (0..count)
                    .map(|_| ProcessingHistory::new(config, seed))
                    .collect()
            });
        histories[runtime].push(m.items as f64, m.actual.processing)
    }

    fn learn_deployment(&mut self, d: &DeploymentRecord) {
        let Some(runtime) = self.scheduler.runtime(&d.runtime).filter(|_| d.ok) else {
            return;
        };
        let count = self.scheduler.runtimes().len();
        let config = self.deployment_config;
        let histories = self
            .deployments
            .entry(d.function.clone())
            .or_insert_with(|| (0..count).map(|_| DeploymentHistory::new(config)).collect());
        histories[runtime].push(d.seconds);
        let models = histories.iter().map(DeploymentHistory::fit).collect();
        self.fitted_deployments.insert(d.function.clone(), models);
    }

    fn learn_transfer(&mut self, t: &TransferRecord) {
        if let Some(link) = self.links.get_mut(&t.site) {
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
            })
        };
        self.scheduler
            .publish_links(self.scheduler.runtimes().iter().map(of).collect());
    }

    fn refit(&mut self, function: &str, version: &str, action: Option<&str>) {
        let Some(histories) = self
            .versions
            .get_mut(&(function.to_owned(), version.to_owned()))
        else {
            return;
        };
        if let Some(action) = action
            && let Some(of_action) = histories.processing.get(action)
        {
            let models = of_action.iter().map(ProcessingHistory::fit).collect();
            histories.fitted.insert(action.to_owned(), models);
        }
        let models = FunctionModels {
            processing: histories.fitted.clone(),
            deployment: self
                .fitted_deployments
                .get(function)
                .cloned()
                .unwrap_or_default(),
        };
        (self.publish)(function, version, models);
    }
}

/// Seconds since the Unix epoch.
#[must_use]
pub fn unix_now() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
