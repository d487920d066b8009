//! Runs two representative tasks of a new function version on each runtime, before its first prediction
//! (paper, section 3.7).

use super::batch::{self, BatchJob};
use super::events::Events;
use super::package;
use super::request;
use crate::function::Input;
use crate::gateway::{Gateway, sample};
use crate::mode::Mode;
use crate::pods::{Expected, Sample};
use crate::runnable::{Bootstrap, Deployed};
use crate::scheduler::unix_now;
use anyhow::{anyhow, bail};
use bytes::Bytes;
use futures_util::stream;
use std::collections::BTreeMap;
use std::sync::Arc;
use stoic_placement::{BootstrapConfig, Measured, bootstrap};
use tracing::{info, warn};

/// Largest sample taken from a pod.
const SAMPLE_LIMIT: usize = 256 << 20;

/// Runs what is missing, one task after the other so that they do not disturb each other.
pub async fn run(gateway: Arc<Gateway>, deployed: Arc<Deployed>) {
    // A model that is published meanwhile is next.
    let _turn = deployed.bootstrapping.lock().await;
    let result = tasks(&gateway, &deployed).await;
    let mut state = deployed.bootstrap.lock();
    match result {
        Ok(true) => {
            "done".clone_into(&mut state.state);
            state.detail.clear();
        }
        Ok(false) => {
            *state = Bootstrap {
                state: "none".to_owned(),
                detail: "the function has no sample".to_owned(),
                ..Bootstrap::default()
            }
        }
        Err(error) => {
            warn!(
                function = deployed.function.name(),
                "bootstrap ended: {error:#}"
            );
            "failed".clone_into(&mut state.state);
            state.detail = format!("{error:#}");
        }
    }
}

/// Whether the function has a sample.
async fn tasks(gateway: &Arc<Gateway>, deployed: &Arc<Deployed>) -> anyhow::Result<bool> {
    let sizes = &deployed.function.object.spec.bootstrap.batches;
    let measured: Vec<Measured<'_>> = deployed
        .pools()
        .iter()
        .enumerate()
        .filter(|(_, pool)| pool.is_some())
        .map(|(index, _)| Measured {
            runtime: &gateway.scheduler.runtimes()[index].name,
            points: deployed
                .processing("infer", index)
                .map_or(0, |model| model.points()),
        })
        .collect();
    let tasks = bootstrap(
        &BootstrapConfig {
            sizes: sizes.clone(),
        },
        &measured,
    );
    *deployed.bootstrap.lock() = Bootstrap {
        state: "running".to_owned(),
        total: tasks.len(),
        ..Bootstrap::default()
    };
    let mut samples: BTreeMap<u32, Sample> = BTreeMap::new();
    for task in tasks {
        if gateway
            .functions
            .get(deployed.function.name())
            .is_none_or(|current| !Arc::ptr_eq(&current, deployed))
        {
            bail!("the function was replaced or removed");
        }
        deployed.bootstrap.lock().detail = format!("{} items on {}", task.items, task.runtime);
        let Sample {
            content_type,
            bytes,
        } = match samples.get(&task.items) {
            Some(sample) => sample.clone(),
            None => match sample_of(deployed, task.items).await? {
                Some(sample) => samples.entry(task.items).or_insert(sample).clone(),
                None => return Ok(false),
            },
        };
        match deployed.function.object.spec.input {
            Input::Batch => {
                run_batch(gateway, deployed, &task.runtime, &content_type, bytes).await?
            }
            Input::Request => {
                request::bootstrap(gateway, deployed, &task.runtime, &content_type, bytes).await?
            }
        }
        deployed.bootstrap.lock().done += 1;
        info!(function = deployed.function.name(), runtime = %task.runtime, items = task.items, "bootstrap task done");
    }
    Ok(true)
}

/// A package of representative items, from a pod on the first runtime.
async fn sample_of(deployed: &Deployed, items: u32) -> anyhow::Result<Option<Sample>> {
    let pool = deployed
        .pools()
        .iter()
        .flatten()
        .next()
        .ok_or_else(|| anyhow!("the function may run nowhere"))?;
    let lease = pool.acquire(Expected::default()).await?;
    sample(lease.pod.reach, items, SAMPLE_LIMIT).await
}

async fn run_batch(
    gateway: &Arc<Gateway>,
    deployed: &Arc<Deployed>,
    runtime: &str,
    content_type: &str,
    bytes: Bytes,
) -> anyhow::Result<()> {
    let invocation = crate::gateway::new_id();
    let length = bytes.len() as u64;
    let body = stream::iter([Ok::<_, std::convert::Infallible>(bytes)]);
    let staged = package::stage(
        &gateway.stores,
        &invocation,
        body,
        Some(length),
        content_type,
        u64::MAX,
    )
    .await
    .map_err(|f| anyhow!("{}", f.problem))?;
    let job = BatchJob {
        invocation: invocation.clone(),
        deployed: Arc::clone(deployed),
        action: "infer".to_owned(),
        mode: Mode::Pinned,
        runtime: Some(runtime.to_owned()),
        bootstrap: true,
        deadline: None,
        parameters: BTreeMap::from([("bootstrap".to_owned(), "true".to_owned())]),
        at: unix_now(),
    };
    let ran = batch::run(gateway, &job, &staged, &Events::default()).await;
    let home = gateway.stores.home().map_err(anyhow::Error::from)?;
    let _ = tokio::join!(home.delete(&staged.key), async {
        home.delete(&crate::storage::result_key(&invocation)).await
    });
    ran.map(|_| ())
        .map_err(|f| anyhow!("on {runtime}: {}", f.problem))
}
