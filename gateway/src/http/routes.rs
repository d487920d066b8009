//! From a path to its handler.

use super::answer::{failure, typed};
use super::caller::Caller;
use super::gate::{self, Note, Refused, Who, reading};
use super::{Body, OPENAPI, calls, functions, invoke, logs, openfaas, peer, secrets, tokens};
use crate::auth::Scope;
use crate::failure::Failure;
use crate::gateway::Gateway;
use bytes::Bytes;
use http::uri::{InvalidUri, PathAndQuery};
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The page at `/`.
const PAGE: &str = include_str!("page.html");
/// Prometheus text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers one request.
pub(super) async fn route(
    gateway: &Arc<Gateway>,
    mut request: Request<Incoming>,
    caller: &Arc<Caller>,
) -> Response<Body> {
    let who = match gate::admit(gateway, &mut request, caller) {
        Ok(who) => who,
        Err(refused) => return Box::pin(refuse(gateway, request, &refused, caller)).await,
    };
    let uri = request.uri().clone();
    if let Some((name, inner)) = invocation(&uri, "/function/") {
        return match inner {
            Ok(inner) => invoke::invoke(gateway, name, inner, request, caller).await,
            Err(error) => failure(&Failure::new(400, "path_invalid", error.to_string())),
        };
    }
    if let Some((name, inner)) = invocation(&uri, "/async-function/") {
        return match inner {
            Ok(inner) => Box::pin(calls::accept(gateway, name, inner.as_str(), request)).await,
            Err(error) => failure(&Failure::new(400, "path_invalid", error.to_string())),
        };
    }
    // Boxed, so that what is made and moved for an invocation stays small.
    Box::pin(async {
        let Some(note) = Note::of(&request, who.name(), caller) else {
            return own(gateway, request, &uri, &who, caller).await;
        };
        // To its end, and noted, also when the caller leaves: what is half done is nobody's wish, and what
        // is done stands in the log.
        let (of, by) = (Arc::clone(gateway), Arc::clone(caller));
        let change = async move {
            let answer = own(&of, request, &uri, &who, &by).await;
            let noted = note.write(&of, &answer);
            let _ = noted.await;
            answer
        };
        let change = gateway.changes.spawn_on(change, &gateway.runtime).await;
        change.unwrap_or_else(|error| failure(&invoke::internal(error)))
    })
    .await
}

/// Answers a request that goes no further.
async fn refuse(
    gateway: &Gateway,
    request: Request<Incoming>,
    refused: &Refused,
    caller: &Caller,
) -> Response<Body> {
    if let Some(note) = Note::of(&request, refused.who(), caller) {
        let _ = note.write_refused(gateway, refused).await;
    }
    invoke::discard(request).await;
    refused.answer()
}

/// Whether a request may change what lasts. Invocations do not, nor what peers pass through.
pub(super) fn may_change(uri: &Uri, method: &Method) -> bool {
    let path = uri.path();
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
        || path.starts_with("/function/")
        || path.starts_with("/async-function/")
    {
        return false;
    }
    match find(path) {
        Some((Route::PeerCheck | Route::PeerPresign, _)) => false,
        Some((Route::PeerObject, key)) => peer::is_kept(key),
        _ => true,
    }
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: whoever asks is answered.
    Nothing,
    /// Any token.
    Token,
    /// A token of this scope.
    Scope(Scope),
}

/// What a request of this address and method needs, where tokens are needed at all.
pub(super) fn need(gateway: &Gateway, uri: &Uri, method: &Method) -> Need {
    let path = uri.path();
    if path.starts_with("/function/") || path.starts_with("/async-function/") {
        return Need::Scope(Scope::Invoke);
    }
    if let Some((route, _)) = find_in(openfaas::PATHS, path) {
        return match route {
            openfaas::Route::Info | openfaas::Route::Namespaces | openfaas::Route::Namespace => {
                Need::Token
            }
            openfaas::Route::Functions
            | openfaas::Route::Function
            | openfaas::Route::Scale
            | openfaas::Route::Secrets
            | openfaas::Route::Logs => Need::Scope(Scope::Deploy),
        };
    }
    match find(path) {
        None => Need::Token,
        Some((Route::Metrics, _)) if gateway.config.auth.metrics_open => Need::Nothing,
        Some((route, _)) => route.need(method),
    }
}

/// Answers a request to the gateway itself.
async fn own(
    gateway: &Arc<Gateway>,
    request: Request<Incoming>,
    uri: &Uri,
    who: &Who,
    caller: &Caller,
) -> Response<Body> {
    let path = uri.path();
    if let Some((route, of)) = find_in(openfaas::PATHS, path) {
        let answered = openfaas::answer(gateway, route, of, request).await;
        return answered.unwrap_or_else(|failed| failure(&failed));
    }
    let get = request.method() == Method::GET || request.method() == Method::HEAD;
    let Some((route, of)) = find(path) else {
        return failure(&Failure::new(
            404,
            "unknown_path",
            format!("there is nothing at {path}; see /openapi.json"),
        ));
    };
    let answered = match route {
        Route::Functions => functions::collection(gateway, request).await,
        Route::Function => functions::one(gateway, of, who, request).await,
        Route::Call => calls::one(gateway, of, request.method()).await,
        Route::CallRetry => calls::retry(gateway, of, request.method()).await,
        Route::PeerCheck => peer::check(gateway, request).await,
        Route::PeerLeases => peer::leases(gateway, who, request).await,
        Route::PeerLease => peer::tunnel(gateway, of, who, request, caller).await,
        Route::PeerObject => peer::object(gateway, of, who, request).await,
        Route::PeerPresign => peer::presign(gateway, who, request).await,
        Route::Tokens => tokens::collection(gateway, request).await,
        Route::OneToken => tokens::one(gateway, of, request.method()).await,
        Route::Secret => secrets::one(gateway, of, request).await,
        Route::Scale => functions::scale(gateway, of, request).await,
        Route::Pod => functions::end_pod(gateway, of, request.method()),
        _ if !get => Err(functions::method("GET")),
        Route::Predict => functions::predict(gateway, of, uri),
        Route::Models => functions::models(gateway, of).await,
        Route::Logs => logs::logs(gateway, of, uri),
        Route::Secrets => secrets::collection(gateway).await,
        Route::Runtimes => Ok(functions::runtimes(gateway)),
        Route::Pods => Ok(functions::pods(gateway)),
        Route::Measurements => functions::measurements(gateway, uri).await,
        Route::Account => functions::account(gateway).await,
        Route::Calls => calls::list(gateway, uri).await,
        Route::CallResult => calls::result(gateway, of).await,
        Route::Result => invoke::result(gateway, of).await,
        Route::Peer => peer::hello(gateway).await,
        Route::Info => Ok(functions::info(gateway)),
        Route::Ready if gateway.leaving.load(Relaxed) => Err(Failure::new(
            503,
            "gateway_stopping",
            "the gateway is stopping",
        )),
        Route::Health | Route::Ready => Ok(text(
            "text/plain; charset=utf-8",
            Bytes::from_static(b"ok\n"),
        )),
        Route::Metrics => Ok(text(METRICS_TYPE, gateway.metrics_text().into())),
        Route::OpenApi => Ok(text(
            "application/json",
            Bytes::from_static(OPENAPI.as_bytes()),
        )),
        Route::Page => Ok(text(
            "text/html; charset=utf-8",
            Bytes::from_static(PAGE.as_bytes()),
        )),
    };
    answered.unwrap_or_else(|failed| failure(&failed))
}

fn text(content_type: &'static str, body: Bytes) -> Response<Body> {
    typed(StatusCode::OK, content_type, body)
}

/// What answers at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Functions,
    Function,
    Predict,
    Models,
    Logs,
    Secrets,
    Secret,
    Runtimes,
    Pods,
    Pod,
    Scale,
    Measurements,
    Account,
    Result,
    Calls,
    Call,
    CallResult,
    CallRetry,
    Tokens,
    OneToken,
    Peer,
    PeerCheck,
    PeerLeases,
    PeerLease,
    PeerObject,
    PeerPresign,
    Info,
    Health,
    Ready,
    Metrics,
    OpenApi,
    Page,
}

impl Route {
    /// What a request to it needs.
    fn need(self, method: &Method) -> Need {
        match self {
            Self::Health | Self::Ready | Self::OpenApi => Need::Nothing,
            Self::Metrics | Self::Page | Self::Info | Self::Runtimes => Need::Token,
            Self::Function => reading(method, Scope::Invoke, Scope::Deploy),
            Self::Predict
            | Self::Result
            | Self::Calls
            | Self::Call
            | Self::CallResult
            | Self::CallRetry
            | Self::Peer
            | Self::PeerLease
            | Self::PeerObject
            | Self::PeerPresign => Need::Scope(Scope::Invoke),
            Self::Functions
            | Self::Models
            | Self::Logs
            | Self::Secrets
            | Self::Secret
            | Self::Scale
            | Self::Pods
            | Self::Pod
            | Self::PeerCheck
            | Self::PeerLeases => Need::Scope(Scope::Deploy),
            Self::Measurements | Self::Account | Self::Tokens | Self::OneToken => {
                Need::Scope(Scope::Admin)
            }
        }
    }
}

/// Paths beside `/function/...`, as `openapi.json` writes them; a test holds it to this list.
pub(super) const PATHS: [(&str, Route); 32] = [
    ("/v1/functions", Route::Functions),
    ("/v1/functions/{name}", Route::Function),
    ("/v1/functions/{name}/predict", Route::Predict),
    ("/v1/functions/{name}/models", Route::Models),
    ("/v1/functions/{name}/logs", Route::Logs),
    ("/v1/secrets", Route::Secrets),
    ("/v1/secrets/{name}", Route::Secret),
    ("/v1/runtimes", Route::Runtimes),
    ("/v1/functions/{name}/scale", Route::Scale),
    ("/v1/pods", Route::Pods),
    ("/v1/pods/{pod}", Route::Pod),
    ("/v1/measurements", Route::Measurements),
    ("/v1/account", Route::Account),
    ("/v1/invocations/{id}/result", Route::Result),
    ("/v1/calls", Route::Calls),
    ("/v1/calls/{id}", Route::Call),
    ("/v1/calls/{id}/result", Route::CallResult),
    ("/v1/calls/{id}/retry", Route::CallRetry),
    ("/v1/tokens", Route::Tokens),
    ("/v1/tokens/{name}", Route::OneToken),
    ("/v1/peer", Route::Peer),
    ("/v1/peer/check", Route::PeerCheck),
    ("/v1/peer/leases", Route::PeerLeases),
    ("/v1/peer/leases/{id}", Route::PeerLease),
    ("/v1/peer/objects/{key}", Route::PeerObject),
    ("/v1/peer/presign", Route::PeerPresign),
    ("/v1/info", Route::Info),
    ("/healthz", Route::Health),
    ("/readyz", Route::Ready),
    ("/metrics", Route::Metrics),
    ("/openapi.json", Route::OpenApi),
    ("/", Route::Page),
];

/// The function that `/function/{name}[/path][?query]` names, and the path and query that its pod gets:
/// byte for byte as they came, nothing decoded and nothing resolved.
fn invocation<'a>(
    uri: &'a Uri,
    prefix: &str,
) -> Option<(&'a str, Result<PathAndQuery, InvalidUri>)> {
    let all = uri.path_and_query()?.as_str().strip_prefix(prefix)?;
    let end = all.find(['/', '?']).unwrap_or(all.len());
    let (name, inner) = all.split_at(end);
    let inner = match inner.as_bytes().first() {
        None => Ok(PathAndQuery::from_static("/")),
        Some(b'?') => PathAndQuery::try_from(format!("/{inner}")),
        Some(_) => PathAndQuery::try_from(inner),
    };
    Some((openfaas::plain_name(name), inner))
}

/// The route of a path, and what stands in it for the name or id.
fn find(path: &str) -> Option<(Route, &str)> {
    find_in(&PATHS, path)
}

fn find_in<'a, R: Copy>(paths: &[(&str, R)], path: &'a str) -> Option<(R, &'a str)> {
    let path = path.trim_matches('/');
    paths.iter().find_map(|(pattern, route)| {
        let mut of = "";
        let mut segments = path.split('/');
        for wanted in pattern.trim_matches('/').split('/') {
            let segment = segments.next()?;
            if wanted.starts_with('{') && !segment.is_empty() {
                of = segment;
            } else if wanted != segment {
                return None;
            }
        }
        segments.next().is_none().then_some((*route, of))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_path_and_query_as_they_came() {
        for (sent, name, inner) in [
            ("/function/f", "f", "/"),
            ("/function/f/", "f", "/"),
            ("/function/f.openfaas-fn/a", "f", "/a"),
            ("/function/f.other", "f.other", "/"),
            ("/function/f?", "f", "/?"),
            ("/function/f?x=/a/../b", "f", "/?x=/a/../b"),
            ("/function/f//a//", "f", "//a//"),
            (
                "/function/f/a%2Fb/../c/./%2e%2e/?q=%20+&&",
                "f",
                "/a%2Fb/../c/./%2e%2e/?q=%20+&&",
            ),
            ("http://other/function/f/a?b", "f", "/a?b"),
            ("/function/", "", "/"),
        ] {
            let uri: Uri = sent.parse().expect("a URI");
            let (found, path) = invocation(&uri, "/function/").expect("an invocation");
            assert_eq!(
                (found, path.expect("a path").as_str()),
                (name, inner),
                "{sent}"
            );
        }
        for other in ["/", "/functions/f", "/v1/functions/f", "*"] {
            assert!(
                invocation(&other.parse().expect("a URI"), "/function/").is_none(),
                "{other}"
            );
        }
    }

    #[test]
    fn every_path_finds_its_route_and_others_none() {
        for (pattern, route) in PATHS {
            let path = ["{name}", "{id}", "{pod}", "{key}"]
                .iter()
                .fold(pattern.to_owned(), |path, of| path.replace(of, "hi"));
            let of = if path == pattern { "" } else { "hi" };
            assert_eq!(find(&path), Some((route, of)), "{path}");
            assert_eq!(find(&format!("{path}/")), Some((route, of)), "{path}/");
        }
        for path in [
            "/v1",
            "/v1/functions//predict",
            "/v1/pods/x/y",
            "/v2/pods",
            "/index.html",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn what_lasts_is_noted_and_what_passes_is_not() {
        let noted = |method: Method, path: &str| may_change(&path.parse().expect("a URI"), &method);
        for (method, path) in [
            (Method::POST, "/v1/functions"),
            (Method::DELETE, "/v1/tokens/me"),
            (Method::PUT, "/system/functions"),
            (Method::POST, "/v1/peer/leases"),
            (Method::PUT, "/v1/peer/objects/models%2Ff%2Fv"),
            (Method::DELETE, "/v1/peer/objects/models/f"),
            (Method::POST, "/nothing/here"),
        ] {
            assert!(noted(method.clone(), path), "{method} {path}");
        }
        for (method, path) in [
            (Method::GET, "/v1/functions"),
            (Method::POST, "/function/f"),
            (Method::DELETE, "/async-function/f/x"),
            (Method::PUT, "/v1/peer/objects/packages%2Fx"),
            (Method::POST, "/v1/peer/presign"),
            (Method::POST, "/v1/peer/check"),
        ] {
            assert!(!noted(method.clone(), path), "{method} {path}");
        }
    }
}
