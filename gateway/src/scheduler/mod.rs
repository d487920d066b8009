//! Predicts every part of the response time on every runtime, and chooses (paper, section 3.4).
//!
//! The arithmetic is in `stoic-placement`; here are the clocks, the state of the pools and the fitted
//! models that it needs. Reads take no lock beyond those of the pools' states; a [`Learner`] task takes
//! measurements and publishes new fits.

mod estimate;
mod explain;
mod incumbents;
mod learner;
mod models;
mod modes;
mod recent;

pub use estimate::{Ask, Placed, RuntimeEstimate};
pub use explain::{Explanation, LinkView, LoadView, PartExplanation, RunningView};
pub use incumbents::Incumbents;
pub use learner::{Learner, Lesson, Teacher, unix_now};
pub use models::{ActionAccuracy, FunctionAccuracy, FunctionModels};
pub use modes::ModeForecast;
pub use recent::RecentAccuracy;

use crate::config::Config;
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::sync::Arc;
use stoic_placement::hedge::Budget;
use stoic_placement::{LinkModel, Margin, RunFeatures};

/// A runtime as the scheduler sees it; its index is its place in [`Scheduler::runtimes`].
#[derive(Debug, Clone)]
pub struct RuntimeInfo {
    /// Name: `edge`, `cpu`, `gpu1`, ...
    pub name: String,
    /// Its site.
    pub site: String,
    /// Whether packages must travel to it.
    pub remote: bool,
    /// Whether its link is emulated.
    pub link_emulated: bool,
    /// Whether its deployments have an emulated delay.
    pub deployment_emulated: bool,
    /// GPUs of one of its pods.
    pub gpus: u32,
    /// What a second of one of its pods costs.
    pub price: Option<f64>,
}

/// The link to a site, and when it was measured last (seconds since the Unix epoch).
#[derive(Debug, Clone, Copy)]
pub struct LinkState {
    /// What it carries.
    pub model: LinkModel,
    /// When a package was measured on it.
    pub transfer_at: Option<f64>,
    /// When a probe was.
    pub probe_at: Option<f64>,
    /// How well its transfers were predicted lately.
    pub accuracy: RecentAccuracy,
    /// Bytes that a probe of it should send.
    pub probe_bytes: u64,
}

impl LinkState {
    /// The local site's.
    pub const LOCAL: Self = Self {
        model: LinkModel::LOCAL,
        transfer_at: None,
        probe_at: None,
        accuracy: RecentAccuracy::NONE,
        probe_bytes: 0,
    };

    /// When anything was measured on it last.
    #[must_use]
    pub fn measured_at(&self) -> Option<f64> {
        let both = [self.transfer_at, self.probe_at].into_iter().flatten();
        both.reduce(f64::max)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Scheduler {
    runtimes: Vec<RuntimeInfo>,
    links: ArcSwap<Vec<LinkState>>,
    /// Seconds of waiting that one unit of price is worth.
    seconds_per_price: f64,
    /// The chance of meeting a deadline that is good enough.
    enough: Option<f64>,
    margin: Margin,
    /// What hedging may cost.
    hedge: Budget,
}

impl Scheduler {
    /// A scheduler for the runtimes of a configuration, in order of preference.
    #[must_use]
    pub fn new(config: &Config) -> Arc<Self> {
        let home = config.home_site();
        let runtimes: Vec<RuntimeInfo> = config
            .runtimes_in_order()
            .into_iter()
            .map(|(name, runtime)| {
                let site = config.sites.get(&runtime.site);
                RuntimeInfo {
                    name: name.to_owned(),
                    site: runtime.site.clone(),
                    remote: runtime.site != home,
                    link_emulated: site.is_some_and(|site| site.emulated_link.is_some()),
                    deployment_emulated: runtime.emulated_deployment
                        || site.is_some_and(|site| site.emulated_deployment.is_some()),
                    gpus: runtime.gpus,
                    price: runtime.price,
                }
            })
            .collect();
        let links = vec![LinkState::LOCAL; runtimes.len()];
        let placement = &config.placement;
        Arc::new(Self {
            runtimes,
            links: ArcSwap::from_pointee(links),
            seconds_per_price: placement.price_weight,
            enough: placement.min_chance,
            margin: Margin {
                relative: placement.margin,
                seconds: placement.margin_time.as_secs_f64(),
            },
            hedge: placement.hedge,
        })
    }

    /// The runtimes, the preferred first.
    #[must_use]
    pub fn runtimes(&self) -> &[RuntimeInfo] {
        &self.runtimes
    }

    /// Index of the runtime of this name.
    #[must_use]
    pub fn runtime(&self, name: &str) -> Option<usize> {
        self.runtimes
            .iter()
            .position(|runtime| runtime.name == name)
    }

    /// What is known of a run before it begins.
    #[must_use]
    pub fn run_features(&self, runtime: usize, items: f64, bytes: f64, cold: bool) -> RunFeatures {
        let gpus = self.runtimes.get(runtime).map_or(0, |info| info.gpus);
        RunFeatures {
            items,
            bytes: Some(bytes).filter(|bytes| *bytes > 0.0),
            pixels: None,
            gpus: Some(f64::from(gpus)).filter(|gpus| *gpus > 0.0),
            cold: Some(cold),
        }
    }

    /// The sites that are not at home, each once.
    #[must_use]
    pub fn remote_sites(&self) -> BTreeSet<String> {
        let remote = self.runtimes.iter().filter(|runtime| runtime.remote);
        remote.map(|runtime| runtime.site.clone()).collect()
    }

    /// The link to a runtime's site, as it is known now.
    #[must_use]
    pub fn link(&self, runtime: usize) -> LinkModel {
        self.link_state(runtime).model
    }

    /// The same, with when it was measured.
    #[must_use]
    pub fn link_state(&self, runtime: usize) -> LinkState {
        self.links
            .load()
            .get(runtime)
            .copied()
            .unwrap_or(LinkState::LOCAL)
    }

    /// The link to a site.
    #[must_use]
    pub fn link_to(&self, site: &str) -> LinkState {
        let index = self.runtimes.iter().position(|r| r.site == site);
        index.map_or(LinkState::LOCAL, |index| self.link_state(index))
    }

    fn publish_links(&self, links: Vec<LinkState>) {
        self.links.store(Arc::new(links));
    }
}
