//! `/system/logs`: what pods write, one JSON object a line.

use super::status::timestamp;
use super::{Answer, NAMESPACE, check_query_namespace, plain_name};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::http::Body;
use crate::http::functions::number;
use crate::http::invoke::query;
use crate::pod_logs::{LogLine, PodLogs};
use crate::scheduler::unix_now;
use crate::sites::LogAsk;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Response, Uri, header};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;

/// `?name=F&namespace=NS&tail=N&follow=true&instance=POD`. `since` is refused: nobody keeps when a line
/// was written. Times are those at which lines were read.
pub(super) fn logs(gateway: &Arc<Gateway>, uri: &Uri) -> Answer {
    check_query_namespace(uri)?;
    let mut parameters = query(uri)?;
    let invalid = |detail: String| Failure::new(400, "query_invalid", detail);
    let name = parameters
        .remove("name")
        .ok_or_else(|| invalid("name the function: ?name=NAME".to_owned()))?;
    let name = plain_name(&name).to_owned();
    let deployed = gateway
        .functions
        .get(&name)
        .ok_or_else(|| Failure::unknown_function(&name))?;
    if parameters.contains_key("since") {
        return Err(invalid(
            "`since` cannot be answered: the times of lines are not kept; use `tail` (faas-cli logs --lines)"
                .to_owned(),
        ));
    }
    let tail: Option<i64> = number(&parameters, "tail")?;
    let follow = match parameters.get("follow").map(String::as_str) {
        None | Some("false" | "0" | "") => false,
        Some("true" | "1") => true,
        Some(other) => {
            return Err(invalid(format!(
                "follow must be true or false, not `{other}`"
            )));
        }
    };
    let wanted = PodLogs {
        runtime: None,
        pod: parameters.remove("instance").filter(|pod| !pod.is_empty()),
        ask: LogAsk {
            tail: tail
                .and_then(|tail| u64::try_from(tail).ok())
                .filter(|tail| *tail > 0),
            follow,
        },
    };
    let lines = wanted.lines(gateway, &deployed);
    let text = lines.map(move |line| Ok::<_, Infallible>(written(&name, &line)));
    let mut response = Response::new(Body::stream(text, None));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    Ok(response)
}

fn written(name: &str, line: &LogLine) -> Bytes {
    let message = json!({
        "name": name,
        "namespace": NAMESPACE,
        "instance": &*line.pod,
        "timestamp": timestamp(unix_now()),
        "text": String::from_utf8_lossy(&line.text),
    });
    Bytes::from(format!("{message}\n"))
}
