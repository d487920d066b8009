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
        Route::Function => functions::one(gateway, of, request).await,
        Route::Scale => functions::scale(gateway, of, request).await,
        Route::Pod => functions::end_pod(gateway, of, request.method()),
        _ if !get => Err(functions::method("GET")),
        Route::Predict => functions::predict(gateway, of, &uri),
        Route::Models => functions::models(gateway, of).await,
        Route::Runtimes => Ok(functions::runtimes(gateway)),
        Route::Pods => Ok(functions::pods(gateway)),
        Route::Measurements => functions::measurements(gateway, &uri).await,
        Route::Account => functions::account(gateway).await,
        Route::Result => invoke::result(gateway, of).await,
        Route::Info => Ok(functions::info(gateway)),
        Route::Health => Ok(text(
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
    Runtimes,
    Pods,
    Pod,
    Scale,
    Measurements,
    Account,
    Result,
    Info,
    Health,
    Metrics,
    OpenApi,
    Page,
}

/// Paths beside `/function/...`, as `openapi.json` writes them; a test holds it to this list.
pub(super) const PATHS: [(&str, Route); 17] = [
    ("/v1/functions", Route::Functions),
    ("/v1/functions/{name}", Route::Function),
    ("/v1/functions/{name}/predict", Route::Predict),
    ("/v1/functions/{name}/models", Route::Models),
    ("/v1/runtimes", Route::Runtimes),
    ("/v1/functions/{name}/scale", Route::Scale),
    ("/v1/pods", Route::Pods),
    ("/v1/pods/{pod}", Route::Pod),
    ("/v1/measurements", Route::Measurements),
    ("/v1/account", Route::Account),
    ("/v1/invocations/{id}/result", Route::Result),
    ("/v1/info", Route::Info),
    ("/healthz", Route::Health),
    ("/readyz", Route::Health),
    ("/metrics", Route::Metrics),
    ("/openapi.json", Route::OpenApi),
    ("/", Route::Page),
];

/// The route of a path, and what stands in it for the name or id.
fn find(path: &str) -> Option<(Route, &str)> {
    let path = path.trim_matches('/');
    PATHS.iter().find_map(|(pattern, route)| {
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
    fn every_path_finds_its_route_and_others_none() {
        for (pattern, route) in PATHS {
            let path = ["{name}", "{id}", "{pod}"]
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
}
