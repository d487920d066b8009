//! One small HTTP exchange on a connection of its own: health checks and the gateway's own calls to
//! pods that are not invocations.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// Longest a health check may take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a pod is asked for its health unless the function says otherwise.
pub const HEALTH_PATH: &str = "/healthz";
/// Where it is asked next if it knows no [`HEALTH_PATH`]: where OpenFaaS' images tell of theirs.
pub const OPENFAAS_HEALTH_PATH: &str = "/_/health";

/// Whether the pod answers 200 at this path now.
pub async fn healthy(address: SocketAddr, path: &str) -> bool {
    health(address, path).await.is_some()
}

/// The headers of the pod's answer at this path, if that is 200 now.
pub async fn health(address: SocketAddr, path: &str) -> Option<HeaderMap> {
    let mut answer = ask_health(address, path).await?;
    if answer.status() == 404 && path == HEALTH_PATH {
        answer = ask_health(address, OPENFAAS_HEALTH_PATH).await?;
    }
    (answer.status() == 200).then(|| answer.into_parts().0.headers)
}

async fn ask_health(address: SocketAddr, path: &str) -> Option<Response<Bytes>> {
    let check = exchange(address, Method::GET, path, None, Bytes::new(), 1 << 20);
    tokio::time::timeout(HEALTH_TIMEOUT, check).await.ok()?.ok()
}

/// Sends one request on a new connection and collects the answer, at most `limit` bytes.
///
/// # Errors
/// Connection refused or broken, no HTTP, or an answer over the limit.
pub async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &str,
    content_type: Option<&str>,
    body: Bytes,
    limit: usize,
) -> anyhow::Result<Response<Bytes>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let talk = async {
        let mut request = Request::builder()
            .method(method)
            .uri(path.parse::<Uri>()?)
            .header(http::header::HOST, address.to_string());
        if let Some(content_type) = content_type {
            request = request.header(http::header::CONTENT_TYPE, content_type);
        }
        let answer = sender.send_request(request.body(Full::new(body))?).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, limit)
            .collect()
            .await
            .map_err(|e| anyhow::anyhow!("{e}"))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    // The connection is driven here and dropped with the exchange: nothing is left behind on any path.
    tokio::pin!(connection);
    tokio::pin!(talk);
    tokio::select! {
        answer = &mut talk => answer,
        ended = &mut connection => match ended {
            Ok(()) => talk.await,
            Err(e) => Err(e.into()),
        },
    }
}
