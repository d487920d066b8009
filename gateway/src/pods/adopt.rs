//! Pods of an earlier life of the gateway that are still up: they serve on.

use super::pod::{Entry, PodState};
use super::pool::Pool;
use crate::sites::AdoptedPod;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::{info, warn};

impl Pool {
    /// Takes over a pod that serves this function version on this runtime. It loads the newest model,
    /// if there is one, and is a standby then; it keeps its name.
    pub fn adopt(self: &Arc<Self>, adopted: AdoptedPod) {
        let name: Arc<str> = adopted.name.as_str().into();
        let started = adopted.started;
        {
            let mut state = self.state.lock();
            let mut entry = Entry::new(name.clone(), true, Instant::now());
            // Until it is reached, it counts as a pod on its way: no other is started in its place.
            entry.started(&started, started.address);
            entry.enter(PodState::Warming, Instant::now());
            state.pods.push(entry);
        }
        info!(pod = %name, runtime = %self.options.runtime, "pod of an earlier life serves on");
        let pool = Arc::clone(self);
        self.runtime.spawn(async move {
            let reach = match &pool.options.link {
                Some(link) => link.open(started.address).await,
                None => Ok(started.address),
            };
            let (pod, reached) = {
                let mut state = pool.state.lock();
                let entry = state.entry(&name);
                let Some(entry) = entry.filter(|e| e.state == PodState::Warming) else {
                    return;
                };
                if let Err(error) = &reach {
                    warn!(pod = %name, "cannot be reached: {error}");
                    entry.enter(PodState::Draining, Instant::now());
                }
                let reached = reach.is_ok();
                (
                    entry.started(&started, reach.unwrap_or(started.address)),
                    reached,
                )
            };
            pool.runtime
                .spawn(Arc::clone(&pool).watch(Arc::clone(&pod), started));
            if reached {
                pool.rewarm(pod).await;
            } else {
                pool.stop(pod).await;
            }
        });
    }
}
