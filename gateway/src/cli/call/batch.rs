//! A batch from its upload to its last event.

use super::progress::Progress;
use super::summary::Summary;
use crate::cli::client::{Call, Client};
use crate::cli::failed::Failed;
use crate::cli::quantity::{seconds, size};
use crate::requester::events::Event;
use futures_util::StreamExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the bytes sent are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A batch that is done.
#[derive(Debug)]
pub(in crate::cli) struct Carried {
    /// Path of its result at the gateway.
    pub(in crate::cli) result: String,
    /// Media type of the result.
    pub(in crate::cli) content_type: String,
    /// What is to be said of it.
    pub(in crate::cli) summary: Summary,
}

/// Shows how far an upload is until what it waits for is there.
pub(super) async fn uploading<T>(
    progress: &Progress,
    sent: &AtomicU64,
    length: Option<u64>,
    answer: impl Future<Output = T>,
) -> T {
    let mut look = tokio::time::interval(LOOK);
    tokio::pin!(answer);
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            _ = look.tick() => {
                let sent = sent.load(Ordering::Relaxed);
                if length.is_some_and(|length| sent >= length) {
                    progress.waiting("sent; waiting for the answer");
                } else {
                    progress.bytes("sending", sent, length);
                }
            }
        }
    }
}

/// Sends a batch and follows its events.
pub(in crate::cli) async fn carry(
    client: &Client,
    call: Call,
    sent: &AtomicU64,
    length: Option<u64>,
    progress: &Progress,
) -> Result<Carried, Failed> {
    let mut events = uploading(progress, sent, length, client.batch(call)).await?;
    let mut why = None;
    let mut at: Vec<String> = Vec::new();
    while let Some(event) = events.next().await {
        match event? {
            Event::Accepted {
                invocation,
                items,
                bytes,
            } => progress.note(&format!(
                "accepted as {invocation}: {items} items, {}",
                size(bytes)
            )),
            Event::Placed {
                runtime,
                site,
                mode,
                predicted_s,
                predicted_90,
                reason,
            } => {
                let said = placed(&runtime, &site, predicted_s, predicted_90, &reason);
                progress.note(&format!("{mode}: {said}"));
                why = Some(reason);
            }
            Event::Transfer {
                runtime,
                bytes,
                emulated,
            } => {
                let emulated = if emulated {
                    ", over an emulated link"
                } else {
                    ""
                };
                progress.phase(&format!(
                    "{} on the way to {runtime}'s site{emulated}",
                    size(bytes)
                ));
            }
            Event::Working {
                runtime,
                pod,
                start,
            } => {
                progress.phase(&format!("working on {runtime} in pod {pod} ({start})"));
                at.push(pod);
            }
            Event::Progress {
                done,
                total,
                stage,
                by_runtime,
                ..
            } => {
                let by: Vec<String> = by_runtime.iter().map(|(r, n)| format!("{r} {n}")).collect();
                let text = match stage {
                    Some(stage) => stage,
                    None if by.len() > 1 => format!("items done ({})", by.join(", ")),
                    None => "items done".to_owned(),
                };
                progress.steps(&text, done, total);
            }
            Event::Resolved {
                runtime,
                both,
                edge_rest_s,
                cloud_rest_s,
            } => progress.note(&resolved(&runtime, both, edge_rest_s, cloud_rest_s)),
            Event::Retry { reason } => progress.note(&format!("once more, after: {reason}")),
            Event::Result {
                result,
                content_type,
                items,
                failed_items,
                measurement,
                stages_s,
            } => {
                let summary = Summary {
                    pod: (!at.is_empty()).then(|| at.join(" and ")),
                    reason: why,
                    items: Some(items),
                    failed_items,
                    stages_s,
                    ..Summary::of(*measurement)
                };
                return Ok(Carried {
                    result,
                    content_type,
                    summary,
                });
            }
            Event::Error { problem } => {
                return Err(Failed::Problem {
                    problem: Box::new(problem),
                    retry_after_s: None,
                });
            }
        }
    }
    Err(Failed::Machine(
        "the gateway ended its answer before the batch was done".to_owned(),
    ))
}

fn resolved(
    runtime: &str,
    both: bool,
    edge_rest_s: Option<f64>,
    cloud_rest_s: Option<f64>,
) -> String {
    let rest =
        |rest: Option<f64>| rest.map_or("unknown".to_owned(), |s| format!("{} s", seconds(s)));
    let then = if both {
        "both run, the first one done ends the other"
    } else {
        "the edge goes on alone"
    };
    format!(
        "{runtime} is up: left at the edge {}, there {}; {then}",
        rest(edge_rest_s),
        rest(cloud_rest_s)
    )
}

fn placed(
    runtime: &str,
    site: &str,
    predicted_s: Option<f64>,
    predicted_90: Option<(f64, f64)>,
    reason: &str,
) -> String {
    let predicted = match (predicted_s, predicted_90) {
        (Some(mean), Some((low, high))) => format!(
            "{} s predicted, {}..{} s in nine of ten cases",
            seconds(mean),
            seconds(low),
            seconds(high)
        ),
        (Some(mean), None) => format!("{} s predicted", seconds(mean)),
        (None, _) => "nothing to predict from yet".to_owned(),
    };
    format!("placed on {runtime} (site {site}): {predicted}; {reason}")
}
