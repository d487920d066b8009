//! The Deployment that bears the name of a kubeless function: what `kubeless function ls` reads `1/1 READY`
//! from, and nothing else.
//!
//! Nobody can write the status of a Deployment: its controller counts the pods of its ReplicaSets, and puts
//! right at once what somebody else wrote. So it is let count the function's own pods, which the pool makes.
//! The Deployment is paused and has one ReplicaSet, which takes pods over that bear its label; they get it
//! once they take work. It can make no pod itself, since its template names an account that is not there: as
//! long as pods are missing, its event says who makes them. It must never count more pods than it wants: it
//! would end some.

use super::connect::{code, said};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

/// Who writes, as the cluster notes it.
const MANAGER: &str = "stoic";
/// Label of the pods that are counted; its value is the function's name.
const COUNTED: &str = "stoic.dev/counted";
/// Label of what a gateway made.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The account that is not there: it is read in the event of a ReplicaSet that can make no pod.
const NO_ACCOUNT: &str = "stoic-makes-the-pods";

/// How a function's pods are to be counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count<'a> {
    pub(super) name: &'a str,
    /// The version that serves.
    pub(super) version: &'a str,
    /// Pods that are always wanted.
    pub(super) wanted: usize,
    /// Pods of this gateway, ready or on their way, and those that take work.
    pub(super) pods: usize,
    pub(super) ready: usize,
    /// The gateway.
    pub(super) gateway: &'a str,
}

/// Has the Deployment of a function's name count its pods; whether it does by now.
///
/// # Errors
/// The API says no, or is away; or there is a Deployment of that name already.
pub(super) async fn count(client: &Client, namespace: &str, of: Count<'_>) -> Result<bool, String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = format!("{MANAGED_BY}=stoic,stoic.dev/function={}", of.name);
    let listed = pods.list(&ListParams::default().labels(&selector)).await;
    let mut live = listed.map_err(|error| said(&error))?.items;
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
    let ended = |pod: &Pod| matches!(phase(pod).as_deref(), Some("Succeeded" | "Failed"));
    live.retain(|pod| pod.metadata.deletion_timestamp.is_none() && !ended(pod));
    // Those that answer run, and are older than those that do not yet.
    live.sort_by_key(|pod| {
        let runs = phase(pod).as_deref() == Some("Running");
        (!runs, pod.metadata.creation_timestamp.clone())
    });
    let label = |pod: &Pod, key: &str| pod.labels().get(key).cloned();
    let (mut counted, mut others): (Vec<&Pod>, Vec<&Pod>) =
        live.iter().partition(|pod| label(pod, COUNTED).is_some());
    let own = |pod: &Pod| label(pod, "stoic.dev/gateway").as_deref() == Some(of.gateway);
    others.retain(|pod| own(pod));
    // Else one is on its way, or still there.
    let settled = live.iter().filter(|pod| own(pod)).count() == of.pods;
    if of.ready > 0 {
        // A former version's make room for those that serve now.
        let former = |pod: &&Pod| label(pod, "stoic.dev/version").as_deref() != Some(of.version);
        for pod in counted.extract_if(.., |pod| former(pod)) {
            mark(&pods, pod, Value::Null).await?;
        }
        others.retain(|pod| !former(pod));
    }
    let counted = counted.len();
    let replicas = of.wanted.max(counted);

    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let there = deployments.get_opt(of.name).await;
    let there = there.map_err(|error| said(&error))?;
    if there.as_ref().is_some_and(|found| !is_ours(found)) {
        return Err(format!("the Deployment `{}` is somebody else's", of.name));
    }
    if there.is_none() && live.is_empty() {
        return Ok(of.pods == 0);
    }
    let wants = there
        .as_ref()
        .and_then(|d| d.spec.as_ref()?.replicas)
        .and_then(|n| usize::try_from(n).ok());
    let deployment = match there {
        Some(deployment) if wants == Some(replicas) => deployment,
        _ => {
            let whole = body(of.name, replicas, &owners(&live));
            let (parameters, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&whole));
            let applied = deployments.patch(of.name, &parameters, &patch).await;
            applied.map_err(|error| said(&error))?
        }
    };
    let Some(set) = replica_set(client, namespace, of.name, &deployment).await? else {
        return Ok(false);
    };
    let room = set.spec.and_then(|spec| spec.replicas).unwrap_or(0);
    let room = usize::try_from(room).unwrap_or(0);
    let enough = of.wanted.min(of.ready);
    let mut now = counted;
    for pod in others {
        if now >= room.min(enough) {
            break;
        }
        if mark(&pods, pod, of.name.into()).await? {
            now += 1;
        }
    }
    Ok(now >= enough && room >= replicas && settled)
}

/// Has a pod be counted, or not; whether it is there.
async fn mark(pods: &Api<Pod>, pod: &Pod, value: Value) -> Result<bool, String> {
    let label = json!({"metadata": {"labels": {COUNTED: value}}});
    let (name, patch) = (pod.name_any(), Patch::Merge(&label));
    match pods.patch(&name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(true),
        Err(error) if code(&error) == Some(404) => Ok(false),
        Err(error) => Err(said(&error)),
    }
}

/// Takes the Deployment away, where it is there and a gateway's. Its pods stay.
///
/// # Errors
/// The API says no, or is away.
pub(super) async fn remove(client: &Client, namespace: &str, name: &str) -> Result<(), String> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let there = deployments.get_opt(name).await;
    let there = there.map_err(|error| said(&error))?;
    if !there.is_some_and(|found| is_ours(&found)) {
        return Ok(());
    }
    let parameters = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    let gone = |error: &kube::Error| code(error) == Some(404);
    match deployments.delete(name, &parameters).await {
        Err(error) if !gone(&error) => return Err(said(&error)),
        _ => {}
    }
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace);
    match sets.delete(name, &parameters).await {
        Err(error) if !gone(&error) => Err(said(&error)),
        _ => Ok(()),
    }
}

fn is_ours(deployment: &Deployment) -> bool {
    deployment.labels().get(MANAGED_BY).map(String::as_str) == Some("stoic")
}

/// Who owns the pods apart from who counts them: with that, the Deployment goes as well.
fn owners(pods: &[Pod]) -> Vec<OwnerReference> {
    let all = pods.first().map(|pod| pod.owner_references().to_vec());
    let mut all = all.unwrap_or_default();
    all.retain(|owner| owner.controller != Some(true));
    all
}

fn template(name: &str) -> Value {
    json!({
        "metadata": {"labels": {COUNTED: name}},
        "spec": {
            "serviceAccountName": NO_ACCOUNT,
            "containers": [{"name": name, "image": "stoic-makes-the-pods"}],
        },
    })
}

fn body(name: &str, replicas: usize, owners: &[OwnerReference]) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "labels": {MANAGED_BY: "stoic", "stoic.dev/function": name},
            "annotations": {
                "kubernetes.io/description": "Counts the pods of a function, which its gateway makes; for `kubeless function ls`.",
            },
            "ownerReferences": owners,
        },
        "spec": {
            "paused": true,
            "replicas": replicas,
            "selector": {"matchLabels": {COUNTED: name}},
            "template": template(name),
        },
    })
}

/// The ReplicaSet of a Deployment, made where there is none; none where a former one is still there.
async fn replica_set(
    client: &Client,
    namespace: &str,
    name: &str,
    deployment: &Deployment,
) -> Result<Option<ReplicaSet>, String> {
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace);
    let there = sets.get_opt(name).await.map_err(|error| said(&error))?;
    if let Some(set) = there {
        let mut owners = set.owner_references().iter();
        let is_its = owners.any(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref());
        return Ok(is_its.then_some(set));
    }
    let whole = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "labels": {MANAGED_BY: "stoic", COUNTED: name},
            "ownerReferences": [{
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": name,
                "uid": deployment.metadata.uid,
                "controller": true,
            }],
        },
        "spec": {
            "replicas": deployment.spec.as_ref().and_then(|spec| spec.replicas),
            "selector": {"matchLabels": {COUNTED: name}},
            "template": template(name),
        },
    });
    let whole: ReplicaSet = serde_json::from_value(whole).map_err(|error| error.to_string())?;
    match sets.create(&PostParams::default(), &whole).await {
        Ok(made) => Ok(Some(made)),
        Err(error) if code(&error) == Some(409) => Ok(None),
        Err(error) => Err(said(&error)),
    }
}
