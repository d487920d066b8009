//! From a path to its handler.

use super::answer::{failure, typed};
use super::{Body, OPENAPI, functions, invoke};
use crate::failure::Failure;
use crate::gateway::Gateway;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;

/// The page at `/`.
const PAGE: &str = include_str!("page.html");
/// Prometheus text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers one request.
pub(super) async fn route(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Response<Body> {
    let uri = request.uri().clone();
    let path = uri.path();
    if let Some(rest) = path.strip_prefix("/function/") {
        let (name, inner) = rest
            .split_once('/')
            .map_or((rest, "/"), |(name, _)| (name, &rest[name.len()..]));
        return match uri.query() {
            None => invoke::invoke(gateway, name, inner, request).await,
            Some(query) => {
                invoke::invoke(gateway, name, &format!("{inner}?{query}"), request).await
            }
        };
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let get = request.method() == Method::GET || request.method() == Method::HEAD;
    let answered = match parts.as_slice() {
        ["v1", "functions"] => functions::collection(gateway, request).await,
        ["v1", "functions", name] => functions::one(gateway, name, request).await,
        _ if !get && known(&parts) => Err(functions::method("GET")),
        ["v1", "functions", name, "predict"] => functions::predict(gateway, name, &uri),
        ["v1", "functions", name, "models"] => functions::models(gateway, name).await,
        ["v1", "runtimes"] => Ok(functions::runtimes(gateway)),
        ["v1", "pods"] => Ok(functions::pods(gateway)),
        ["v1", "measurements"] => functions::measurements(gateway, &uri).await,
        ["v1", "invocations", id, "result"] => invoke::result(gateway, id).await,
        ["v1", "info"] => Ok(functions::info(gateway)),
        ["healthz" | "readyz"] => Ok(typed(
            StatusCode::OK,
            "text/plain; charset=utf-8",
            Bytes::from_static(b"ok\n"),
        )),
        ["metrics"] => Ok(typed(
            StatusCode::OK,
            METRICS_TYPE,
            gateway.metrics_text().into(),
        )),
        ["openapi.json"] => Ok(typed(
            StatusCode::OK,
            "application/json",
            Bytes::from_static(OPENAPI.as_bytes()),
        )),
        [""] => Ok(typed(
            StatusCode::OK,
            "text/html; charset=utf-8",
            Bytes::from_static(PAGE.as_bytes()),
        )),
        _ => Err(Failure::new(
            404,
            "unknown_path",
            format!("there is nothing at {path}; see /openapi.json"),
        )),
    };
    answered.unwrap_or_else(|failed| failure(&failed))
}

/// Whether something answers GET at this path.
fn known(parts: &[&str]) -> bool {
    matches!(
        parts,
        ["v1", "functions", _, "predict" | "models"]
            | ["v1", "runtimes" | "pods" | "measurements" | "info"]
            | ["v1", "invocations", _, "result"]
            | ["healthz" | "readyz" | "metrics" | "openapi.json" | ""]
    )
}
