//! The results of the parts become the result of the batch: in a pod, since the function alone knows
//! its format. At the edge where that has a pod, where the parts are.

use super::super::batch::{BatchJob, Failed};
use super::super::pod::{Done, Session};
use super::super::single;
use super::parts::Results;
use super::sides::Side;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::storage::{URL_LIFE, result_key};
use stoic_protocol::{ItemRange, MergePart, MergeRequest, OutputRef};
use tracing::warn;

/// Merges, in the first pod that can.
pub(super) async fn merge(
    gateway: &Gateway,
    job: &BatchJob,
    results: &Results,
    sides: &mut [Side],
) -> Result<Done, Failed> {
    // Who has a pod comes first, and the edge, whose store holds the parts, before the cloud.
    let mut order: Vec<usize> = (0..sides.len()).collect();
    order.sort_by_key(|side| (sides[*side].lease.is_none(), sides[*side].remote));
    let mut failed: Option<Failed> = None;
    for side in order {
        match attempt(gateway, job, results, &mut sides[side]).await {
            Ok(done) => return Ok(done),
            Err(error) => {
                warn!(invocation = %job.invocation, runtime = %sides[side].name, "cannot merge there: {}", error.failure.problem);
                let verdict = error.failure.problem.status < 500;
                failed.get_or_insert(error);
                if verdict {
                    break;
                }
            }
        }
    }
    let none = || Failure::new(503, "runtime_unavailable", "no pod to merge in").into();
    Err(failed.unwrap_or_else(none))
}

async fn attempt(
    gateway: &Gateway,
    job: &BatchJob,
    results: &Results,
    side: &mut Side,
) -> Result<Done, Failed> {
    let lease = match side.lease.take() {
        Some(lease) => lease,
        None => single::acquire(job, &side.placed).await?,
    };
    let (home, store) = (gateway.stores.home()?, &side.store);
    if side.remote {
        for key in results.keys() {
            home.copy_to(&key, store, None).await?;
        }
    }
    let mut parts = Vec::new();
    for (part, take) in results.in_order() {
        parts.push(MergePart {
            url: store.presign_get(&part.key, URL_LIFE).await?,
            bytes: part.bytes,
            take: ItemRange {
                start: take.start as u64,
                end: take.end as u64,
            },
        });
    }
    let key = result_key(&job.invocation);
    let request = MergeRequest {
        invocation: job.invocation.clone(),
        action: job.action.clone(),
        parts,
        output: Some(OutputRef {
            url: store.presign_put(&key, URL_LIFE).await?,
        }),
        parameters: job.parameters.clone(),
    };
    let timeout = job.deployed.function.object.spec.timeout;
    let merged = async {
        Session::open(&lease.pod)
            .await?
            .merge(&request, timeout)
            .await
    };
    let merged = merged.await;
    let done = merged.map_err(|error| single::judged(error, &lease, side.placed.runtime))?;
    if side.remote {
        single::home_result(gateway, &side.site, &key).await?;
        single::clear(gateway, &side.site, results.keys());
    }
    side.pod = lease.pod.name.to_string();
    Ok(done)
}
