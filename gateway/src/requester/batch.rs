//! A batch: placed, its package moved to the chosen site while a pod is awaited, worked, its result
//! brought home, everything recorded.

use super::events::{Event, Events};
use super::package::Staged;
use super::pod::{self, Done, PodError};
use super::{emulated, train};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::history::{Measurement, Parts, TransferRecord};
use crate::pods::{Expected, Lease, Start};
use crate::runnable::Deployed;
use crate::scheduler::{Ask, Lesson, Placed, unix_now};
use crate::storage::{URL_LIFE, result_key};
use std::collections::BTreeMap;
use std::sync::Arc;
use stoic_placement::Features;
use stoic_protocol::{BatchRequest, ModelRef, OutputRef, PackageRef};
use tokio::time::Instant;
use tracing::{info, warn};

/// A batch on its way.
#[derive(Debug, Clone)]
pub struct BatchJob {
    /// Identity of the invocation.
    pub invocation: String,
    /// The function.
    pub deployed: Arc<Deployed>,
    /// `infer`, `train`, ...
    pub action: String,
    /// The runtime that the caller insists on.
    pub pinned: Option<String>,
    /// `pinned`, `selector` or `bootstrap`, for the record.
    pub mode: String,
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
    /// Seconds lost on a pod that failed, before it was tried once more.
    pub lost_s: f64,
    /// Name of the pod.
    pub pod: String,
    /// Why it was placed there.
    pub reason: String,
    /// What the pod said.
    pub done: Done,
}

/// How one attempt failed.
struct Failed {
    failure: Failure,
    /// Whether another pod may do better.
    again: bool,
}

impl<E: Into<Failure>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self {
            failure: error.into(),
            again: false,
        }
    }
}

/// Carries a batch through; once more elsewhere when its pod fails it.
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
    let mut lost_s = 0.0;
    loop {
        let ask = Ask {
            action: &job.action,
            features: Features::new(staged.items as f64, staged.bytes as f64),
            pinned: job.pinned.as_deref(),
            avoid: &avoid,
            deadline_s: None,
        };
        let placed = gateway
            .scheduler
            .place(&job.deployed, &ask)
            .map_err(|e| Failure::from(e).of(&job.invocation))?;
        let info = &gateway.scheduler.runtimes()[placed.runtime];
        events.tell(|| Event::Placed {
            runtime: info.name.clone(),
            site: info.site.clone(),
            predicted_s: placed.parts().map(|parts| parts.response()),
            predicted_90: placed.interval_90(),
            reason: placed.reason.to_string(),
        });
        match attempt(gateway, &job, staged, &placed, events).await {
            Ok(mut answer) => {
                answer.lost_s = lost_s;
                gateway.record(&job.deployed, placed.runtime, &answer.measurement);
                return Ok(answer);
            }
            // A version that was replaced while the batch waited hands it on to the next.
            Err(Failed { failure, .. })
                if failure.problem.code == "function_closing"
                    && let Some(newer) = newer_version(gateway, &job) =>
            {
                job.deployed = newer;
            }
            Err(Failed {
                failure,
                again: true,
            }) if avoid.is_empty() => {
                warn!(invocation = %job.invocation, runtime = %info.name, "once more after: {}", failure.problem);
                events.tell(|| Event::Retry {
                    reason: failure.problem.to_string(),
                });
                avoid.push(placed.runtime);
                lost_s = begun.elapsed().as_secs_f64();
            }
            Err(Failed { failure, .. }) => {
                let mut measurement = measure(gateway, &job, staged, &placed);
                measurement.outcome = failure.problem.code.clone();
                gateway.record(&job.deployed, placed.runtime, &measurement);
                return Err(failure.of(&job.invocation));
            }
        }
    }
}

/// The version of the function that took the place of the job's, if one did.
fn newer_version(gateway: &Gateway, job: &BatchJob) -> Option<Arc<Deployed>> {
    let current = gateway.functions.get(job.deployed.function.name());
    current.filter(|current| !Arc::ptr_eq(current, &job.deployed))
}

async fn attempt(
    gateway: &Arc<Gateway>,
    job: &BatchJob,
    staged: &Staged,
    placed: &Placed,
    events: &Events,
) -> Result<BatchAnswer, Failed> {
    let info = &gateway.scheduler.runtimes()[placed.runtime];
    let pool = job
        .deployed
        .pool(placed.runtime)
        .ok_or_else(|| Failure::new(503, "runtime_unavailable", "the runtime has no pool"))?;
    let home = gateway.stores.home()?;
    let store = gateway.stores.site(&info.site)?;

    let begun = Instant::now();
    let transfer = async {
        if info.remote {
            events.tell(|| Event::Transfer {
                bytes: staged.bytes,
                emulated: info.link_emulated,
            });
            let moved = home.copy_to(&staged.key, store, None).await?;
            let record = TransferRecord {
                at: unix_now(),
                site: info.site.clone(),
                bytes: moved.bytes,
                seconds: moved.seconds,
            };
            gateway.history.transferred(record.clone());
            gateway.teacher.tell(Lesson::Transferred(record));
        }
        Ok::<_, Failed>(begun.elapsed().as_secs_f64())
    };
    let acquire = async {
        let expected = Expected {
            processing_s: placed.estimate.processing.mean,
        };
        // A pod that cannot be started here may be started elsewhere, unless here was asked for.
        let acquired = pool.acquire(expected).await;
        acquired.map_err(|error| Failed {
            again: job.pinned.is_none() || matches!(error, crate::pods::AcquireError::Closed),
            failure: error.into(),
        })
    };
    let (transferred_s, lease) = tokio::try_join!(transfer, acquire)?;
    let ready_s = begun.elapsed().as_secs_f64();
    // With the package local there is no transfer; else the wait counts from its end.
    let transfer_s = if info.remote { transferred_s } else { 0.0 };
    let wait_s = (ready_s - transfer_s).max(0.0);
    events.tell(|| Event::Working {
        pod: lease.pod.name.to_string(),
        start: lease.start.name().to_owned(),
    });

    let processing = Instant::now();
    let training = if job.action == "infer" {
        None
    } else {
        Some(train::reserve(gateway, job).await?)
    };
    let request = BatchRequest {
        invocation: job.invocation.clone(),
        action: job.action.clone(),
        input: PackageRef {
            url: store.presign_get(&staged.key, URL_LIFE).await?,
            bytes: staged.bytes,
            content_type: staged.content_type.clone(),
        },
        output: Some(OutputRef {
            url: store
                .presign_put(&result_key(&job.invocation), URL_LIFE)
                .await?,
        }),
        range: None,
        model_output: match &training {
            Some(training) => Some(ModelRef {
                version: training.version().to_owned(),
                url: store.presign_put(training.key(), URL_LIFE).await?,
            }),
            None => None,
        },
        parameters: job.parameters.clone(),
    };
    let done = send(&lease, &request, job, events).await?;
    if info.remote {
        home_result(gateway, job, staged, &info.site).await?;
    }
    if let (Some(training), Some(model)) = (training, &done.model) {
        training.publish(gateway, job, &info.site, model).await?;
    }
    let mut measurement = measure(gateway, job, staged, placed);
    measurement.start = lease.start.name().to_owned();
    measurement.actual.transfer = transfer_s;
    match lease.start {
        Start::Cold => measurement.actual.deployment = wait_s,
        Start::Warm => measurement.actual.queueing = wait_s,
    }
    measurement.actual.processing = processing.elapsed().as_secs_f64();
    measurement.model = done.model.clone();
    measurement.emulated = emulated(
        info.link_emulated,
        info.deployment_emulated && lease.start == Start::Cold,
    );
    info!(
        invocation = %job.invocation, function = job.deployed.function.name(), action = %job.action, runtime = %info.name,
        start = lease.start.name(), items = staged.items, response_s = measurement.actual.response(), "batch done"
    );
    Ok(BatchAnswer {
        measurement,
        lost_s: 0.0,
        pod: lease.pod.name.to_string(),
        reason: placed.reason.to_string(),
        done,
    })
}

async fn send(
    lease: &Lease,
    request: &BatchRequest,
    job: &BatchJob,
    events: &Events,
) -> Result<Done, Failed> {
    let timeout = job.deployed.function.object.spec.timeout;
    let error = match pod::work(&lease.pod, request, timeout, events).await {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    let text = error.to_string();
    Err(match error {
        PodError::Died(_) => {
            lease.condemn();
            Failed {
                failure: Failure::new(502, "pod_died", text),
                again: true,
            }
        }
        PodError::Busy(_) => Failed {
            failure: Failure::new(503, "pod_full", text).retry_after(1),
            again: true,
        },
        PodError::TimedOut(_) => Failed {
            failure: Failure::new(504, "invocation_timeout", text),
            again: false,
        },
        PodError::Problem(problem) => Failed {
            failure: problem.into(),
            again: false,
        },
    })
}

/// Brings a result home over the link, and clears what the work left at the site.
async fn home_result(
    gateway: &Gateway,
    job: &BatchJob,
    staged: &Staged,
    site: &str,
) -> Result<(), Failed> {
    let store = gateway.stores.site(site)?;
    let key = result_key(&job.invocation);
    store.copy_to(&key, gateway.stores.home()?, None).await?;
    // Nobody need wait for this; what cannot be cleared now expires later.
    let (store, package) = (store.clone(), staged.key.clone());
    gateway.runtime.spawn(async move {
        let _ = tokio::join!(store.delete(&key), store.delete(&package));
    });
    Ok(())
}

/// What is known of an invocation before it ran.
fn measure(gateway: &Gateway, job: &BatchJob, staged: &Staged, placed: &Placed) -> Measurement {
    let info = &gateway.scheduler.runtimes()[placed.runtime];
    Measurement {
        invocation: job.invocation.clone(),
        at: job.at,
        function: job.deployed.function.name().to_owned(),
        version: job.deployed.function.version.clone(),
        action: job.action.clone(),
        runtime: info.name.clone(),
        site: info.site.clone(),
        mode: job.mode.clone(),
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
