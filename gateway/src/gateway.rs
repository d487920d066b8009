//! The assembled gateway: what every room shares. It deploys and removes functions, and records what
//! happened; invocations go through [`crate::requester`].

mod pods;
mod rollover;
mod warmer;

pub use pods::Scaled;
pub use warmer::sample;

use crate::auth::Auth;
use crate::calls::Calls;
use crate::clock::Clock;
use crate::config::{Config, RuntimeConfig};
use crate::failure::Failure;
use crate::function::{Function, FunctionObject, Isolation, PublishedModel, Registry};
use crate::history::{DeploymentRecord, History, Measurement, ScaleRecord};
use crate::link::EmulatedLink;
use crate::metrics::Metrics;
use crate::peer::Leases;
use crate::pods::{Deployment, DeploymentSink, Pace, Pool, PoolOptions, Standbys, Warmer};
use crate::requester::bootstrap;
use crate::runnable::Deployed;
use crate::scheduler::{Lesson, RuntimeInfo, Scheduler, Teacher, unix_now};
use crate::secrets::Secrets;
use crate::sites::{AdoptedPod, PodSpec, Site, StartError};
use crate::storage::Stores;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use stoic_placement::ChoiceError;
use stoic_protocol::env;
use tokio_util::task::TaskTracker;
use tracing::info;
use warmer::ModelWarmer;

/// Newest deployments of a version that its pools are told of: more than a day of probes.
const RECALLED: u32 = 8000;

/// See the module.
#[derive(Debug)]
pub struct Gateway {
    /// The configuration in force.
    pub config: Config,
    /// Functions that are deployed.
    pub functions: Registry<Deployed>,
    /// Predicts and chooses.
    pub scheduler: Arc<Scheduler>,
    /// Tells the scheduler's learner.
    pub teacher: Teacher,
    /// Object stores.
    pub stores: Stores,
    /// What lasts.
    pub history: History,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Who may ask for what.
    pub auth: Arc<Auth>,
    /// Pods that other gateways use.
    pub leases: Leases,
    /// Asynchronous calls.
    pub calls: Calls,
    /// Secrets of functions.
    pub secrets: Arc<Secrets>,
    /// Seconds since the Unix epoch.
    pub clock: Clock,
    /// The async runtime of everything but HTTP connections.
    pub runtime: tokio::runtime::Handle,
    /// Set when it has been told to stop: no more requests should come.
    pub leaving: AtomicBool,
    /// Changes that are being made; they go on when their callers leave.
    pub changes: TaskTracker,
    sites: HashMap<String, Arc<dyn Site>>,
    links: HashMap<String, Arc<EmulatedLink>>,
    /// Pods of an earlier life, with their sites, that no pool has claimed yet.
    adoptable: Mutex<Vec<(String, AdoptedPod)>>,
    warmer: Arc<dyn Warmer>,
    /// Deployments and removals of one function follow one another.
    turns: Mutex<HashMap<String, Arc<rollover::Turn>>>,
    /// Versions that are not in force and have pods: those that come up, and those that finish.
    beside: Mutex<Vec<Arc<Deployed>>>,
    /// How many pods start at the same time on this machine.
    pace: Arc<Pace>,
    /// Holds the memory of standbys to a limit, where one is configured.
    standbys: Option<Standbys>,
    training: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// What a gateway is assembled from.
#[derive(Debug)]
pub struct GatewayParts {
    /// The configuration.
    pub config: Config,
    /// The registry that the learner publishes to.
    pub functions: Registry<Deployed>,
    /// The scheduler.
    pub scheduler: Arc<Scheduler>,
    /// The way to its learner.
    pub teacher: Teacher,
    /// Object stores.
    pub stores: Stores,
    /// What lasts.
    pub history: History,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Who may ask for what.
    pub auth: Arc<Auth>,
    /// Sites by name.
    pub sites: HashMap<String, Arc<dyn Site>>,
    /// Emulated links by site.
    pub links: HashMap<String, Arc<EmulatedLink>>,
    /// Pods of an earlier life of the gateway that are still up, with their sites.
    pub adoptable: Vec<(String, AdoptedPod)>,
    /// Secrets of functions.
    pub secrets: Arc<Secrets>,
}

/// A new identity of an invocation: sortable by time.
#[must_use]
pub fn new_id() -> String {
    ulid::Ulid::generate().to_string().to_ascii_lowercase()
}

impl Gateway {
    /// Puts the parts together. Called inside the async runtime that pods live on.
    #[must_use]
    pub fn assemble(parts: GatewayParts) -> Arc<Self> {
        let GatewayParts {
            config,
            functions,
            scheduler,
            teacher,
            stores,
            history,
            metrics,
            auth,
            sites,
            links,
            adoptable,
            secrets,
        } = parts;
        let standbys = config.standbys.memory.map(Standbys::new);
        Arc::new_cyclic(|gateway| Self {
            config,
            functions,
            scheduler,
            teacher,
            stores,
            history,
            metrics,
            auth,
            leases: Leases::default(),
            calls: Calls::default(),
            secrets,
            clock: Clock::new(),
            runtime: tokio::runtime::Handle::current(),
            leaving: AtomicBool::new(false),
            changes: TaskTracker::new(),
            sites,
            links,
            adoptable: Mutex::new(adoptable),
            warmer: Arc::new(ModelWarmer {
                gateway: gateway.clone(),
            }),
            turns: Mutex::default(),
            beside: Mutex::default(),
            pace: Arc::default(),
            standbys,
            training: Mutex::default(),
        })
    }

    /// Puts a stored function in force, with the pods of an earlier life that serve it, scaled as it was
    /// then.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn start(
        self: &Arc<Self>,
        object: FunctionObject,
        created: f64,
        scales: &[ScaleRecord],
    ) -> Result<Arc<Deployed>, Failure> {
        let deployed = self.prepare(object, created, None).await?;
        for (pool, info) in deployed.pools().iter().zip(self.scheduler.runtimes()) {
            let Some(pool) = pool else { continue };
            for pod in self.claim(&deployed.function, info) {
                pool.adopt(pod);
            }
            let options = pool.options();
            let its = scales.iter().find(|scale| {
                scale.function == options.function
                    && scale.version == options.version
                    && scale.runtime == options.runtime
            });
            if let Some(scale) = its {
                pool.scale(scale.replicas);
            }
        }
        self.put_in_force(&deployed);
        Ok(deployed)
    }

    /// A function with its pools, in which nothing is started yet; or with those of a version that is the
    /// same.
    async fn prepare(
        self: &Arc<Self>,
        object: FunctionObject,
        created: f64,
        same: Option<&Deployed>,
    ) -> Result<Arc<Deployed>, Failure> {
        let newest = self
            .history
            .models(&object.metadata.name)
            .await?
            .into_iter()
            .next();
        let model = newest.map(|record| PublishedModel {
            version: record.version,
            key: record.key,
        });
        let function = Function::new(object, model, created);
        let runtimes = self.scheduler.runtimes();
        let pools = match same {
            Some(same) => same.pools().to_vec(),
            None => runtimes
                .iter()
                .map(|info| {
                    self.runs(&function, info)
                        .then(|| self.pool(&function, info))
                })
                .collect(),
        };
        let meters = runtimes
            .iter()
            .map(|info| self.metrics.meters(function.name(), &info.name))
            .collect();
        let deployed = Arc::new(Deployed::new(function, pools, meters));
        if same.is_none() {
            self.recall_deployments(&deployed).await?;
        }
        Ok(deployed)
    }

    /// Runs the representative tasks that the version, or its newest model, still needs.
    pub fn bootstrap(self: &Arc<Self>, deployed: &Arc<Deployed>) {
        "waiting".clone_into(&mut deployed.bootstrap.lock().state);
        let (gateway, deployed) = (Arc::clone(self), Arc::clone(deployed));
        self.runtime.spawn(async move {
            let function = &deployed.function;
            gateway
                .teacher
                .publish(function.name(), &function.version)
                .await;
            bootstrap::run(gateway, Arc::clone(&deployed)).await;
        });
    }

    /// Takes the pods of an earlier life that serve this function version on this runtime: called by
    /// whoever makes a pool of them, once.
    pub fn claim(&self, function: &Function, info: &RuntimeInfo) -> Vec<AdoptedPod> {
        let mut adoptable = self.adoptable.lock();
        let is_its = |(site, pod): &mut (String, AdoptedPod)| {
            *site == info.site
                && pod.runtime == info.name
                && pod.function == function.name()
                && pod.version == function.version
        };
        adoptable
            .extract_if(.., is_its)
            .map(|(_, pod)| pod)
            .collect()
    }

    /// Ends the pods of an earlier life that nobody claimed: called when every function is up again.
    pub async fn end_unclaimed(&self) {
        let unclaimed = std::mem::take(&mut *self.adoptable.lock());
        let stops = unclaimed.iter().filter_map(|(site, pod)| {
            info!(pod = %pod.name, %site, "pod of an earlier life serves nothing that is deployed; ending it");
            Some(self.sites.get(site)?.stop(&pod.started.id, Duration::ZERO))
        });
        futures_util::future::join_all(stops).await;
    }

    /// Has the sites let go of images that no function names any more.
    pub async fn collect_images(&self) {
        let functions = self.functions.all();
        let used: Vec<String> = functions
            .iter()
            .filter_map(|deployed| deployed.function.object.spec.image.clone())
            .collect();
        futures_util::future::join_all(self.sites.values().map(|site| site.collect(&used))).await;
    }

    /// Whether the site of this name is another gateway.
    #[must_use]
    pub fn is_gateway(&self, site: &str) -> bool {
        self.sites
            .get(site)
            .is_some_and(|site| site.backend() == "gateway")
    }

    /// What an invocation is told that cannot be placed: with the reason, where a runtime that it insists on
    /// is unavailable for one.
    #[must_use]
    pub fn unplaced(&self, deployed: &Deployed, error: ChoiceError) -> Failure {
        let reason = match &error {
            ChoiceError::PinnedUnavailable { runtime } => self
                .scheduler
                .runtime(runtime)
                .and_then(|index| deployed.pool(index))
                .and_then(|pool| pool.standing().reason),
            _ => None,
        };
        let mut failure = Failure::from(error);
        if let Some(reason) = reason {
            let detail = failure.problem.detail.take().unwrap_or_default();
            failure.problem.detail = Some(format!("{detail}: {reason}"));
        }
        failure
    }

    /// The site of this name.
    #[must_use]
    pub fn site(&self, name: &str) -> Option<&Arc<dyn Site>> {
        self.sites.get(name)
    }

    /// Tells the pools of a version what earlier lives of the gateway recorded of their deployments.
    async fn recall_deployments(&self, deployed: &Deployed) -> Result<(), Failure> {
        let (name, version) = (deployed.function.name(), &deployed.function.version);
        let recorded = self.history.deployments_of(name, version, RECALLED).await?;
        for pool in deployed.pools().iter().flatten() {
            let runtime = &pool.options().runtime;
            pool.recall(recorded.iter().filter(|d| d.runtime == *runtime));
        }
        Ok(())
    }

    /// Refuses, by name, what could never run: unknown runtimes, sites that cannot run what the
    /// function has, executables, images, secrets and GPUs that are not there.
    async fn check_runtimes(&self, object: &FunctionObject) -> Result<(), Failure> {
        let spec = &object.spec;
        for runtime in spec.runtimes.iter().chain(spec.standby.keys()) {
            let Some(index) = self.scheduler.runtime(runtime) else {
                let known: Vec<&str> = self
                    .scheduler
                    .runtimes()
                    .iter()
                    .map(|info| info.name.as_str())
                    .collect();
                return Err(Failure::new(
                    400,
                    "unknown_runtime",
                    format!(
                        "there is no runtime `{runtime}`; there are: {}",
                        known.join(", ")
                    ),
                ));
            };
            let info = &self.scheduler.runtimes()[index];
            if let Some(site) = self.sites.get(&info.site)
                && let Err(key) = site.can_run(spec)
            {
                return Err(Failure::new(
                    400,
                    "runtime_cannot_run",
                    format!(
                        "runtime `{runtime}` is at site `{}`, whose backend `{}` needs spec.{key}, which the function lacks",
                        info.site,
                        site.backend()
                    ),
                ));
            }
        }
        let function = Function::new(object.clone(), None, 0.0);
        let mut used = 0;
        for info in self.scheduler.runtimes() {
            if !self.runs(&function, info) {
                continue;
            }
            used += 1;
            if let Some(site) = self.sites.get(&info.site) {
                site.check(&self.pod_spec(&function, info)).await.map_err(
                    |error| match &error {
                        StartError::Engine(text) => {
                            Failure::new(503, error.code(), text.clone()).retry_after(5)
                        }
                        _ => Failure::new(400, error.code(), error.to_string()),
                    },
                )?;
            }
        }
        if used > 0 {
            return Ok(());
        }
        let mut needs: Vec<String> = self
            .sites
            .iter()
            .filter_map(|(name, site)| {
                let key = site.can_run(spec).err()?;
                Some(format!("`{name}` ({}) needs spec.{key}", site.backend()))
            })
            .collect();
        needs.sort();
        Err(Failure::new(
            400,
            "runtime_cannot_run",
            format!(
                "no site can run what the function has: {}",
                needs.join(", ")
            ),
        ))
    }

    /// Whether the function runs on this runtime: it may, and the site runs what it has.
    fn runs(&self, function: &Function, info: &RuntimeInfo) -> bool {
        let site = self.sites.get(&info.site);
        function.allows(&info.name)
            && site.is_some_and(|site| site.can_run(&function.object.spec).is_ok())
    }

    /// What the function's pods on a runtime are, but for their names.
    fn pod_spec(&self, function: &Function, info: &RuntimeInfo) -> PodSpec {
        let spec = &function.object.spec;
        let runtime = self.config.runtimes.get(&info.name);
        let asked = spec.resources.as_ref().map_or(0, |r| r.gpu);
        PodSpec {
            name: String::new(),
            function: function.name().to_owned(),
            version: function.version.clone(),
            runtime: info.name.clone(),
            image: spec.image.clone(),
            command: spec.command.clone(),
            args: spec.args.clone(),
            port: spec.port,
            pull: spec.pull,
            env: pod_env(function, info, runtime),
            secrets: spec.secrets.clone(),
            files: spec.files.clone(),
            read_only_root: spec.read_only_root,
            resources: spec.resources.clone(),
            gpus: runtime.map_or(0, |runtime| runtime.gpus).max(asked),
            isolation: spec.isolation,
            health: spec.health.clone(),
            ready_timeout: spec.ready_timeout,
        }
    }

    fn pool(&self, function: &Function, info: &RuntimeInfo) -> Arc<Pool> {
        let spec = &function.object.spec;
        let site = self.sites.get(&info.site).map(Arc::clone);
        // Configurations with a runtime at an unknown site are refused before anything starts.
        let site = site.unwrap_or_else(|| unreachable!("site {} was validated", info.site));
        let here = site.here();
        let options = PoolOptions {
            function: function.name().to_owned(),
            version: function.version.clone(),
            runtime: info.name.clone(),
            site_name: info.site.clone(),
            site: Arc::clone(&site),
            link: self.links.get(&info.site).cloned(),
            pod: self.pod_spec(function, info),
            concurrency: spec.concurrency,
            standby: spec.standby.get(&info.name).copied().unwrap_or_default(),
            queue_length: spec.queue.length,
            queue_wait: spec.queue.wait,
            attempts: self.config.deployment.attempts,
            backoff: self.config.deployment.backoff,
            grace: self.config.deployment.grace,
            warmup: spec.warmup.clone(),
            pace: (here && !info.deployment_emulated).then(|| Arc::clone(&self.pace)),
            watch: (info.remote && self.config.inquisitor.enabled)
                .then(|| self.config.inquisitor.probes()),
            clock: self.clock,
        };
        Pool::new(
            options,
            function.model.clone(),
            self.runtime.clone(),
            Arc::clone(&self.warmer),
            self.deployment_sink(),
        )
    }

    fn deployment_sink(&self) -> DeploymentSink {
        let (history, teacher) = (self.history.clone(), self.teacher.clone());
        let metrics = Arc::clone(&self.metrics);
        Arc::new(move |deployment: Deployment| {
            let Deployment {
                function,
                version,
                runtime,
                seconds,
                emulated_s,
                probe,
                standby,
                failure,
                stages,
            } = deployment;
            let record = DeploymentRecord {
                at: unix_now(),
                function,
                version,
                runtime,
                seconds,
                emulated_s,
                ok: failure.is_none(),
                probe,
                standby,
                failure,
            };
            metrics.deployed(&record, &stages);
            history.deployed(record.clone());
            teacher.tell(Lesson::Deployed(record));
        })
    }

    /// Records an invocation: counters, history, models.
    pub fn record(&self, deployed: &Deployed, runtime: usize, measurement: &Measurement) {
        if measurement.outcome == "ok" {
            if let Some(meters) = deployed.meters(runtime) {
                let start = if measurement.start == "cold" {
                    crate::pods::Start::Cold
                } else {
                    crate::pods::Start::Warm
                };
                meters.count(start, &measurement.actual);
            }
            self.teacher
                .tell(Lesson::Measured(Box::new(measurement.clone())));
        }
        self.history.measured(measurement.clone());
    }

    /// Records an invocation that several runtimes shared: none of its times are those of one of them, so that the
    /// models of runtimes learn nothing from it, but what sharing costs is learned.
    pub fn record_shared(&self, deployed: &Deployed, measurement: &Measurement) {
        if measurement.outcome == "ok" {
            let name = deployed.function.name();
            let start = &measurement.start;
            self.metrics.shared(name, &measurement.runtime, start);
            self.teacher
                .tell(Lesson::Measured(Box::new(measurement.clone())));
        }
        self.history.measured(measurement.clone());
    }

    /// The lock that makes the trainings of one function follow one another.
    #[must_use]
    pub fn training_turn(&self, function: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.training.lock().entry(function.to_owned()).or_default())
    }

    /// The text of `/metrics`.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let pods = self.pods();
        let rows = pods.iter().map(|pod| {
            (
                pod.function.as_str(),
                pod.runtime.as_str(),
                pod.state.as_str(),
            )
        });
        let functions = self.functions.all();
        let available: Vec<(&str, &str, bool)> = functions
            .iter()
            .flat_map(|deployed| deployed.pools().iter().flatten())
            .map(|pool| {
                let options = pool.options();
                let available = pool.standing().available;
                (&*options.function, &*options.runtime, available)
            })
            .collect();
        self.metrics
            .calls(self.calls.queued(), self.calls.running());
        self.metrics
            .render(rows, available.into_iter(), self.history.dropped())
    }

    /// Ends every pod; what runs may finish within the grace.
    pub async fn close(&self, grace: Duration) {
        for site in self.sites.values() {
            site.leave();
        }
        let all = self.all_versions();
        futures_util::future::join_all(all.iter().map(|deployed| deployed.close(grace))).await;
        for (name, site) in &self.sites {
            let left = site.remove_orphans().await;
            if left > 0 {
                info!(site = %name, left, "zygotes, and pods that were on their way, were ended");
            }
        }
        self.history.flush().await;
    }
}

/// The environment of a function's pods on a runtime.
fn pod_env(
    function: &Function,
    info: &RuntimeInfo,
    runtime: Option<&RuntimeConfig>,
) -> BTreeMap<String, String> {
    let mut all = function.object.spec.env.clone();
    all.insert(env::FUNCTION.to_owned(), function.name().to_owned());
    if function.object.spec.isolation == Isolation::Invocation {
        all.insert(env::ISOLATION.to_owned(), "invocation".to_owned());
    }
    all.extend(runtime_env(info, runtime));
    all
}

/// What the environment of every pod on a runtime says of it.
pub(crate) fn runtime_env(
    info: &RuntimeInfo,
    runtime: Option<&RuntimeConfig>,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([(env::RUNTIME.to_owned(), info.name.clone())]);
    if let Some(runtime) = runtime {
        all.insert(env::THREADS.to_owned(), runtime.threads.to_string());
        all.insert(env::PRECISION.to_owned(), runtime.precision.clone());
        let devices = match runtime.gpus {
            0 => "cpu".to_owned(),
            count => (0..count)
                .map(|n| format!("cuda:{n}"))
                .collect::<Vec<_>>()
                .join(","),
        };
        all.insert(env::DEVICES.to_owned(), devices);
    }
    all
}
