//! Connections: accepting, serving, and ending them.

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::body::SharedBody;
use super::refuse::TROUBLE;
use super::service::Service;
use crate::Credentials;

const MOST_CONNECTIONS: usize = 4096;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long running requests may go on after a stop.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait when no connection can be accepted (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The largest XML body: 10,000 parts, or 1,000 keys, in bytes.
const MOST_XML: usize = 4 * 1024 * 1024;
/// How much of a refused body is still read, in bytes and time, so that its sender gets to the
/// answer.
const DRAIN: u64 = 64 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Serves until told to stop.
pub(super) async fn serve(
    listener: TcpListener,
    service: Service,
    credentials: Credentials,
    upload_age: Duration,
    mut stopped: oneshot::Receiver<()>,
) {
    let uploads = Arc::clone(&service.uploads);
    let s3 = build(service, &credentials);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut sweep = tokio::time::interval(
        upload_age.clamp(Duration::from_millis(100), Duration::from_secs(600)),
    );
    loop {
        let next = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            // Dropping the handle stops the server too.
            _ = &mut stopped => break,
            _ = sweep.tick() => {
                let removed = uploads.forget_older(upload_age);
                if removed > 0 {
                    tracing::info!(removed, "abandoned uploads removed");
                }
                continue;
            }
            Some(_) = connections.join_next() => continue,
            next = next => next,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the object store cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small answers must not wait for acknowledgements of earlier ones.
        let _ = stream.set_nodelay(true);
        let s3 = s3.clone();
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| answer(s3.clone(), request)),
            );
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            // A client that breaks the protocol or leaves ends its own connection, no more.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "object store connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("object store requests cut off by the end");
    }
    connections.shutdown().await;
}

fn build(service: Service, credentials: &Credentials) -> S3Service {
    let mut builder = S3ServiceBuilder::new(service);
    builder.set_auth(SimpleAuth::from_single(
        credentials.access_key(),
        credentials.secret_key(),
    ));
    let mut config = S3Config::default();
    config.xml_max_body_size = MOST_XML;
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.build()
}

async fn answer(s3: S3Service, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let (method, path) = (head.method.clone(), head.uri.path().to_owned());
    let body = SharedBody::new(body);
    let request = Request::from_parts(head, Body::http_body(body.clone()));
    let (answered, trouble) = TROUBLE
        .scope(RefCell::default(), async {
            // The service logs whole requests, presigned URLs among them, and every 404 as an
            // error: what is worth telling is told below.
            let answered = s3.call(request).with_subscriber(NoSubscriber::new()).await;
            (answered, TROUBLE.with(RefCell::take))
        })
        .await;
    let mut response = answered.unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    let status = response.status();
    if let Some(trouble) = trouble {
        tracing::error!(%method, path, %status, trouble, "object store request failed");
    }
    if status.is_client_error() || status.is_server_error() {
        let drained = tokio::time::timeout(DRAIN_TIME, body.drain(DRAIN)).await;
        if drained.is_err() {
            let close = HeaderValue::from_static("close");
            response
                .headers_mut()
                .insert(http::header::CONNECTION, close);
        }
    }
    Ok(response)
}
