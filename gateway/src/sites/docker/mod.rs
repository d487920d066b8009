//! Pods as containers of a Docker engine on this machine.
//!
//! Everything that the gateway makes there bears its identity ([`labels`]); what does not is never
//! touched. Containers outlive a gateway that is killed, and are adopted by its next life.

mod adopt;
mod connect;
mod create;
mod image;
mod labels;
mod living;
mod pulled;
mod start;

use super::{
    Adoption, DelayTrace, LogAsk, LogStream, PodSpec, Site, SiteFuture, StartError, StartedPod,
    check_secrets, log_file, reference,
};
use crate::config::DockerConfig;
use crate::function::FunctionSpec;
use crate::secrets::Secrets;
use bollard::Docker;
use bollard::query_parameters::{
    KillContainerOptionsBuilder, LogsOptionsBuilder, StatsOptionsBuilder,
};
use connect::{Gpus, Network, said, status};
use futures_util::StreamExt;
use futures_util::future::join_all;
use image::Images;
use living::Living;
use pulled::Pulled;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Longest question for the memory of a container.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a Docker site is made of.
#[derive(Debug)]
pub struct DockerOptions<'a> {
    /// Name of the site.
    pub name: &'a str,
    /// Identity of the gateway, with which its containers are labelled.
    pub gateway_id: &'a str,
    /// Its part of the configuration.
    pub config: DockerConfig,
    /// Folder of everything that lasts.
    pub data: &'a Path,
    /// Emulated deployment delays.
    pub delays: Option<DelayTrace>,
    /// Where secrets are.
    pub secrets: Arc<Secrets>,
}

/// A site whose pods are containers.
#[derive(Debug)]
pub struct DockerSite {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    gateway_id: String,
    config: DockerConfig,
    docker: Docker,
    /// Address of the engine, for messages.
    host: String,
    gpus: Gpus,
    network: Network,
    images: Images,
    living: Living,
    logs: PathBuf,
    delays: Option<DelayTrace>,
    secrets: Arc<Secrets>,
    /// Whether nothing may be started any more.
    closing: AtomicBool,
    /// Ends the watch.
    ended: CancellationToken,
}

impl DockerSite {
    /// Connects to the engine and makes the site's network.
    ///
    /// # Errors
    /// No engine answers, it is too old or on another machine, or the disk says no.
    pub async fn connect(options: DockerOptions<'_>) -> anyhow::Result<Arc<Self>> {
        let DockerOptions {
            name,
            gateway_id,
            config,
            data,
            delays,
            secrets,
        } = options;
        let engine = connect::connect(&config).await?;
        let network = Network::open(&engine, gateway_id, name).await?;
        let logs = data.join("logs");
        std::fs::create_dir_all(&logs)?;
        let pulled = Pulled::load(data.join(format!("images-{name}.json")));
        let images = Images::new(engine.docker.clone(), config.check_images, pulled);
        Ok(Arc::new(Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                gateway_id: gateway_id.to_owned(),
                config,
                docker: engine.docker,
                host: engine.host,
                gpus: engine.gpus,
                network,
                images,
                living: Living::default(),
                logs,
                delays,
                secrets,
                closing: AtomicBool::new(false),
                ended: CancellationToken::new(),
            }),
        }))
    }
}

impl Inner {
    /// Where the last words of a pod are kept when its container is gone.
    fn log_of(&self, pod: &str) -> PathBuf {
        self.logs.join(format!("{pod}.log"))
    }

    async fn check_pod(&self, spec: &PodSpec) -> Result<(), StartError> {
        let image = start::image_of(spec)?;
        check_secrets(&self.secrets, spec)?;
        if spec.gpus > 0 && self.gpus == Gpus::None {
            return Err(StartError::Refused(format!(
                "{} GPU(s) are wanted on runtime `{}`, and the Docker engine of site `{}` has no NVIDIA runtime: install the NVIDIA container toolkit there, or leave the GPUs away",
                spec.gpus, spec.runtime, self.name
            )));
        }
        self.images.check(&image, spec.pull).await
    }

    /// Tells a container to finish, and ends it when the grace has passed.
    async fn stop_container(self: &Arc<Self>, id: &str, grace: Duration) {
        let known = self
            .living
            .with(id, |life| (life.exit.subscribe(), life.stop_signal.clone()));
        let Some((mut exited, signal)) = known else {
            return;
        };
        if !grace.is_zero() {
            let signal = signal.filter(|s| !s.is_empty());
            let options = KillContainerOptionsBuilder::new()
                .signal(signal.as_deref().unwrap_or("SIGTERM"))
                .build();
            match self.docker.kill_container(id, Some(options)).await {
                Ok(()) => {
                    let ended = exited.wait_for(Option::is_some);
                    if tokio::time::timeout(grace, ended).await.is_ok() {
                        // Who learned of its end is removing it: stopped means gone.
                        self.remove(id).await;
                        return;
                    }
                    warn!(site = %self.name, container = %id, "pod did not stop in time; killing it");
                }
                // It does not run any more.
                Err(error) if matches!(status(&error), Some(404 | 409)) => {}
                Err(error) => {
                    warn!(site = %self.name, container = %id, "cannot be told to stop: {}", said(&error));
                }
            }
        }
        // Its last words first: they are gone with it.
        if let Some(words) = self.last_words(id).await.filter(|words| !words.is_empty())
            && let Some(pod) = self.living.with(id, |life| life.pod.clone())
        {
            let _ = std::fs::write(self.log_of(&pod), words);
        }
        self.remove(id).await;
        // An engine that is away removes it when it is back: nobody knows it then.
        if let Some(life) = self.living.remove(id) {
            let _ = life.exit.send(Some("stopped".to_owned()));
            self.secrets.clear(&self.name, &life.name);
        }
    }

    /// Bytes that a container holds: what the engine counts, without pages of files that could be let go.
    async fn memory_of(&self, id: &str) -> Option<u64> {
        let options = StatsOptionsBuilder::new()
            .stream(false)
            .one_shot(true)
            .build();
        let mut told = self.docker.stats(id, Some(options)).boxed();
        let first = tokio::time::timeout(MEMORY_TIMEOUT, told.next()).await;
        let memory = first.ok()??.ok()?.memory_stats?;
        let stats = memory.stats.unwrap_or_default();
        // Of control groups of the first kind, and of the second.
        let names = ["total_inactive_file", "inactive_file"];
        let files = names.iter().find_map(|name| stats.get(*name)).copied();
        Some(memory.usage?.saturating_sub(files.unwrap_or(0)))
    }

    async fn logs_of(&self, pod: &str, ask: LogAsk) -> std::io::Result<Option<LogStream>> {
        let Some(id) = self.living.of_pod(pod) else {
            let ask = LogAsk {
                follow: false,
                ..ask
            };
            return log_file::open(&self.log_of(pod), ask);
        };
        let tail = ask.tail.map_or_else(|| "all".to_owned(), |n| n.to_string());
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .follow(ask.follow)
            .tail(&tail)
            .build();
        let pieces = self.docker.logs(&id, Some(options)).map(|piece| {
            piece
                .map(bollard::container::LogOutput::into_bytes)
                .map_err(|error| std::io::Error::other(said(&error)))
        });
        Ok(Some(pieces.boxed()))
    }
}

impl Site for DockerSite {
    fn backend(&self) -> &'static str {
        "docker"
    }

    fn host(&self) -> IpAddr {
        self.inner.network.gateway.into()
    }

    fn can_run(&self, spec: &FunctionSpec) -> Result<(), &'static str> {
        if spec.image.is_none() {
            return Err("image");
        }
        Ok(())
    }

    fn check<'a>(&'a self, spec: &'a PodSpec) -> SiteFuture<'a, Result<(), StartError>> {
        Box::pin(self.inner.check_pod(spec))
    }

    fn start(&self, spec: PodSpec) -> SiteFuture<'_, Result<StartedPod, StartError>> {
        Box::pin(self.inner.start_pod(spec))
    }

    fn stop(&self, id: &str, grace: Duration) -> SiteFuture<'_, ()> {
        let id = id.to_owned();
        Box::pin(async move { self.inner.stop_container(&id, grace).await })
    }

    fn adopt(&self) -> SiteFuture<'_, Adoption> {
        Box::pin(async move {
            let adoption = self.inner.adopt_all().await;
            // From now on, what is there and not known is nobody's.
            tokio::spawn(Inner::watch(Arc::downgrade(&self.inner)));
            adoption
        })
    }

    fn remove_orphans(&self) -> SiteFuture<'_, usize> {
        Box::pin(self.inner.end_all())
    }

    fn collect<'a>(&'a self, used_images: &'a [String]) -> SiteFuture<'a, ()> {
        Box::pin(async move {
            let used: Vec<String> = used_images
                .iter()
                .filter_map(|image| Some(reference::Reference::parse(image).ok()?.whole))
                .collect();
            let inner = &self.inner;
            inner
                .images
                .pulled
                .collect(&inner.docker, &used, inner.config.keep_images)
                .await;
        })
    }

    fn memory<'a>(&'a self, ids: &'a [String]) -> SiteFuture<'a, HashMap<String, u64>> {
        Box::pin(async move {
            let asked = ids.iter().map(|id| async move {
                let bytes = self.inner.memory_of(id).await?;
                Some((id.clone(), bytes))
            });
            join_all(asked).await.into_iter().flatten().collect()
        })
    }

    fn logs<'a>(
        &'a self,
        pod: &'a str,
        ask: LogAsk,
    ) -> SiteFuture<'a, std::io::Result<Option<LogStream>>> {
        Box::pin(self.inner.logs_of(pod, ask))
    }
}
