//! `apiextensions.k8s.io/v1beta1`, as far as the `kubeless` command asks for it.
//!
//! Before `function update` and `get-server-config` it reads the definition of `functions.kubeless.io` in a version that
//! clusters have not had since Kubernetes 1.22, to learn from its annotations in which ConfigMap the runtimes
//! stand. An `APIService` of that version that leads here gives it the answer: the API server has then asked who
//! wants to know, and may; what is told is public. Nothing else is served, and nothing can be written.

use crate::config::V1beta1Config;
use crate::tls::FrontTls;
use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// The version that is answered for.
const VERSION: &str = "apiextensions.k8s.io/v1beta1";
/// The definition that is told of.
const DEFINITION: &str = "functions.kubeless.io";
/// Longest handshake, and longest head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// A socket that cannot accept is tried again after this time.
const PAUSE: Duration = Duration::from_millis(50);

/// Listens, and answers in the background until it is ended.
///
/// # Errors
/// The address is taken, or the certificate cannot be used.
pub(super) async fn serve(config: &V1beta1Config, ended: CancellationToken) -> anyhow::Result<()> {
    let tls = FrontTls::load(&config.tls).context("controller.v1beta1")?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("controller.v1beta1.listen: {}", config.listen))?;
    info!(address = %config.listen, "controller: {VERSION} is answered for");
    let config_map = Arc::new(config.config_map.clone());
    tokio::spawn(async move {
        let renewals = tokio::spawn(Arc::clone(&tls).watch());
        while let Some(accepted) = ended.run_until_cancelled(listener.accept()).await {
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let (tls, config_map) = (Arc::clone(&tls), Arc::clone(&config_map));
            let ended = ended.clone();
            tokio::spawn(async move {
                ended
                    .run_until_cancelled(connection(&tls, stream, config_map))
                    .await
            });
        }
        renewals.abort();
    });
    Ok(())
}

/// Serves one connection of the API server to its end.
async fn connection(tls: &FrontTls, stream: TcpStream, config_map: Arc<String>) {
    let accepted = tokio::time::timeout(PATIENCE, tls.acceptor().accept(stream)).await;
    let Ok(Ok(stream)) = accepted else { return };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let answers = service_fn(move |request| {
        let answered = answer(&request, &config_map);
        std::future::ready(Ok::<_, Infallible>(answered))
    });
    let io = TokioIo::new(stream);
    let ended = if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        builder.serve_connection(io, answers).await
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE);
        builder.serve_connection(io, answers).await
    };
    if let Err(error) = ended {
        debug!("{VERSION}: {error}");
    }
}

fn answer<B>(request: &Request<B>, config_map: &str) -> Response<Full<Bytes>> {
    let (status, value) = answer_to(request.method(), request.uri().path(), config_map);
    let mut response = Response::new(Full::from(value.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// What is told at a path.
fn answer_to(method: &Method, path: &str, config_map: &str) -> (StatusCode, Value) {
    let definitions = format!("/apis/{VERSION}/customresourcedefinitions/");
    let of = path.strip_prefix(&definitions);
    if method != Method::GET {
        let message = format!("{VERSION} is answered for the kubeless command alone: GET only");
        return failed(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", &message);
    }
    if path.trim_end_matches('/') == format!("/apis/{VERSION}") {
        return (StatusCode::OK, resources());
    }
    if of == Some(DEFINITION) {
        return (StatusCode::OK, definition(config_map));
    }
    let message = match of {
        Some(name) => format!(
            "customresourcedefinitions.apiextensions.k8s.io \"{name}\" not found: of {VERSION} there is {DEFINITION} alone, for the kubeless command; ask apiextensions.k8s.io/v1"
        ),
        None => format!("there is nothing at {path}"),
    };
    failed(StatusCode::NOT_FOUND, "NotFound", &message)
}

fn resources() -> Value {
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": VERSION,
        "resources": [{
            "name": "customresourcedefinitions",
            "singularName": "customresourcedefinition",
            "namespaced": false,
            "kind": "CustomResourceDefinition",
            "verbs": ["get"],
        }],
    })
}

/// The definition as kubeless installed it, with where its runtimes stand.
fn definition(config_map: &str) -> Value {
    let (namespace, name) = config_map.split_once('/').unwrap_or(("", config_map));
    json!({
        "kind": "CustomResourceDefinition",
        "apiVersion": VERSION,
        "metadata": {
            "name": DEFINITION,
            "annotations": {"kubeless.io/namespace": namespace, "kubeless.io/config": name},
        },
        "spec": {
            "group": "kubeless.io",
            "version": "v1beta1",
            "versions": [{"name": "v1beta1", "served": true, "storage": true}],
            "scope": "Namespaced",
            "names": {
                "kind": "Function",
                "listKind": "FunctionList",
                "plural": "functions",
                "singular": "function",
            },
        },
    })
}

/// A failure as the API server tells them.
fn failed(status: StatusCode, reason: &str, message: &str) -> (StatusCode, Value) {
    let told = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": status.as_u16(),
    });
    (status, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_definition_is_told_of_and_nothing_can_be_written() {
        let base = format!("/apis/{VERSION}");
        let ask = |method: &Method, path: &str| answer_to(method, path, "fns/kubeless-config");
        let (status, list) = ask(&Method::GET, &base);
        assert_eq!(
            (status, &list["groupVersion"]),
            (StatusCode::OK, &json!(VERSION))
        );
        let definition = format!("{base}/customresourcedefinitions/{DEFINITION}");
        let (status, told) = ask(&Method::GET, &definition);
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            told["metadata"]["annotations"],
            json!({"kubeless.io/namespace": "fns", "kubeless.io/config": "kubeless-config"})
        );
        let others = format!("{base}/customresourcedefinitions/other.example.org");
        for path in [&others, "/apis", "/openapi/v2"] {
            let (status, told) = ask(&Method::GET, path);
            assert_eq!(
                (status, &told["reason"]),
                (StatusCode::NOT_FOUND, &json!("NotFound"))
            );
        }
        let (status, _) = ask(&Method::DELETE, &definition);
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
