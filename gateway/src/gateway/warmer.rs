//! What the pods of every pool are asked before they serve.

use super::Gateway;
use crate::function::{PublishedModel, Warmup};
use crate::link;
use crate::pods::{Pod, Sample, Warmer};
use crate::sites::SiteFuture;
use crate::storage::URL_LIFE;
use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use std::net::SocketAddr;
use std::time::Duration;
use stoic_protocol::{ModelRef, ZIP_MEDIA_TYPE, paths};

/// Longest time a pod may take to load a model.
const WARM_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest sample that is kept for the standbys of a function.
const LARGEST_KEPT_SAMPLE: usize = 4 << 20;
/// Largest answer to a first request.
const LARGEST_FIRST_ANSWER: usize = 64 << 20;

/// Has pods load published models from the store of their own site, and answer a first request.
#[derive(Debug)]
pub(super) struct ModelWarmer {
    pub(super) gateway: std::sync::Weak<Gateway>,
}

impl Warmer for ModelWarmer {
    fn warm<'a>(
        &'a self,
        site: &'a str,
        pod: &'a Pod,
        model: &'a PublishedModel,
    ) -> SiteFuture<'a, anyhow::Result<()>> {
        Box::pin(async move {
            let Some(gateway) = self.gateway.upgrade() else {
                return Ok(());
            };
            let store = gateway.stores.site(site)?;
            // One that could not be reached when the model was published has yet to get it.
            if gateway.is_gateway(site) && store.head(&model.key).await?.is_none() {
                let home = gateway.stores.home()?;
                home.copy_to(&model.key, store, None).await?;
            }
            let url = store.presign_get(&model.key, URL_LIFE).await?;
            let told = ModelRef {
                version: model.version.clone(),
                url,
            };
            let body = serde_json::to_vec(&told)?;
            let load = link::exchange(
                pod.reach,
                Method::PUT,
                paths::MODEL,
                Some("application/json"),
                Bytes::from(body),
                1 << 20,
            );
            let answer = tokio::time::timeout(WARM_TIMEOUT, load).await??;
            match answer.status().as_u16() {
                // 404: a function that takes no models.
                404 => Ok(()),
                200..=299 => {
                    if let Some(site) = gateway.site(site) {
                        site.took_model(&pod.id, told).await;
                    }
                    Ok(())
                }
                status => bail!(
                    "the pod answered {status}: {}",
                    String::from_utf8_lossy(answer.body())
                        .chars()
                        .take(300)
                        .collect::<String>()
                ),
            }
        })
    }

    fn first<'a>(
        &'a self,
        reach: SocketAddr,
        warmup: &'a Warmup,
    ) -> SiteFuture<'a, anyhow::Result<()>> {
        Box::pin(async move {
            let method = Method::from_bytes(warmup.method().as_bytes())?;
            let body = Bytes::from(warmup.body.clone().unwrap_or_default());
            let content_type = warmup.content_type.as_deref();
            let status = ask(reach, method, &warmup.path, content_type, body).await?;
            if status.is_client_error() || status.is_server_error() {
                bail!("it answered {status}");
            }
            Ok(())
        })
    }

    fn sample(&self, reach: SocketAddr) -> SiteFuture<'_, anyhow::Result<Option<Sample>>> {
        Box::pin(sample(reach, 1, LARGEST_KEPT_SAMPLE))
    }

    fn settle<'a>(
        &'a self,
        reach: SocketAddr,
        sample: &'a Sample,
    ) -> SiteFuture<'a, anyhow::Result<()>> {
        Box::pin(async move {
            let (content_type, body) = (Some(&*sample.content_type), sample.bytes.clone());
            let status = ask(reach, Method::POST, "/?bootstrap=true", content_type, body).await?;
            if !status.is_success() {
                bail!("it answered {status}");
            }
            Ok(())
        })
    }
}

/// Sends a pod a request of which only the status matters.
async fn ask(
    reach: SocketAddr,
    method: Method,
    path: &str,
    content_type: Option<&str>,
    body: Bytes,
) -> anyhow::Result<StatusCode> {
    let asked = link::exchange(
        reach,
        method,
        path,
        content_type,
        body,
        LARGEST_FIRST_ANSWER,
    );
    Ok(asked.await?.status())
}

/// Asks a pod for a package of so many representative items, of at most `limit` bytes; none where its
/// function has no sample.
///
/// # Errors
/// The pod cannot be asked, or its sample is larger.
pub async fn sample(reach: SocketAddr, items: u32, limit: usize) -> anyhow::Result<Option<Sample>> {
    let path = format!("{}?items={items}", paths::SAMPLE);
    let asked = link::exchange(reach, Method::GET, &path, None, Bytes::new(), limit);
    let answer = asked.await.context("asking for a sample")?;
    if !answer.status().is_success() {
        return Ok(None);
    }
    let content_type = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or(ZIP_MEDIA_TYPE)
        .to_owned();
    Ok(Some(Sample {
        content_type,
        bytes: answer.into_body(),
    }))
}
