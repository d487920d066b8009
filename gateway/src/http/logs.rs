//! `GET /v1/functions/{name}/logs`: what pods write, as text that may go on.

use super::Body;
use super::functions::{flag, known, number};
use super::invoke::query;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::pod_logs::{LogLine, PodLogs};
use crate::sites::LogAsk;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderValue, Response, Uri, header};
use std::convert::Infallible;
use std::sync::Arc;

/// `?tail=N&follow=true&runtime=R&pod=P`; each line begins with the name of its pod in brackets.
pub(super) fn logs(
    gateway: &Arc<Gateway>,
    name: &str,
    uri: &Uri,
) -> Result<Response<Body>, Failure> {
    let deployed = gateway
        .functions
        .get(name)
        .ok_or_else(|| Failure::unknown_function(name))?;
    let parameters = query(uri)?;
    known(&parameters, &["tail", "follow", "runtime", "pod"])?;
    let runtime = parameters.get("runtime").cloned();
    if let Some(runtime) = runtime
        .as_deref()
        .filter(|runtime| gateway.scheduler.runtime(runtime).is_none())
    {
        return Err(Failure::new(
            400,
            "unknown_runtime",
            format!("there is no runtime `{runtime}`"),
        ));
    }
    let wanted = PodLogs {
        runtime,
        pod: parameters.get("pod").cloned(),
        ask: LogAsk {
            tail: number(&parameters, "tail")?,
            follow: flag(&parameters, "follow")?,
        },
    };
    let lines = wanted.lines(gateway, &deployed);
    let text = lines.map(|line| Ok::<_, Infallible>(written(&line)));
    let mut response = Response::new(Body::stream(text, None));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Ok(response)
}

fn written(line: &LogLine) -> Bytes {
    let mut text = BytesMut::with_capacity(line.pod.len() + line.text.len() + 4);
    text.put_u8(b'[');
    text.put_slice(line.pod.as_bytes());
    text.put_slice(b"] ");
    text.put_slice(&line.text);
    text.put_u8(b'\n');
    text.freeze()
}
