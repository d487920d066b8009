//! OpenFaaS' gateway API, for `faas-cli` and other clients of it: `/system/...`, and names of functions
//! with a namespace behind them. One file per job; knows functions, secrets and logs only through what
//! the rest of the gateway offers.

mod deployment;
mod functions;
mod logs;
mod secrets;
mod status;

use super::Body;
use super::answer::json;
use super::functions::method;
use super::gate::About;
use super::invoke::query;
use crate::failure::Failure;
use crate::gateway::Gateway;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::sync::Arc;

/// The one namespace.
pub(super) const NAMESPACE: &str = "openfaas-fn";

/// Largest body: a secret of 1 MiB in base64, and what is around it.
const BODY_LIMIT: usize = 2 << 20;

type Answer = Result<Response<Body>, Failure>;

/// What answers at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Route {
    Functions,
    Function,
    Scale,
    Info,
    Namespaces,
    Namespace,
    Secrets,
    Logs,
}

/// The paths, as `openapi.json` writes them.
pub(super) const PATHS: &[(&str, Route)] = &[
    ("/system/functions", Route::Functions),
    ("/system/function/{name}", Route::Function),
    ("/system/scale-function/{name}", Route::Scale),
    ("/system/info", Route::Info),
    ("/system/namespaces", Route::Namespaces),
    ("/system/namespace/{name}", Route::Namespace),
    ("/system/secrets", Route::Secrets),
    ("/system/logs", Route::Logs),
];

/// Answers one request.
pub(super) async fn answer(
    gateway: &Arc<Gateway>,
    route: Route,
    of: &str,
    request: Request<Incoming>,
) -> Answer {
    let get = request.method() == Method::GET || request.method() == Method::HEAD;
    match route {
        Route::Functions => functions::collection(gateway, request).await,
        Route::Scale if request.method() == Method::POST => {
            functions::scale(gateway, of, request).await
        }
        Route::Scale => Err(method("POST")),
        Route::Secrets => secrets::answer(gateway, request).await,
        Route::Namespace => Err(fixed_namespace(&request)),
        _ if !get => Err(method("GET")),
        Route::Function => functions::one(gateway, of, request.uri()),
        Route::Info => Ok(info()),
        Route::Namespaces => Ok(json(StatusCode::OK, &[NAMESPACE])),
        Route::Logs => logs::logs(gateway, request.uri()),
    }
}

/// The name of a function that may have the namespace behind it: `hi` or `hi.openfaas-fn`. Another
/// namespace stays, so that there is no such function.
pub(super) fn plain_name(name: &str) -> &str {
    match name.split_once('.') {
        Some((plain, NAMESPACE)) => plain,
        _ => name,
    }
}

/// `/system/info`.
fn info() -> Response<Body> {
    let version = env!("CARGO_PKG_VERSION");
    let version = json!({"release": version, "sha": "", "commit_message": ""});
    let provider = json!({"provider": "stoic", "orchestration": "stoic", "version": &version});
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x86_64",
        "aarch64" => "arm64",
        other => other,
    };
    let info = json!({"provider": provider, "version": version, "arch": arch});
    json(StatusCode::OK, &info)
}

fn fixed_namespace(request: &Request<Incoming>) -> Failure {
    match *request.method() {
        Method::POST | Method::PUT | Method::DELETE => Failure::new(
            400,
            "namespace_fixed",
            format!("there is one namespace, `{NAMESPACE}`: it cannot be made, changed or removed"),
        ),
        _ => method("POST, PUT or DELETE"),
    }
}

/// Refuses a namespace that is not the one there is.
fn check_namespace(namespace: Option<&str>) -> Result<(), Failure> {
    match namespace {
        None | Some("" | NAMESPACE) => Ok(()),
        Some(other) => {
            let other: String = other.chars().take(64).collect();
            Err(Failure::new(
                400,
                "unknown_namespace",
                format!("there is no namespace `{other}`; there is `{NAMESPACE}`"),
            ))
        }
    }
}

/// Refuses a namespace in the query that is not the one there is.
fn check_query_namespace(uri: &http::Uri) -> Result<(), Failure> {
    check_namespace(query(uri)?.get("namespace").map(String::as_str))
}

/// The JSON that a request carries.
async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Failure> {
    let body = Limited::new(request.into_body(), BODY_LIMIT)
        .collect()
        .await
        .map_err(|e| match e.is::<LengthLimitError>() {
            true => Failure::new(413, "body_too_large", "at most 2 MiB here"),
            false => Failure::new(400, "body_incomplete", e.to_string()),
        })?
        .to_bytes();
    // Where it went wrong is told, never what stands there: it may be a secret.
    serde_json::from_slice(&body).map_err(|e| {
        let place = format!("line {}, column {}", e.line(), e.column());
        let why = match e.classify() {
            serde_json::error::Category::Data => "a field is missing or of another type",
            _ => "it is no JSON",
        };
        Failure::new(
            400,
            "body_invalid",
            format!("the body cannot be read: {why}, at {place}"),
        )
    })
}

/// An answer without a body, after a change of what has this name.
fn about(name: &str, status: StatusCode) -> Response<Body> {
    let mut response = empty(status);
    response.extensions_mut().insert(About(name.to_owned()));
    response
}

/// An answer without a body.
fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_the_namespace_behind_them() {
        assert_eq!(plain_name("hi"), "hi");
        assert_eq!(plain_name("hi.openfaas-fn"), "hi");
        assert_eq!(plain_name("hi.other"), "hi.other");
        assert_eq!(plain_name("hi.a.openfaas-fn"), "hi.a.openfaas-fn");
        assert!(check_namespace(Some("openfaas-fn")).is_ok() && check_namespace(Some("")).is_ok());
        assert!(check_namespace(Some("kube-system")).is_err());
    }
}
