//! A place in a ready pod: how it is given, and what happens when it comes back.

use super::pod::{Entry, Pod, PodState, Running};
use super::pool::Pool;
use super::queue::Expected;
use super::state::State;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Whether a ready pod existed when the invocation arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The pod that served became ready only after the invocation had arrived.
    Cold,
    /// It was ready before.
    Warm,
}

impl Start {
    /// `cold` or `warm`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
        }
    }
}

/// A place in a ready pod. Dropping it gives the place back.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Pool>,
    /// The pod.
    pub pod: Arc<Pod>,
    /// Cold or warm.
    pub start: Start,
    /// Seconds since it was asked for.
    pub waited_s: f64,
    key: usize,
}

impl Pool {
    /// A place that is free now, if any. `asked` is when the invocation asked for it.
    pub(super) fn take(
        self: &Arc<Self>,
        state: &mut State,
        now: Instant,
        asked: Instant,
        predicted_s: f64,
    ) -> Option<Lease> {
        self.take_where(state, now, asked, predicted_s, |_| true)
    }

    /// The same, in a pod that suits.
    fn take_where(
        self: &Arc<Self>,
        state: &mut State,
        now: Instant,
        asked: Instant,
        predicted_s: f64,
        suits: impl Fn(&Entry) -> bool,
    ) -> Option<Lease> {
        let limit = self.options.concurrency as usize;
        let entry = state.pods.iter_mut().find(|entry| {
            entry.state.takes_work() && entry.running.len() < limit && suits(entry)
        })?;
        let pod = entry.pod.clone()?;
        self.leases.fetch_add(1, Ordering::Relaxed);
        state.running += 1;
        let key = entry.running.insert(Running {
            begun: now,
            predicted_s,
        });
        if entry.state == PodState::Idle {
            entry.enter(PodState::Busy, now);
        }
        let start = if entry.ready.is_some_and(|ready| ready <= asked) {
            Start::Warm
        } else {
            Start::Cold
        };
        Some(Lease {
            pool: Arc::clone(self),
            pod,
            start,
            waited_s: (now - asked).as_secs_f64(),
            key,
        })
    }

    /// A place that is free now in another pod than those of these names, which said that they are full.
    pub fn take_another(self: &Arc<Self>, expected: Expected, full: &[Arc<str>]) -> Option<Lease> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let now = Instant::now();
        let other = |entry: &Entry| !full.contains(&entry.name);
        self.take_where(&mut state, now, now, expected.processing_s, other)
    }

    fn release(self: &Arc<Self>, pod: &Pod, key: usize) {
        let mut stop = None;
        {
            let mut state = self.state.lock();
            let now = Instant::now();
            state.note_demand(now);
            state.running -= 1;
            let State { pods, model, .. } = &mut *state;
            let model = model.as_ref().map(|model| &model.version);
            if let Some(entry) = pods.iter_mut().find(|entry| entry.name == pod.name) {
                entry.running.try_remove(key);
                entry.served += 1;
                entry.useful = now;
                if entry.running.is_empty() {
                    match entry.state {
                        PodState::Busy if entry.model.as_ref() != model => {
                            entry.enter(PodState::Warming, now);
                            if let Some(pod) = entry.pod.clone() {
                                self.runtime.spawn(Arc::clone(self).rewarm(pod));
                            }
                        }
                        PodState::Busy => entry.enter(PodState::Idle, now),
                        PodState::Draining => stop = entry.pod.clone(),
                        PodState::Deploying
                        | PodState::Warming
                        | PodState::Idle
                        | PodState::Gone => {}
                    }
                }
            }
        }
        match stop {
            Some(pod) => drop(self.runtime.spawn(Arc::clone(self).stop(pod))),
            None => self.dispatch(),
        }
    }
}

impl Lease {
    /// The pod failed its invocation by dying or by breaking its contract: it is ended and replaced.
    pub fn condemn(&self) {
        let mut state = self.pool.state.lock();
        let now = Instant::now();
        if let Some(entry) = state
            .pods
            .iter_mut()
            .find(|entry| entry.name == self.pod.name)
            && entry.state != PodState::Gone
        {
            entry.enter(PodState::Draining, now);
        }
    }

    /// Kills the pod: it goes on with what was given up.
    pub async fn kill(&self) {
        self.condemn();
        let site = &self.pool.options.site;
        site.stop(&self.pod.id, Duration::ZERO).await;
    }

    /// The pool that gave the lease.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.release(&self.pod, self.key);
    }
}
