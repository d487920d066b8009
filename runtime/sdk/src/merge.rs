//! The results of the parts of one batch, put together: what `POST /_stoic/merge` does.

use crate::batch::BatchOutcome;
use crate::call::Call;
use crate::invocation::{Answer, guarded, on_thread};
use crate::pod_state::{Ended, Pod};
use crate::transfer::Transfer;
use crate::{Function, Response, reply};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;
use stoic_protocol::{MergeRequest, Problem, ProgressLine};

/// The parts of one batch that was worked by several pods.
#[derive(Debug)]
pub struct Merge {
    action: String,
    parameters: BTreeMap<String, String>,
    parts: Vec<PartResult>,
}

/// The result of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartResult {
    /// What [`Function::batch`] made of it.
    pub bytes: Bytes,
    /// The items that count, as positions in the part: another pod may have done the others.
    pub take: Range<usize>,
}

impl Merge {
    /// Parts at hand, in the order of the batch's items.
    #[must_use]
    pub fn local(
        action: &str,
        parameters: BTreeMap<String, String>,
        parts: impl IntoIterator<Item = PartResult>,
    ) -> Self {
        Self {
            action: action.to_owned(),
            parameters,
            parts: parts.into_iter().collect(),
        }
    }

    /// What was done: `infer`, or another action whose batches can be divided.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }

    /// A query parameter of the invocation.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The parts, in the order of the batch's items.
    #[must_use]
    pub fn parts(&self) -> &[PartResult] {
        &self.parts
    }
}

/// Fetches the parts, has the function merge them, and puts the result where the request says.
pub(crate) async fn merge<F: Function>(
    pod: &Arc<Pod<F>>,
    request: MergeRequest,
) -> Result<Answer, Problem> {
    let running = pod.admit()?;
    let cancel = pod.stop.child_token();
    // Dropped with this future when the caller's connection closes.
    let caller = cancel.clone().drop_guard();
    let call = Call::new(Some(request.invocation.clone()), cancel);
    let worker = Arc::clone(pod);
    let line = on_thread(move || {
        let _running = running;
        guarded(|| work(&worker, &request, &call))
    })
    .await?;
    caller.disarm();
    pod.count(Ended::Done);
    Response::json(&line).map(reply::answer)
}

fn work<F: Function>(
    pod: &Pod<F>,
    request: &MergeRequest,
    call: &Call,
) -> Result<ProgressLine, Problem> {
    let function = pod.loaded()?;
    let transfer: &Transfer = &pod.transfer;
    let mut parts = Vec::with_capacity(request.parts.len());
    for part in &request.parts {
        let position = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        parts.push(PartResult {
            bytes: transfer.fetch_blocking(&part.url, 0..part.bytes, part.bytes, call)?,
            take: position(part.take.start)..position(part.take.end),
        });
    }
    let merge = Merge::local(&request.action, request.parameters.clone(), parts);
    let began = Instant::now();
    let BatchOutcome {
        content_type,
        body,
        items,
        failed_items,
        model,
    } = function.merge(&merge, call)?;
    call.check()?;
    call.stage("merge", began.elapsed());
    let value = match &request.output {
        Some(output) => {
            let began = Instant::now();
            transfer.put_blocking(&output.url, &content_type, Bytes::from(body), call)?;
            call.stage("store", began.elapsed());
            None
        }
        None => Some(
            serde_json::from_slice(&body)
                .unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into()),
        ),
    };
    Ok(ProgressLine::Result {
        value,
        content_type,
        items,
        failed_items,
        stages_s: call.stages(),
        model,
    })
}
