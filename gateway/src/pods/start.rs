//! How a pod is started: in its turn, again when it fails, and given up when nobody wants it any more.

use super::deployment::Deployment;
use super::failures::StartFailures;
use super::pod::{Pod, PodState};
use super::pool::Pool;
use super::queue::AcquireError;
use crate::sites::{PodSpec, StartError, StartedPod};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Longest wait between failed starts of a standby.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

impl Pool {
    /// Starts a pod, and again when it fails, with a wait that doubles. A probe is tried once. Whoever
    /// cancels it takes its entry away, or ends its pod where it has one.
    pub(super) async fn deploy(self: Arc<Self>, name: Arc<str>, ended: CancellationToken) {
        let mut ordered = Instant::now();
        let mut failures = StartFailures::default();
        let (started, reach) = loop {
            let pace = self.options.pace.as_deref();
            let turn = async {
                match pace {
                    Some(pace) => Some(pace.turn().await),
                    None => None,
                }
            };
            let Some(turn) = ended.run_until_cancelled(turn).await else {
                return;
            };
            if pace.is_some() && failures.count() == 0 && self.is_needless(&name) {
                return;
            }
            let begun = Instant::now();
            if failures.count() == 0 {
                ordered = begun;
            }
            let Some(tried) = self.try_start(&name, &ended).await else {
                return;
            };
            drop(turn);
            let error = match tried {
                Ok(started) => break started,
                Err(error) => error,
            };
            let text = error.to_string();
            let no_room = matches!(error, StartError::NoRoom(_));
            failures.add(error, ordered.elapsed());
            warn!(pod = %name, runtime = %self.options.runtime, attempt = failures.count(), "start failed: {text}");
            if self.fail_probe(&name, begun, &text, no_room) {
                return;
            }
            self.report(&name, begun, 0.0, Err(text));
            let last = failures.hopeless() || failures.count() >= self.options.attempts;
            if last || self.state.lock().closed {
                return self.give_up(&name, failures);
            }
            self.give_way(&name, &failures);
            let doubled = 2u32.saturating_pow(failures.count() - 1);
            let pause = tokio::time::sleep(self.options.backoff.saturating_mul(doubled));
            let pause = async {
                tokio::select! {
                    () = pause => {}
                    () = self.options.site.mended() => {}
                }
            };
            if ended.run_until_cancelled(pause).await.is_none() {
                return;
            }
        };
        let mut unwanted = false;
        let pod = {
            let mut state = self.state.lock();
            state.failures = 0;
            state.retry_at = None;
            state.trouble = None;
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
            // It was ended in the moment in which it began to answer.
            return self.let_go(&started).await;
        };
        let emulated_s = started.emulated_s;
        self.runtime
            .spawn(Arc::clone(&self).watch(Arc::clone(&pod), started));
        if unwanted {
            // Measured all the same: it was up.
            self.report(&name, ordered, emulated_s, Ok(&pod));
            return self.stop(pod).await;
        }
        if self.state.lock().closed {
            return self.stop(pod).await;
        }
        let warm = self.load_newest(&pod);
        if ended.run_until_cancelled(warm).await.is_none() {
            return;
        }
        if self.conclude_probe(&pod, ordered, emulated_s) {
            return;
        }
        self.report(&name, ordered, emulated_s, Ok(&pod));
        let settled = async {
            self.settle(&pod).await;
            // What was published meanwhile.
            self.load_newest(&pod).await;
        };
        if ended.run_until_cancelled(settled).await.is_some() {
            self.stand_by(&pod);
        }
    }

    /// One try: the pod answers, and has answered its first request where its function declares one.
    /// None when it was ended before.
    async fn try_start(
        &self,
        name: &str,
        ended: &CancellationToken,
    ) -> Option<Result<(StartedPod, std::io::Result<SocketAddr>), StartError>> {
        let start = self.options.site.start(self.spec(name));
        let started = match ended.run_until_cancelled(start).await? {
            Ok(started) => started,
            Err(error) => return Some(Err(error)),
        };
        let reach = match &self.options.link {
            Some(link) => link.open(started.address).await,
            None => Ok(started.address),
        };
        if let (Some(warmup), Ok(reach)) = (&self.options.warmup, &reach) {
            let first = self.warmer.first(*reach, warmup);
            let first = tokio::time::timeout(self.options.pod.ready_timeout, first);
            let failed = match ended.run_until_cancelled(first).await {
                Some(Ok(Ok(()))) => None,
                Some(Ok(Err(error))) => Some(format!("{error:#}")),
                Some(Err(_)) => Some("no answer in time".to_owned()),
                None => {
                    self.let_go(&started).await;
                    return None;
                }
            };
            if let Some(failed) = failed {
                let died = started.exited.borrow().clone();
                self.let_go(&started).await;
                let what = format!("its first request, {} {}", warmup.method(), warmup.path);
                return Some(Err(match died {
                    Some(how) => StartError::Exited(format!("the pod exited at {what}: {how}")),
                    None => StartError::NeverReady(format!("the pod failed {what}: {failed}")),
                }));
            }
        }
        Some(Ok((started, reach)))
    }

    /// Ends a pod that has no entry.
    async fn let_go(&self, started: &StartedPod) {
        if let Some(link) = &self.options.link {
            link.close(started.address);
        }
        self.options.site.stop(&started.id, Duration::ZERO).await;
    }

    /// Whether those for whom a pod was ordered were served while it waited for its turn, and it is
    /// wanted for nothing else; it is none any more then.
    fn is_needless(&self, name: &str) -> bool {
        let mut state = self.state.lock();
        state.waiting.retain(|waiter| !waiter.answer.is_closed());
        let enough = state.alive() > self.standby(&state).min as usize;
        let is_its = |e: &super::pod::Entry| &*e.name == name && e.probe.is_none();
        let needless = state.pods.iter().any(is_its) && enough && state.waiting.is_empty();
        if needless {
            state.pods.retain(|entry| !is_its(entry));
        }
        needless
    }

    fn spec(&self, name: &str) -> PodSpec {
        let mut spec = self.options.pod.clone();
        name.clone_into(&mut spec.name);
        spec.env
            .insert(stoic_protocol::env::POD.to_owned(), name.to_owned());
        spec
    }

    /// Reports a deployment that was no probe: of this pod, or why there is none.
    fn report(&self, name: &str, begun: Instant, emulated_s: f64, outcome: Result<&Pod, String>) {
        let standby = {
            let mut state = self.state.lock();
            let now = self.options.clock.now();
            match &outcome {
                Ok(_) => state.watch.deployed(begun.elapsed().as_secs_f64(), now),
                Err(_) => state.watch.failed(now),
            }
            state.entry(name).is_some_and(|e| e.standby)
        };
        self.tell(begun.elapsed(), emulated_s, false, standby, outcome);
    }

    pub(super) fn tell(
        &self,
        took: Duration,
        emulated_s: f64,
        probe: bool,
        standby: bool,
        outcome: Result<&Pod, String>,
    ) {
        let stages = outcome.as_ref().map(|pod| pod.stages.clone());
        (self.recorded)(Deployment {
            function: self.options.function.clone(),
            version: self.options.version.clone(),
            runtime: self.options.runtime.clone(),
            seconds: took.as_secs_f64(),
            emulated_s,
            probe,
            standby,
            stages: stages.unwrap_or_default(),
            failure: outcome.err(),
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
            state.trouble = Some(failures.clone());
        }
        self.changed.notify_waiters();
        self.fail_waiting(&AcquireError::Start(failures));
    }
}
