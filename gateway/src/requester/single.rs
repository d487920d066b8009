//! A batch on one runtime: its package moves there while a pod is awaited, it is worked, its result is
//! brought home. Of several runtimes, the one whose pod is up first gets the work.

use super::batch::{BatchAnswer, BatchJob, Failed};
use super::events::{Event, Events};
use super::package::Staged;
use super::pod::{self, Done, Step};
use super::{emulated, train};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::history::TransferRecord;
use crate::pods::{AcquireError, Expected, Lease, Start};
use crate::scheduler::{Lesson, Placed, unix_now};
use crate::storage::{URL_LIFE, result_key};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;
use std::sync::Arc;
use stoic_protocol::{BatchRequest, ModelRef, OutputRef, PackageRef};
use stoic_store::Store;
use tokio::time::Instant;
use tracing::info;

/// Carries a batch through on one of the places, the first of which is the preferred.
pub(super) async fn run(
    gateway: &Arc<Gateway>,
    job: &BatchJob,
    staged: &Staged,
    places: Vec<Placed>,
    events: &Events,
) -> Result<BatchAnswer, Failed> {
    for placed in &places {
        let info = &gateway.scheduler.runtimes()[placed.runtime];
        events.tell(|| Event::Placed {
            runtime: info.name.clone(),
            site: info.site.clone(),
            mode: job.mode.name().to_owned(),
            predicted_s: placed.parts().map(|parts| parts.response()),
            predicted_90: placed.interval_90(),
            reason: reason(&places, placed),
        });
    }
    let begun = Instant::now();
    let (placed, lease, transfer_s) = ready(gateway, job, staged, &places, events).await?;
    let info = &gateway.scheduler.runtimes()[placed.runtime];
    let ready_s = begun.elapsed().as_secs_f64();
    // With the package local there is no transfer; else the wait counts from its end.
    let wait_s = (ready_s - transfer_s).max(0.0);
    events.tell(|| Event::Working {
        runtime: info.name.clone(),
        pod: lease.pod.name.to_string(),
        start: lease.start.name().to_owned(),
    });

    let processing = Instant::now();
    let training = if job.action == "infer" {
        None
    } else {
        Some(train::reserve(gateway, job).await?)
    };
    let store = gateway.stores.site(&info.site)?;
    // A link that breaks now is no fault of the batch: it may be worked elsewhere.
    let again = job.runtime.is_none();
    let lost = |failure: Failure| Failed::elsewhere(failure, placed.runtime, again);
    let request = request(store, job, staged, &result_key(&job.invocation)).await;
    let mut request = request.map_err(lost)?;
    if let Some(training) = &training {
        request.model_output = Some(ModelRef {
            version: training.version().to_owned(),
            url: store.presign_put(training.key(), URL_LIFE).await?,
        });
    }
    let step = |step: Step| {
        events.tell(|| Event::Progress {
            done: step.done,
            total: step.total,
            elapsed_s: step.elapsed_s,
            stage: step.stage,
            by_runtime: Default::default(),
        });
    };
    let timeout = job.deployed.function.object.spec.timeout;
    let worked = pod::work(&lease.pod, &request, timeout, step).await;
    let done = worked.map_err(|error| judged(error, &lease, placed.runtime))?;
    if info.remote {
        let key = result_key(&job.invocation);
        let homed = home_result(gateway, &info.site, &key).await;
        homed.map_err(lost)?;
        clear(gateway, &info.site, vec![staged.key.clone()]);
    }
    if let (Some(training), Some(model)) = (training, &done.model) {
        training.publish(gateway, job, &info.site, model).await?;
    }
    let processing_s = processing.elapsed().as_secs_f64();
    let waited = Waited {
        transfer_s,
        wait_s,
        start: lease.start,
    };
    Ok(answer(
        gateway,
        job,
        staged,
        &placed,
        &lease,
        waited,
        processing_s,
        reason(&places, &placed),
        done,
    ))
}

fn reason(places: &[Placed], placed: &Placed) -> String {
    if places.len() > 1 {
        format!(
            "{} runtimes are deployed, the first that is up is kept",
            places.len()
        )
    } else {
        placed.reason.to_string()
    }
}

/// What came before the work, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waited {
    pub(super) transfer_s: f64,
    /// What was left of the wait for a pod after the transfer.
    pub(super) wait_s: f64,
    pub(super) start: Start,
}

/// The answer of a batch that ran on one runtime.
#[expect(
    clippy::too_many_arguments,
    reason = "the pieces of one answer, gathered by its two callers"
)]
pub(super) fn answer(
    gateway: &Gateway,
    job: &BatchJob,
    staged: &Staged,
    placed: &Placed,
    lease: &Lease,
    waited: Waited,
    processing_s: f64,
    reason: String,
    done: Done,
) -> BatchAnswer {
    let info = &gateway.scheduler.runtimes()[placed.runtime];
    let mut measurement = job.measure(gateway, staged, placed);
    waited.start.name().clone_into(&mut measurement.start);
    measurement.actual.transfer = waited.transfer_s;
    match waited.start {
        Start::Cold => measurement.actual.deployment = waited.wait_s,
        Start::Warm => measurement.actual.queueing = waited.wait_s,
    }
    measurement.actual.processing = processing_s;
    measurement.model = done.model.clone();
    measurement.emulated = emulated(
        info.link_emulated,
        info.deployment_emulated && waited.start == Start::Cold,
    );
    info!(
        invocation = %job.invocation, function = job.deployed.function.name(), action = %job.action, runtime = %info.name,
        mode = %job.mode, start = waited.start.name(), items = staged.items, response_s = measurement.actual.response(), "batch done"
    );
    BatchAnswer {
        measurement,
        lost_s: 0.0,
        pod: lease.pod.name.to_string(),
        started: match waited.start {
            Start::Cold => lease.pod.stages.clone(),
            Start::Warm => Vec::new(),
        },
        reason,
        done,
        whole: true,
        lessons: Vec::new(),
    }
}

/// A pod that is up on one of the places, with the package at its site, and the seconds that took.
async fn ready(
    gateway: &Arc<Gateway>,
    job: &BatchJob,
    staged: &Staged,
    places: &[Placed],
    events: &Events,
) -> Result<(Placed, Lease, f64), Failed> {
    let info = |placed: &Placed| &gateway.scheduler.runtimes()[placed.runtime];
    // Who insists on a runtime is told what is wrong there.
    let again = job.runtime.is_none();
    let mut transfers = FuturesUnordered::new();
    let mut sites: Vec<&str> = Vec::new();
    for placed in places.iter().filter(|placed| info(placed).remote) {
        if !sites.contains(&info(placed).site.as_str()) {
            sites.push(&info(placed).site);
            transfers.push(async move {
                let moved = move_package(gateway, staged, placed.runtime, events).await;
                let moved = moved.map_err(|e| Failed::elsewhere(e, placed.runtime, again));
                (info(placed).site.as_str(), moved)
            });
        }
    }
    let mut acquiring: FuturesUnordered<_> = places
        .iter()
        .map(|placed| async move { (placed, acquire(job, placed).await) })
        .collect();
    let mut arrived: HashMap<&str, f64> = HashMap::new();
    let mut up: Option<(&Placed, Lease)> = None;
    let mut failed = None;
    loop {
        if let Some((placed, lease)) = up.take() {
            let transfer_s = match info(placed) {
                local if !local.remote => Some(0.0),
                remote => arrived.get(remote.site.as_str()).copied(),
            };
            if let Some(transfer_s) = transfer_s {
                drop(acquiring);
                give_back(job, places, placed);
                return Ok((placed.clone(), lease, transfer_s));
            }
            up = Some((placed, lease));
        }
        tokio::select! {
            Some((site, moved)) = transfers.next(), if !transfers.is_empty() => {
                arrived.insert(site, moved?);
            }
            Some((placed, acquired)) = acquiring.next(), if up.is_none() && !acquiring.is_empty() => {
                match acquired {
                    Ok(lease) => up = Some((placed, lease)),
                    Err(error) => failed = Some(error),
                }
            }
            else => {
                let none = || Failure::new(503, "runtime_unavailable", "no runtime gave a pod").into();
                return Err(failed.unwrap_or_else(none));
            }
        }
    }
}

/// Returns what was deployed beside the place that got the work.
fn give_back(job: &BatchJob, places: &[Placed], kept: &Placed) {
    for other in places.iter().filter(|p| p.runtime != kept.runtime) {
        if let Some(pool) = job.deployed.pool(other.runtime) {
            pool.give_back();
        }
    }
}

/// A place in a pod of a runtime.
pub(super) async fn acquire(job: &BatchJob, placed: &Placed) -> Result<Lease, Failed> {
    let pool = job.deployed.pool(placed.runtime);
    let pool =
        pool.ok_or_else(|| Failure::new(503, "runtime_unavailable", "the runtime has no pool"))?;
    let expected = Expected {
        processing_s: placed.estimate.processing.mean,
    };
    // Who insists on a runtime, or has no other, waits for all tries.
    let elsewhere = || job.runtime.is_none() && job.deployed.elsewhere(placed.runtime);
    let acquired = pool.acquire_or_give_way(expected, elsewhere).await;
    acquired.map_err(|error| {
        // A pod that cannot be started here may be started elsewhere, unless here was asked for.
        let again = job.runtime.is_none() || job.mode.several();
        let again = again || matches!(error, AcquireError::Closed);
        Failed::elsewhere(error, placed.runtime, again)
    })
}

/// Moves the whole package to a remote runtime's site; the seconds it took.
pub(super) async fn move_package(
    gateway: &Gateway,
    staged: &Staged,
    runtime: usize,
    events: &Events,
) -> Result<f64, Failure> {
    let info = &gateway.scheduler.runtimes()[runtime];
    let begun = Instant::now();
    events.tell(|| Event::Transfer {
        runtime: info.name.clone(),
        bytes: staged.bytes,
        emulated: info.link_emulated,
    });
    let store = gateway.stores.site(&info.site)?;
    let moved = gateway.stores.home()?;
    let moved = moved.copy_to(&staged.key, store, None).await?;
    transferred(gateway, &info.site, moved.bytes, moved.seconds);
    Ok(begun.elapsed().as_secs_f64())
}

/// Records a transfer.
pub(super) fn transferred(gateway: &Gateway, site: &str, bytes: u64, seconds: f64) {
    let record = TransferRecord {
        at: unix_now(),
        site: site.to_owned(),
        bytes,
        seconds,
    };
    gateway.history.transferred(record.clone());
    gateway.teacher.tell(Lesson::Transferred(record));
}

/// What a pod is asked to do with the whole package, which lies in this store.
pub(super) async fn request(
    store: &Store,
    job: &BatchJob,
    staged: &Staged,
    output: &str,
) -> Result<BatchRequest, Failure> {
    // Another gateway is asked for each: together they take one round trip.
    let (read, write) = tokio::try_join!(
        store.presign_get(&staged.key, URL_LIFE),
        store.presign_put(output, URL_LIFE)
    )?;
    Ok(BatchRequest {
        invocation: job.invocation.clone(),
        action: job.action.clone(),
        input: PackageRef {
            url: read,
            bytes: staged.bytes,
            content_type: staged.content_type.clone(),
        },
        output: Some(OutputRef { url: write }),
        range: None,
        part: None,
        model_output: None,
        parameters: job.parameters.clone(),
    })
}

/// A pod's failure; one that died is ended.
pub(super) fn judged(error: pod::PodError, lease: &Lease, runtime: usize) -> Failed {
    let failed = Failed::of_pod(error, runtime);
    if failed.died {
        lease.condemn();
    }
    failed
}

/// Brings an object home over the link; its size.
pub(super) async fn home_result(gateway: &Gateway, site: &str, key: &str) -> Result<u64, Failure> {
    let store = gateway.stores.site(site)?;
    let moved = store.copy_to(key, gateway.stores.home()?, None).await?;
    // Nobody need wait for this; what cannot be cleared now expires later.
    clear(gateway, site, vec![key.to_owned()]);
    Ok(moved.bytes)
}

/// Removes objects of a site's store, some time soon.
pub(super) fn clear(gateway: &Gateway, site: &str, keys: Vec<String>) {
    let Ok(store) = gateway.stores.site(site).cloned() else {
        return;
    };
    gateway.runtime.spawn(async move {
        for key in keys {
            let _ = store.delete(&key).await;
        }
    });
}
