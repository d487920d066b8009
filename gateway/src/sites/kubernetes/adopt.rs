//! Pods of an earlier life, and the end of all.

use super::Inner;
use super::answer::{NotDone, answer};
use super::labels;
use super::status::Seen;
use crate::sites::{AdoptedPod, Adoption, StartedPod};
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// A pod that does not answer within this time serves nobody. One that has to be reached through the API
/// server first shows that it has to be.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);
/// Wait before pods of an earlier life are listed again.
const LIST_AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for pods that are being made while the gateway stops.
const LAST_MADE: Duration = Duration::from_secs(10);

impl Inner {
    /// Every pod of this gateway at this site, whatever its state.
    async fn own(&self) -> Result<Vec<Pod>, NotDone> {
        let selector = labels::selector(&self.gateway_id, &self.name);
        let params = ListParams::default().labels(&selector);
        Ok(answer(self.pods.list(&params)).await?.items)
    }

    pub(super) async fn adopt_all(self: &Arc<Self>) -> Adoption {
        // The watch, which comes next, removes what nobody waits for: it must not begin without this list.
        let own = loop {
            match self.own().await {
                Ok(own) => break own,
                Err(error) => {
                    warn!(site = %self.name, "cannot list the pods of an earlier life, trying again: {error}");
                    tokio::time::sleep(LIST_AGAIN).await;
                }
            }
        };
        let all = own.len();
        let adopted = own.into_iter().map(|pod| async move {
            let name = pod.name_any();
            let leaving = pod.metadata.deletion_timestamp.is_some();
            let adopted = match leaving {
                true => None,
                false => self.adopt_one(pod).await,
            };
            if adopted.is_none() {
                self.living.remove(&name);
                if !leaving {
                    self.delete(&name, Duration::ZERO).await;
                }
            }
            adopted
        });
        let pods: Vec<AdoptedPod> = join_all(adopted).await.into_iter().flatten().collect();
        for pod in &pods {
            info!(pod = %pod.name, function = %pod.function, runtime = %pod.runtime, "a pod of an earlier life is up");
        }
        Adoption {
            ended: all - pods.len(),
            pods,
        }
    }

    async fn adopt_one(&self, pod: Pod) -> Option<AdoptedPod> {
        let name = pod.name_any();
        let seen = Seen::of(&pod, None);
        if !seen.running || seen.ended.is_some() {
            return None;
        }
        let of =
            |map: &Option<BTreeMap<String, String>>, key: &str| map.as_ref()?.get(key).cloned();
        let label = |key: &str| of(&pod.metadata.labels, key);
        let note = |key: &str| of(&pod.metadata.annotations, key);
        let (own_name, health) = (note(labels::POD)?, note(labels::HEALTH)?);
        let port: u16 = note(labels::PORT)?.parse().ok()?;
        let limit = pod.spec.as_ref().and_then(|spec| {
            let limits = spec
                .containers
                .first()?
                .resources
                .as_ref()?
                .limits
                .as_ref()?;
            let memory: bytesize::ByteSize = limits.get("memory")?.0.parse().ok()?;
            Some(memory.as_u64())
        });
        // Known before it is asked, so that a death meanwhile is told.
        let told = self.living.add(&name, &own_name, limit);
        self.living.made(&name);
        let (ip, digest) = (seen.ip?, seen.digest.clone());
        self.living.with(&name, |life| life.seen.send_replace(seen));
        let reached = self.reached(&name, ip, port, &health, told.seen.clone());
        let reached = tokio::time::timeout(ANSWERS_WITHIN, reached).await;
        let reached = reached.ok()?.ok()?;
        let address = reached.address;
        self.living.settle(&name, address, reached.forward);
        Some(AdoptedPod {
            name: own_name,
            function: label(labels::FUNCTION)?,
            version: label(labels::VERSION)?,
            runtime: label(labels::RUNTIME)?,
            started: StartedPod {
                address,
                id: name,
                exited: told.exited,
                emulated_s: 0.0,
                stages: Vec::new(),
                model: None,
                digest,
            },
        })
    }

    /// Ends every pod of this gateway here, unless they are left to its next life. Nothing is started after this.
    pub(super) async fn end_all(self: &Arc<Self>) -> usize {
        self.closing.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + LAST_MADE;
        while self.living.any_coming() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if self.leaving.load(Ordering::Relaxed) {
            return 0;
        }
        let own = match self.own().await {
            Ok(own) => own,
            Err(error) => {
                warn!(site = %self.name, "pods may be left, which the next start removes: {error}");
                return 0;
            }
        };
        // Those that nobody knows any more have ended, and are only being cleared away.
        let left = self.living.count();
        let names = own
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .map(ResourceExt::name_any);
        join_all(names.map(|name| async move { self.delete(&name, Duration::ZERO).await })).await;
        self.ended.cancel();
        left
    }
}
