//! `/v1/...`: functions, predictions, runtimes, pods, measurements.

use super::Body;
use super::answer::json;
use super::gate::{About, Who};
use super::invoke::query;
use super::views::{FunctionView, GatewayInfo, PredictView, RuntimeFunction, RuntimeView};
use crate::auth::Scope;
use crate::failure::Failure;
use crate::function::{FunctionObject, Input};
use crate::gateway::Gateway;
use crate::requester::emulated;
use crate::runnable::Deployed;
use crate::scheduler::{Ask, LinkView};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use stoic_placement::Features;
use stoic_placement::modes::Work;

/// Largest object, of a function or else.
const OBJECT_LIMIT: usize = 2 << 20;

type Answer = Result<Response<Body>, Failure>;

/// `GET` and `POST /v1/functions`.
pub(super) async fn collection(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Answer {
    match *request.method() {
        Method::GET => {
            let all: Vec<FunctionView> = gateway
                .functions
                .all()
                .iter()
                .map(|deployed| FunctionView::of(deployed))
                .collect();
            Ok(json(StatusCode::OK, &all))
        }
        Method::POST => deploy(gateway, request, None).await,
        _ => Err(method("GET or POST")),
    }
}

/// `GET`, `PUT` and `DELETE /v1/functions/{name}`.
pub(super) async fn one(
    gateway: &Arc<Gateway>,
    name: &str,
    who: &Who,
    request: Request<Incoming>,
) -> Answer {
    match *request.method() {
        Method::GET => {
            let deployed = gateway
                .functions
                .get(name)
                .ok_or_else(|| Failure::unknown_function(name))?;
            let mut view = FunctionView::of(&deployed);
            if !who.may(Scope::Deploy) {
                // Where people put keys, in spite of secrets.
                view.object.spec.env.clear();
            }
            Ok(json(StatusCode::OK, &view))
        }
        Method::PUT => deploy(gateway, request, Some(name)).await,
        Method::DELETE => {
            gateway.remove(name).await?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        _ => Err(method("GET, PUT or DELETE")),
    }
}

async fn deploy(gateway: &Arc<Gateway>, request: Request<Incoming>, name: Option<&str>) -> Answer {
    let body = object_body(request).await?;
    let text = std::str::from_utf8(&body)
        .map_err(|_| Failure::new(400, "function_invalid", "the function is no UTF-8 text"))?;
    let object = FunctionObject::parse(text)?;
    if let Some(name) = name.filter(|name| *name != object.metadata.name) {
        let detail = format!(
            "the path says `{name}`, metadata.name says `{}`",
            object.metadata.name
        );
        return Err(Failure::new(400, "function_invalid", detail));
    }
    let existed = gateway.functions.get(&object.metadata.name).is_some();
    let about = About(object.metadata.name.clone());
    let deployed = gateway.deploy(object).await?;
    let status = if existed {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let mut answer = json(status, &FunctionView::of(&deployed));
    answer.extensions_mut().insert(about);
    Ok(answer)
}

/// `GET /v1/functions/{name}/predict?items=N&bytes=B&action=A&deadline=D&mode=M&explain=true`.
pub(super) fn predict(gateway: &Arc<Gateway>, name: &str, uri: &Uri) -> Answer {
    let deployed = gateway
        .functions
        .get(name)
        .ok_or_else(|| Failure::unknown_function(name))?;
    let parameters = query(uri)?;
    known(
        &parameters,
        &["items", "bytes", "action", "deadline", "mode", "explain"],
    )?;
    let items: u64 = number(&parameters, "items")?.unwrap_or(1);
    let bytes: u64 = number(&parameters, "bytes")?.unwrap_or(0);
    let action = parameters.get("action").map_or("infer", String::as_str);
    let deadline_s = deadline(&parameters)?;
    let mode = predicted_mode(&parameters)?;
    let explain = flag(&parameters, "explain")?;
    let ask = Ask {
        action,
        features: Features::new(items as f64, bytes as f64),
        pinned: None,
        avoid: &[],
        deadline_s,
    };
    let (mut choice, mut reason) = match gateway.scheduler.choose(&deployed, &ask) {
        Ok(placed) => (
            Some(gateway.scheduler.runtimes()[placed.runtime].name.clone()),
            placed.reason.to_string(),
        ),
        Err(error) => (None, error.to_string()),
    };
    let runtimes = match explain {
        true => gateway.scheduler.predict_explained(&deployed, &ask),
        false => gateway.scheduler.predict(&deployed, &ask),
    };
    let mut modes = Vec::new();
    if explain || mode != "selector" {
        // A batch of inferences can be repeated, and divided where its function says so; what makes a
        // model, or a request that passes through, cannot.
        let spec = &deployed.function.object.spec;
        let repeatable = spec.input == Input::Batch && action == "infer";
        let work = Work {
            items: usize::try_from(items).unwrap_or(usize::MAX),
            divisible: repeatable && spec.divisible,
            repeatable,
        };
        if let Ok((all, best, why)) = gateway.scheduler.forecast(&deployed, &ask, &work) {
            let meant = match mode {
                "selector" => None,
                "auto" => Some((best, why)),
                _ => {
                    let found = all.iter().find(|forecast| forecast.mode == mode).cloned();
                    let none = format!(
                        "mode {mode} is not possible: too little is known, or there are too few runtimes"
                    );
                    let why = found
                        .as_ref()
                        .map_or(none, |f| format!("{mode}, expected {:.3} s", f.expected_s));
                    reason.clone_from(&why);
                    choice = choice.filter(|_| found.is_some());
                    found.map(|found| (found, why))
                }
            };
            if let Some((forecast, why)) = meant {
                choice = Some(forecast.runtimes.join("+"));
                reason = why;
            }
            modes = all;
        }
    }
    Ok(json(
        StatusCode::OK,
        &PredictView {
            function: name.to_owned(),
            action: action.to_owned(),
            items,
            bytes,
            deadline_s,
            mode: mode.to_owned(),
            modes,
            runtimes,
            choice,
            reason,
        },
    ))
}

/// Modes that can be asked about.
const MODES: [&str; 5] = ["selector", "hedged", "duplicator", "cooperative", "auto"];

fn predicted_mode(parameters: &BTreeMap<String, String>) -> Result<&'static str, Failure> {
    let Some(wanted) = parameters.get("mode") else {
        return Ok(MODES[0]);
    };
    MODES
        .into_iter()
        .find(|mode| mode == wanted)
        .ok_or_else(|| {
            let detail = format!(
                "there is no mode `{wanted}` to predict; there are: {}",
                MODES.join(", ")
            );
            Failure::new(400, "unknown_mode", detail)
        })
}

/// A length of time such as `30s`, or a number of seconds.
fn deadline(parameters: &BTreeMap<String, String>) -> Result<Option<f64>, Failure> {
    let Some(value) = parameters.get("deadline") else {
        return Ok(None);
    };
    let seconds = value.parse::<f64>().ok().or_else(|| {
        let duration = humantime::parse_duration(value).ok()?;
        Some(duration.as_secs_f64())
    });
    match seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(Failure::new(
            400,
            "query_invalid",
            format!("deadline must be a length of time such as 30s, not `{value}`"),
        )),
    }
}

pub(super) fn flag(parameters: &BTreeMap<String, String>, name: &str) -> Result<bool, Failure> {
    match parameters.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true" | "") => Ok(true),
        Some(value) => Err(Failure::new(
            400,
            "query_invalid",
            format!("{name} must be true or false, not `{value}`"),
        )),
    }
}

/// `GET /v1/functions/{name}/models`.
pub(super) async fn models(gateway: &Gateway, name: &str) -> Answer {
    Ok(json(StatusCode::OK, &gateway.history.models(name).await?))
}

/// `GET /v1/runtimes`.
pub(super) fn runtimes(gateway: &Gateway) -> Response<Body> {
    let functions = gateway.functions.all();
    let standings = |runtime: usize| -> Vec<RuntimeFunction> {
        let of = |deployed: &Arc<Deployed>| {
            Some(RuntimeFunction {
                function: deployed.function.name().to_owned(),
                standing: deployed.pool(runtime)?.standing(),
            })
        };
        functions.iter().filter_map(of).collect()
    };
    let view = |(index, info): (usize, &crate::scheduler::RuntimeInfo)| {
        let config = gateway.config.runtimes.get(&info.name);
        let link = gateway.scheduler.link(index);
        let trouble = gateway.site(&info.site).and_then(|site| site.trouble());
        RuntimeView {
            name: info.name.clone(),
            site: info.site.clone(),
            backend: gateway
                .site(&info.site)
                .map_or_else(String::new, |site| site.backend().to_owned()),
            threads: config.map_or(0, |config| config.threads),
            precision: config.map_or_else(String::new, |config| config.precision.clone()),
            gpus: config.map_or(0, |config| config.gpus),
            bandwidth_bytes_per_s: Some(link.bandwidth_bytes_per_s)
                .filter(|bandwidth| bandwidth.is_finite()),
            rtt_s: link.rtt_s,
            emulated: emulated(info.link_emulated, info.deployment_emulated),
            price: info.price,
            available: trouble.is_none() && standings(index).iter().all(|f| f.standing.available),
            reason: trouble,
            link: LinkView::of(&gateway.scheduler.link_state(index)),
            functions: standings(index),
        }
    };
    let all: Vec<RuntimeView> = gateway
        .scheduler
        .runtimes()
        .iter()
        .enumerate()
        .map(view)
        .collect();
    json(StatusCode::OK, &all)
}

/// `GET /v1/pods`.
pub(super) fn pods(gateway: &Gateway) -> Response<Body> {
    json(StatusCode::OK, &gateway.pods())
}

/// `DELETE /v1/pods/{pod}`: ends one pod in order.
pub(super) fn end_pod(gateway: &Gateway, name: &str, method_: &Method) -> Answer {
    if method_ != Method::DELETE {
        return Err(method("DELETE"));
    }
    gateway.end_pod(name)?;
    Ok(json(
        StatusCode::ACCEPTED,
        &serde_json::json!({"pod": name, "ending": true}),
    ))
}

/// What `POST /v1/functions/{name}/scale` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scale {
    replicas: u32,
    runtime: Option<String>,
}

/// `POST /v1/functions/{name}/scale`: keeps so many pods ready, until the next deployment.
pub(super) async fn scale(
    gateway: &Arc<Gateway>,
    name: &str,
    request: Request<Incoming>,
) -> Answer {
    if request.method() != Method::POST {
        return Err(method("POST"));
    }
    let body = object_body(request).await?;
    let Scale { replicas, runtime } = serde_json::from_slice(&body)
        .map_err(|error| Failure::new(400, "scale_invalid", error.to_string()))?;
    let scaled = gateway.scale(name, replicas, runtime.as_deref()).await?;
    Ok(json(StatusCode::OK, &scaled))
}

/// The body of a request that carries an object.
pub(super) async fn object_body(request: Request<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(request.into_body(), OBJECT_LIMIT)
        .collect()
        .await;
    let body = body.map_err(|e| match e.is::<LengthLimitError>() {
        true => Failure::new(413, "body_too_large", "an object has at most 2 MiB"),
        false => Failure::new(400, "body_incomplete", e.to_string()),
    })?;
    Ok(body.to_bytes())
}

/// `GET /v1/measurements?function=F&runtime=R&limit=N`: the newest first.
pub(super) async fn measurements(gateway: &Gateway, uri: &Uri) -> Answer {
    let parameters = query(uri)?;
    known(&parameters, &["function", "runtime", "limit"])?;
    let limit: u32 = number(&parameters, "limit")?.unwrap_or(100).min(100_000);
    let found = gateway
        .history
        .measurements(
            parameters.get("function").cloned(),
            parameters.get("runtime").cloned(),
            limit,
        )
        .await?;
    Ok(json(StatusCode::OK, &found))
}

/// `GET /v1/account`: what races between edge and cloud saved the cloud, and cost it.
pub(super) async fn account(gateway: &Gateway) -> Answer {
    Ok(json(StatusCode::OK, &gateway.history.account().await?))
}

/// `GET /v1/info`.
pub(super) fn info(gateway: &Gateway) -> Response<Body> {
    let info = GatewayInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        data: gateway.config.data.display().to_string(),
    };
    json(StatusCode::OK, &info)
}

pub(super) fn method(allowed: &str) -> Failure {
    Failure::new(405, "method_not_allowed", format!("use {allowed} here"))
}

pub(super) fn known(parameters: &BTreeMap<String, String>, known: &[&str]) -> Result<(), Failure> {
    match parameters.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(Failure::new(
            400,
            "query_invalid",
            format!(
                "there is no parameter `{key}`; there are: {}",
                known.join(", ")
            ),
        )),
    }
}

pub(super) fn number<N: FromStr>(
    parameters: &BTreeMap<String, String>,
    name: &str,
) -> Result<Option<N>, Failure> {
    let parse = |value: &String| {
        value.parse().map_err(|_| {
            Failure::new(
                400,
                "query_invalid",
                format!("{name} must be a number, not `{value}`"),
            )
        })
    };
    parameters.get(name).map(parse).transpose()
}
