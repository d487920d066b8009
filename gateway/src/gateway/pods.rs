//! The pods of all functions: seen, kept, scaled and ended.

use super::Gateway;
use crate::failure::Failure;
use crate::history::ScaleRecord;
use crate::pods::{PodView, Pool};
use crate::runnable::Deployed;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Most pods that one call may ask for.
const MOST_REPLICAS: u32 = 1000;

/// How a function was scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaled {
    /// The function.
    pub function: String,
    /// Pods that are kept ready on each of the runtimes, until the next deployment.
    pub replicas: u32,
    /// The runtimes.
    pub runtimes: Vec<String>,
}

impl Gateway {
    /// Every version that has pods: those in force, those that come up, those that finish.
    pub(super) fn all_versions(&self) -> Vec<Arc<Deployed>> {
        let mut all = self.functions.all();
        for other in self.beside.lock().iter() {
            // One that is put in force this moment is in both.
            if !all.iter().any(|one| Arc::ptr_eq(one, other)) {
                all.push(Arc::clone(other));
            }
        }
        all
    }

    pub(crate) fn all_pools(&self) -> Vec<Arc<Pool>> {
        let all = self.all_versions();
        let pools = all.iter().flat_map(|deployed| deployed.pools().iter());
        pools.flatten().cloned().collect()
    }

    /// The pods of every function, those of versions that come up or finish included, and the standbys
    /// that are missing.
    #[must_use]
    pub fn pods(&self) -> Vec<PodView> {
        let all = self.all_versions();
        all.iter().flat_map(|deployed| deployed.pods()).collect()
    }

    /// Brings every pool to what it should be: called every now and then.
    pub fn keep_pods(&self) {
        for pool in self.all_pools() {
            pool.maintain();
        }
    }

    /// Holds the memory of standbys to its limit, where there is one: called every now and then.
    pub async fn keep_memory(&self) {
        if let Some(standbys) = &self.standbys {
            standbys.look(&self.all_pools()).await;
        }
    }

    /// Keeps so many pods of a function ready, whatever it declares, until its next deployment: on the
    /// runtime that is named; else on the first that it may use, or, to have none, on all of them. On
    /// disk when this returns.
    ///
    /// # Errors
    /// There is no such function; it may not use the runtime; too many; the disk says no.
    pub async fn scale(
        &self,
        name: &str,
        replicas: u32,
        runtime: Option<&str>,
    ) -> Result<Scaled, Failure> {
        let deployed = self
            .functions
            .get(name)
            .ok_or_else(|| Failure::unknown_function(name))?;
        if replicas > MOST_REPLICAS {
            let detail = format!("replicas: {replicas} is more than {MOST_REPLICAS}");
            return Err(Failure::new(400, "scale_invalid", detail));
        }
        let mut pools: Vec<&Arc<Pool>> = deployed.pools().iter().flatten().collect();
        match runtime {
            Some(runtime) => {
                let used: Vec<&str> = pools.iter().map(|p| p.options().runtime.as_str()).collect();
                let used = used.join(", ");
                pools.retain(|pool| pool.options().runtime == runtime);
                if pools.is_empty() {
                    let detail = format!("`{name}` has no runtime `{runtime}`; it has: {used}");
                    return Err(Failure::new(400, "unknown_runtime", detail));
                }
            }
            None if replicas > 0 => pools.truncate(1),
            None => {}
        }
        let records = pools.iter().map(|pool| ScaleRecord {
            function: name.to_owned(),
            version: deployed.function.version.clone(),
            runtime: pool.options().runtime.clone(),
            replicas,
        });
        self.history.put_scales(records.collect()).await?;
        for pool in &pools {
            pool.scale(replicas);
        }
        Ok(Scaled {
            function: name.to_owned(),
            replicas,
            runtimes: pools.iter().map(|p| p.options().runtime.clone()).collect(),
        })
    }

    /// Ends one pod in order: it takes nothing new, and goes when what runs in it is done.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn end_pod(&self, name: &str) -> Result<(), Failure> {
        if self.all_pools().iter().any(|pool| pool.end(name)) {
            return Ok(());
        }
        let detail = format!("there is no pod `{name}`; `stoic pods` shows those there are");
        Err(Failure::new(404, "unknown_pod", detail))
    }
}
