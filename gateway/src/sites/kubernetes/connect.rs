//! The way to the cluster, what this machine is called there, and who owns what is made.

use super::answer::{NotDone, answer};
use crate::config::{KubernetesConfig, PodReach};
use anyhow::{Context, bail};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;
use tracing::{debug, warn};

/// Longest wait for a connection to the API server.
const CONNECT: Duration = Duration::from_secs(5);
/// A watch that tells nothing for so long has lost its server: it is ended there sooner.
const SILENCE: Duration = Duration::from_secs(75);
/// Set in every pod of a cluster.
const INSIDE: &str = "KUBERNETES_SERVICE_HOST";
/// Where a pod finds the token of its account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// A cluster that answers.
pub(super) struct Cluster {
    pub(super) client: Client,
    /// For watches, whose connections end or tell something at least every so often.
    pub(super) watching: Client,
    /// Its API server, for messages.
    pub(super) server: String,
    pub(super) namespace: String,
    /// Address of this machine at which pods reach it.
    pub(super) host: IpAddr,
    /// How pods are reached, where it is known from the start.
    pub(super) reach: PodReach,
    pub(super) owner: Option<OwnerReference>,
}

/// Finds the cluster, and asks it whether the gateway may see the pods of its namespace.
pub(super) async fn connect(wanted: &KubernetesConfig) -> anyhow::Result<Cluster> {
    let (mut config, inside) = find(wanted).await?;
    config.connect_timeout = Some(CONNECT);
    let server = config.cluster_url.to_string();
    let namespace = wanted
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let mut patient = config.clone();
    patient.read_timeout = Some(SILENCE);
    patient.reset_reader_on_write = true;
    let watching = Client::try_from(patient).with_context(|| format!("the API server {server}"))?;
    let client = Client::try_from(config).with_context(|| format!("the API server {server}"))?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    if let Err(error) = answer(pods.list(&ListParams::default().limit(1))).await {
        match error.status {
            None => bail!(
                "no API server answers at {server} ({error}); name another cluster in KUBECONFIG, or with `kubernetes.kubeconfig` and `kubernetes.context` of the site"
            ),
            Some(401 | 403) => bail!(
                "the gateway's account may not list pods in namespace {namespace} of {server}: {error}"
            ),
            Some(_) => bail!("the API server {server}: {error}"),
        }
    }
    // Whoever may not look at namespaces learns it when a pod is made.
    let spaces: Api<Namespace> = Api::all(client.clone());
    if let Err(error) = answer(spaces.get(&namespace)).await
        && error.is_absent()
    {
        bail!(
            "{server} has no namespace {namespace}; make it with `kubectl create namespace {namespace}`, or name another as `kubernetes.namespace` of the site"
        );
    }
    let host = match wanted.host {
        Some(host) => host,
        None => own_address(&client, &server).await,
    };
    TcpListener::bind(SocketAddr::from((host, 0))).with_context(|| {
        format!("kubernetes.host: {host}, where pods are to reach the site's store, is no address of this machine")
    })?;
    let reach = match wanted.reach {
        PodReach::Auto if inside => PodReach::Ip,
        reach => reach,
    };
    let owner = match inside {
        true => owner(&client, &namespace, wanted.pods_go_with_gateway).await,
        false => None,
    };
    Ok(Cluster {
        client,
        watching,
        server,
        namespace,
        host,
        reach,
        owner,
    })
}

/// How the cluster is reached, and whether the gateway is inside it.
async fn find(wanted: &KubernetesConfig) -> anyhow::Result<(Config, bool)> {
    let context = KubeConfigOptions {
        context: wanted.context.clone(),
        ..KubeConfigOptions::default()
    };
    if let Some(file) = &wanted.kubeconfig {
        let read = Kubeconfig::read_from(file)?;
        let config = Config::from_custom_kubeconfig(read, &context);
        let config = config.await;
        return Ok((config.with_context(|| file.display().to_string())?, false));
    }
    let named = wanted.context.is_some() || std::env::var_os("KUBECONFIG").is_some();
    let inside = std::env::var_os(INSIDE).is_some() && std::path::Path::new(TOKEN).exists();
    if inside && !named {
        let config = Config::incluster().context("the pod's own account")?;
        return Ok((config, true));
    }
    let config = Config::from_kubeconfig(&context).await.context(
        "no cluster is known: name one in KUBECONFIG, or with `kubernetes.kubeconfig` of the site",
    )?;
    Ok((config, false))
}

/// The address of this machine from which the API server is reached, or, where that is this machine
/// itself, a node; loopback where neither can be told.
async fn own_address(client: &Client, server: &str) -> IpAddr {
    if let Some(address) = towards_server(server).await {
        return address;
    }
    let nodes: Api<Node> = Api::all(client.clone());
    let listed = answer(nodes.list(&ListParams::default().limit(10))).await;
    let addresses = listed.into_iter().flat_map(|nodes| nodes.items);
    let mut inner = addresses.flat_map(|node| {
        let all = node.status.and_then(|status| status.addresses);
        all.into_iter()
            .flatten()
            .filter(|address| address.type_ == "InternalIP")
            .filter_map(|address| address.address.parse().ok())
    });
    if let Some(address) = inner.find_map(|ip: IpAddr| towards(SocketAddr::from((ip, 10250)))) {
        return address;
    }
    warn!(
        "no address of this machine is known at which the cluster's pods reach it: batches need one as `kubernetes.host` of the site, or a `store` outside"
    );
    Ipv4Addr::LOCALHOST.into()
}

async fn towards_server(server: &str) -> Option<IpAddr> {
    let uri: http::Uri = server.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(443);
    let mut found = tokio::net::lookup_host((host, port)).await.ok()?;
    found.find_map(towards)
}

/// The address from which another machine is reached; nothing is sent.
fn towards(other: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match other {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(other).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// What the gateway's own pod belongs to for good: its Deployment or StatefulSet, so that pods of
/// functions outlive the gateway's pod and not the gateway. A pod of nobody's is that itself.
async fn owner(client: &Client, namespace: &str, itself: bool) -> Option<OwnerReference> {
    let folder = std::path::Path::new(TOKEN).parent()?;
    let own_space = std::fs::read_to_string(folder.join("namespace")).ok()?;
    if own_space.trim() != namespace {
        debug!(
            "the gateway's pod is in another namespace than its functions: labels alone say whose they are"
        );
        return None;
    }
    let unknown = |error: NotDone| debug!("what owns the gateway's pod cannot be told: {error}");
    // The name of a pod, unless its manifest says otherwise.
    let name = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME"));
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = answer(pods.get(&name.ok()?)).await.map_err(unknown).ok()?;
    let controller = |all: Option<Vec<OwnerReference>>| {
        let mut all = all.into_iter().flatten();
        all.find(|owner| owner.controller == Some(true))
    };
    let made_by = controller(pod.metadata.owner_references).filter(|_| !itself);
    let found = match made_by {
        None => OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.metadata.name?,
            uid: pod.metadata.uid?,
            ..OwnerReference::default()
        },
        Some(set) if set.kind == "ReplicaSet" => {
            let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace);
            let set = answer(sets.get(&set.name)).await.map_err(unknown).ok()?;
            controller(set.metadata.owner_references)?
        }
        Some(other) => other,
    };
    Some(OwnerReference {
        controller: None,
        block_owner_deletion: None,
        ..found
    })
}
