//! `/system/secrets`: names are told, what they hold never is.

use super::{Answer, NAMESPACE, about, check_namespace, check_query_namespace, read};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::http::answer::json;
use crate::http::functions::method;
use crate::http::secrets::{keep, names, remove};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// What requests carry. No `Debug`: it holds a secret.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    value: String,
    /// Bytes that are no text, in base64.
    raw_value: Option<String>,
}

/// `GET`, `POST`, `PUT` and `DELETE /system/secrets`.
pub(super) async fn answer(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Answer {
    let asked = request.method().clone();
    match asked {
        Method::GET | Method::HEAD => {
            check_query_namespace(request.uri())?;
            let named = |name| json!({"name": name, "namespace": NAMESPACE});
            let all: Vec<_> = names(gateway).await?.into_iter().map(named).collect();
            Ok(json(StatusCode::OK, &all))
        }
        Method::POST | Method::PUT => {
            let secret: Secret = read(request).await?;
            check_namespace(secret.namespace.as_deref())?;
            let bytes = match secret.raw_value.filter(|_| secret.value.is_empty()) {
                None => secret.value.into_bytes(),
                Some(raw) => BASE64_STANDARD
                    .decode(raw)
                    .map_err(|_| Failure::new(400, "secret_invalid", "rawValue is no base64"))?,
            };
            let replaces = asked == Method::PUT;
            keep(gateway, &secret.name, bytes, Some(replaces)).await?;
            let status = match replaces {
                true => StatusCode::OK,
                false => StatusCode::CREATED,
            };
            Ok(about(&secret.name, status))
        }
        Method::DELETE => {
            let secret: Secret = read(request).await?;
            check_namespace(secret.namespace.as_deref())?;
            remove(gateway, &secret.name).await?;
            Ok(about(&secret.name, StatusCode::ACCEPTED))
        }
        _ => Err(method("GET, POST, PUT or DELETE")),
    }
}
