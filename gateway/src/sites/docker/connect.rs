//! The way to the engine, and the site's own network on it.

use super::labels;
use crate::config::DockerConfig;
use anyhow::{Context, bail};
use bollard::errors::Error;
use bollard::models::{NetworkCreateRequest, NetworkInspect};
use bollard::{ClientVersion, Docker};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Where the engine's socket usually is.
const USUAL: &str = "unix:///var/run/docker.sock";
/// The oldest API that has what is used here; that of engine 20.10.
const OLDEST: ClientVersion = ClientVersion {
    major_version: 1,
    minor_version: 41,
};

/// What became of the engine's GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gpus {
    /// It can give NVIDIA GPUs to containers.
    Nvidia,
    /// It cannot.
    None,
}

/// An engine that answers.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) docker: Docker,
    /// Its address, for messages.
    pub(super) host: String,
    pub(super) gpus: Gpus,
}

/// Connects, agrees on a version of the API and learns what the engine has.
pub(super) async fn connect(config: &DockerConfig) -> anyhow::Result<Engine> {
    let from_env = || std::env::var("DOCKER_HOST").ok().filter(|h| !h.is_empty());
    let host = config.host.clone().or_else(from_env);
    let host = host.unwrap_or_else(|| USUAL.to_owned());
    let missing = || {
        format!(
            "no Docker engine answers at {host}; start one, or name it in DOCKER_HOST or `docker.host` of the site"
        )
    };
    let docker = Docker::connect_with_host(&host).with_context(missing)?;
    let docker = docker.negotiate_version().await.with_context(missing)?;
    let version = docker.client_version();
    if version < OLDEST {
        bail!("the engine at {host} speaks API {version}; {OLDEST} or later is needed");
    }
    let info = docker.info().await.with_context(missing)?;
    let by_runtime = info
        .runtimes
        .is_some_and(|runtimes| runtimes.contains_key("nvidia"));
    let by_device = info.discovered_devices.is_some_and(|devices| {
        let is_nvidia = |id: &String| id.starts_with("nvidia.com/gpu");
        devices
            .iter()
            .any(|device| device.id.as_ref().is_some_and(is_nvidia))
    });
    Ok(Engine {
        docker,
        host,
        gpus: if by_runtime || by_device {
            Gpus::Nvidia
        } else {
            Gpus::None
        },
    })
}

/// A bridge network of the site's own.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) name: String,
    /// This machine's address in it.
    pub(super) gateway: Ipv4Addr,
    /// How it was made, so that it can be made again as it was.
    request: NetworkCreateRequest,
}

impl Network {
    /// Finds the site's network, or makes it. Pods in it reach this machine and the world, and not
    /// each other.
    pub(super) async fn open(engine: &Engine, gateway: &str, site: &str) -> anyhow::Result<Self> {
        let name = format!("stoic-{gateway}-{site}");
        let labels = [(labels::GATEWAY, gateway), (labels::SITE, site)];
        let no_chatter = ("com.docker.network.bridge.enable_icc", "false");
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let mut request = NetworkCreateRequest {
            name: name.clone(),
            driver: Some("bridge".to_owned()),
            labels: Some(labels.map(owned).into()),
            options: Some(HashMap::from([owned(no_chatter)])),
            ..NetworkCreateRequest::default()
        };
        let found = match inspect(&engine.docker, &name).await? {
            Some(found) => found,
            None => {
                let made = engine.docker.create_network(request.clone()).await;
                made.with_context(|| format!("cannot make the network {name}"))?;
                inspect(&engine.docker, &name)
                    .await?
                    .with_context(|| format!("the network {name} was removed"))?
            }
        };
        request.ipam.clone_from(&found.ipam);
        let configs = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let address = configs
            .into_iter()
            .find_map(|config| config.gateway?.split('/').next()?.parse::<Ipv4Addr>().ok())
            .with_context(|| format!("the network {name} has no IPv4 gateway"))?;
        // Pods are reached at their own addresses, and reach the site's store at this one.
        TcpListener::bind(SocketAddr::from((address, 0))).with_context(|| {
            format!(
                "the engine at {} is on another machine than the gateway, or in another network (its bridge {address} is not here): start the gateway beside the engine; in a container, with --network host",
                engine.host
            )
        })?;
        Ok(Self {
            name,
            gateway: address,
            request,
        })
    }

    /// Makes it again as it was, after somebody removed it.
    pub(super) async fn restore(&self, docker: &Docker) -> Result<(), Error> {
        match docker.create_network(self.request.clone()).await {
            Ok(_) => Ok(()),
            // Another start was first.
            Err(error) if status(&error) == Some(409) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

async fn inspect(docker: &Docker, name: &str) -> anyhow::Result<Option<NetworkInspect>> {
    match docker.inspect_network(name, None).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("the network {name}")),
    }
}

/// The status that the engine answered, if it answered.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the engine said, without the words around it.
pub(super) fn said(error: &Error) -> String {
    let text = match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::DockerStreamError { error } => error.clone(),
        other => other.to_string(),
    };
    text.trim().chars().take(300).collect()
}
