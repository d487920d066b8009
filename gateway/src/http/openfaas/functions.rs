//! `/system/functions`, `/system/function/{name}`, `/system/scale-function/{name}`.

use super::deployment::FunctionDeployment;
use super::status::FunctionStatus;
use super::{Answer, about, check_namespace, check_query_namespace, empty, plain_name, read};
use crate::failure::Failure;
use crate::function::FunctionSpec;
use crate::gateway::Gateway;
use crate::http::answer::json;
use crate::http::functions::method;
use http::{Method, Request, StatusCode, Uri};
use hyper::body::Incoming;
use serde::Deserialize;
use std::sync::Arc;

/// What `DELETE /system/functions` carries.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Removal {
    function_name: String,
    namespace: Option<String>,
}

/// What `POST /system/scale-function/{name}` carries.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scale {
    service_name: Option<String>,
    replicas: u32,
    namespace: Option<String>,
}

/// `GET`, `POST`, `PUT` and `DELETE /system/functions`.
pub(super) async fn collection(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Answer {
    match *request.method() {
        Method::GET | Method::HEAD => {
            check_query_namespace(request.uri())?;
            let all = gateway.functions.all();
            let all: Vec<FunctionStatus> = all
                .iter()
                .map(|deployed| FunctionStatus::of(gateway, deployed))
                .collect();
            Ok(json(StatusCode::OK, &all))
        }
        Method::POST => deploy(gateway, request, false).await,
        Method::PUT => deploy(gateway, request, true).await,
        Method::DELETE => {
            let removal: Removal = read(request).await?;
            check_namespace(removal.namespace.as_deref())?;
            let name = plain_name(&removal.function_name);
            gateway.remove(name).await?;
            Ok(about(name, StatusCode::ACCEPTED))
        }
        _ => Err(method("GET, POST, PUT or DELETE")),
    }
}

/// Deploys a new function, or replaces one that there is.
async fn deploy(gateway: &Arc<Gateway>, request: Request<Incoming>, replaces: bool) -> Answer {
    let deployment: FunctionDeployment = read(request).await?;
    let name = deployment.service.clone();
    let exists = gateway.functions.get(&name).is_some();
    if replaces && !exists {
        return Err(Failure::unknown_function(&name));
    }
    let object = deployment.object(|spec| first_able(gateway, spec))?;
    if exists && !replaces {
        let detail = format!("there is a function `{name}`; change it with PUT");
        return Err(Failure::new(409, "function_exists", detail));
    }
    gateway.deploy(object).await?;
    let status = match replaces {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    Ok(about(&name, status))
}

/// The first runtime that the function may use and whose site can run what it has: pods that are kept
/// ready are kept there.
fn first_able(gateway: &Gateway, spec: &FunctionSpec) -> Option<String> {
    let mut all = gateway.scheduler.runtimes().iter();
    let able = all.find(|info| {
        (spec.runtimes.is_empty() || spec.runtimes.contains(&info.name))
            && gateway
                .site(&info.site)
                .is_some_and(|site| site.can_run(spec).is_ok())
    });
    able.map(|info| info.name.clone())
}

/// `GET /system/function/{name}`.
pub(super) fn one(gateway: &Gateway, name: &str, uri: &Uri) -> Answer {
    check_query_namespace(uri)?;
    let name = plain_name(name);
    let deployed = gateway
        .functions
        .get(name)
        .ok_or_else(|| Failure::unknown_function(name))?;
    Ok(json(
        StatusCode::OK,
        &FunctionStatus::of(gateway, &deployed),
    ))
}

/// `POST /system/scale-function/{name}`.
pub(super) async fn scale(gateway: &Gateway, name: &str, request: Request<Incoming>) -> Answer {
    check_query_namespace(request.uri())?;
    let scale: Scale = read(request).await?;
    check_namespace(scale.namespace.as_deref())?;
    let name = plain_name(name);
    if let Some(other) = scale
        .service_name
        .filter(|other| other != name && !other.is_empty())
    {
        let detail = format!("the path says `{name}`, serviceName says `{other}`");
        return Err(Failure::new(400, "scale_invalid", detail));
    }
    gateway.scale(name, scale.replicas, None).await?;
    Ok(empty(StatusCode::ACCEPTED))
}
