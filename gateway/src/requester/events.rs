//! What a client that accepts `application/x-ndjson` is told while its batch is on its way.

use crate::history::Measurement;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use stoic_protocol::Problem;
use tokio::sync::mpsc;

/// One line of the stream. The last is `result` or `error`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The package is stored and valid.
    Accepted {
        /// Identity of the invocation.
        invocation: String,
        /// Items in the package.
        items: u64,
        /// Its size.
        bytes: u64,
    },
    /// A runtime was chosen.
    Placed {
        /// The runtime.
        runtime: String,
        /// Its site.
        site: String,
        /// The mode: where several runtimes are used, there is a line for each.
        mode: String,
        /// Predicted response time, in seconds, where it is known.
        predicted_s: Option<f64>,
        /// Its 90 % interval.
        predicted_90: Option<(f64, f64)>,
        /// Why, in one line.
        reason: String,
    },
    /// The package, or a part of it, begins to travel to the site.
    Transfer {
        /// The runtime that it is for.
        runtime: String,
        /// Bytes that travel.
        bytes: u64,
        /// Whether the link is emulated.
        emulated: bool,
    },
    /// A pod has the work.
    Working {
        /// Its runtime.
        runtime: String,
        /// The pod.
        pod: String,
        /// `cold` or `warm`.
        start: String,
    },
    /// Progress in the pod.
    Progress {
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
        /// Seconds since the pod began.
        elapsed_s: f64,
        /// What is being done, where it is not plain inference.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<String>,
        /// Items done by each runtime, where more than one has a part.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        by_runtime: BTreeMap<String, u64>,
    },
    /// The cloud pod is up beside the edge, and it is decided whether both go on (mode `duplicator`).
    Resolved {
        /// The cloud runtime.
        runtime: String,
        /// Both run, or the edge alone.
        both: bool,
        /// Seconds left at the edge, by its progress, where that is known.
        edge_rest_s: Option<f64>,
        /// Seconds that the cloud would take from here, where that is known.
        cloud_rest_s: Option<f64>,
    },
    /// A pod or a runtime failed; its work is done elsewhere, or once more.
    Retry {
        /// Why.
        reason: String,
    },
    /// The batch is done.
    Result {
        /// Path of the result at the gateway; it expires.
        result: String,
        /// Media type of the result.
        content_type: String,
        /// Items worked.
        items: u64,
        /// Of these, items that carry an error.
        failed_items: u64,
        /// As predicted and as it went.
        measurement: Box<Measurement>,
        /// Seconds by stage inside the pod; stages overlap.
        stages_s: BTreeMap<String, f64>,
    },
    /// The batch failed.
    Error {
        /// Why.
        problem: Problem,
    },
}

/// Where events go; nowhere for clients that want the plain result.
#[derive(Debug, Clone, Default)]
pub struct Events(Option<mpsc::UnboundedSender<Event>>);

impl Events {
    /// To a stream. Pods send at most a few lines a second, so the channel need not be bounded.
    #[must_use]
    pub fn to(sender: mpsc::UnboundedSender<Event>) -> Self {
        Self(Some(sender))
    }

    /// Tells the client.
    pub fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(sender) = &self.0 {
            let _ = sender.send(event());
        }
    }
}
