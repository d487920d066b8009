//! A server of HTTP/2 alone, as those of gRPC are: it says a body again and ends with trailers.

use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::TcpListener;

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

pub(super) fn serve(listener: TcpListener, health: String) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let health = health.clone();
            tokio::spawn(async move {
                // The gateway asks for health in HTTP/1.1, as every probe does.
                let service =
                    hyper::service::service_fn(move |request| answer(request, health.clone()));
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}

async fn answer(request: Request<Incoming>, health: String) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == health {
        return Ok(Response::new(
            Full::new(Bytes::from_static(b"well")).boxed(),
        ));
    }
    let version = format!("{:?}", request.version());
    let te = request.headers().get("te").cloned();
    let path = request.uri().path().to_owned();
    let body = request
        .into_body()
        .collect()
        .await
        .map(|all| all.to_bytes())
        .unwrap_or_default();
    let mut trailers = hyper::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("grpc-message", path.parse().unwrap());
    let frames = [Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
    let mut answer = Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed());
    let headers = answer.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.insert("x-version", version.parse().unwrap());
    headers.insert("x-te", te.unwrap_or_else(|| "none".parse().unwrap()));
    Ok(answer)
}
