//! A batch: placed by its mode, carried through, recorded; placed again where a runtime or a pod fails it.

use super::events::{Event, Events};
use super::package::Staged;
use super::pod::{Done, PodError};
use super::{cooperative, duplicator, places, single};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::history::{Measurement, Parts, Race};
use crate::mode::Mode;
use crate::runnable::Deployed;
use crate::scheduler::{Ask, Lesson, Placed, unix_now};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stoic_placement::Features;
use tokio::time::Instant;
use tracing::{info, warn};

/// Pods that may die of one batch before it is given up: it may be the batch that kills them.
const DEATHS: usize = 2;

/// A batch on its way.
#[derive(Debug, Clone)]
pub struct BatchJob {
    /// Identity of the invocation.
    pub invocation: String,
    /// The function.
    pub deployed: Arc<Deployed>,
    /// `infer`, `train`, ...
    pub action: String,
    /// How it is placed.
    pub mode: Mode,
    /// The runtime that the caller names: the one to pin, or the cloud runtime of a mode that takes one.
    pub runtime: Option<String>,
    /// Whether it is a representative task of a new version.
    pub bootstrap: bool,
    /// Time from the arrival by which the answer is wanted.
    pub deadline: Option<Duration>,
    /// Query parameters, passed through.
    pub parameters: BTreeMap<String, String>,
    /// When it arrived, seconds since the Unix epoch.
    pub at: f64,
}

/// A batch that is done.
#[derive(Debug)]
pub struct BatchAnswer {
    /// As predicted and as it went.
    pub measurement: Measurement,
    /// Seconds lost on pods and runtimes that failed, before it was placed anew.
    pub lost_s: f64,
    /// Name of the pod; of several, joined by `+`.
    pub pod: String,
    /// Stages of the pod's start, in seconds, where the work waited for it.
    pub started: Vec<(&'static str, f64)>,
    /// Why it was placed there.
    pub reason: String,
    /// What the pod said.
    pub done: Done,
    /// Whether the measurement is one of the whole batch on its runtime, which the models learn.
    pub whole: bool,
    /// Parts of it that were worked on one runtime, as measurements of their own for the models.
    pub lessons: Vec<Measurement>,
}

/// How one attempt failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// Whether it may go better elsewhere, or with another pod.
    pub(super) again: bool,
    /// Runtimes that failed it.
    pub(super) runtimes: Vec<usize>,
    /// Whether a pod died of it.
    pub(super) died: bool,
}

impl<E: Into<Failure>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self {
            failure: error.into(),
            again: false,
            runtimes: Vec::new(),
            died: false,
        }
    }
}

impl Failed {
    /// What a pod said, as the failure of a runtime.
    pub(super) fn of_pod(error: PodError, runtime: usize) -> Self {
        let text = error.to_string();
        let (failure, again, died) = match error {
            PodError::Died(_) => (Failure::new(502, "pod_died", text), true, true),
            PodError::Busy(_) => {
                let full = Failure::new(503, "pod_full", text);
                (full.retry_after(1), true, false)
            }
            PodError::TimedOut(_) => {
                let late = Failure::new(504, "invocation_timeout", text);
                (late, false, false)
            }
            PodError::Problem(problem) => (problem.into(), false, false),
        };
        Self {
            failure,
            again,
            runtimes: vec![runtime],
            died,
        }
    }

    /// The failure of a runtime that another may not share.
    pub(super) fn elsewhere(failure: impl Into<Failure>, runtime: usize, again: bool) -> Self {
        Self {
            failure: failure.into(),
            again,
            runtimes: vec![runtime],
            died: false,
        }
    }
}

impl BatchJob {
    /// What the placement is asked.
    pub(super) fn ask<'a>(&'a self, staged: &Staged, avoid: &'a [usize]) -> Ask<'a> {
        let pinned = self.runtime.as_deref();
        Ask {
            action: &self.action,
            features: Features::new(staged.items as f64, staged.bytes as f64),
            pinned: pinned.filter(|_| self.mode == Mode::Pinned),
            avoid,
            deadline_s: self
                .deadline
                .map(|deadline| (deadline.as_secs_f64() - (unix_now() - self.at)).max(0.0)),
        }
    }

    /// Name of the mode for the record.
    fn label(&self, mode: Mode) -> &'static str {
        if self.bootstrap {
            "bootstrap"
        } else {
            mode.name()
        }
    }

    /// What is known of it before it ran.
    pub(super) fn measure(
        &self,
        gateway: &Gateway,
        staged: &Staged,
        placed: &Placed,
    ) -> Measurement {
        let info = &gateway.scheduler.runtimes()[placed.runtime];
        Measurement {
            invocation: self.invocation.clone(),
            at: self.at,
            function: self.deployed.function.name().to_owned(),
            version: self.deployed.function.version.clone(),
            action: self.action.clone(),
            runtime: info.name.clone(),
            site: info.site.clone(),
            items: staged.items,
            bytes: staged.bytes,
            predicted: placed.parts(),
            predicted_90: placed.interval_90(),
            predicted_50: placed.interval_50(),
            actual: Parts::default(),
            outcome: "ok".to_owned(),
            ..Measurement::default()
        }
    }
}

/// Carries a batch through, by its mode; elsewhere when a runtime or a pod fails it.
///
/// # Errors
/// With a stable code, recorded.
pub async fn run(
    gateway: &Arc<Gateway>,
    job: &BatchJob,
    staged: &Staged,
    events: &Events,
) -> Result<BatchAnswer, Failure> {
    events.tell(|| Event::Accepted {
        invocation: job.invocation.clone(),
        items: staged.items,
        bytes: staged.bytes,
    });
    let begun = Instant::now();
    let mut job = job.clone();
    let mut avoid: Vec<usize> = Vec::new();
    let (mut deaths, mut lost_s) = (0, 0.0);
    let auto = job.mode == Mode::Auto;
    if auto {
        let chosen = places::best(gateway, &job, staged);
        info!(invocation = %job.invocation, "auto: {}", chosen.why);
        (job.mode, job.runtime) = (chosen.mode, chosen.cloud);
    }
    loop {
        let ask = job.ask(staged, &avoid);
        let placed = gateway
            .scheduler
            .place(&job.deployed, &ask)
            .map_err(|e| gateway.unplaced(&job.deployed, e).of(&job.invocation))?;
        let tried = match job.mode {
            Mode::Pinned | Mode::Selector | Mode::Auto => {
                single::run(gateway, &job, staged, vec![placed.clone()], events).await
            }
            Mode::Hedged => {
                let several = places::hedged(gateway, &job, staged, &placed, &avoid, auto);
                single::run(gateway, &job, staged, several, events).await
            }
            Mode::Duplicator => duplicator::run(gateway, &job, staged, events).await,
            Mode::Cooperative => cooperative::run(gateway, &job, staged, events).await,
        };
        let failed = match tried {
            Ok(mut answer) => {
                answer.lost_s = lost_s;
                job.label(job.mode).clone_into(&mut answer.measurement.mode);
                record(gateway, &job, &answer);
                return Ok(answer);
            }
            Err(failed) => failed,
        };
        // A version that was replaced while the batch waited hands it on to the next.
        if failed.failure.problem.code == "function_closing"
            && let Some(newer) = newer_version(gateway, &job)
        {
            job.deployed = newer;
            continue;
        }
        deaths += usize::from(failed.died);
        avoid.extend(&failed.runtimes);
        let left = job.deployed.pools().iter().flatten().count() > avoid.len();
        // Who insists on a runtime gets another pod there; others get another runtime, if any is left.
        let once_more = failed.died && deaths < DEATHS;
        if failed.again && deaths < DEATHS && (once_more || left) {
            warn!(invocation = %job.invocation, "placed again after: {}", failed.failure.problem);
            events.tell(|| Event::Retry {
                reason: failed.failure.problem.to_string(),
            });
            lost_s = begun.elapsed().as_secs_f64();
            if job.mode.several() {
                (job.mode, job.runtime) = (Mode::Selector, None);
            }
            continue;
        }
        let failure = failed.failure;
        let mut measurement = job.measure(gateway, staged, &placed);
        job.label(job.mode).clone_into(&mut measurement.mode);
        measurement.outcome = failure.problem.code.clone();
        gateway.record(&job.deployed, placed.runtime, &measurement);
        return Err(failure.of(&job.invocation));
    }
}

/// Records what was done, and teaches the models what they may learn of it.
fn record(gateway: &Gateway, job: &BatchJob, answer: &BatchAnswer) {
    let measurement = &answer.measurement;
    let runtime = gateway.scheduler.runtime(&measurement.runtime);
    match runtime.filter(|_| answer.whole) {
        Some(runtime) => gateway.record(&job.deployed, runtime, measurement),
        None => gateway.record_shared(&job.deployed, measurement),
    }
    for lesson in &answer.lessons {
        let lesson = Box::new(lesson.clone());
        gateway.teacher.tell(Lesson::Measured(lesson));
    }
    if let Some(race) = &measurement.race {
        gateway.metrics.raced(job.deployed.function.name(), race);
    }
}

/// What of a race is in the record, from what the account says of it.
pub(super) fn race(runtime: &str, entry: &stoic_placement::account::Entry) -> Race {
    Race {
        runtime: runtime.to_owned(),
        saved_s: entry.saved_s,
        lost_s: entry.lost_s,
        used_s: entry.used_s,
    }
}

/// The version of the function that took the place of the job's, if one did.
fn newer_version(gateway: &Gateway, job: &BatchJob) -> Option<Arc<Deployed>> {
    let current = gateway.functions.get(job.deployed.function.name());
    current.filter(|current| !Arc::ptr_eq(current, &job.deployed))
}
