//! How pods end: in order, each when what runs in it is done.

use super::pod::{Pod, PodState};
use super::pool::Pool;
use super::probe::Probed;
use super::queue::AcquireError;
use super::state::State;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// Time to finish for a pod whose invocation did not end within the grace: it was told long ago.
const LAST_GRACE: Duration = Duration::from_secs(1);

impl State {
    /// Takes up to so many pods out of service that have been idle for this long, the longest idle
    /// first; they have to be stopped.
    pub(super) fn end_idle(
        &mut self,
        count: usize,
        idle_for: Duration,
        now: Instant,
    ) -> Vec<Arc<Pod>> {
        if count == 0 {
            return Vec::new();
        }
        let mut idle: Vec<(Instant, usize)> = self
            .pods
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.state == PodState::Idle && now - entry.since >= idle_for)
            .map(|(at, entry)| (entry.since, at))
            .collect();
        // Of those idle for equally long the youngest: the eldest has proven itself.
        idle.sort_by_key(|(since, at)| (*since, std::cmp::Reverse(*at)));
        idle.truncate(count);
        idle.into_iter()
            .filter_map(|(_, at)| {
                self.pods[at].enter(PodState::Draining, now);
                self.pods[at].pod.clone()
            })
            .collect()
    }
}

impl Pool {
    /// Stops pods that are draining, beside whatever the caller does.
    pub(super) fn stop_all(self: &Arc<Self>, pods: Vec<Arc<Pod>>) {
        for pod in pods {
            self.runtime.spawn(Arc::clone(self).stop(pod));
        }
    }

    /// Ends a pod that is draining.
    pub(super) async fn stop(self: Arc<Self>, pod: Arc<Pod>) {
        self.options.site.stop(&pod.id, self.options.grace).await;
        self.state
            .lock()
            .pods
            .retain(|entry| entry.name != pod.name);
        self.changed.notify_waiters();
        self.maintain();
    }

    /// Ends the pod of this name: at once where nothing runs in it, else when that is done; it takes
    /// nothing new. A standby that is to be kept is started anew. Whether there is such a pod.
    pub fn end(self: &Arc<Self>, name: &str) -> bool {
        let mut stop = Vec::new();
        {
            let mut state = self.state.lock();
            let Some(at) = state.pods.iter().position(|entry| &*entry.name == name) else {
                return false;
            };
            let entry = &mut state.pods[at];
            if entry.probe.is_some() {
                drop(state);
                self.end_probe(Probed::GaveWay);
                return true;
            }
            let now = Instant::now();
            match entry.state {
                PodState::Deploying => {
                    entry.ended.cancel();
                    state.pods.remove(at);
                }
                PodState::Warming | PodState::Idle => {
                    entry.ended.cancel();
                    entry.enter(PodState::Draining, now);
                    stop.extend(entry.pod.clone());
                }
                PodState::Busy => entry.enter(PodState::Draining, now),
                PodState::Draining | PodState::Gone => {}
            }
        }
        info!(pod = name, "pod is ended on request");
        self.stop_all(stop);
        self.maintain();
        true
    }

    /// Keeps so many pods ready, whatever was declared, as long as the version is in force: starts those
    /// that are missing, and ends the idle ones above it at once.
    pub fn scale(self: &Arc<Self>, replicas: u32) {
        let stop = {
            let mut state = self.state.lock();
            let now = Instant::now();
            state.scaled = Some(replicas);
            state.withheld.clear();
            state.retry_at = None;
            state.demand.forget();
            state.note_demand(now);
            let wanted = state
                .waiting
                .len()
                .div_ceil(self.options.concurrency.max(1) as usize);
            let kept = (self.standby(&state).min as usize).max(wanted);
            let spare = state.alive().saturating_sub(kept);
            let stop = state.end_idle(spare, Duration::ZERO, now);
            // What is on its way for nobody is not awaited either; the youngest first.
            for _ in stop.len()..spare {
                let coming =
                    |e: &super::pod::Entry| e.state == PodState::Deploying && e.probe.is_none();
                let Some(at) = state.pods.iter().rposition(coming) else {
                    break;
                };
                state.pods.remove(at).ended.cancel();
            }
            stop
        };
        info!(function = %self.options.function, runtime = %self.options.runtime, replicas, "pool is scaled");
        self.stop_all(stop);
        self.maintain();
    }

    /// Takes nothing new and ends every pod, each when what runs in it is done; what still runs after
    /// the grace is ended, too.
    pub async fn close(self: &Arc<Self>, grace: Duration) {
        let stop = {
            let mut state = self.state.lock();
            state.closed = true;
            let now = Instant::now();
            let mut stop = Vec::new();
            for entry in &mut state.pods {
                if let Some(probe) = entry.probe.take() {
                    probe.end(Probed::Closed);
                }
                match entry.state {
                    PodState::Deploying => entry.ended.cancel(),
                    PodState::Warming | PodState::Idle => {
                        entry.ended.cancel();
                        entry.enter(PodState::Draining, now);
                        stop.extend(entry.pod.clone());
                    }
                    PodState::Busy => entry.enter(PodState::Draining, now),
                    PodState::Draining | PodState::Gone => {}
                }
            }
            state
                .pods
                .retain(|entry| entry.state != PodState::Deploying);
            state.withheld.clear();
            stop
        };
        self.changed.notify_waiters();
        self.fail_waiting(&AcquireError::Closed);
        if !grace.is_zero() {
            self.stop_all(stop);
            let _ = tokio::time::timeout(grace, self.until_empty()).await;
        }
        let left: Vec<Arc<Pod>> = {
            let state = self.state.lock();
            state.pods.iter().filter_map(|e| e.pod.clone()).collect()
        };
        let stops = left.into_iter().map(|pod| async move {
            if !grace.is_zero() {
                warn!(pod = %pod.name, "what runs in it did not end within the grace; ending it");
            }
            self.options.site.stop(&pod.id, grace.min(LAST_GRACE)).await;
        });
        futures_util::future::join_all(stops).await;
    }

    async fn until_empty(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.state.lock().pods.is_empty() {
                return;
            }
            changed.await;
        }
    }
}
