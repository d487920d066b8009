//! Whoever loses is ended at once: its connection is dropped, which a pod notices between two items; one
//! that goes on is killed. The lease is held until the pod is idle again, so that nobody gets a pod that
//! is still at a batch that was given up.

use super::batch::BatchJob;
use super::pod;
use crate::gateway::Gateway;
use crate::pods::Lease;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// What a pod gets to notice that nobody waits for it any more.
const NOTICE: Duration = Duration::from_millis(80);

/// Waits, beside everything else, until the pod of a lease no longer works an invocation whose
/// connection was dropped; a pod that still does after the notice is killed.
pub(super) fn end(gateway: &Arc<Gateway>, lease: Lease, invocation: &str, job: &BatchJob) {
    let decided = Instant::now();
    let invocation = invocation.to_owned();
    let function = job.deployed.function.name().to_owned();
    let gateway = Arc::clone(gateway);
    let handle = gateway.runtime.clone();
    handle.spawn(async move {
        let pod = Arc::clone(&lease.pod);
        let pool = lease.pool().options();
        let rtt = pool.link.as_ref().map_or(Duration::ZERO, |link| link.rtt());
        let ended = pod::ended(&pod, &invocation, NOTICE, rtt).await;
        if !ended {
            warn!(%invocation, pod = %pod.name, "the pod goes on with a batch that was given up; it is killed");
            lease.kill().await;
        }
        let seconds = decided.elapsed().as_secs_f64();
        info!(%invocation, pod = %pod.name, seconds, idle = ended, "the loser is ended");
        gateway.metrics.ended(&function, &lease.pool().options().runtime, seconds);
        drop(lease);
    });
}
