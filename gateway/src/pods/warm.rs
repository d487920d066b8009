//! What a pod does before it serves: it answers its first request, and loads the newest model.

use super::pod::{Pod, PodState};
use super::pool::Pool;
use super::settle::Sample;
use crate::function::{PublishedModel, Warmup};
use crate::sites::SiteFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::{info, warn};

/// Makes pods ready for their work.
pub trait Warmer: Send + Sync + std::fmt::Debug {
    /// Loads the newest model into a pod that has just started, or again when a newer one was published.
    /// Returns when the pod serves this model.
    fn warm<'a>(
        &'a self,
        site: &'a str,
        pod: &'a Pod,
        model: &'a PublishedModel,
    ) -> SiteFuture<'a, anyhow::Result<()>>;

    /// Sends a pod its first request; returns when it has answered well.
    fn first<'a>(
        &'a self,
        reach: SocketAddr,
        warmup: &'a Warmup,
    ) -> SiteFuture<'a, anyhow::Result<()>>;

    /// Asks a pod for a representative request; none where its function has none.
    fn sample(&self, reach: SocketAddr) -> SiteFuture<'_, anyhow::Result<Option<Sample>>>;

    /// Has a pod work a sample; returns when it has.
    fn settle<'a>(
        &'a self,
        reach: SocketAddr,
        sample: &'a Sample,
    ) -> SiteFuture<'a, anyhow::Result<()>>;
}

impl Pool {
    /// Loads the newest model into a pod that is in `Warming`, then lets it work.
    pub(super) async fn rewarm(self: Arc<Self>, pod: Arc<Pod>) {
        self.load_newest(&pod).await;
        self.stand_by(&pod);
    }

    /// Loads the newest model into a pod that is in `Warming`. Once more if a newer one was published
    /// meanwhile.
    pub(super) async fn load_newest(&self, pod: &Pod) {
        loop {
            let (model, held) = {
                let mut state = self.state.lock();
                let held = state.entry(&pod.name).and_then(|entry| entry.model.clone());
                (state.model.clone(), held)
            };
            if let Some(model) = &model
                && held.as_ref() != Some(&model.version)
                && let Err(error) = self.warmer.warm(&self.options.site_name, pod, model).await
            {
                // The pod keeps serving what it has; the answer says which model that is.
                warn!(pod = %pod.name, model = %model.version, "cannot load the newest model: {error:#}");
            }
            let mut state = self.state.lock();
            if state.model != model {
                continue;
            }
            let Some(entry) = state.entry(&pod.name) else {
                return;
            };
            entry.model = model.map(|model| model.version);
            return;
        }
    }

    /// Lets a pod work that has loaded its model, unless it is a probe.
    pub(super) fn stand_by(self: &Arc<Self>, pod: &Pod) {
        {
            let mut state = self.state.lock();
            let now = Instant::now();
            let Some(entry) = state
                .entry(&pod.name)
                .filter(|e| e.state == PodState::Warming && e.probe.is_none())
            else {
                return;
            };
            entry.enter(PodState::Idle, now);
            if entry.ready.is_none() {
                entry.ready = Some(now);
                entry.useful = now;
                info!(pod = %pod.name, runtime = %self.options.runtime, seconds = (now - entry.created).as_secs_f64(), "pod ready");
            }
        }
        self.changed.notify_waiters();
        self.dispatch();
    }
}
