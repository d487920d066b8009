//! The object stores of the sites (paper: walrus at the edge, Ceph in the cloud): embedded ones or any
//! S3, all through one client.
//!
//! Packages arrive in the store of the home site; when the work goes elsewhere they are copied over the
//! link. Pods see presigned URLs only.

use crate::config::{Config, OutsideStoreConfig};
use crate::link::EmulatedLink;
use anyhow::{Context, bail};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stoic_store::{Credentials, Embedded, EmbeddedOptions, Store, StoreError, StoreOptions};
use tracing::{info, warn};

/// How long a pod may use a URL: as long as the longest work, and then some.
pub const URL_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Bucket of the embedded stores.
const BUCKET: &str = "stoic";
/// Prefix of what other gateways keep in the home store.
pub const PEERS: &str = "peers/";
/// Prefixes of what expires.
const EXPIRING: [&str; 4] = [
    "packages/",
    "results/",
    crate::link::PROBES,
    "peers/passing/",
];

/// The stores, by site.
#[derive(Debug)]
pub struct Stores {
    home: String,
    by_site: HashMap<String, Store>,
    embedded: Vec<Embedded>,
}

/// Key of the package of an invocation.
#[must_use]
pub fn package_key(invocation: &str) -> String {
    format!("packages/{invocation}")
}

/// Key of the result of an invocation.
#[must_use]
pub fn result_key(invocation: &str) -> String {
    format!("results/{invocation}")
}

/// Key of a model.
#[must_use]
pub fn model_key(function: &str, version: &str, invocation: &str) -> String {
    format!("models/{function}/{version}-{invocation}")
}

impl Stores {
    /// Opens the store of every site; embedded ones listen on a free port where the pods of their site
    /// reach them: `hosts`, by site, else loopback. Those of `elsewhere` are reached otherwise.
    ///
    /// # Errors
    /// A folder cannot be written, or an outside store cannot be reached; names the site.
    pub async fn open(
        config: &Config,
        folder: &Path,
        credentials: &Credentials,
        links: &HashMap<String, Arc<EmulatedLink>>,
        hosts: &HashMap<String, IpAddr>,
        mut elsewhere: HashMap<String, Store>,
    ) -> anyhow::Result<Self> {
        let mut by_site = HashMap::new();
        let mut embedded = Vec::new();
        for (site, site_config) in &config.sites {
            if let Some(store) = elsewhere.remove(site) {
                by_site.insert(site.clone(), store);
                continue;
            }
            let store = match &site_config.store {
                Some(outside) => outside_store(outside)
                    .await
                    .with_context(|| format!("sites.{site}.store"))?,
                None => {
                    let host = hosts.get(site).copied();
                    let host = host.unwrap_or(Ipv4Addr::LOCALHOST.into());
                    let listen = SocketAddr::from((host, 0));
                    let mut options =
                        EmbeddedOptions::new(folder.join(site), listen, credentials.clone());
                    options.max_object_bytes =
                        options.max_object_bytes.max(config.body_limit.as_u64());
                    let server = Embedded::start(options)
                        .await
                        .with_context(|| format!("the embedded store of site {site}"))?;
                    let mut options =
                        StoreOptions::embedded(server.endpoint(), BUCKET, credentials.clone());
                    if let Some(link) = links.get(site) {
                        // The gateway reaches it over the link; the site's own pods directly.
                        let relay = link.open(server.address()).await?;
                        options.endpoint = Some(format!("http://{relay}"));
                        options.presign_endpoint = Some(server.endpoint());
                    }
                    embedded.push(server);
                    Store::connect(options)
                        .await
                        .with_context(|| format!("the embedded store of site {site}"))?
                }
            };
            by_site.insert(site.clone(), store);
        }
        Ok(Self {
            home: config.home_site().to_owned(),
            by_site,
            embedded,
        })
    }

    /// The store where packages arrive and results end.
    ///
    /// # Errors
    /// Never after a successful start; an error instead of a panic all the same.
    pub fn home(&self) -> Result<&Store, StoreError> {
        self.site(&self.home)
    }

    /// The store of a site.
    ///
    /// # Errors
    /// There is no such site.
    pub fn site(&self, site: &str) -> Result<&Store, StoreError> {
        self.by_site.get(site).ok_or_else(|| StoreError::NotFound {
            what: format!("the store of site {site}"),
        })
    }

    /// Every store with its site.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Store)> {
        self.by_site
            .iter()
            .map(|(site, store)| (site.as_str(), store))
    }

    /// Removes packages and results older than this.
    pub async fn expire(&self, age: Duration) {
        for (site, store) in &self.by_site {
            for prefix in EXPIRING {
                match store.expire(prefix, age).await {
                    Ok(0) => {}
                    Ok(count) => info!(site, prefix, count, "expired objects removed"),
                    Err(error) => warn!(site, prefix, "cannot remove expired objects: {error}"),
                }
            }
        }
    }

    /// Stops the embedded stores; running requests may finish for a moment.
    pub async fn shutdown(self) {
        for server in self.embedded {
            server.shutdown().await;
        }
    }
}

async fn outside_store(config: &OutsideStoreConfig) -> anyhow::Result<Store> {
    let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(access), Some(secret)) = (read(&config.access_key_env), read(&config.secret_key_env))
    else {
        bail!(
            "set {} and {} in the environment to the store's credentials",
            config.access_key_env,
            config.secret_key_env
        );
    };
    let options = StoreOptions {
        endpoint: config.endpoint.clone(),
        region: config.region.clone(),
        path_style: config.endpoint.is_some(),
        ..StoreOptions::embedded(
            String::new(),
            config.bucket.clone(),
            Credentials::new(access, secret),
        )
    };
    Ok(Store::connect(options).await?)
}
