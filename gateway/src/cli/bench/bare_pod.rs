//! A cluster by plain calls of its API: a bare pod of the same image, which a gateway on it is held against.

use super::baseline::answer_by_stages;
use super::engine::Container;
use super::target::{Answered, Missed, Target};
use crate::cli::failed::Failed;
use crate::failure::innermost;
use crate::function::Pull;
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Longest time that a pod may take to be gone, and how often it is looked for meanwhile.
const GONE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The cluster that `KUBECONFIG` names, or that this process is in; pods are made in its context's namespace.
#[derive(Clone)]
pub(super) struct Cluster {
    pods: Api<Pod>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster")
    }
}

fn said(error: &kube::Error) -> Failed {
    Failed::Machine(format!("the cluster: {}", innermost(error)))
}

impl Cluster {
    /// The cluster, where one answers.
    pub(super) async fn find() -> Option<Self> {
        let client = Client::try_default().await.ok()?;
        client.apiserver_version().await.ok()?;
        Some(Self {
            pods: Api::default_namespaced(client),
        })
    }

    /// Makes a pod as `kubectl run` does, and waits by a watch until it has an address, then until the
    /// same request is answered by it.
    pub(super) async fn run(
        &self,
        name: &str,
        container: &Container,
        target: &Target,
    ) -> Result<Answered, Missed> {
        let body = body(name, container, target)?;
        let begun = Instant::now();
        let made = self.pods.create(&PostParams::default(), &body).await;
        let made = made.map_err(|e| said(&e))?;
        let created = begun.elapsed().as_secs_f64();
        let until = begun + target.spec.ready_timeout;
        let version = made.metadata.resource_version.unwrap_or_default();
        let address = tokio::time::timeout_at(until, self.address(name, &version)).await;
        let address = address
            .map_err(|_| Missed::Fault("the bare pod never had an address".to_owned()))??;
        let placed = begun.elapsed().as_secs_f64();
        let address = format!("{address}:{}", target.spec.port);
        answer_by_stages(&address, begun, created, placed, target).await
    }

    async fn address(&self, name: &str, version: &str) -> Result<String, Missed> {
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let events = self.pods.watch(&params, version).await;
        let events = events.map_err(|e| said(&e))?;
        tokio::pin!(events);
        while let Some(event) = events.try_next().await.map_err(|e| said(&e))? {
            let pod = match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => pod,
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Deleted(_) => {
                    return Err(Missed::Fault("the bare pod was deleted".to_owned()));
                }
                WatchEvent::Error(status) => {
                    return Err(Missed::Fault(format!("the watch: {}", status.message)));
                }
            };
            let status = pod.status.unwrap_or_default();
            if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
                return Err(Missed::Fault("the bare pod ended".to_owned()));
            }
            if let Some(ip) = status.pod_ip {
                return Ok(ip);
            }
        }
        Err(Missed::Fault("the watch of the bare pod ended".to_owned()))
    }

    /// Deletes a pod and returns when it is gone; absent is good as well.
    pub(super) async fn remove(&self, name: &str) -> Result<(), Failed> {
        let params = DeleteParams {
            grace_period_seconds: Some(1),
            ..DeleteParams::default()
        };
        match self.pods.delete(name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(error) => return Err(said(&error)),
        }
        let begun = Instant::now();
        while begun.elapsed() < GONE {
            if matches!(self.pods.get_metadata_opt(name).await, Ok(None)) {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
        Err(Failed::Machine(format!("pod {name} did not go")))
    }
}

fn body(name: &str, container: &Container, target: &Target) -> Result<Pod, Failed> {
    let env: Vec<_> = container
        .env
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let pull = match target.spec.pull {
        Pull::Newer => "Always",
        Pull::Missing => "IfNotPresent",
        Pull::Never => "Never",
    };
    let body = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"stoic.bench": std::process::id().to_string()}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "bare", "image": container.image, "args": container.args, "env": env,
                "imagePullPolicy": pull,
                "ports": [{"containerPort": target.spec.port}],
            }],
        },
    });
    serde_json::from_value(body)
        .map_err(|e| Failed::Machine(format!("a pod cannot be written: {e}")))
}
