//! `/v1/peer/...`: what other gateways ask of this one. See [`crate::peer`].

use super::Body;
use super::answer::{json, typed};
use super::arriving::Arriving;
use super::caller::Caller;
use super::functions::{method, object_body};
use super::gate::{About, Who};
use crate::auth::Scope;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::peer::{
    Hello, Line, PROTOCOLS, PodOrder, PresignReply, PresignRequest, TUNNEL, join, lease, offers,
};
use crate::storage::PEERS;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use stoic_protocol::NDJSON_MEDIA_TYPE;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// Lines of a lease that wait to be sent.
const LINES: usize = 16;
/// Longest time to connect to a pod.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest life of a presigned URL, seconds.
const LONGEST_URL: u64 = 86_400;
/// What keys of objects begin with that are kept until they are deleted.
const KEPT: &str = "models/";
/// Longest key of an object.
const LONGEST_KEY: usize = 700;

type Answer = Result<Response<Body>, Failure>;

/// `GET /v1/peer`.
pub(super) async fn hello(gateway: &Gateway) -> Answer {
    let id = gateway
        .history
        .setting("gateway-id", crate::gateway::new_id)
        .await?;
    let hello = Hello {
        protocols: PROTOCOLS,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        gateway: id,
        runtimes: offers(gateway),
    };
    Ok(json(StatusCode::OK, &hello))
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Failure> {
    let body = object_body(request).await?;
    serde_json::from_slice(&body).map_err(|e| {
        let detail = format!("the body is not what a gateway of this version sends: {e}");
        Failure::new(400, "peer_invalid", detail)
    })
}

/// `POST /v1/peer/check`.
pub(super) async fn check(gateway: &Gateway, request: Request<Incoming>) -> Answer {
    if request.method() != Method::POST {
        return Err(method("POST"));
    }
    let order = understood(read(request).await?)?;
    crate::peer::check(gateway, order).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

fn understood(order: PodOrder) -> Result<PodOrder, Failure> {
    let (low, high) = PROTOCOLS;
    if (low..=high).contains(&order.protocol) {
        return Ok(order);
    }
    let detail = format!(
        "version {} of the protocol between gateways is not spoken here, {low} to {high} are",
        order.protocol
    );
    Err(Failure::new(400, "peer_version", detail))
}

/// `GET` and `POST /v1/peer/leases`: the lease lasts as long as its answer is read.
pub(super) async fn leases(
    gateway: &Arc<Gateway>,
    who: &Who,
    request: Request<Incoming>,
) -> Answer {
    match *request.method() {
        Method::GET | Method::HEAD => return Ok(json(StatusCode::OK, &gateway.leases.views())),
        Method::POST => {}
        _ => return Err(method("GET or POST")),
    }
    let order = understood(read(request).await?)?;
    let about = About(order.function.clone());
    let (lines, said) = mpsc::channel(LINES);
    let work = lease(gateway, order, who.principal(), who.name(), lines)?;
    let work = AbortOnDropHandle::new(gateway.runtime.spawn(work));
    let lines = stream::unfold((said, work), |(mut said, work)| async move {
        let line: Line = said.recv().await?;
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(text)), (said, work)))
    });
    let mut response = typed(StatusCode::OK, NDJSON_MEDIA_TYPE, Bytes::new());
    response.extensions_mut().insert(about);
    *response.body_mut() = Body::stream(lines, None);
    Ok(response)
}

/// `GET /v1/peer/leases/{id}`, which becomes a tunnel to the pod.
pub(super) async fn tunnel(
    gateway: &Gateway,
    id: &str,
    who: &Who,
    mut request: Request<Incoming>,
    caller: &Caller,
) -> Answer {
    if request.method() != Method::GET {
        return Err(method("GET"));
    }
    let wanted = request.headers().get(header::UPGRADE);
    if wanted.is_none_or(|wanted| wanted != TUNNEL) {
        let detail = format!("ask with `connection: upgrade` and `upgrade: {TUNNEL}`");
        return Err(Failure::new(426, "upgrade_required", detail));
    }
    let unknown = || Failure::new(404, "unknown_lease", "there is no such lease; it has ended");
    let leased = gateway.leases.get(id, who.principal());
    let leased = leased.ok_or_else(unknown)?;
    let pod = tokio::time::timeout(CONNECT, TcpStream::connect(leased.address)).await;
    let pod = pod.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let pod = pod.map_err(|e| Failure::new(502, "pod_died", format!("the pod: {e}")))?;
    let _ = pod.set_nodelay(true);
    let upgrade = hyper::upgrade::on(&mut request);
    caller.tunnel(Box::pin(async move {
        let client = match upgrade.await {
            Ok(client) => client,
            Err(error) => return debug!("tunnel: {error}"),
        };
        let passing = join(TokioIo::new(client), pod);
        let _ = leased.ended.run_until_cancelled(passing).await;
    }));
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(TUNNEL));
    Ok(response)
}

/// Whether this key, as the path has it, is of an object that does not expire.
pub(super) fn is_kept(encoded: &str) -> bool {
    let key = percent_decode_str(encoded).decode_utf8();
    key.is_ok_and(|key| key.starts_with(KEPT))
}

/// Where a client's object lies in the home store, by the name of its token: what is kept there is found
/// again with the token that replaces it. What expires at the client expires here.
fn place(who: &Who, encoded: &str, writes: bool) -> Result<String, Failure> {
    let invalid = |why: &str| Failure::new(400, "key_invalid", format!("the key {why}"));
    let key = percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| invalid("is no UTF-8 text"))?;
    let whole = |part: &str| !part.is_empty() && part != "." && part != "..";
    if key.len() > LONGEST_KEY || !key.split('/').all(whole) || key.chars().any(char::is_control) {
        return Err(invalid("must be names with `/` between, at most 700 bytes"));
    }
    let kept = key.starts_with(KEPT);
    if kept && writes && !who.may(Scope::Deploy) {
        let detail = "what is kept here needs a token of scope deploy";
        return Err(Failure::new(403, "scope_missing", detail));
    }
    let kind = if kept { "kept" } else { "passing" };
    Ok(format!("{PEERS}{kind}/{}/{key}", who.name()))
}

/// `PUT`, `GET`, `HEAD` and `DELETE /v1/peer/objects/{key}`.
pub(super) async fn object(
    gateway: &Gateway,
    key: &str,
    who: &Who,
    request: Request<Incoming>,
) -> Answer {
    let writes = matches!(*request.method(), Method::PUT | Method::DELETE);
    let key = place(who, key, writes)?;
    let store = gateway.stores.home()?;
    match *request.method() {
        Method::PUT => {
            let (head, body) = request.into_parts();
            let kind = head.headers.get(header::CONTENT_TYPE);
            let kind = kind.and_then(|kind| kind.to_str().ok());
            let kind = kind.unwrap_or("application/octet-stream").to_owned();
            let length = body.size_hint().exact();
            let limit = gateway.config.body_limit.as_u64();
            let body = Arriving::new(body, gateway.config.http.body_timeout);
            let body = BodyDataStream::new(body);
            let store = store.clone();
            let put = async move { store.put_stream(&key, body, length, &kind, limit).await };
            let put = AbortOnDropHandle::new(gateway.runtime.spawn(put)).await;
            put.map_err(super::invoke::internal)??;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        Method::GET => match range(request.headers())? {
            None => {
                let object = store.get(&key).await?;
                let body = Body::stream(object.body, Some(object.bytes));
                let mut response = with_type(StatusCode::OK, &object.content_type);
                *response.body_mut() = body;
                Ok(response)
            }
            Some((from, count)) => {
                let bytes = store.get_range(&key, from, count).await?;
                let mut response =
                    with_type(StatusCode::PARTIAL_CONTENT, "application/octet-stream");
                *response.body_mut() = bytes.into();
                Ok(response)
            }
        },
        Method::HEAD => {
            let head = store.head(&key).await?;
            let head = head.ok_or_else(|| Failure::new(404, "not_found", "no such object"))?;
            let mut response = with_type(StatusCode::OK, &head.content_type);
            let length = HeaderValue::from(head.bytes);
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length);
            Ok(response)
        }
        Method::DELETE => {
            store.delete(&key).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        _ => Err(method("PUT, GET, HEAD or DELETE")),
    }
}

/// `POST /v1/peer/presign`.
pub(super) async fn presign(gateway: &Gateway, who: &Who, request: Request<Incoming>) -> Answer {
    if request.method() != Method::POST {
        return Err(method("POST"));
    }
    let wanted: PresignRequest = read(request).await?;
    let key = place(who, &wanted.key, wanted.write)?;
    let store = gateway.stores.home()?;
    let life = Duration::from_secs(wanted.seconds.clamp(1, LONGEST_URL));
    let url = match wanted.write {
        true => store.presign_put(&key, life).await?,
        false => store.presign_get(&key, life).await?,
    };
    Ok(json(StatusCode::OK, &PresignReply { url }))
}

/// First byte and count of the one range that is asked for.
fn range(headers: &HeaderMap) -> Result<Option<(u64, u64)>, Failure> {
    let Some(value) = headers.get(header::RANGE) else {
        return Ok(None);
    };
    let read = || {
        let (from, last) = value
            .to_str()
            .ok()?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        let (from, last): (u64, u64) = (from.parse().ok()?, last.parse().ok()?);
        Some((from, last.checked_sub(from)?.checked_add(1)?))
    };
    let range = read();
    let most = 64 << 20;
    match range.filter(|(_, count)| *count <= most) {
        Some(range) => Ok(Some(range)),
        None => Err(Failure::new(
            416,
            "range_invalid",
            "a range is `bytes=FIRST-LAST`, of at most 64 MiB",
        )),
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn with_type(status: StatusCode, kind: &str) -> Response<Body> {
    let mut response = empty(status);
    let kind =
        HeaderValue::try_from(kind).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_keys_of_its_own_and_none_leads_elsewhere() {
        let anyone = Who::Anyone;
        let place = |key: &str| place(&anyone, key, true).ok();
        let packages = place("packages%2Fx").expect("a key");
        assert_eq!(packages, "peers/passing/anonymous/packages/x");
        assert!(
            place("models%2Ff%2Fv")
                .expect("a key")
                .starts_with("peers/kept/")
        );
        for wrong in ["", "%2Fx", "a%2F..%2Fb", "a%2F", "a%00", "%ff", ".."] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn one_range_is_read() {
        let of = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static(text))]);
            range(&headers)
        };
        assert_eq!(of("bytes=3-5").expect("a range"), Some((3, 3)));
        for wrong in ["bytes=5-3", "bytes=-3", "3-5", "bytes=0-999999999999"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert_eq!(range(&HeaderMap::new()).expect("none"), None);
    }
}
