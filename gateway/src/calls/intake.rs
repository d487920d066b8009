//! How a call comes in: its body stored, its row committed, and only then is it accepted.

use super::record::{NewCall, Stored};
use super::table::{self, Accepted};
use super::{INLINE, OBJECTS, names, remove};
use crate::failure::Failure;
use crate::function::Input;
use crate::gateway::{Gateway, new_id};
use crate::hex::hex;
use crate::runnable::Deployed;
use crate::scheduler::unix_now;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, Uri, header, request};
use parking_lot::Mutex;
use ring::digest;
use std::sync::Arc;
use stoic_protocol::{NDJSON_MEDIA_TYPE, headers};

/// Longest idempotency key and callback URL.
const KEY_LIMIT: usize = 255;
const URL_LIMIT: usize = 2048;

/// What was accepted.
#[derive(Debug)]
pub struct Intake {
    /// Identity of the call.
    pub id: String,
    /// Whether the request was known already, by its idempotency key.
    pub known: bool,
}

/// Accepts a call whose head was admitted as that of a synchronous invocation.
///
/// # Errors
/// The headers are wrong, the body is too large or breaks off, too many calls wait, the idempotency key
/// stands for another request, or the disk says no. Nothing is left behind then.
pub async fn accept<S, E>(
    gateway: &Gateway,
    deployed: &Deployed,
    head: &request::Parts,
    path: &str,
    body: S,
    length: Option<u64>,
) -> Result<Intake, Failure>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let calls = &gateway.calls;
    let most = gateway.config.calls.max_queued;
    if calls.queued() >= most as usize {
        let detail = format!("{most} calls wait already (calls.max_queued)");
        return Err(Failure::new(429, "calls_full", detail).retry_after(5));
    }
    let callback = text(&head.headers, names::CALLBACK_URL, URL_LIMIT)?;
    let callback = callback.map(callback_url).transpose()?;
    let idempotency = text(&head.headers, names::IDEMPOTENCY_KEY, KEY_LIMIT)?;
    let id = new_id();
    let mut sum = digest::Context::new(&digest::SHA256);
    let content_type = head.headers.get(header::CONTENT_TYPE);
    for part in [
        head.method.as_str().as_bytes(),
        path.as_bytes(),
        content_type.map_or(b"", |value| value.as_bytes()),
    ] {
        sum.update(&(part.len() as u64).to_le_bytes());
        sum.update(part);
    }
    let (body, sum) = store_body(gateway, &id, body, length, sum).await?;
    let batch = deployed.function.object.spec.input == Input::Batch;
    if batch && body.bytes == 0 {
        let detail = "the body is empty; send a zip or tar of images, or one image";
        return Err(Failure::new(400, "body_empty", detail));
    }
    let name = deployed.function.name().to_owned();
    let key = body.key.clone();
    let digest = hex(sum.finish().as_ref());
    let call = NewCall {
        id: id.clone(),
        function: name.clone(),
        method: head.method.to_string(),
        path: path.to_owned(),
        headers: kept(&head.headers, batch),
        body,
        digest: digest.clone(),
        idempotency,
        callback,
        created: unix_now(),
    };
    let accepted = match table::accept(&gateway.history, call).await {
        Ok(accepted) => accepted,
        Err(error) => {
            remove(gateway, key).await;
            return Err(error.into());
        }
    };
    match accepted {
        Accepted::New => {
            calls.enqueue(&name, id.clone());
            Ok(Intake { id, known: false })
        }
        Accepted::Known { id, digest: known } => {
            remove(gateway, key).await;
            if known == digest {
                return Ok(Intake { id, known: true });
            }
            let detail = format!(
                "the idempotency key is that of call `{id}`, which has another method, path, type or body"
            );
            Err(Failure::new(409, "idempotency_conflict", detail))
        }
    }
}

/// The body, in the row if it is small, else streamed into the home store; and its checksum.
async fn store_body<S, E>(
    gateway: &Gateway,
    id: &str,
    mut body: S,
    length: Option<u64>,
    mut sum: digest::Context,
) -> Result<(Stored, digest::Context), Failure>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let mut first: Vec<Bytes> = Vec::new();
    let mut size = 0;
    while size <= INLINE {
        match body.next().await {
            Some(Ok(piece)) => {
                size += piece.len();
                sum.update(&piece);
                first.push(piece);
            }
            Some(Err(error)) => {
                let detail = format!("the body broke off: {error}");
                return Err(Failure::new(400, "body_incomplete", detail));
            }
            None => {
                let stored = Stored {
                    inline: (size > 0).then(|| first.concat()),
                    key: None,
                    bytes: size as u64,
                };
                return Ok((stored, sum));
            }
        }
    }
    let key = format!("{OBJECTS}{id}/body");
    // The stream is the store's until it ends; the sum is taken back from it afterwards.
    let sum = Arc::new(Mutex::new(Some(sum)));
    let summed = Arc::clone(&sum);
    let rest = body.inspect(move |piece| {
        if let (Ok(piece), Some(sum)) = (piece, summed.lock().as_mut()) {
            sum.update(piece);
        }
    });
    let pieces = stream::iter(first.into_iter().map(Ok)).chain(rest);
    let limit = gateway.config.body_limit.as_u64();
    let stored = gateway
        .stores
        .home()?
        .put_stream(&key, pieces, length, "application/octet-stream", limit)
        .await?;
    let sum = sum.lock().take();
    let sum = sum.ok_or_else(|| Failure::new(500, "internal", "the body has no checksum"))?;
    let stored = Stored {
        inline: None,
        key: Some(key),
        bytes: stored.bytes,
    };
    Ok((stored, sum))
}

fn text(headers: &HeaderMap, name: &'static str, most: usize) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    match value.to_str().map(str::trim) {
        Ok(value) if !value.is_empty() && value.len() <= most => Ok(Some(value.to_owned())),
        _ => Err(Failure::new(
            400,
            "header_invalid",
            format!("header {name} must be plain text of at most {most} characters"),
        )),
    }
}

/// A URL that a result may be posted to.
fn callback_url(url: String) -> Result<String, Failure> {
    let parsed = url.parse::<Uri>().ok();
    let sane = parsed.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri
                .authority()
                .is_some_and(|authority| !authority.as_str().contains('@'))
    });
    if sane {
        return Ok(url);
    }
    let detail = format!(
        "header {} must be an http:// or https:// URL without a name or password in it",
        names::CALLBACK_URL
    );
    Err(Failure::new(400, "callback_invalid", detail))
}

/// The headers that the function gets later, as JSON. What belongs to the connection, or to the call
/// itself, is left out.
fn kept(all: &HeaderMap, batch: bool) -> String {
    let left = |name: &str| {
        matches!(
            name,
            "host"
                | "connection"
                | "keep-alive"
                | "proxy-connection"
                | "proxy-authorization"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "expect"
                | "content-length"
                | headers::TOKEN
                | names::CALL_ID
                | names::ATTEMPT
                | names::CALLBACK_URL
                | names::IDEMPOTENCY_KEY
        )
    };
    // A batch that is asked for its events answers with them, and not with its result.
    let events =
        |name: &str, value: &str| batch && name == "accept" && value.contains(NDJSON_MEDIA_TYPE);
    let named: Vec<(&str, &str)> = all
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .filter(|(name, value)| !left(name) && !events(name, value))
        .collect();
    serde_json::to_string(&named).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_urls_are_called_back() {
        for good in ["http://127.0.0.1:9/x?y=1", "https://host.example/"] {
            assert!(callback_url(good.to_owned()).is_ok(), "{good}");
        }
        for bad in [
            "ftp://host/",
            "/path",
            "host",
            "http://a:b@host/",
            "http://",
            "x y",
        ] {
            let failure = callback_url(bad.to_owned()).expect_err(bad);
            assert_eq!(failure.problem.code, "callback_invalid", "{bad}");
        }
    }
}
