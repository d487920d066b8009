//! The pool of one function version on one runtime: who gets a pod, who waits, what is started.
//!
//! One lock guards the state; nothing is awaited under it. A lease that is dropped gives its place
//! back and serves the next in the queue.

use super::failures::StartFailures;
use super::pod::{Entry, Pod, PodState, Running};
use super::probe::{Probe, Probed};
use super::watch::{Standing, Watched};
use super::{PodView, Warmer};
use crate::clock::Clock;
use crate::function::{PublishedModel, Standby};
use crate::history::DeploymentRecord;
use crate::link::EmulatedLink;
use crate::sites::Site;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stoic_placement::availability::{Action, ProbeConfig};
use stoic_placement::load;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Failed tries of one start after which those who can go elsewhere do.
pub const GIVE_WAY_AFTER: u32 = 3;

/// What a pool is made of.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Function it serves.
    pub function: String,
    /// Version of that function.
    pub version: String,
    /// Runtime it runs on.
    pub runtime: String,
    /// Name of the runtime's site.
    pub site_name: String,
    /// The site itself.
    pub site: Arc<dyn Site>,
    /// The emulated link to it.
    pub link: Option<Arc<EmulatedLink>>,
    /// Executable and arguments of its pods.
    pub command: Vec<String>,
    /// Environment of its pods.
    pub env: std::collections::BTreeMap<String, String>,
    /// Health path of its pods.
    pub health: String,
    /// Longest start of a pod.
    pub ready_timeout: Duration,
    /// Invocations that one pod works at the same time.
    pub concurrency: u32,
    /// How many pods are kept.
    pub standby: Standby,
    /// Most invocations that wait.
    pub queue_length: u32,
    /// Longest wait of one.
    pub queue_wait: Duration,
    /// Failed starts in a row after which those who wait are told.
    pub attempts: u32,
    /// Wait after the first failed start; it doubles with every further one.
    pub backoff: Duration,
    /// Time to finish for pods that are told to stop.
    pub grace: Duration,
    /// How the inquisitor watches it; none where it does not.
    pub watch: Option<ProbeConfig>,
    /// The clock of its watch.
    pub clock: Clock,
}

/// What goes on at a pool, for those who must not disturb it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// An invocation runs or waits.
    pub busy: bool,
    /// A probe is on its way.
    pub probing: bool,
    /// Invocations that were given a pod so far.
    pub served: u64,
}

/// Told by the pool to whoever records deployments.
pub type DeploymentSink = Arc<dyn Fn(Deployment) + Send + Sync>;

/// A finished deployment.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Function of the pod.
    pub function: String,
    /// Version of that function.
    pub version: String,
    /// Runtime of the pod.
    pub runtime: String,
    /// Seconds from the order to the first answer, model included.
    pub seconds: f64,
    /// Of these, emulated.
    pub emulated_s: f64,
    /// Whether it was the inquisitor's: no invocation waited for it.
    pub probe: bool,
    /// Whether the pool had a ready pod when it was ordered.
    pub standby: bool,
    /// Why it failed; none when it succeeded.
    pub failure: Option<String>,
}

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

/// What runs and waits at a pool, for the prediction of queueing time.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Places free in ready pods.
    pub free: u32,
    /// Places in ready pods, free or not.
    pub places: u32,
    /// Running invocations: predicted and elapsed seconds of each.
    pub running: Vec<(f64, f64)>,
    /// Waiting invocations: predicted seconds of each.
    pub waiting: Vec<f64>,
    /// Seconds since the oldest pod that is still being deployed, a probe included, was ordered.
    pub deploying_s: Option<f64>,
    /// Whether one more pod may be started.
    pub may_grow: bool,
    /// Whether pods failed to start a moment ago or the inquisitor found the runtime unavailable, and
    /// none is ready.
    pub failing: bool,
}

impl Load {
    /// The same in the words of the placement.
    #[must_use]
    pub fn borrowed(&self) -> load::Load<'_> {
        load::Load {
            free: self.free as usize,
            places: self.places as usize,
            running: &self.running,
            waiting: &self.waiting,
            deploying_s: self.deploying_s,
            may_grow: self.may_grow,
        }
    }
}

struct Waiter {
    since: Instant,
    predicted_s: f64,
    /// Whether it goes elsewhere as soon as pods fail to start here.
    gives_way: bool,
    answer: oneshot::Sender<Result<Lease, AcquireError>>,
}

pub(super) struct State {
    pub(super) pods: Vec<Entry>,
    waiting: VecDeque<Waiter>,
    pub(super) model: Option<PublishedModel>,
    pub(super) closed: bool,
    /// Failed starts in a row, over all deployments.
    pub(super) failures: u32,
    /// No standby is started before this.
    pub(super) retry_at: Option<Instant>,
    /// What is known of the runtime's deployments.
    pub(super) watch: Watched,
    next_pod: u64,
}

impl State {
    fn new(model: Option<PublishedModel>, watch: Watched) -> Self {
        Self {
            pods: Vec::new(),
            waiting: VecDeque::new(),
            model,
            closed: false,
            failures: 0,
            retry_at: None,
            watch,
            next_pod: 0,
        }
    }

    /// Pods that work, or will; probes are none of them.
    pub(super) fn alive(&self) -> usize {
        let ending = |e: &Entry| matches!(e.state, PodState::Draining | PodState::Gone);
        self.pods
            .iter()
            .filter(|entry| !ending(entry) && entry.probe.is_none())
            .count()
    }

    /// Pods on their way that will work.
    pub(super) fn coming(&self) -> impl Iterator<Item = &Entry> {
        self.pods
            .iter()
            .filter(|entry| entry.is_coming() && entry.probe.is_none())
    }

    /// Whether any pod takes work.
    pub(super) fn any_ready(&self) -> bool {
        self.pods.iter().any(|entry| entry.state.takes_work())
    }

    /// The entry of a pod.
    pub(super) fn entry(&mut self, name: &str) -> Option<&mut Entry> {
        self.pods.iter_mut().find(|entry| &*entry.name == name)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("pods", &self.pods)
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

/// See the module.
pub struct Pool {
    pub(super) options: PoolOptions,
    pub(super) state: Mutex<State>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) warmer: Arc<dyn Warmer>,
    pub(super) recorded: DeploymentSink,
    leases: AtomicU64,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("function", &self.options.function)
            .field("runtime", &self.options.runtime)
            .finish_non_exhaustive()
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
    id: u64,
}

impl Pool {
    /// A pool with no pods yet; its keeper starts the standbys. Pods live on the given async runtime.
    pub fn new(
        options: PoolOptions,
        model: Option<PublishedModel>,
        runtime: tokio::runtime::Handle,
        warmer: Arc<dyn Warmer>,
        recorded: DeploymentSink,
    ) -> Arc<Self> {
        let watch = Watched::new(options.watch, options.clock.now());
        let state = Mutex::new(State::new(model, watch));
        Arc::new(Self {
            options,
            state,
            runtime,
            warmer,
            recorded,
            leases: AtomicU64::new(0),
        })
    }

    /// What the pool was made of.
    #[must_use]
    pub fn options(&self) -> &PoolOptions {
        &self.options
    }

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
            if let Some(lease) = self.take(&mut state, now, now, expected.processing_s) {
                return Ok(lease);
            }
            state.waiting.retain(|waiter| !waiter.answer.is_closed());
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
            self.grow(&mut state, now);
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
                .saturating_sub(self.options.standby.min as usize),
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
        Ok(self.take(&mut state, now, now, expected.processing_s))
    }

    /// A place that is free now, if any. `asked` is when the invocation asked for it.
    fn take(
        self: &Arc<Self>,
        state: &mut State,
        now: Instant,
        asked: Instant,
        predicted_s: f64,
    ) -> Option<Lease> {
        let limit = self.options.concurrency as usize;
        let entry = state
            .pods
            .iter_mut()
            .find(|entry| entry.state.takes_work() && entry.running.len() < limit)?;
        let pod = entry.pod.clone()?;
        let id = self.leases.fetch_add(1, Ordering::Relaxed);
        entry.running.push(Running {
            lease: id,
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
            id,
        })
    }

    /// Starts pods while more invocations wait than the pods on their way will serve.
    pub(super) fn grow(self: &Arc<Self>, state: &mut State, now: Instant) {
        let place = self.options.concurrency as usize;
        loop {
            let coming = state.coming().count();
            if state.waiting.len() <= coming * place || !self.may_grow(state) {
                return;
            }
            self.order(state, now);
        }
    }

    pub(super) fn may_grow(&self, state: &State) -> bool {
        !state.closed && state.alive() < self.options.standby.max as usize
    }

    /// One more pod that works: the inquisitor's, if one is on its way, else a new one.
    pub(super) fn order(self: &Arc<Self>, state: &mut State, now: Instant) {
        if !state.hand_over_probe(self.options.clock.now()) {
            self.add(state, now, None);
        }
    }

    /// Starts one more pod.
    pub(super) fn add(self: &Arc<Self>, state: &mut State, now: Instant, probe: Option<Probe>) {
        state.next_pod += 1;
        let name: Arc<str> = format!(
            "{}-{}-{}-{}",
            self.options.function,
            self.options.runtime,
            &self.options.version[..6.min(self.options.version.len())],
            state.next_pod
        )
        .into();
        let ended = probe.as_ref().map(Probe::ended);
        let mut entry = Entry::new(name.clone(), state.any_ready(), now);
        entry.probe = probe;
        state.pods.push(entry);
        self.runtime.spawn(Arc::clone(self).deploy(name, ended));
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

    /// What runs and waits now.
    #[must_use]
    pub fn load(&self) -> Load {
        let state = self.state.lock();
        let now = Instant::now();
        let limit = self.options.concurrency;
        let mut load = Load {
            may_grow: self.may_grow(&state),
            ..Load::default()
        };
        for entry in state.pods.iter().filter(|entry| entry.state.takes_work()) {
            load.places += limit;
            load.free +=
                limit.saturating_sub(u32::try_from(entry.running.len()).unwrap_or(u32::MAX));
        }
        let tried_in_vain = |e: &Entry| e.failed_tries >= GIVE_WAY_AFTER;
        load.failing = load.places == 0
            && (state.retry_at.is_some_and(|at| now < at)
                || state.coming().any(tried_in_vain)
                || !state.watch.available(self.options.clock.now()));
        if load.free > 0 && state.waiting.is_empty() {
            return load;
        }
        let pods = state.pods.iter().filter(|entry| entry.state.takes_work());
        load.running = pods
            .flat_map(|e| &e.running)
            .map(|r| (r.predicted_s, (now - r.begun).as_secs_f64()))
            .collect();
        load.waiting = state
            .waiting
            .iter()
            .filter(|w| !w.answer.is_closed())
            .map(|w| w.predicted_s)
            .collect();
        // A probe on its way would be handed over to whoever asks first.
        let probes = state.pods.iter().filter(|e| e.is_coming() && load.may_grow);
        load.deploying_s = state
            .coming()
            .chain(probes)
            .map(|e| (now - e.created).as_secs_f64())
            .reduce(f64::max);
        load
    }

    /// The pods as users see them.
    #[must_use]
    pub fn view(&self) -> Vec<PodView> {
        let state = self.state.lock();
        let now = Instant::now();
        state
            .pods
            .iter()
            .map(|entry| PodView::of(&self.options, entry, now))
            .collect()
    }

    /// Lets time pass for the inquisitor's watch: begins a probe when one is due and `may_begin`, ends
    /// one that takes too long, and notices real work that waits too long. Gives the end of a probe
    /// that was begun.
    pub fn inquire(self: &Arc<Self>, may_begin: bool) -> Option<oneshot::Receiver<Probed>> {
        let now = self.options.clock.now();
        let mut failed: VecDeque<Waiter> = VecDeque::new();
        let mut reason = String::new();
        let mut end = None;
        let begun = {
            let mut state = self.state.lock();
            if state.closed {
                return None;
            }
            let timeout = state.watch.timeout();
            let waited_in_vain = |e: &Entry| e.created.elapsed() >= timeout;
            if !state.any_ready()
                && !state.waiting.is_empty()
                && state.coming().any(waited_in_vain)
                && state.watch.is_up()
            {
                reason = format!(
                    "no pod was ready within {}",
                    humantime::format_duration(timeout)
                );
                state.watch.timed_out(&reason, now);
                failed = std::mem::take(&mut state.waiting);
            }
            let room = self.withheld(&state).is_none();
            match state.watch.tick(may_begin && room, now) {
                Action::StartProbe => {
                    let (probe, answer) = Probe::new();
                    self.add(&mut state, Instant::now(), Some(probe));
                    Some(answer)
                }
                Action::StopProbe { timed_out: true } => {
                    end = Some(Probed::TimedOut);
                    None
                }
                Action::StopProbe { timed_out: false } => {
                    end = Some(Probed::OutOfBudget);
                    None
                }
                Action::None | Action::TakeDown { .. } => None,
            }
        };
        if let Some(how) = end {
            self.end_probe(how);
        }
        for waiter in failed {
            let reason = reason.clone();
            let _ = waiter
                .answer
                .send(Err(AcquireError::Unavailable { reason }));
        }
        begun
    }

    /// Whether anything runs or waits here, and whether a probe is on its way.
    #[must_use]
    pub fn activity(&self) -> Activity {
        let state = self.state.lock();
        Activity {
            busy: !state.waiting.is_empty() || state.pods.iter().any(|e| !e.running.is_empty()),
            probing: state.pods.iter().any(|e| e.probe.is_some()),
            served: self.leases.load(Ordering::Relaxed),
        }
    }

    /// What is known of deployments here.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let state = self.state.lock();
        let standing = state
            .watch
            .standing(state.any_ready(), self.options.clock.now());
        let withheld = match self.withheld(&state) {
            Some(why) if standing.watched && !standing.probing => Some(why.to_owned()),
            _ => None,
        };
        Standing {
            withheld,
            ..standing
        }
    }

    /// Why no probe may be begun now.
    fn withheld(&self, state: &State) -> Option<&'static str> {
        if state.pods.iter().any(Entry::is_coming) {
            Some("a pod is on its way, and will be measured")
        } else if !self.may_grow(state) {
            Some("all pods that it may have are up: none will be deployed")
        } else {
            None
        }
    }

    /// Takes in what an earlier life of the gateway recorded of deployments here, the oldest first.
    pub fn recall<'a>(&self, deployments: impl Iterator<Item = &'a DeploymentRecord>) {
        let mut state = self.state.lock();
        for deployment in deployments {
            state.watch.recall(deployment);
        }
    }

    fn release(self: &Arc<Self>, pod: &Pod, id: u64) {
        let mut stop = None;
        {
            let mut state = self.state.lock();
            let now = Instant::now();
            let model = state.model.as_ref().map(|model| model.version.clone());
            if let Some(entry) = state.pods.iter_mut().find(|entry| entry.name == pod.name) {
                entry.running.retain(|running| running.lease != id);
                entry.served += 1;
                if entry.running.is_empty() {
                    match entry.state {
                        PodState::Busy if entry.model != model => {
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
        self.pool.release(&self.pod, self.id);
    }
}
