//! The start of a container, with nothing on its way that the engine itself does not need: made by the
//! name of its image, started, its address asked for once, and connected to until it answers. Whether
//! the tag has moved is found out meanwhile.

use super::Inner;
use super::connect::{said, status};
use super::create::{LaidOut, Place, body};
use super::image::{Newest, engine_error};
use super::reference::Reference;
use crate::sites::{
    PodSpec, StartError, StartedPod, check_secrets,
    ready::{await_ready, exited_early, told_stages},
};
use bollard::errors::Error;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, StartContainerOptions,
};
use rand::Rng;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use stoic_protocol::stages::{CREATE, LISTEN, PULL, READY, START};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::debug;

/// A pod that is ready waits no longer than this for a registry to say whether a newer image exists.
const LONGEST_WAIT_FOR_REGISTRY: Duration = Duration::from_secs(2);
/// The death of a container that has no address is told within this time.
const TOLD_OF_DEATH: Duration = Duration::from_secs(10);

/// A container that was made and belongs to nobody else: dropped, it is removed.
struct Made {
    inner: Arc<Inner>,
    id: String,
    exited: watch::Receiver<Option<String>>,
    kept: bool,
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (inner, id) = (Arc::clone(&self.inner), std::mem::take(&mut self.id));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let life = inner.living.remove(&id);
                inner.remove(&id).await;
                if let Some(life) = life {
                    inner.secrets.clear(&inner.name, &life.name);
                }
            });
        }
    }
}

impl Inner {
    pub(super) async fn start_pod(
        self: &Arc<Self>,
        spec: PodSpec,
    ) -> Result<StartedPod, StartError> {
        let delay = self
            .delays
            .as_ref()
            .map_or(Duration::ZERO, |trace| trace.draw(&spec.runtime));
        tokio::time::sleep(delay).await;
        check_secrets(&self.secrets, &spec)?;
        let image = image_of(&spec)?;
        let newest = self.images.newest(&image, spec.pull);

        let mut tries = 0;
        loop {
            tries += 1;
            let mut stages = Vec::with_capacity(4);
            let mut made = self.make(&spec, &image, &mut stages).await?;
            let (address, of) = self.run(&spec, &mut made, &mut stages).await?;
            if tries == 1 {
                let newest = tokio::time::timeout(LONGEST_WAIT_FOR_REGISTRY, newest.clone()).await;
                if let Ok(Newest::Is(id)) = newest
                    && *id != *of
                {
                    debug!(pod = %spec.name, "started from an image whose tag has moved; once more");
                    continue;
                }
            }
            self.images.pulled.used(&of);
            let digest = self.images.digest(&image, &of).await;
            debug!(pod = %spec.name, site = %self.name, container = %made.id, %address, "pod answers");
            made.kept = true;
            return Ok(StartedPod {
                address,
                id: made.id.clone(),
                exited: made.exited.clone(),
                emulated_s: delay.as_secs_f64(),
                stages,
                model: None,
                digest: Some(digest),
            });
        }
    }

    /// Makes the container, and fetches its image first where that is absent.
    async fn make(
        self: &Arc<Self>,
        spec: &PodSpec,
        image: &Reference,
        stages: &mut Vec<(&'static str, f64)>,
    ) -> Result<Made, StartError> {
        let mut begun = Instant::now();
        let mut network_restored = false;
        loop {
            let error = match self.create(spec, image).await? {
                Ok(made) => {
                    stages.push((CREATE, begun.elapsed().as_secs_f64()));
                    return Ok(made);
                }
                Err(error) => error,
            };
            let text = said(&error);
            match status(&error) {
                Some(404) if text.contains("network") && !network_restored => {
                    network_restored = true;
                    self.network
                        .restore(&self.docker)
                        .await
                        .map_err(engine_error)?;
                }
                Some(404) if stages.is_empty() => {
                    self.images.fetch_absent(image, spec.pull).await?;
                    stages.push((PULL, begun.elapsed().as_secs_f64()));
                    begun = Instant::now();
                }
                Some(400..=499) => {
                    return Err(StartError::Refused(format!(
                        "the engine refuses the container: {text}"
                    )));
                }
                _ => return Err(engine_error(error)),
            }
        }
    }

    /// Asks the engine for the container. The asking goes on when the caller leaves, so that what comes
    /// of it can be removed.
    async fn create(
        self: &Arc<Self>,
        spec: &PodSpec,
        image: &Reference,
    ) -> Result<Result<Made, Error>, StartError> {
        let stopping = || StartError::Refused("the gateway is stopping".to_owned());
        let name = format!("stoic-{}-{:08x}", spec.name, rand::rng().random::<u32>());
        let laid = self.lay_out(spec, &name)?;
        let place = Place {
            gateway_id: &self.gateway_id,
            site: &self.name,
            network: &self.network.name,
            config: &self.config,
        };
        let body = body(spec, image, &laid, place);
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let memory = spec.resources.as_ref().and_then(|r| r.memory);
        let (inner, pod) = (Arc::clone(self), spec.name.clone());
        let (answer, asked) = oneshot::channel();
        self.living.coming.lock().insert(name.clone());
        tokio::spawn(async move {
            let made = match inner.closing.load(Ordering::SeqCst) {
                true => None,
                false => Some(inner.docker.create_container(Some(options), body).await),
            };
            let made = made.map(|made| {
                made.map(|made| Made {
                    exited: inner
                        .living
                        .add(&made.id, &pod, &name, memory.map(|m| m.as_u64())),
                    inner: Arc::clone(&inner),
                    id: made.id,
                    kept: false,
                })
            });
            inner.living.coming.lock().remove(&name);
            if !matches!(made, Some(Ok(_))) {
                inner.secrets.clear(&inner.name, &name);
            }
            // Where nobody waits any more, the container comes back here and is dropped.
            let _ = answer.send(made);
        });
        asked.await.ok().flatten().ok_or_else(stopping)
    }

    /// Lays out what the container of this name finds as files.
    fn lay_out(&self, spec: &PodSpec, name: &str) -> Result<LaidOut, StartError> {
        let mut laid = LaidOut::default();
        if !spec.secrets.is_empty() {
            let secrets = self.secrets.lay_out(&self.name, name, &spec.secrets, true);
            let refused = |e| StartError::Refused(format!("secrets: {e}"));
            laid.secrets = Some(secrets.map_err(refused)?);
        }
        if !spec.files.is_empty() {
            let files = self.secrets.lay_out_files(&self.name, name, &spec.files);
            laid.files = files.map_err(|e| {
                self.secrets.clear(&self.name, name);
                StartError::Refused(format!("files: {e}"))
            })?;
        }
        Ok(laid)
    }

    /// Starts what was made and waits until it answers; gives its address and the id of its image.
    async fn run(
        self: &Arc<Self>,
        spec: &PodSpec,
        made: &mut Made,
        stages: &mut Vec<(&'static str, f64)>,
    ) -> Result<(SocketAddr, String), StartError> {
        let begun = Instant::now();
        let started = self
            .docker
            .start_container(&made.id, None::<StartContainerOptions>)
            .await;
        started.map_err(|error| match status(&error) {
            // What the runtime cannot execute, and devices that are not there.
            Some(400..=499) => {
                StartError::Refused(format!("the container cannot be started: {}", said(&error)))
            }
            Some(500) if said(&error).contains("device driver") => {
                StartError::Refused(format!("the engine has no GPUs to give: {}", said(&error)))
            }
            Some(_) => {
                StartError::Exited(format!("the container cannot be started: {}", said(&error)))
            }
            None => engine_error(error),
        })?;
        stages.push((START, begun.elapsed().as_secs_f64()));
        let begun = Instant::now();
        let found = self
            .docker
            .inspect_container(&made.id, None::<InspectContainerOptions>)
            .await
            .map_err(engine_error)?;
        let stop_signal = found.config.and_then(|config| config.stop_signal);
        self.living
            .with(&made.id, |life| life.stop_signal = stop_signal);
        let networks = found.network_settings.and_then(|n| n.networks);
        let ip = networks
            .and_then(|mut all| all.remove(&self.network.name)?.ip_address)
            .and_then(|ip| ip.parse::<IpAddr>().ok());
        let Some(ip) = ip else {
            // It has ended already: its death is being told.
            let told = made.exited.wait_for(Option::is_some);
            let how = tokio::time::timeout(TOLD_OF_DEATH, told).await;
            let how = how.ok().and_then(Result::ok).and_then(|how| how.clone());
            return Err(exited_early(how.as_deref().unwrap_or("it has no address")));
        };
        let address = SocketAddr::from((ip, spec.port));
        for former in self.living.settle(&made.id, address) {
            self.bury(former);
        }
        let last_words = || async {
            let words = tokio::time::timeout(Duration::from_secs(5), self.last_words(&made.id));
            crate::sites::last_line_of(&words.await.ok()??)
        };
        let told = await_ready(address, spec, made.exited.clone(), last_words).await?;
        let own = told_stages(&told);
        let rest = if own.is_empty() { LISTEN } else { READY };
        let told_s: f64 = own.iter().map(|(_, seconds)| seconds).sum();
        stages.extend(own);
        stages.push((rest, (begun.elapsed().as_secs_f64() - told_s).max(0.0)));
        Ok((address, found.image.unwrap_or_default()))
    }
}

/// The image of a pod.
pub(super) fn image_of(spec: &PodSpec) -> Result<Reference, StartError> {
    let image = spec
        .image
        .as_deref()
        .ok_or_else(|| StartError::Refused("spec.image: the function has none".to_owned()))?;
    Reference::parse(image).map_err(StartError::Refused)
}
