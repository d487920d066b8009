//! Pods of an earlier life, and the end of all.

use super::Inner;
use super::labels;
use super::reference::Reference;
use crate::link;
use crate::sites::{AdoptedPod, Adoption, StartedPod};
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use futures_util::future::join_all;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// A container that does not answer within this time serves nobody.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait for containers that are being made while the gateway stops.
const LAST_MADE: Duration = Duration::from_secs(10);

impl Inner {
    /// Every container of this gateway at this site, whatever its state.
    pub(super) async fn own(&self) -> Result<Vec<(String, String)>, bollard::errors::Error> {
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&labels::filter(&self.gateway_id, &self.name))
            .build();
        let listed = self.docker.list_containers(Some(options)).await?;
        let of = |container: bollard::models::ContainerSummary| {
            let name = container.names.unwrap_or_default().into_iter().next();
            let name = name.unwrap_or_default();
            Some((container.id?, name.trim_start_matches('/').to_owned()))
        };
        Ok(listed.into_iter().filter_map(of).collect())
    }

    pub(super) async fn adopt_all(self: &Arc<Self>) -> Adoption {
        let own = match self.own().await {
            Ok(own) => own,
            Err(error) => {
                warn!(site = %self.name, "cannot list the containers of an earlier life: {error}");
                Vec::new()
            }
        };
        let adopted = own.iter().map(|(id, name)| async move {
            let pod = self.adopt_one(id, name).await;
            if pod.is_none() {
                self.living.remove(id);
                self.remove(id).await;
            }
            pod.map(|pod| (pod, name.clone()))
        });
        let adopted: Vec<_> = join_all(adopted).await;
        let (pods, names): (Vec<_>, Vec<_>) = adopted.into_iter().flatten().unzip();
        self.secrets.clear_all_but(&self.name, &names);
        for pod in &pods {
            info!(pod = %pod.name, function = %pod.function, runtime = %pod.runtime, "a pod of an earlier life is up");
        }
        Adoption {
            ended: own.len() - pods.len(),
            pods,
        }
    }

    async fn adopt_one(&self, id: &str, name: &str) -> Option<AdoptedPod> {
        let found = self
            .docker
            .inspect_container(id, None::<InspectContainerOptions>)
            .await
            .ok()?;
        if found.state.as_ref()?.running != Some(true) {
            return None;
        }
        let address = self.address_of(&found)?;
        let config = found.config?;
        let labels: HashMap<String, String> = config.labels?;
        let label = |key: &str| labels.get(key).cloned();
        let memory = found.host_config.and_then(|host| host.memory);
        let memory = memory
            .and_then(|m| u64::try_from(m).ok())
            .filter(|m| *m > 0);
        let pod = label(labels::POD)?;
        // Known before it is asked, so that a death meanwhile is told.
        let exited = self.living.add(id, &pod, name, memory);
        self.living
            .with(id, |life| life.stop_signal = config.stop_signal);
        self.living.settle(id, address);
        let health = label(labels::HEALTH)?;
        let answers = link::healthy(address, &health);
        if !matches!(
            tokio::time::timeout(ANSWERS_WITHIN, answers).await,
            Ok(true)
        ) {
            return None;
        }
        let image = found.image.unwrap_or_default();
        let digest = match config.image.as_deref().map(Reference::parse) {
            Some(Ok(reference)) => self.images.digest(&reference, &image).await,
            _ => image,
        };
        Some(AdoptedPod {
            name: pod,
            function: label(labels::FUNCTION)?,
            version: label(labels::VERSION)?,
            runtime: label(labels::RUNTIME)?,
            started: StartedPod {
                address,
                id: id.to_owned(),
                exited,
                emulated_s: 0.0,
                stages: Vec::new(),
                model: None,
                digest: Some(digest),
            },
        })
    }

    fn address_of(&self, found: &ContainerInspectResponse) -> Option<SocketAddr> {
        let networks = found.network_settings.as_ref()?.networks.as_ref()?;
        let ip: IpAddr = networks
            .get(&self.network.name)?
            .ip_address
            .as_ref()?
            .parse()
            .ok()?;
        let labels = found.config.as_ref()?.labels.as_ref()?;
        let port: u16 = labels.get(labels::PORT)?.parse().ok()?;
        Some(SocketAddr::from((ip, port)))
    }

    /// Ends every container of this gateway here, and the network. Nothing is started after this.
    pub(super) async fn end_all(self: &Arc<Self>) -> usize {
        self.closing.store(true, Ordering::SeqCst);
        self.ended.cancel();
        let deadline = Instant::now() + LAST_MADE;
        while !self.living.coming.lock().is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let own = match self.own().await {
            Ok(own) => own,
            Err(error) => {
                warn!(site = %self.name, "containers may be left, which the next start removes: {error}");
                return 0;
            }
        };
        // Those that nobody knows any more have ended, and are only being cleared away.
        let left = self.living.ids().len();
        join_all(own.iter().map(|(id, _)| self.remove(id))).await;
        self.secrets.clear_all_but(&self.name, &[]);
        if let Err(error) = self.docker.remove_network(&self.network.name).await {
            warn!(site = %self.name, network = %self.network.name, "cannot be removed: {error}");
        }
        left
    }
}
