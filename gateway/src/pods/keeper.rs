//! What a pool does on its own: deploys pods, keeps standbys, notices deaths, loads newer models and
//! lets idle pods go.

use super::deployment::Deployment;
use super::failures::StartFailures;
use super::pod::{Pod, PodState};
use super::pool::Pool;
use super::probe::Probed;
use super::queue::AcquireError;
use crate::function::PublishedModel;
use crate::sites::{PodSpec, SiteFuture, StartedPod};
use std::sync::Arc;
use std::time::Duration;
use stoic_placement::availability::Event;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Longest wait between failed starts of a standby.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Loads the newest model into a pod that has just started, or again when a newer one was published.
pub trait Warmer: Send + Sync + std::fmt::Debug {
    /// Returns when the pod serves this model.
    fn warm<'a>(
        &'a self,
        site: &'a str,
        pod: &'a Pod,
        model: &'a PublishedModel,
    ) -> SiteFuture<'a, anyhow::Result<()>>;
}

impl Pool {
    /// Starts a pod, and again when it fails, with a wait that doubles. A probe is tried once.
    pub(super) async fn deploy(self: Arc<Self>, name: Arc<str>, ended: Option<CancellationToken>) {
        let ordered = Instant::now();
        let mut failures = StartFailures::default();
        let started = loop {
            let begun = Instant::now();
            let start = self.options.site.start(self.spec(&name));
            let Some(tried) = Self::unless_ended(ended.as_ref(), start).await else {
                return;
            };
            let error = match tried {
                Ok(started) => break started,
                Err(error) => error,
            };
            let text = error.to_string();
            failures.add(error, ordered.elapsed());
            warn!(pod = %name, runtime = %self.options.runtime, attempt = failures.count(), "start failed: {text}");
            if self.fail_probe(&name, begun, &text) {
                return;
            }
            self.report(&name, begun, 0.0, Some(text));
            let last = failures.hopeless() || failures.count() >= self.options.attempts;
            if last || self.state.lock().closed {
                return self.give_up(&name, failures);
            }
            self.give_way(&name, &failures);
            let doubled = 2u32.saturating_pow(failures.count() - 1);
            tokio::time::sleep(self.options.backoff.saturating_mul(doubled)).await;
        };
        let reach = match &self.options.link {
            Some(link) => link.open(started.address).await,
            None => Ok(started.address),
        };
        let mut unwanted = false;
        let pod = {
            let mut state = self.state.lock();
            state.failures = 0;
            state.retry_at = None;
            let closed = state.closed;
            match (state.entry(&name), reach) {
                (Some(entry), Ok(reach)) => {
                    let pod = entry.started(&started, reach);
                    unwanted = entry.unwanted;
                    let next = if closed || unwanted {
                        PodState::Draining
                    } else {
                        PodState::Warming
                    };
                    entry.enter(next, Instant::now());
                    Some(pod)
                }
                (Some(entry), Err(_)) => {
                    let pod = entry.started(&started, started.address);
                    entry.enter(PodState::Draining, Instant::now());
                    Some(pod)
                }
                (None, _) => None,
            }
        };
        let Some(pod) = pod else {
            // A probe that was given up in the moment in which it began to answer.
            if let Some(link) = &self.options.link {
                link.close(started.address);
            }
            return self.options.site.stop(&started.id, Duration::ZERO).await;
        };
        let emulated_s = started.emulated_s;
        self.runtime
            .spawn(Arc::clone(&self).watch(Arc::clone(&pod), started));
        if unwanted {
            // Measured all the same: it was up.
            self.report(&name, ordered, emulated_s, None);
            return self.stop(pod).await;
        }
        if self.state.lock().closed {
            return self.stop(pod).await;
        }
        let warm = Arc::clone(&self).rewarm(Arc::clone(&pod));
        if Self::unless_ended(ended.as_ref(), warm).await.is_none() {
            return;
        }
        if !self.conclude_probe(&pod, ordered, emulated_s) {
            // One that was handed over meanwhile has not stood by yet.
            self.stand_by(&pod);
            self.report(&name, ordered, emulated_s, None);
        }
    }

    fn spec(&self, name: &str) -> PodSpec {
        let mut spec = self.options.pod.clone();
        name.clone_into(&mut spec.name);
        spec.env
            .insert(stoic_protocol::env::POD.to_owned(), name.to_owned());
        spec
    }

    /// Reports a deployment that was no probe.
    fn report(&self, name: &str, begun: Instant, emulated_s: f64, failure: Option<String>) {
        let standby = {
            let mut state = self.state.lock();
            let now = self.options.clock.now();
            match &failure {
                None => state.watch.deployed(begun.elapsed().as_secs_f64(), now),
                Some(_) => state.watch.failed(now),
            }
            state.entry(name).is_some_and(|e| e.standby)
        };
        self.tell(begun.elapsed(), emulated_s, false, standby, failure);
    }

    pub(super) fn tell(
        &self,
        took: Duration,
        emulated_s: f64,
        probe: bool,
        standby: bool,
        failure: Option<String>,
    ) {
        (self.recorded)(Deployment {
            function: self.options.function.clone(),
            version: self.options.version.clone(),
            runtime: self.options.runtime.clone(),
            seconds: took.as_secs_f64(),
            emulated_s,
            probe,
            standby,
            failure,
        });
    }

    fn give_up(&self, name: &str, failures: StartFailures) {
        {
            let mut state = self.state.lock();
            state.pods.retain(|entry| &*entry.name != name);
            state.failures = state.failures.saturating_add(1);
            let doubled =
                2u32.saturating_pow(state.failures.saturating_add(failures.count()).min(20));
            let pause = self.options.backoff.saturating_mul(doubled);
            state.retry_at = Some(Instant::now() + pause.min(LONGEST_BACKOFF));
            let now = self.options.clock.now();
            state.watch.timed_out(&failures.to_string(), now);
        }
        self.fail_waiting(&AcquireError::Start(failures));
    }

    /// Loads the newest model into a pod that is in `Warming`, then lets it work. Once more if a newer
    /// one was published meanwhile.
    pub(super) async fn rewarm(self: Arc<Self>, pod: Arc<Pod>) {
        loop {
            let model = self.state.lock().model.clone();
            if let Some(model) = &model
                && let Err(error) = self.warmer.warm(&self.options.site_name, &pod, model).await
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
            break;
        }
        self.stand_by(&pod);
    }

    /// Lets a pod work that has loaded its model, unless it is a probe.
    fn stand_by(self: &Arc<Self>, pod: &Pod) {
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
                info!(pod = %pod.name, runtime = %self.options.runtime, seconds = (now - entry.created).as_secs_f64(), "pod ready");
            }
        }
        self.dispatch();
    }

    /// Notices the death of a pod.
    async fn watch(self: Arc<Self>, pod: Arc<Pod>, mut started: StartedPod) {
        let how = started
            .exited
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|how| how.clone());
        if let Some(link) = &self.options.link {
            link.close(pod.address);
        }
        let mut state = self.state.lock();
        let Some(at) = state.pods.iter().position(|entry| entry.name == pod.name) else {
            return;
        };
        let mut entry = state.pods.remove(at);
        let draining = entry.state == PodState::Draining;
        entry.enter(PodState::Gone, Instant::now());
        let how = how.unwrap_or_default();
        if !draining {
            warn!(pod = %pod.name, runtime = %self.options.runtime, "pod died: {how}");
        }
        let probe = entry.probe.take();
        if let Some(probe) = probe {
            let reason = format!("the pod died while it loaded its model: {how}");
            let how = Probed::Failed { reason };
            let now = self.options.clock.now();
            state.watch.probed(Event::ProbeFailed, &how, now);
            probe.end(how);
        }
        // Those who wait need a new one.
        drop(state);
        self.maintain();
    }

    /// Ends a pod that is draining.
    pub(super) async fn stop(self: Arc<Self>, pod: Arc<Pod>) {
        self.options.site.stop(&pod.id, self.options.grace).await;
        self.state
            .lock()
            .pods
            .retain(|entry| entry.name != pod.name);
        self.maintain();
    }

    /// Brings the pool to what it should be: called every now and then, and after every change.
    pub fn maintain(self: &Arc<Self>) {
        let mut stop = Vec::new();
        {
            let mut state = self.state.lock();
            let now = Instant::now();
            if state.closed {
                return;
            }
            let model = state.model.as_ref().map(|model| model.version.clone());
            let standby = self.options.standby;
            let mut spare = state.alive();
            for entry in &mut state.pods {
                match entry.state {
                    PodState::Idle if entry.model != model => {
                        entry.enter(PodState::Warming, now);
                        if let Some(pod) = entry.pod.clone() {
                            self.runtime.spawn(Arc::clone(self).rewarm(pod));
                        }
                    }
                    PodState::Idle
                        if spare > standby.min as usize && now - entry.since >= standby.idle =>
                    {
                        spare -= 1;
                        entry.enter(PodState::Draining, now);
                        stop.extend(entry.pod.clone());
                    }
                    PodState::Idle
                    | PodState::Deploying
                    | PodState::Warming
                    | PodState::Busy
                    | PodState::Draining
                    | PodState::Gone => {}
                }
            }
            self.grow(&mut state, now);
            if state.retry_at.is_none_or(|at| now >= at) {
                while state.alive() < standby.min as usize && self.may_grow(&state) {
                    self.order(&mut state, now);
                }
            }
        }
        for pod in stop {
            self.runtime.spawn(Arc::clone(self).stop(pod));
        }
    }

    /// A newer model was published: idle pods load it now, busy ones when they are done.
    pub fn publish(self: &Arc<Self>, model: PublishedModel) {
        self.state.lock().model = Some(model);
        self.maintain();
    }

    /// Takes nothing new, lets what runs finish within the grace, and ends every pod.
    pub async fn close(self: &Arc<Self>, grace: Duration) {
        let pods: Vec<Arc<Pod>> = {
            let mut state = self.state.lock();
            state.closed = true;
            let now = Instant::now();
            for entry in &mut state.pods {
                entry.enter(PodState::Draining, now);
                if let Some(probe) = entry.probe.take() {
                    probe.end(Probed::Closed);
                }
            }
            // Starts on their way end themselves when they see that the pool is closed.
            state
                .pods
                .iter()
                .filter_map(|entry| entry.pod.clone())
                .collect()
        };
        self.fail_waiting(&AcquireError::Closed);
        let stops = pods
            .into_iter()
            .map(|pod| async move { self.options.site.stop(&pod.id, grace).await });
        futures_util::future::join_all(stops).await;
    }
}
