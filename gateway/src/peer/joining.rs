//! How the runtimes of a peer become runtimes here.

use super::client::{Peer, PeerOptions};
use super::protocol::RuntimeOffer;
use crate::config::{BackendKind, Config, GatewayConfig, InvalidConfig, RuntimeConfig};
use crate::history::History;
use crate::sites::{GatewaySite, There};
use crate::tls::ClientFiles;
use anyhow::bail;
use std::collections::HashMap;
use std::sync::Arc;
use tracing::warn;

/// Meets the peers of all sites that are gateways. Where none of a site's runtimes are configured, the
/// peer's are taken, as `SITE.RUNTIME`; what it had when it was met last is remembered, so that it need
/// not answer when this gateway starts.
///
/// # Errors
/// A file is wrong, or a peer that was never met does not answer and no runtime of its is configured.
pub async fn join_peers(
    config: &mut Config,
    history: &History,
) -> anyhow::Result<HashMap<String, (Arc<Peer>, Arc<GatewaySite>)>> {
    let mut joined = HashMap::new();
    let sites: Vec<(String, GatewayConfig)> = config
        .sites
        .iter()
        .filter(|(_, site)| site.backend == BackendKind::Gateway)
        .map(|(name, site)| (name.clone(), site.gateway.clone().unwrap_or_default()))
        .collect();
    for (site, gateway) in sites {
        let peer = Peer::new(&options(&gateway))
            .map_err(|error| InvalidConfig(format!("sites.{site}.gateway: {error}")))?;
        if gateway.shows_its_token() {
            let url = &gateway.url;
            warn!(%site, %url, "the token goes there as it is, and whoever listens on the way has it: use https");
        }
        let key = format!("peer-{site}");
        let hello = match peer.introduce().await {
            Ok(hello) => {
                let text = serde_json::to_string(&hello)?;
                history.set_setting(&key, text).await?;
                Some(hello)
            }
            Err(error) => {
                let remembered = history.get_setting(&key).await?;
                let remembered = remembered.and_then(|text| serde_json::from_str(&text).ok());
                if remembered.is_none() && config.runtimes_at(&site).next().is_none() {
                    bail!(
                        "site {site}: {error}; its runtimes are not known yet: start when it answers, or configure some with `site = \"{site}\"`"
                    );
                }
                warn!(%site, "{error}");
                remembered
            }
        };
        let offers = hello.as_ref().map_or(&[][..], |hello| &hello.runtimes);
        let there = runtimes(config, &site, offers);
        if there.is_empty() {
            bail!(
                "site {site}: the gateway at {} has no runtimes that others may use",
                gateway.url
            );
        }
        let made = GatewaySite::new(Arc::clone(&peer), there);
        joined.insert(site, (peer, made));
    }
    Ok(joined)
}

fn options(gateway: &GatewayConfig) -> PeerOptions {
    PeerOptions {
        url: gateway.url.clone(),
        token_file: gateway.token_file.clone(),
        tls: ClientFiles {
            ca: gateway.ca.clone(),
            identity: gateway.client_cert.clone().zip(gateway.client_key.clone()),
        },
    }
}

/// The runtimes of a site, by what they are at the peer: those that are configured, else all that the
/// peer offers.
fn runtimes(config: &mut Config, site: &str, offers: &[RuntimeOffer]) -> HashMap<String, There> {
    let offer = |name: &str| offers.iter().find(|offer| offer.name == name);
    let backend = |name: &str| offer(name).map(|offer| offer.backend.clone());
    let mut configured: HashMap<String, There> = HashMap::new();
    for (name, runtime) in &mut config.runtimes {
        if runtime.site != site {
            continue;
        }
        let there = runtime.peer_runtime.clone().unwrap_or_else(|| name.clone());
        if !offers.is_empty() && offer(&there).is_none() {
            let known: Vec<&str> = offers.iter().map(|offer| offer.name.as_str()).collect();
            warn!(
                runtime = %name,
                "the gateway of site {site} has no runtime `{there}`; it has: {}",
                known.join(", ")
            );
        }
        runtime.emulated_deployment = offer(&there).is_some_and(|offer| offer.emulated);
        configured.insert(
            name.clone(),
            There {
                backend: backend(&there),
                name: there,
            },
        );
    }
    if !configured.is_empty() {
        return configured;
    }
    let last = config.runtimes.values().map(|runtime| runtime.order).max();
    let first = last.unwrap_or(0) + 1;
    for (offer, order) in offers.iter().zip(first..) {
        let name = format!("{site}.{}", offer.name);
        config.runtimes.insert(
            name.clone(),
            RuntimeConfig {
                site: site.to_owned(),
                threads: offer.threads.max(1),
                precision: offer.precision.clone(),
                gpus: offer.gpus,
                order,
                price: offer.price,
                peer_runtime: Some(offer.name.clone()),
                emulated_deployment: offer.emulated,
            },
        );
        configured.insert(
            name,
            There {
                name: offer.name.clone(),
                backend: Some(offer.backend.clone()),
            },
        );
    }
    configured
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Hello;

    fn offers() -> Vec<RuntimeOffer> {
        let hello: Hello = serde_json::from_str(
            r#"{"protocols": [1, 1], "runtimes": [
                {"name": "cpu", "backend": "process", "threads": 3, "precision": "auto", "gpus": 0},
                {"name": "gpu1", "backend": "docker", "threads": 3, "precision": "auto", "gpus": 1,
                 "emulated": true, "price": 2.0, "something": "newer"}]}"#,
        )
        .expect("a hello");
        hello.runtimes
    }

    const SITE: &str =
        "[sites.edge]\n[sites.far]\nbackend = \"gateway\"\ngateway = { url = \"https://h:1\" }\n";

    #[test]
    fn the_runtimes_of_a_peer_become_runtimes_here_where_none_are_configured() {
        let mut config = Config::parse(SITE).expect("valid");
        let there = runtimes(&mut config, "far", &offers());
        let names: Vec<&str> = config.runtimes_in_order().iter().map(|(n, _)| *n).collect();
        assert_eq!(names, ["edge", "far.cpu", "far.gpu1"]);
        assert_eq!(there["far.gpu1"].name, "gpu1");
        let gpu = &config.runtimes["far.gpu1"];
        assert_eq!(
            (gpu.gpus, gpu.price, gpu.emulated_deployment),
            (1, Some(2.0), true)
        );
        config.validate().expect("still valid");
    }

    #[test]
    fn configured_runtimes_stand_and_may_have_another_name_there() {
        let text = format!(
            "{SITE}[runtimes.edge]\nsite = \"edge\"\n[runtimes.gpu]\nsite = \"far\"\norder = 1\npeer_runtime = \"gpu1\"\n"
        );
        let mut config = Config::parse(&text).expect("valid");
        let there = runtimes(&mut config, "far", &offers());
        assert_eq!(there.len(), 1);
        assert_eq!(there["gpu"].name, "gpu1");
        assert_eq!(there["gpu"].backend.as_deref(), Some("docker"));
        assert!(config.runtimes["gpu"].emulated_deployment);
    }
}
