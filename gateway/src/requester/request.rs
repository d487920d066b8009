//! The representative tasks of functions whose requests pass straight through. The requests of clients
//! are carried by the HTTP front itself, on its own threads (`http::forward`).

use crate::gateway::{Gateway, new_id};
use crate::history::{Measurement, Parts};
use crate::link;
use crate::pods::{Expected, Start};
use crate::runnable::Deployed;
use crate::scheduler::{Ask, unix_now};
use anyhow::{anyhow, bail};
use bytes::Bytes;
use http::Method;
use std::sync::Arc;
use stoic_placement::Features;
use tokio::time::Instant;

/// Largest answer read.
const ANSWER_LIMIT: usize = 256 << 20;

/// Sends one representative request to a runtime and records it.
///
/// # Errors
/// No pod, or an answer that is no success.
pub async fn bootstrap(
    gateway: &Arc<Gateway>,
    deployed: &Arc<Deployed>,
    runtime: &str,
    content_type: &str,
    bytes: Bytes,
) -> anyhow::Result<()> {
    let size = bytes.len() as u64;
    let ask = Ask {
        action: "infer",
        features: Features::new(1.0, size as f64),
        pinned: Some(runtime),
        avoid: &[],
        deadline_s: None,
    };
    let placed = gateway.scheduler.place(deployed, &ask)?;
    let pool = deployed
        .pool(placed.runtime)
        .ok_or_else(|| anyhow!("no pool on {runtime}"))?;
    let lease = pool.acquire(Expected::default()).await?;
    let sent = Instant::now();
    let answer = link::exchange(
        lease.pod.reach,
        Method::POST,
        "/",
        Some(content_type),
        bytes,
        ANSWER_LIMIT,
    )
    .await?;
    if !answer.status().is_success() {
        bail!("on {runtime}: the function answered {}", answer.status());
    }
    let info = &gateway.scheduler.runtimes()[placed.runtime];
    let mut actual = Parts {
        processing: sent.elapsed().as_secs_f64(),
        ..Parts::default()
    };
    match lease.start {
        Start::Cold => actual.deployment = lease.waited_s,
        Start::Warm => actual.queueing = lease.waited_s,
    }
    let measurement = Measurement {
        invocation: new_id(),
        at: unix_now(),
        function: deployed.function.name().to_owned(),
        version: deployed.function.version.clone(),
        action: "infer".to_owned(),
        runtime: info.name.clone(),
        site: info.site.clone(),
        mode: "bootstrap".to_owned(),
        items: 1,
        bytes: size,
        start: lease.start.name().to_owned(),
        actual,
        outcome: "ok".to_owned(),
        ..Measurement::default()
    };
    gateway.record(deployed, placed.runtime, &measurement);
    Ok(())
}
