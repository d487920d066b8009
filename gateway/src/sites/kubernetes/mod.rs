//! Pods as pods of a Kubernetes cluster.
//!
//! Each pod of a pool is one pod there, made directly, so that its start waits for no controller. Whatever
//! becomes of it is learned from one watch for the site. Everything that the gateway makes bears its
//! identity ([`labels`]); what does not is never touched. Pods outlive a gateway that is killed, and are
//! adopted by its next life.

mod adopt;
mod answer;
mod connect;
mod forward;
mod labels;
mod living;
mod manifest;
mod reach;
mod start;
mod status;
mod watch;

use super::{
    Adoption, DelayTrace, LogAsk, LogStream, PodSpec, Site, SiteFuture, StartError, StartedPod,
    log_file,
};
use crate::config::{KubernetesConfig, PodReach};
use crate::function::FunctionSpec;
use crate::secrets::Secrets;
use bytes::Bytes;
use futures_util::{AsyncReadExt, StreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{Api, LogParams};
use living::Living;
use parking_lot::Mutex;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Read at once of a log.
const PIECE: usize = 16 << 10;
/// How long a node may take beyond a pod's grace to end it and to tell.
const BEYOND_GRACE: Duration = Duration::from_secs(15);
/// Longest wait for the last words of a pod that is to be stopped.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Wait before a pod that could not be deleted is tried again, and the longest that it grows to.
const DELETE_AGAIN: Duration = Duration::from_secs(2);
const DELETE_SELDOM: Duration = Duration::from_secs(120);

/// What a Kubernetes site is made of.
#[derive(Debug)]
pub struct KubernetesOptions<'a> {
    /// Name of the site.
    pub name: &'a str,
    /// Identity of the gateway, with which its pods are labelled.
    pub gateway_id: &'a str,
    /// Its part of the configuration.
    pub config: KubernetesConfig,
    /// Folder of everything that lasts.
    pub data: &'a Path,
    /// Emulated deployment delays.
    pub delays: Option<DelayTrace>,
    /// Where secrets are.
    pub secrets: Arc<Secrets>,
}

/// A site whose pods are pods of a cluster.
#[derive(Debug)]
pub struct KubernetesSite {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    gateway_id: String,
    config: KubernetesConfig,
    client: Client,
    /// The API server, for messages.
    server: String,
    namespace: String,
    pods: Api<Pod>,
    /// The same, for the watch.
    watched: Api<Pod>,
    /// The cluster's secrets, in which pods find ours.
    keeps: Api<Secret>,
    host: IpAddr,
    /// How pods are reached; found out with the first, where it is not said.
    reach: Mutex<PodReach>,
    owner: Option<OwnerReference>,
    living: Living,
    logs: PathBuf,
    delays: Option<DelayTrace>,
    secrets: Arc<Secrets>,
    /// Whether nothing may be started any more.
    closing: AtomicBool,
    /// Whether pods are left to the next life of the gateway.
    leaving: AtomicBool,
    /// Ends the watch.
    ended: CancellationToken,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("name", &self.name)
            .field("server", &self.server)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Drop for KubernetesSite {
    fn drop(&mut self) {
        self.inner.ended.cancel();
    }
}

impl KubernetesSite {
    /// Connects to the cluster.
    ///
    /// # Errors
    /// No cluster is known or answers, the namespace is absent, the gateway's account may not see pods
    /// there, or the disk says no.
    pub async fn connect(options: KubernetesOptions<'_>) -> anyhow::Result<Arc<Self>> {
        let KubernetesOptions {
            name,
            gateway_id,
            config,
            data,
            delays,
            secrets,
        } = options;
        let cluster = connect::connect(&config).await?;
        let logs = data.join("logs");
        std::fs::create_dir_all(&logs)?;
        let (client, namespace) = (cluster.client, cluster.namespace);
        Ok(Arc::new(Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                gateway_id: gateway_id.to_owned(),
                config,
                server: cluster.server,
                pods: Api::namespaced(client.clone(), &namespace),
                watched: Api::namespaced(cluster.watching, &namespace),
                keeps: Api::namespaced(client.clone(), &namespace),
                client,
                namespace,
                host: cluster.host,
                reach: Mutex::new(cluster.reach),
                owner: cluster.owner,
                living: Living::default(),
                logs,
                delays,
                secrets,
                closing: AtomicBool::new(false),
                leaving: AtomicBool::new(false),
                ended: CancellationToken::new(),
            }),
        }))
    }
}

impl Inner {
    /// Where the last words of a pod are kept when it is gone.
    fn log_of(&self, pod: &str) -> PathBuf {
        self.logs.join(format!("{pod}.log"))
    }

    /// Tells a pod to finish; its node ends it when the grace has passed.
    async fn stop_pod(self: &Arc<Self>, name: &str, grace: Duration) {
        if self.leaving.load(Ordering::Relaxed) {
            self.let_go_of(name, "left to the next life of the gateway");
            return;
        }
        let known = self.living.with(name, |life| {
            life.stopping = true;
            (life.exit.subscribe(), life.pod.clone())
        });
        let Some((mut exited, pod)) = known else {
            return;
        };
        if !grace.is_zero() {
            // Its last words first: they are gone with it.
            let words = tokio::time::timeout(LAST_WORDS, self.last_words(name)).await;
            if let Some(words) = words.ok().flatten().filter(|words| !words.is_empty()) {
                let _ = std::fs::write(self.log_of(&pod), words);
            }
        }
        let deleted = self.delete(name, grace).await;
        if !deleted {
            self.delete_later(name.to_owned());
        }
        if deleted && !grace.is_zero() {
            let ended = exited.wait_for(Option::is_some);
            if tokio::time::timeout(grace + BEYOND_GRACE, ended)
                .await
                .is_err()
            {
                warn!(site = %self.name, pod = %name, "its node has not said that it ended");
            }
        }
        self.let_go_of(name, "stopped");
    }

    /// Tells those who wait for the end of a pod that it is none of ours any more.
    fn let_go_of(&self, name: &str, why: &str) {
        if let Some(life) = self.living.remove(name) {
            let told = life.exit.borrow().is_some();
            if !told {
                life.exit.send_replace(Some(why.to_owned()));
            }
        }
    }

    /// Tries to delete a pod until it is done: the watch may not see it again.
    fn delete_later(self: &Arc<Self>, name: String) {
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let mut wait = DELETE_AGAIN;
            let ended = inner.ended.clone();
            while ended
                .run_until_cancelled(tokio::time::sleep(wait))
                .await
                .is_some()
            {
                if inner.delete(&name, Duration::ZERO).await {
                    return;
                }
                wait = wait.saturating_mul(2).min(DELETE_SELDOM);
            }
        });
    }

    async fn logs_of(&self, pod: &str, ask: LogAsk) -> std::io::Result<Option<LogStream>> {
        let Some(name) = self.living.of_pod(pod) else {
            let ask = LogAsk {
                follow: false,
                ..ask
            };
            return log_file::open(&self.log_of(pod), ask);
        };
        let params = LogParams {
            follow: ask.follow,
            tail_lines: ask.tail.map(|tail| i64::try_from(tail).unwrap_or(i64::MAX)),
            ..LogParams::default()
        };
        let log = answer::answer(self.pods.log_stream(&name, &params)).await;
        let log = log.map_err(|error| std::io::Error::other(error.to_string()))?;
        let pieces = stream::try_unfold(Box::pin(log), |mut log| async move {
            let mut piece = vec![0; PIECE];
            let count = log.read(&mut piece).await?;
            piece.truncate(count);
            Ok((count > 0).then(|| (Bytes::from(piece), log)))
        });
        Ok(Some(pieces.boxed()))
    }
}

impl Site for KubernetesSite {
    fn backend(&self) -> &'static str {
        "kubernetes"
    }

    fn host(&self) -> IpAddr {
        self.inner.host
    }

    fn here(&self) -> bool {
        false
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
        Box::pin(async move { self.inner.stop_pod(&id, grace).await })
    }

    fn adopt(&self) -> SiteFuture<'_, Adoption> {
        Box::pin(async move {
            let adoption = self.inner.adopt_all().await;
            // From now on, what is there and not known is nobody's.
            let ended = self.inner.ended.clone();
            tokio::spawn(Inner::watch(Arc::downgrade(&self.inner), ended));
            adoption
        })
    }

    /// Pods that belong to the gateway's Deployment or StatefulSet go with that; its next pod adopts them.
    fn leave(&self) {
        let owner = self.inner.owner.as_ref();
        let outlives = owner.is_some_and(|owner| owner.kind != "Pod");
        if outlives {
            self.inner.leaving.store(true, Ordering::Relaxed);
            // Else it would see pods that nobody waits for any more, and end them.
            self.inner.ended.cancel();
        }
    }

    fn remove_orphans(&self) -> SiteFuture<'_, usize> {
        Box::pin(self.inner.end_all())
    }

    fn logs<'a>(
        &'a self,
        pod: &'a str,
        ask: LogAsk,
    ) -> SiteFuture<'a, std::io::Result<Option<LogStream>>> {
        Box::pin(self.inner.logs_of(pod, ask))
    }
}
