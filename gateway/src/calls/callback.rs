//! Tells callback URLs how their calls ended: as durable as the calls, with the same back-off.
//!
//! A callback is signed: `X-Stoic-Signature: sha256=HEX` is the HMAC-SHA256 of the timestamp in
//! `X-Stoic-Timestamp`, a dot and the body, under the text of the file `callback-secret` in the data
//! folder. The body is read twice where it is large, and never held in memory.

use super::record::Telling;
use super::worker::{Payload, backoff, payload};
use super::{names, table};
use crate::failure::innermost;
use crate::gateway::Gateway;
use crate::hex::hex;
use crate::scheduler::unix_now;
use anyhow::Context;
use futures_util::StreamExt;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyDataStream, BodyExt};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ring::hmac;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tracing::{error, warn};

/// Callbacks that are told at once.
const AT_ONCE: usize = 16;
/// Wait after the database could not be read.
const REFUSED: f64 = 1.0;

type Caller = Client<HttpsConnector<HttpConnector>, Payload>;

/// The secret of the signatures: made at the first start, readable by its owner alone.
pub(super) fn secret(path: &Path) -> anyhow::Result<hmac::Key> {
    let shown = || path.display().to_string();
    let made = || -> std::io::Result<()> {
        // Whole or not there: a start that is cut off leaves no half of a secret.
        let draft = path.with_extension("new");
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(hex(&rand::random::<[u8; 32]>()).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        path.parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            made().with_context(shown)?;
            std::fs::read_to_string(path).with_context(shown)?
        }
        read => read.with_context(shown)?,
    };
    let text = text.trim();
    anyhow::ensure!(!text.is_empty(), "{} is empty", path.display());
    Ok(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
}

fn caller() -> anyhow::Result<Caller> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let provider = rustls::crypto::ring::default_provider;
    let tls = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider())
        .or_else(|_| HttpsConnectorBuilder::new().with_provider_and_webpki_roots(provider()))?;
    let connector = tls.https_or_http().enable_http1().wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// Tells callbacks when they are due, until the gateway stops.
pub(super) async fn run(gateway: Arc<Gateway>, key: hmac::Key) {
    let calls = &gateway.calls;
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut client: Option<Caller> = None;
    loop {
        if calls.stopped() {
            return;
        }
        let woken = calls.tell.notified();
        let now = (unix_now() * 1e3) as u64;
        let first = calls.telling.lock().first().cloned();
        match first {
            None => woken.await,
            Some((due, _)) if due > now => {
                let _ = tokio::time::timeout(Duration::from_millis(due - now), woken).await;
            }
            Some(first) => {
                calls.telling.lock().remove(&first);
                let id = first.1;
                let telling = match table::telling(&gateway.history, id.clone()).await {
                    Ok(Some(telling)) => telling,
                    // Nobody asked to be told.
                    Ok(None) => continue,
                    Err(error) => {
                        error!(call = %id, "a callback cannot be read: {error}");
                        calls.tell_at(id, unix_now() + REFUSED);
                        continue;
                    }
                };
                // Reading the system's certificates takes a while: only where someone is to be told.
                let caller = match client.take().map_or_else(caller, Ok) {
                    Ok(caller) => client.insert(caller).clone(),
                    Err(error) => return error!("callbacks are not told: {error:#}"),
                };
                let Ok(permit) = Arc::clone(&at_once).acquire_owned().await else {
                    return;
                };
                let (gateway, key) = (Arc::clone(&gateway), key.clone());
                tokio::spawn(async move {
                    one(&gateway, &caller, &key, telling).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn one(gateway: &Gateway, client: &Caller, key: &hmac::Key, telling: Telling) {
    let config = &gateway.config.calls;
    let sent = tokio::time::timeout(
        config.callback_timeout,
        post(gateway, client, key, &telling),
    );
    let error = match sent.await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(_) => Some(format!(
            "no answer within {}",
            humantime::format_duration(config.callback_timeout)
        )),
    };
    let tries = telling.attempts + 1;
    let wait = backoff(config.backoff, config.backoff_max, tries);
    let due = unix_now() + wait.as_secs_f64();
    let state = match &error {
        None => "delivered",
        Some(error) if tries >= config.callback_attempts => {
            warn!(call = %telling.id, "its callback was given up: {error}");
            "given_up"
        }
        Some(_) => "due",
    };
    let id = telling.id;
    if let Err(error) = table::told(&gateway.history, id.clone(), state, due, error).await {
        // It is told once more then, rather than not at all.
        error!(call = %id, "a callback cannot be written down: {error}");
        return gateway.calls.tell_at(id, due);
    }
    if state == "due" {
        gateway.calls.tell_at(id, due);
    }
}

async fn post(
    gateway: &Gateway,
    client: &Caller,
    key: &hmac::Key,
    telling: &Telling,
) -> Result<(), String> {
    let outcome = &telling.outcome;
    let timestamp = (unix_now() as u64).to_string();
    let mut sum = hmac::Context::with_key(key);
    sum.update(timestamp.as_bytes());
    sum.update(b".");
    let mut pieces = BodyDataStream::new(payload(gateway, &outcome.body).await?);
    while let Some(piece) = pieces.next().await {
        sum.update(&piece.map_err(|e| e.to_string())?);
    }
    let signature = format!("sha256={}", hex(sum.sign().as_ref()));

    let mut request = Request::new(payload(gateway, &outcome.body).await?);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = telling.url.parse().map_err(|e| format!("{e}"))?;
    let named: Vec<(String, String)> = serde_json::from_str(&outcome.headers).unwrap_or_default();
    let content_type = named
        .into_iter()
        .find_map(|(name, value)| (name == "content-type").then_some(value));
    // A call that ended without an answer is told as what a synchronous caller would have got.
    let status = outcome.status.unwrap_or(504);
    let all = request.headers_mut();
    for (name, value) in [
        (names::CALL_ID, telling.id.clone()),
        (names::FUNCTION_NAME, telling.function.clone()),
        (names::FUNCTION_STATUS, status.to_string()),
        (names::DURATION, format!("{:.6}", telling.seconds)),
        (names::STATE, telling.state.clone()),
        (names::TIMESTAMP, timestamp),
        (names::SIGNATURE, signature),
        (
            header::CONTENT_TYPE.as_str(),
            content_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
        ),
    ] {
        if let (Ok(name), Ok(value)) = (
            http::HeaderName::try_from(name),
            HeaderValue::try_from(value),
        ) {
            all.insert(name, value);
        }
    }
    all.insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(outcome.body.bytes),
    );
    let answer = client.request(request).await.map_err(|e| innermost(&e))?;
    let status = answer.status();
    // Read, so that the connection serves the next one; what it says does not matter.
    let _ = http_body_util::Limited::new(answer.into_body(), 64 << 10)
        .collect()
        .await;
    if status.is_success() {
        return Ok(());
    }
    Err(format!("it answered {status}"))
}
