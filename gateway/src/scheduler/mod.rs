//! Predicts every part of the response time on every runtime, and chooses (paper, section 3.4).
//!
//! The arithmetic is in `stoic-placement`; here are the clocks, the state of the pools and the fitted
//! models that it needs. Reads take no lock beyond those of the pools' states; a [`Learner`] task takes
//! measurements and publishes new fits.

mod estimate;
mod learner;
mod models;

pub use estimate::{Ask, Placed, RuntimeEstimate};
pub use learner::{Learner, Lesson, Teacher, unix_now};
pub use models::FunctionModels;

use crate::config::Config;
use arc_swap::ArcSwap;
use std::sync::Arc;
use stoic_placement::LinkModel;

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
}

/// See the module.
#[derive(Debug)]
pub struct Scheduler {
    runtimes: Vec<RuntimeInfo>,
    links: ArcSwap<Vec<LinkModel>>,
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
                    deployment_emulated: site
                        .is_some_and(|site| site.emulated_deployment.is_some()),
                }
            })
            .collect();
        let links = vec![LinkModel::LOCAL; runtimes.len()];
        Arc::new(Self {
            runtimes,
            links: ArcSwap::from_pointee(links),
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

    /// The link to a runtime's site, as it is known now.
    #[must_use]
    pub fn link(&self, runtime: usize) -> LinkModel {
        self.links
            .load()
            .get(runtime)
            .copied()
            .unwrap_or(LinkModel::LOCAL)
    }

    fn publish_links(&self, links: Vec<LinkModel>) {
        self.links.store(Arc::new(links));
    }
}
