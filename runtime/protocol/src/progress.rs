//! The stream of progress lines a pod sends while it works a batch: one JSON object a line, ended by
//! exactly one `result` or `error`.

use crate::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line of an `application/x-ndjson` answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ProgressLine {
    /// The package was read; so many items will be worked.
    Started {
        /// Items in the range that will be worked.
        items: u64,
    },
    /// So far. Sent at most a few times a second, and after the last item.
    Progress {
        /// Units done: items, or steps where an action has phases of its own (training).
        done: u64,
        /// Units in all.
        total: u64,
        /// Seconds since the work began.
        elapsed_s: f64,
        /// What is being done, where it is not plain inference: `epoch 3 of 20`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<String>,
    },
    /// The work is done. Where the request named an output, the result is there by now.
    Result {
        /// The result itself, where the request named no output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<serde_json::Value>,
        /// Media type of the result.
        content_type: String,
        /// Items worked, with a label or with an error of their own.
        items: u64,
        /// Of these, items that carry an error.
        failed_items: u64,
        /// Seconds by stage inside the pod (`fetch`, `decode`, `infer`, `train`, `store`, ...). Stages
        /// overlap, so they need not add up.
        #[serde(default)]
        stages_s: BTreeMap<String, f64>,
        /// Version of the model that did the work, or that was made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    /// The batch as a whole failed.
    Error {
        /// Why.
        problem: Problem,
    },
}

/// What a pod says of itself (`GET /_stoic/report`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PodReport {
    /// Devices in use: `cpu` or names of GPUs.
    pub devices: Vec<String>,
    /// `fp32`, `bf16`, ...
    pub precision: String,
    /// Threads of compute in all.
    pub threads: u32,
    /// Version of the model in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Seconds by [`stage`](crate::stages) of the start, and by those of the function's own.
    #[serde(default)]
    pub start_s: BTreeMap<String, f64>,
}
