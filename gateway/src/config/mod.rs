//! Configuration: one TOML file, parsed and validated whole before anything starts. Without a file the
//! embedded default stands: sites `edge` and `cloud` on this machine, the link and the deployment delay
//! of the cloud emulated.

mod access;
mod controller;
mod gateway;
mod kubernetes;
pub mod nearest;
mod origin;
mod units;
mod validate;

pub use access::{AuthConfig, TlsConfig};
pub use controller::{ControllerConfig, V1beta1Config};
pub use gateway::GatewayConfig;
pub use kubernetes::{
    ImagePullPolicy, KubernetesConfig, KubernetesRuntime, PodReach, TolerationConfig,
};
pub use origin::{AllowedOrigin, Origin, OriginError};
pub use units::Bandwidth;

use crate::mode::Mode;
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stoic_placement::Margin;
use stoic_placement::availability::ProbeConfig;
use stoic_placement::hedge::Budget;

/// Why a configuration was refused: one line that names the key.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidConfig(pub String);

/// The gateway's configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the HTTP gateway.
    pub listen: SocketAddr,
    /// Folder of everything that lasts: SQLite, embedded stores, logs of pods.
    pub data: PathBuf,
    /// Largest body of a request.
    pub body_limit: ByteSize,
    /// Threads that serve HTTP; 0: one a core.
    pub threads: usize,
    /// How long requests are still taken after the word to stop, while `/readyz` says that no more should come:
    /// in a cluster, the ways to a gateway take that long to be gone.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// Tokens.
    pub auth: AuthConfig,
    /// TLS of the HTTP gateway; absent: it speaks plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// How long callers may take.
    pub http: HttpConfig,
    /// How long packages and results are kept.
    pub storage: StorageConfig,
    /// How predictions are made and choices taken.
    pub placement: PlacementConfig,
    /// Deployment of pods.
    pub deployment: DeploymentConfig,
    /// Asynchronous calls.
    pub calls: CallsConfig,
    /// Standbys of all functions together.
    pub standbys: StandbysConfig,
    /// Probing of deployment times in the background.
    pub inquisitor: InquisitorConfig,
    /// Probing of the links to the sites.
    pub link: LinkConfig,
    /// Functions that are declared as resources of a Kubernetes cluster.
    pub controller: ControllerConfig,
    /// Places where pods run.
    pub sites: BTreeMap<String, SiteConfig>,
    /// Resource shapes at those sites, in order of preference where predictions are equal.
    pub runtimes: BTreeMap<String, RuntimeConfig>,
}

/// Callers: how long they may take over what they send, which they are told by 408, and from which pages
/// they may come.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Over the head of a request. Connections on which nothing was asked for so long are closed.
    #[serde(with = "humantime_serde")]
    pub head_timeout: Duration,
    /// In sum over a body, beside a second for each KiB that came. What the gateway takes itself does
    /// not count, nor does what comes when the answer has begun.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Origins (`https://lab.example`) whose pages may use this gateway from a browser, beside its own, and
    /// whose names it answers to while it needs no token; `*`: any.
    pub origins: Vec<AllowedOrigin>,
}

/// Retention in object storage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// Packages and results go after this time.
    #[serde(with = "humantime_serde")]
    pub expire: Duration,
    /// How long a gateway that starts waits for another one to be gone from its data folder: one in a cluster may
    /// come while the one before it still finishes its requests.
    #[serde(with = "humantime_serde")]
    pub wait: Duration,
}

/// Prediction and choice.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlacementConfig {
    /// Most recent points that the regression of processing time sees (paper: 10).
    pub processing_points: usize,
    /// New measurements after which the window of deployment time is chosen anew (paper: 10).
    pub calibration_period: usize,
    /// Measurements over which it is chosen (paper: 100).
    pub calibration_window: usize,
    /// Seed of every random draw of the placement.
    pub seed: u64,
    /// Another runtime than that of the last invocation like this one is chosen only when it is
    /// expected to be faster by more than this share,
    pub margin: f64,
    /// and by more than this time.
    #[serde(with = "humantime_serde")]
    pub margin_time: Duration,
    /// Seconds of waiting that one unit of the runtimes' `price` is worth; 0: prices do not count.
    pub price_weight: f64,
    /// For invocations with a deadline: the chance of meeting it, 0 to 1, that is good enough; among
    /// the runtimes that have it, the fastest (or, with prices, the cheapest) is taken. Absent: the
    /// greatest chance counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_chance: Option<f64>,
    /// Mode of invocations that ask for none; where a function cannot run in it, `selector`.
    pub mode: Mode,
    /// What hedging may cost: runtime seconds that pods beside the first may be held in vain, pods
    /// deployed at once, and the least gain for the price.
    pub hedge: Budget,
}

/// Deployment of pods.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeploymentConfig {
    /// Failed starts in a row after which waiting invocations are answered with an error (paper: 10).
    pub attempts: u32,
    /// Wait after the first failed start; it doubles with every further one (paper: 100 ms, so that
    /// ten tries are spread over 51 s).
    #[serde(with = "humantime_serde")]
    pub backoff: Duration,
    /// How long a pod that is told to stop may finish its work.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

/// Asynchronous calls: how often they are tried, how many at once, how long they are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallsConfig {
    /// A call that did not end within this time of its acceptance is given up; what has ended goes,
    /// with its body and result, after this time.
    #[serde(with = "humantime_serde")]
    pub expire: Duration,
    /// Attempts that may fail before a call is set aside as `dead`.
    pub attempts: u32,
    /// Wait after the first failed attempt; it doubles with every further one,
    #[serde(with = "humantime_serde")]
    pub backoff: Duration,
    /// up to this.
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
    /// Calls that run at once, over all functions.
    pub concurrency: u32,
    /// Calls that may wait; more are refused with 429.
    pub max_queued: u32,
    /// Attempts to tell a callback URL, with the same waits between them.
    pub callback_attempts: u32,
    /// Longest time that one of those may take.
    #[serde(with = "humantime_serde")]
    pub callback_timeout: Duration,
}

impl Default for CallsConfig {
    fn default() -> Self {
        Self {
            expire: Duration::from_secs(24 * 3600),
            attempts: 5,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            concurrency: 16,
            max_queued: 250_000,
            callback_attempts: 10,
            callback_timeout: Duration::from_secs(30),
        }
    }
}

/// Standbys of all functions together.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StandbysConfig {
    /// Most memory that idle pods on this host may hold together; absent: any. When they hold more, those
    /// that were useful least recently are ended, whatever function they belong to; what runs never is,
    /// and the standbys of a function's `min` only after all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
}

/// The inquisitor (paper, sections 3.4.2 and 3.7): deploys the runtimes that are not at home, runs
/// nothing in them, takes them down, and so keeps deployment times and availability known.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InquisitorConfig {
    /// Whether it works at all. Without it, availability follows from what real work meets.
    pub enabled: bool,
    /// The inquisitor period (paper: a minute): a function's runtime that no deployment was measured
    /// on for so long is probed.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    /// A deployment that takes longer makes the runtime unavailable (paper: 10 minutes).
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Most probes of one function on one runtime in a day (UTC).
    pub daily_budget: u32,
    /// Most time that these probes hold the runtime in a day.
    #[serde(with = "humantime_serde")]
    pub daily_time: Duration,
    /// Where pods share this machine, a probe waits until no work was done here for so long, and gives
    /// way when some arrives.
    #[serde(with = "humantime_serde")]
    pub quiet: Duration,
}

/// Probes of the links to the sites' stores: their bandwidth and round trip when nothing travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkConfig {
    /// Whether links are probed. Without it, they are known from the packages that travel.
    pub probe: bool,
    /// A link over which nothing was measured for so long is probed.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    /// Size of the object that is sent; absent: what the link carries in a fifth of a second, within
    /// 64 KiB and 2 MiB, which is large against the round trips and small against a package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// Most that probes send over one link in a day (UTC).
    pub daily_budget: ByteSize,
}

/// Which machinery runs a site's pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// Child processes of the gateway.
    #[default]
    Process,
    /// Containers of a Docker engine.
    Docker,
    /// Pods of a Kubernetes cluster.
    Kubernetes,
    /// Pods of another gateway.
    Gateway,
}

/// Containers of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DockerConfig {
    /// Address of the engine, as `unix:///var/run/docker.sock` or `tcp://127.0.0.1:2375`; absent:
    /// `$DOCKER_HOST`, else the socket at its usual place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Most processes and threads of one pod.
    pub pids: u32,
    /// Size of `/tmp` where the root cannot be written.
    pub tmp: ByteSize,
    /// What is known of an image's newest digest is asked for again after this time.
    #[serde(with = "humantime_serde")]
    pub check_images: Duration,
    /// An image that the gateway fetched and no function uses goes after this time.
    #[serde(with = "humantime_serde")]
    pub keep_images: Duration,
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self {
            host: None,
            pids: 1024,
            tmp: ByteSize::mib(64),
            check_images: Duration::from_secs(5),
            keep_images: Duration::from_secs(24 * 3600),
        }
    }
}

impl BackendKind {
    /// As it is written in a configuration.
    #[must_use]
    pub fn name(self) -> String {
        let written = serde_json::to_value(self).unwrap_or_default();
        written.as_str().unwrap_or_default().to_owned()
    }
}

/// A place where pods run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteConfig {
    /// How pods run there.
    #[serde(default)]
    pub backend: BackendKind,
    /// More about its containers, for backend `docker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerConfig>,
    /// More about its cluster, for backend `kubernetes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesConfig>,
    /// More about the gateway that it stands for, for backend `gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayConfig>,
    /// The link to it; absent: the site is on this machine or network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulated_link: Option<EmulatedLinkConfig>,
    /// Whether pods of functions built on the SDK are forked from a process that stands ready with the
    /// function loaded, which a process site does unless this says `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zygote: Option<bool>,
    /// Emulated deployment delay, before the pod is really started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulated_deployment: Option<EmulatedDeploymentConfig>,
    /// Object store of the site; absent: the embedded one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<OutsideStoreConfig>,
}

/// An emulated link: held to a bandwidth, with a round trip added.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmulatedLinkConfig {
    /// Each way. The paper's link: 70.79 Mbit/s.
    pub bandwidth: Bandwidth,
    /// Round-trip time.
    #[serde(with = "humantime_serde")]
    pub rtt: Duration,
    /// While this file exists the link is down: all connections break; if it holds the word `hold`,
    /// everything on the way waits instead. For demonstrations and tests of outages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<PathBuf>,
}

/// Emulated deployment delays, drawn from a trace.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmulatedDeploymentConfig {
    /// `nautilus` (built in: deployment times of the paper's cloud, February 2020), or a file: one
    /// number of seconds a line, or CSV with a column `act_deploy` (and `runtime`, to keep rows apart).
    pub trace: String,
    /// Every delay is multiplied by this.
    #[serde(default = "one")]
    pub scale: f64,
}

fn one() -> f64 {
    1.0
}

/// An S3 outside of the gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutsideStoreConfig {
    /// `http://` or `https://` address; absent: the region's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region; most stores take any.
    #[serde(default = "default_region")]
    pub region: String,
    /// Bucket; made when it is absent.
    pub bucket: String,
    /// Environment variable with the access key id.
    #[serde(default = "default_access_key_env")]
    pub access_key_env: String,
    /// Environment variable with the secret access key.
    #[serde(default = "default_secret_key_env")]
    pub secret_key_env: String,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}
fn default_access_key_env() -> String {
    "AWS_ACCESS_KEY_ID".to_owned()
}
fn default_secret_key_env() -> String {
    "AWS_SECRET_ACCESS_KEY".to_owned()
}

/// A resource shape at a site: the paper's runtime scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeConfig {
    /// The site its pods run at.
    pub site: String,
    /// Threads a pod computes with.
    #[serde(default = "one_thread")]
    pub threads: u32,
    /// `fp32`, `bf16` or `auto` (bf16 where the device computes it).
    #[serde(default = "default_precision")]
    pub precision: String,
    /// GPUs a pod gets.
    #[serde(default)]
    pub gpus: u32,
    /// Order among runtimes; the lower is preferred where predictions are equal.
    #[serde(default)]
    pub order: u32,
    /// What a second of one of its pods costs, in any unit; see `placement.price_weight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// At a site that is a gateway: what the runtime is called there; absent: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_runtime: Option<String>,
    /// Whether its deployments have an emulated delay that is not this gateway's.
    #[serde(skip)]
    pub emulated_deployment: bool,
}

fn one_thread() -> u32 {
    1
}
fn default_precision() -> String {
    "auto".to_owned()
}

impl Default for Config {
    fn default() -> Self {
        let cores =
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data: default_data(),
            body_limit: ByteSize::gib(4),
            threads: 0,
            linger: Duration::ZERO,
            auth: AuthConfig::default(),
            tls: None,
            http: HttpConfig::default(),
            storage: StorageConfig::default(),
            placement: PlacementConfig::default(),
            deployment: DeploymentConfig::default(),
            calls: CallsConfig::default(),
            standbys: StandbysConfig::default(),
            inquisitor: InquisitorConfig::default(),
            link: LinkConfig::default(),
            controller: ControllerConfig::default(),
            sites: default_sites(),
            runtimes: default_runtimes(cores, crate::sites::gpus_present()),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            origins: Vec::new(),
        }
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            expire: Duration::from_secs(24 * 3600),
            wait: Duration::ZERO,
        }
    }
}

impl Default for PlacementConfig {
    fn default() -> Self {
        Self {
            processing_points: 10,
            calibration_period: 10,
            calibration_window: 100,
            seed: 2020,
            margin: Margin::DEFAULT.relative,
            margin_time: Duration::from_secs_f64(Margin::DEFAULT.seconds),
            price_weight: 0.0,
            min_chance: None,
            mode: Mode::Selector,
            hedge: Budget::default(),
        }
    }
}

impl Default for DeploymentConfig {
    fn default() -> Self {
        Self {
            attempts: 10,
            backoff: Duration::from_millis(100),
            grace: Duration::from_secs(10),
        }
    }
}

impl Default for InquisitorConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            every: Duration::from_secs(60),
            timeout: Duration::from_secs(600),
            daily_budget: 480,
            daily_time: Duration::from_secs(2 * 3600),
            quiet: Duration::from_secs(5),
        }
    }
}

impl InquisitorConfig {
    /// The same in the words of the placement.
    #[must_use]
    pub fn probes(&self) -> ProbeConfig {
        ProbeConfig {
            every_s: self.every.as_secs_f64(),
            timeout_s: self.timeout.as_secs_f64(),
            probes_per_day: self.daily_budget,
            seconds_per_day: self.daily_time.as_secs_f64(),
        }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            probe: true,
            every: Duration::from_secs(300),
            size: None,
            daily_budget: ByteSize::mib(128),
        }
    }
}

/// `$STOIC_DATA`, else the user's data folder.
fn default_data() -> PathBuf {
    let home = || {
        std::env::var_os("HOME").map_or_else(
            || PathBuf::from("/var/lib"),
            |home| PathBuf::from(home).join(".local/share"),
        )
    };
    std::env::var_os("STOIC_DATA").map_or_else(
        || {
            std::env::var_os("XDG_DATA_HOME")
                .filter(|v| !v.is_empty())
                .map_or_else(home, PathBuf::from)
                .join("stoic")
        },
        PathBuf::from,
    )
}

fn default_sites() -> BTreeMap<String, SiteConfig> {
    let cloud = SiteConfig {
        emulated_link: Some(EmulatedLinkConfig {
            bandwidth: Bandwidth::megabits(70.79),
            rtt: Duration::from_millis(20),
            outage: None,
        }),
        emulated_deployment: Some(EmulatedDeploymentConfig {
            trace: "nautilus".to_owned(),
            scale: 0.1,
        }),
        ..SiteConfig::default()
    };
    BTreeMap::from([
        ("edge".to_owned(), SiteConfig::default()),
        ("cloud".to_owned(), cloud),
    ])
}

/// `edge` has one thread and fp32; the cloud has the other cores and bf16 where the CPU has it, and
/// GPUs where this machine has them.
fn default_runtimes(cores: u32, gpus: u32) -> BTreeMap<String, RuntimeConfig> {
    let cloud = |order, gpus, precision: &str| RuntimeConfig {
        site: "cloud".to_owned(),
        threads: cores.saturating_sub(1).max(1),
        precision: precision.to_owned(),
        gpus,
        order,
        price: None,
        peer_runtime: None,
        emulated_deployment: false,
    };
    let edge = RuntimeConfig {
        site: "edge".to_owned(),
        threads: 1,
        precision: "fp32".to_owned(),
        gpus: 0,
        order: 0,
        price: None,
        peer_runtime: None,
        emulated_deployment: false,
    };
    let mut runtimes = BTreeMap::from([
        ("edge".to_owned(), edge),
        ("cpu".to_owned(), cloud(1, 0, "auto")),
    ]);
    for count in 1..=gpus.min(2) {
        runtimes.insert(format!("gpu{count}"), cloud(1 + count, count, "auto"));
    }
    runtimes
}

impl Config {
    /// Reads and validates a configuration file.
    ///
    /// # Errors
    /// One line that names the file and the key.
    pub fn load(path: &Path) -> Result<Self, InvalidConfig> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| InvalidConfig(format!("{}: {e}", path.display())))?;
        Self::parse(&text)
            .map_err(|InvalidConfig(e)| InvalidConfig(format!("{}: {e}", path.display())))
    }

    /// Parses and validates a configuration.
    ///
    /// # Errors
    /// One line that names the key and, for a misspelt one, the nearest known key.
    pub fn parse(text: &str) -> Result<Self, InvalidConfig> {
        let mut config: Self = toml::from_str(text).map_err(|e| {
            let place = e.span().map_or_else(String::new, |span| {
                format!(
                    "line {}: ",
                    text[..span.start.min(text.len())].matches('\n').count() + 1
                )
            });
            InvalidConfig(format!("{place}{}", nearest::explain(e.message())))
        })?;
        config.leave_runtimes_to_gateways();
        config.validate()?;
        Ok(config)
    }

    /// Names of the runtimes, the preferred first.
    #[must_use]
    pub fn runtimes_in_order(&self) -> Vec<(&str, &RuntimeConfig)> {
        let mut all: Vec<_> = self
            .runtimes
            .iter()
            .map(|(name, runtime)| (name.as_str(), runtime))
            .collect();
        all.sort_by_key(|(name, runtime)| (runtime.order, *name));
        all
    }

    /// The site where packages arrive: the first runtime's.
    #[must_use]
    pub fn home_site(&self) -> &str {
        self.runtimes_in_order()
            .first()
            .map_or("edge", |(_, runtime)| runtime.site.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_embedded_default() {
        let config = Config::parse("").expect("valid");
        assert_eq!(config.home_site(), "edge");
        assert_eq!(config.runtimes["edge"].precision, "fp32");
        assert!(config.sites["cloud"].emulated_link.is_some());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
        let error = Config::parse("\nlisen = \"127.0.0.1:1\"\n")
            .expect_err("unknown key")
            .to_string();
        assert!(
            error.contains("line 2") && error.contains("did you mean `listen`"),
            "{error}"
        );
    }

    #[test]
    fn a_runtime_at_an_unknown_site_is_refused() {
        let error = Config::parse("[runtimes.x]\nsite = \"clod\"\n")
            .expect_err("unknown site")
            .to_string();
        assert!(
            error.contains("runtimes.x.site") && error.contains("cloud"),
            "{error}"
        );
    }

    #[test]
    fn the_default_survives_a_round_trip() {
        let text = toml::to_string(&Config::default()).expect("serialises");
        Config::parse(&text).expect("its own output is valid");
    }

    #[test]
    fn the_example_is_the_default_written_out() {
        let example = include_str!("../../../deploy/stoic.toml");
        let example = Config::parse(example).expect("valid");
        let default = Config::default();
        let text = |config: &Config| {
            let parts = (
                &config.http,
                &config.inquisitor,
                &config.link,
                &config.deployment,
                &config.placement,
                &config.sites,
            );
            serde_json::to_string(&parts).expect("serialises")
        };
        assert_eq!(text(&example), text(&default));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        for (config, words) in [
            ("[inquisitor]\nevry = \"1m\"", "did you mean `every`"),
            ("[inquisitor]\nevery = \"1ms\"", "inquisitor.every"),
            ("[inquisitor]\ntimeout = \"2days\"", "inquisitor.timeout"),
            ("[link]\nsize = \"1 GiB\"", "link.size"),
            ("[standbys]\nmemory = \"0 B\"", "standbys.memory"),
            ("[standbys]\nmemry = \"4 GiB\"", "did you mean `memory`"),
            ("[deployment]\nattempts = 40", "at most 20"),
            ("[placement]\nmin_chance = 1.5", "placement.min_chance"),
            ("[placement]\nprice_weight = -1.0", "placement.price_weight"),
            (
                "[runtimes.edge]\nsite = \"edge\"\nprice = -0.1",
                "runtimes.edge.price",
            ),
        ] {
            let error = Config::parse(config).expect_err(config).to_string();
            assert!(error.contains(words), "{config}: {error}");
        }
    }
}
