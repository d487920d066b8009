//! What a pool does on its own: keeps standbys, notices deaths, and lets idle pods go.

use super::pod::{Pod, PodState};
use super::pool::Pool;
use super::probe::Probed;
use crate::function::PublishedModel;
use crate::sites::StartedPod;
use std::sync::Arc;
use stoic_placement::availability::Event;
use tokio::time::Instant;
use tracing::warn;

impl Pool {
    /// Notices the death of a pod.
    pub(super) async fn watch(self: Arc<Self>, pod: Arc<Pod>, mut started: StartedPod) {
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
        drop(state);
        self.changed.notify_waiters();
        // Those who wait need a new one.
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
            let standby = self.standby(&state);
            let model = state.model.as_ref().map(|model| model.version.clone());
            for entry in &mut state.pods {
                if entry.state == PodState::Idle && entry.model != model {
                    entry.enter(PodState::Warming, now);
                    if let Some(pod) = entry.pod.clone() {
                        self.runtime.spawn(Arc::clone(self).rewarm(pod));
                    }
                }
            }
            // As many as the window's highest demand needed stay, whichever they are.
            state.note_demand(now);
            let places = self.options.concurrency.max(1) as usize;
            let needed = state.demand.highest(now).div_ceil(places);
            let kept = needed.max(standby.min as usize);
            let spare = state.alive().saturating_sub(kept);
            stop.extend(state.end_idle(spare, standby.idle, now));
            self.grow(&mut state, now);
            // What came back meanwhile is not missing any more.
            let missing = (standby.min as usize).saturating_sub(state.alive());
            state.withheld.truncate(missing);
            if state.retry_at.is_none_or(|at| now >= at) {
                while state.alive() + state.withheld.len() < standby.min as usize
                    && self.may_grow(&state)
                {
                    self.order(&mut state, now);
                }
            }
        }
        self.stop_all(stop);
    }

    /// A newer model was published: idle pods load it now, busy ones when they are done.
    pub fn publish(self: &Arc<Self>, model: PublishedModel) {
        self.state.lock().model = Some(model);
        self.maintain();
    }
}
