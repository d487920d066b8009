//! `/v1/tokens`: names and scopes are told; a token itself once, in the answer that makes it.

use super::Body;
use super::answer::json;
use super::functions::{method, object_body};
use super::gate::About;
use crate::auth::{NewToken, TokenView};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::scheduler::unix_now;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

/// `GET` and `POST /v1/tokens`.
pub(super) async fn collection(
    gateway: &Gateway,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    match *request.method() {
        Method::GET | Method::HEAD => {
            let all = gateway.history.tokens().await?;
            let all: Vec<TokenView> = all.iter().map(TokenView::of).collect();
            Ok(json(StatusCode::OK, &all))
        }
        Method::POST => {
            let body = object_body(request).await?;
            let invalid = |text: String| Failure::new(400, "token_invalid", text);
            let new: NewToken = serde_json::from_slice(&body)
                .map_err(|e| invalid(format!("the body is no token to be made: {e}")))?;
            let (record, secret) = new.make(unix_now()).map_err(invalid)?;
            let mut view = TokenView::of(&record);
            if !gateway.history.put_token(record).await? {
                let detail = format!(
                    "there is a token `{}`; revoke it first, or choose another name",
                    view.name
                );
                return Err(Failure::new(409, "token_exists", detail));
            }
            gateway.auth.reload(&gateway.history).await?;
            let name = About(view.name.clone());
            view.token = Some(secret.text().to_owned());
            let mut answer = json(StatusCode::CREATED, &view);
            answer.extensions_mut().insert(name);
            Ok(answer)
        }
        _ => Err(method("GET or POST")),
    }
}

/// `DELETE /v1/tokens/{name}`.
pub(super) async fn one(
    gateway: &Gateway,
    name: &str,
    asked: &Method,
) -> Result<Response<Body>, Failure> {
    if *asked != Method::DELETE {
        return Err(method("DELETE"));
    }
    // To its end, also when the caller leaves, as every change: a token that is gone from the disk is not
    // to work on.
    let there = gateway.history.delete_token(name).await?;
    gateway.auth.reload(&gateway.history).await?;
    if !there {
        let name: String = name.chars().take(64).collect();
        let detail =
            format!("there is no token `{name}`; `stoic token list` shows those there are");
        return Err(Failure::new(404, "unknown_token", detail));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
