//! When a pod is ready, and how it is reached: by its address where this machine can, else through the
//! API server. Outside of a cluster the first pod shows which.

use super::Inner;
use super::forward::{self, Forward};
use super::status::Seen;
use crate::config::PodReach;
use crate::link;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use stoic_protocol::headers;
use tokio::sync::watch;
use tracing::info;

/// A pod whose container runs and that does not answer at its address within this time may be out of
/// reach: the API server is tried as well.
const HEAD_START: Duration = Duration::from_secs(1);
/// Waits between tries, which grow: by address, and through the API server, where each costs it a
/// connection.
const BY_ADDRESS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
const FORWARDED: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// A pod that answers.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) address: SocketAddr,
    /// What it told of its start.
    pub(super) told: String,
    pub(super) forward: Option<Forward>,
}

impl Inner {
    /// Returns when the health path of a pod answers 200. Tried tightly: no grid is visible in
    /// deployment times but that of the node's own reports.
    pub(super) async fn reached(
        &self,
        name: &str,
        ip: IpAddr,
        port: u16,
        health: &str,
        mut seen: watch::Receiver<Seen>,
    ) -> std::io::Result<Reached> {
        let address = SocketAddr::from((ip, port));
        let by_address = async {
            Ok(Reached {
                address,
                told: until_healthy(address, health, BY_ADDRESS).await,
                forward: None,
            })
        };
        let forwarded = async {
            let forward = forward::open(self.pods.clone(), name.to_owned(), port).await?;
            let address = forward.address;
            Ok(Reached {
                address,
                told: until_healthy(address, health, FORWARDED).await,
                forward: Some(forward),
            })
        };
        let known = *self.reach.lock();
        match known {
            PodReach::Ip => return by_address.await,
            PodReach::PortForward => return forwarded.await,
            PodReach::Auto => {}
        }
        let later = async {
            let _ = seen.wait_for(|seen| seen.running).await;
            tokio::time::sleep(HEAD_START).await;
            forwarded.await
        };
        tokio::select! {
            reached = by_address => {
                *self.reach.lock() = PodReach::Ip;
                reached
            }
            reached = later => {
                let mut known = self.reach.lock();
                if reached.is_ok() && *known == PodReach::Auto {
                    info!(site = %self.name, "this machine does not reach the cluster's pods: they are reached through the API server");
                    *known = PodReach::PortForward;
                }
                reached
            }
        }
    }
}

async fn until_healthy(
    address: SocketAddr,
    health: &str,
    (shortest, longest): (Duration, Duration),
) -> String {
    let mut pause = shortest;
    loop {
        if let Some(answer) = link::health(address, health).await {
            let told = answer.get(headers::START_STAGES);
            let told = told.and_then(|value| value.to_str().ok());
            return told.unwrap_or_default().to_owned();
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(longest);
    }
}
