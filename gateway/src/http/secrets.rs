//! `/v1/secrets`: names are told, what they hold never is.

use super::Body;
use super::answer::json;
use super::functions::{flag, known, method};
use super::invoke::query;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::secrets::{LARGEST, SecretError, Secrets};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A secret as it is shown: `GET /v1/secrets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretView {
    /// Its name.
    pub name: String,
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        let text = error.to_string();
        match error {
            SecretError::Name(_) => Self::new(400, "secret_invalid", text),
            SecretError::TooLarge(_) => Self::new(413, "body_too_large", text),
            SecretError::Disk(_) => Self::new(507, "storage_full", text),
        }
    }
}

/// `GET /v1/secrets`.
pub(super) async fn collection(gateway: &Gateway) -> Result<Response<Body>, Failure> {
    let named = |name| SecretView { name };
    let all: Vec<SecretView> = names(gateway).await?.into_iter().map(named).collect();
    Ok(json(StatusCode::OK, &all))
}

/// `PUT` (the body is the secret; with `?replace=false` or `true` it must be new, or be there) and
/// `DELETE /v1/secrets/{name}`.
pub(super) async fn one(
    gateway: &Gateway,
    name: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    match *request.method() {
        Method::PUT => {
            let parameters = query(request.uri())?;
            known(&parameters, &["replace"])?;
            let replace = match parameters.contains_key("replace") {
                true => Some(flag(&parameters, "replace")?),
                false => None,
            };
            let body = Limited::new(request.into_body(), LARGEST)
                .collect()
                .await
                .map_err(|e| match e.is::<LengthLimitError>() {
                    true => Failure::new(413, "body_too_large", "a secret has at most 1 MiB"),
                    false => Failure::new(400, "body_incomplete", e.to_string()),
                })?;
            let existed = keep(gateway, name, body.to_bytes().to_vec(), replace).await?;
            let view = SecretView {
                name: name.to_owned(),
            };
            let status = if existed {
                StatusCode::OK
            } else {
                StatusCode::CREATED
            };
            Ok(json(status, &view))
        }
        Method::DELETE => {
            remove(gateway, name).await?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        _ => Err(method("PUT or DELETE")),
    }
}

/// The names of all.
pub(super) async fn names(gateway: &Gateway) -> Result<Vec<String>, Failure> {
    on_disk(gateway, |secrets| Ok(secrets.list()?)).await
}

/// Keeps a secret; says whether it was there. `replaces`: whether it has to be.
pub(super) async fn keep(
    gateway: &Gateway,
    name: &str,
    bytes: Vec<u8>,
    replaces: Option<bool>,
) -> Result<bool, Failure> {
    let name = name.to_owned();
    on_disk(gateway, move |secrets| {
        let existed = secrets.missing(std::slice::from_ref(&name)).is_none();
        match replaces {
            Some(true) if !existed => return Err(unknown(&name)),
            Some(false) if existed => {
                let detail = format!("there is a secret `{name}`");
                return Err(Failure::new(409, "secret_exists", detail));
            }
            _ => {}
        }
        Ok(secrets.put(&name, &bytes)?)
    })
    .await
}

/// Forgets a secret. Pods that run keep their copies.
pub(super) async fn remove(gateway: &Gateway, name: &str) -> Result<(), Failure> {
    let name = name.to_owned();
    on_disk(gateway, move |secrets| match secrets.remove(&name)? {
        true => Ok(()),
        false => Err(unknown(&name)),
    })
    .await
}

fn unknown(name: &str) -> Failure {
    let name: String = name.chars().take(64).collect();
    Failure::new(
        404,
        "unknown_secret",
        format!("there is no secret `{name}`"),
    )
}

/// Disks are slow: not on the thread that serves others.
async fn on_disk<T: Send + 'static>(
    gateway: &Gateway,
    work: impl FnOnce(&Secrets) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let secrets = Arc::clone(&gateway.secrets);
    let done = gateway.runtime.spawn_blocking(move || work(&secrets)).await;
    done.unwrap_or_else(|e| Err(Failure::new(500, "internal", e.to_string())))
}
