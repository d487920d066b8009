//! The queue of a pool: who asks for a pod, who waits for one, and what those who wait are told.

use super::failures::StartFailures;
use super::lease::Lease;
use super::pod::{Entry, PodState};
use super::pool::Pool;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Failed tries of one start after which those who can go elsewhere do.
pub const GIVE_WAY_AFTER: u32 = 3;

/// What is expected of an invocation that asks for a pod, so that the next one can be told its wait.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected {
    /// Predicted seconds of processing.
    pub processing_s: f64,
}

/// Why no pod was given.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AcquireError {
    /// The queue is full.
    #[error("{length} invocations wait already; come back in {retry_after_s} s")]
    QueueFull {
        /// Length of the queue.
        length: usize,
        /// When there may be room, in seconds.
        retry_after_s: u64,
    },
    /// The wait was too long.
    #[error("no pod became free within {waited_s} s")]
    TimedOut {
        /// How long it waited, in seconds.
        waited_s: u64,
    },
    /// Pods cannot be started; says why every try failed.
    #[error("{0}")]
    Start(StartFailures),
    /// The runtime became unavailable while the invocation waited.
    #[error("the runtime became unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The function was removed, or the gateway stops.
    #[error("the function is being removed")]
    Closed,
}

/// An invocation that waits for a pod.
pub(super) struct Waiter {
    pub(super) since: Instant,
    pub(super) predicted_s: f64,
    /// Whether it goes elsewhere as soon as pods fail to start here.
    gives_way: bool,
    pub(super) answer: oneshot::Sender<Result<Lease, AcquireError>>,
}

impl Pool {
    /// A place in a ready pod: at once where there is one, else after a wait in the bounded queue, for
    /// which a pod is started when there may be one more.
    ///
    /// # Errors
    /// See [`AcquireError`].
    pub async fn acquire(self: &Arc<Self>, expected: Expected) -> Result<Lease, AcquireError> {
        self.take_or_wait(expected, || false).await
    }

    /// As [`acquire`](Self::acquire), for an invocation that may be able to go elsewhere, which is asked
    /// when it has to wait: it is then told as soon as a start has failed [`GIVE_WAY_AFTER`] times here
    /// and no pod is ready, while the tries go on.
    ///
    /// # Errors
    /// See [`AcquireError`].
    pub async fn acquire_or_give_way(
        self: &Arc<Self>,
        expected: Expected,
        elsewhere: impl FnOnce() -> bool,
    ) -> Result<Lease, AcquireError> {
        self.take_or_wait(expected, elsewhere).await
    }

    async fn take_or_wait(
        self: &Arc<Self>,
        expected: Expected,
        gives_way: impl FnOnce() -> bool,
    ) -> Result<Lease, AcquireError> {
        let now = Instant::now();
        if let Some(lease) = self.take_now(expected, now)? {
            return Ok(lease);
        }
        // Looks at other pools: under no lock.
        let gives_way = gives_way();
        let waiting = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(AcquireError::Closed);
            }
            state.waiting.retain(|waiter| !waiter.answer.is_closed());
            // A place that was freed a moment ago is for whoever waits already.
            if state.waiting.is_empty()
                && let Some(lease) = self.take(&mut state, now, now, expected.processing_s)
            {
                state.note_demand(now);
                return Ok(lease);
            }
            if state.waiting.len() >= self.options.queue_length as usize {
                let length = state.waiting.len();
                let ahead: f64 = state.waiting.iter().map(|waiter| waiter.predicted_s).sum();
                return Err(AcquireError::QueueFull {
                    length,
                    retry_after_s: (ahead.ceil() as u64).clamp(1, 3600),
                });
            }
            for entry in &mut state.pods {
                entry.unwanted = false;
            }
            let (answer, waiting) = oneshot::channel();
            state.waiting.push_back(Waiter {
                since: now,
                predicted_s: expected.processing_s,
                gives_way,
                answer,
            });
            state.note_demand(now);
            self.grow(&mut state, now);
            self.wanted.notify_waiters();
            waiting
        };
        match tokio::time::timeout(self.options.queue_wait, waiting).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(AcquireError::Closed),
            Err(_) => Err(AcquireError::TimedOut {
                waited_s: self.options.queue_wait.as_secs(),
            }),
        }
    }

    /// Returns pods that are on their way for nobody: as soon as they are up they are ended, unless
    /// somebody asks for one meanwhile, or they are to be standbys.
    pub fn give_back(&self) {
        let mut state = self.state.lock();
        state.waiting.retain(|waiter| !waiter.answer.is_closed());
        let places = self.options.concurrency as usize;
        let wanted = state.waiting.len().div_ceil(places.max(1));
        let mut spare = state.coming().count().saturating_sub(wanted);
        spare = spare.min(
            state
                .alive()
                .saturating_sub(self.standby(&state).min as usize),
        );
        let coming =
            |e: &&mut Entry| e.state == PodState::Deploying && !e.unwanted && e.probe.is_none();
        // The youngest first: the others are up sooner, for whoever comes next.
        for entry in state.pods.iter_mut().rev().filter(coming).take(spare) {
            entry.unwanted = true;
        }
    }

    fn take_now(
        self: &Arc<Self>,
        expected: Expected,
        now: Instant,
    ) -> Result<Option<Lease>, AcquireError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(AcquireError::Closed);
        }
        if !state.waiting.is_empty() {
            return Ok(None);
        }
        let lease = self.take(&mut state, now, now, expected.processing_s);
        if lease.is_some() {
            state.note_demand(now);
        }
        Ok(lease)
    }

    /// Gives free places to those who wait, the first come first.
    pub(super) fn dispatch(self: &Arc<Self>) {
        loop {
            let undelivered = {
                let mut state = self.state.lock();
                state.waiting.retain(|waiter| !waiter.answer.is_closed());
                let Some(first) = state.waiting.front() else {
                    return;
                };
                let (since, predicted_s) = (first.since, first.predicted_s);
                let Some(lease) = self.take(&mut state, Instant::now(), since, predicted_s) else {
                    return;
                };
                match state.waiting.pop_front() {
                    Some(waiter) => waiter.answer.send(Ok(lease)).err(),
                    None => Some(Ok(lease)),
                }
            };
            // A waiter left in between: its lease is dropped here, outside of the lock.
            drop(undelivered);
        }
    }

    /// Tells everyone who waits that pods cannot be started.
    pub(super) fn fail_waiting(&self, error: &AcquireError) {
        let waiting = std::mem::take(&mut self.state.lock().waiting);
        for waiter in waiting {
            let _ = waiter.answer.send(Err(error.clone()));
        }
    }

    /// A start failed once more: those who can go elsewhere go, once it is more than a slip.
    pub(super) fn give_way(&self, name: &str, failures: &StartFailures) {
        let leaving = {
            let mut state = self.state.lock();
            if let Some(entry) = state.entry(name) {
                entry.failed_tries = failures.count();
            }
            state.trouble = Some(failures.clone());
            self.changed.notify_waiters();
            if failures.count() < GIVE_WAY_AFTER || state.any_ready() {
                return;
            }
            let (leaving, staying): (VecDeque<_>, _) = std::mem::take(&mut state.waiting)
                .into_iter()
                .partition(|waiter| waiter.gives_way);
            state.waiting = staying;
            leaving
        };
        for waiter in leaving {
            let _ = waiter
                .answer
                .send(Err(AcquireError::Start(failures.clone())));
        }
    }
}
