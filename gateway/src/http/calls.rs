//! `/async-function/...` and `/v1/calls/...`.

use super::Body;
use super::answer::{failure, json};
use super::functions::{known, method, number};
use super::invoke::{Admitted, admit, discard, internal, query};
use crate::calls::{self, CallState, ResultBody, names};
use crate::config::nearest;
use crate::failure::Failure;
use crate::gateway::Gateway;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use serde_json::json;
use std::sync::Arc;

type Answer = Result<Response<Body>, Failure>;

/// Calls that a page shows unless it is asked for more or less.
const PAGE: u32 = 100;

/// `/async-function/{name}[/path]`: 202 when the call is on disk.
pub(super) async fn accept(
    gateway: &Arc<Gateway>,
    name: &str,
    path: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let admitted = if request.method() == Method::POST {
        admit(gateway, name, &request)
    } else {
        Err(method("POST"))
    };
    let Admitted { deployed, .. } = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => {
            discard(request).await;
            return failure(&refused);
        }
    };
    let (head, body) = request.into_parts();
    let length = body.size_hint().exact();
    let intake = {
        let (gateway, path) = (Arc::clone(gateway), path.to_owned());
        let body = BodyDataStream::new(body);
        async move { calls::accept(&gateway, &deployed, &head, &path, body, length).await }
    };
    // Never cut off between the row and the queue. A caller who leaves before that breaks the body off.
    let accepted = gateway
        .runtime
        .spawn(intake)
        .await
        .map_err(internal)
        .and_then(|accepted| accepted);
    let accepted = match accepted {
        Ok(accepted) => accepted,
        Err(refused) => {
            gateway.metrics.failed(name, &refused.problem.code);
            return failure(&refused);
        }
    };
    let id = accepted.id;
    let text = json!({"id": id, "function": name, "known": accepted.known});
    let mut response = json(StatusCode::ACCEPTED, &text);
    let all = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        all.insert(names::CALL_ID, value);
    }
    if let Ok(value) = HeaderValue::try_from(format!("/v1/calls/{id}")) {
        all.insert(header::LOCATION, value);
    }
    response
}

/// `GET /v1/calls`.
pub(super) async fn list(gateway: &Gateway, uri: &Uri) -> Answer {
    let parameters = query(uri)?;
    known(&parameters, &["function", "state", "before", "limit"])?;
    let state = match parameters.get("state") {
        None => None,
        Some(text) => Some(CallState::named(text).ok_or_else(|| unknown_state(text))?),
    };
    let page = calls::list(
        gateway,
        parameters.get("function").cloned(),
        state,
        parameters.get("before").cloned(),
        number(&parameters, "limit")?.unwrap_or(PAGE),
    )
    .await?;
    Ok(json(StatusCode::OK, &page))
}

fn unknown_state(text: &str) -> Failure {
    let names = CallState::ALL.map(CallState::name);
    let hint = nearest::nearest(text, names.into_iter())
        .map_or_else(String::new, |best| format!("; did you mean `{best}`?"));
    let all = names.join(", ");
    let detail = format!("there is no state `{text}`; there are: {all}{hint}");
    Failure::new(400, "query_invalid", detail)
}

/// `GET` and `DELETE /v1/calls/{id}`.
pub(super) async fn one(gateway: &Gateway, id: &str, asked: &Method) -> Answer {
    match *asked {
        Method::GET | Method::HEAD => Ok(json(StatusCode::OK, &calls::view(gateway, id).await?)),
        Method::DELETE => Ok(json(StatusCode::OK, &calls::cancel(gateway, id).await?)),
        _ => Err(method("GET or DELETE")),
    }
}

/// `POST /v1/calls/{id}/retry`.
pub(super) async fn retry(gateway: &Gateway, id: &str, asked: &Method) -> Answer {
    if asked != Method::POST {
        return Err(method("POST"));
    }
    Ok(json(
        StatusCode::ACCEPTED,
        &calls::revive(gateway, id).await?,
    ))
}

/// `GET /v1/calls/{id}/result`: the function's answer. Its status is a header, so that a refusal of the
/// function is not taken for one of the gateway.
pub(super) async fn result(gateway: &Gateway, id: &str) -> Answer {
    let found = calls::result(gateway, id).await?;
    let mut response = Response::new(match found.body {
        ResultBody::Whole(bytes) => Body::from(Bytes::from(bytes)),
        ResultBody::Stored(body) => Body::stream(body, Some(found.bytes)),
    });
    let all = response.headers_mut();
    for (name, value) in found.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            all.append(name, value);
        }
    }
    all.insert(names::FUNCTION_STATUS, HeaderValue::from(found.status));
    all.insert(names::STATE, HeaderValue::from_static(found.state.name()));
    if let Ok(value) = HeaderValue::from_str(id) {
        all.insert(names::CALL_ID, value);
    }
    Ok(response)
}
