//! When a pod is ready: its health path answers 200. Pods on the SDK tell with it where the time went.

use super::{PodSpec, StartError};
use crate::link;
use std::net::SocketAddr;
use std::time::Duration;
use stoic_protocol::{headers, stages};
use tokio::sync::watch;

/// Returns when the health path answers 200, with what the pod tells of its start. Tries again at once
/// after a refused connection, with a wait that grows from 1 to 20 ms: no grid is visible in deployment
/// times. `last_words` is asked for the last line that a pod wrote which was not ready in time.
///
/// # Errors
/// The pod exited, or was not ready in time.
pub(super) async fn await_ready<F>(
    address: SocketAddr,
    spec: &PodSpec,
    mut exited: watch::Receiver<Option<String>>,
    last_words: impl FnOnce() -> F,
) -> Result<String, StartError>
where
    F: Future<Output = Option<String>>,
{
    let ready = async {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(answer) = link::health(address, &spec.health).await {
                let told = answer.get(headers::START_STAGES);
                let told = told.and_then(|value| value.to_str().ok());
                return told.unwrap_or_default().to_owned();
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_millis(20));
        }
    };
    let exit = async {
        let how = exited.wait_for(Option::is_some).await.ok();
        how.and_then(|how| how.clone()).unwrap_or_default()
    };
    tokio::select! {
        told = ready => Ok(told),
        how = exit => Err(exited_early(&how)),
        () = tokio::time::sleep(spec.ready_timeout) => {
            Err(never_ready(spec, Some(address.port()), last_words().await))
        }
    }
}

pub(super) fn exited_early(how: &str) -> StartError {
    StartError::Exited(format!("the pod exited before it was ready: {how}"))
}

pub(super) fn never_ready(spec: &PodSpec, port: Option<u16>, last: Option<String>) -> StartError {
    let other = match spec.health.as_str() {
        link::HEALTH_PATH => format!(" or {}", link::OPENFAAS_HEALTH_PATH),
        _ => String::new(),
    };
    StartError::NeverReady(format!(
        "the pod did not answer 200 at {}{other}{} within {}{}",
        spec.health,
        port.map_or_else(String::new, |port| format!(" on port {port}")),
        humantime::format_duration(spec.ready_timeout),
        last.map_or_else(String::new, |line| format!("; its last line was: {line}")),
    ))
}

/// Those of them that are stages of a start, in their usual order.
pub(super) fn known<'a>(
    told: impl IntoIterator<Item = (&'a str, f64)>,
) -> impl Iterator<Item = (&'static str, f64)> {
    let mut found: Vec<(&'static str, f64)> = told
        .into_iter()
        .filter(|(_, seconds)| seconds.is_finite() && *seconds >= 0.0)
        .filter_map(|(name, seconds)| Some((stages::named(name)?, seconds)))
        .collect();
    found.sort_by_key(|(name, _)| stages::ALL.iter().position(|stage| stage == name));
    found.into_iter()
}

/// The stages that a pod told of with its health.
pub(super) fn told_stages(told: &str) -> Vec<(&'static str, f64)> {
    let pairs = told.split(';').filter_map(|pair| {
        let (name, seconds) = pair.split_once('=')?;
        Some((name.trim(), seconds.trim().parse().ok()?))
    });
    known(pairs).collect()
}
