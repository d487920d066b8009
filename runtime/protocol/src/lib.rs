//! What the gateway and its pods say to each other: header names, media types, batch requests,
//! progress lines and problems, and the packets of zygotes. This crate knows no HTTP library, no storage
//! and no model.

pub mod batch;
pub mod headers;
pub mod problem;
pub mod progress;
pub mod zygote;

pub use batch::{
    BatchRequest, ItemRange, LimitRequest, MergePart, MergeRequest, ModelRef, OutputRef,
    PackageRef, PartRef,
};
pub use problem::Problem;
pub use progress::{PodReport, ProgressLine};
pub use zygote::{ZygoteOrder, ZygoteReply};

/// Media type of a [`BatchRequest`] body.
pub const BATCH_MEDIA_TYPE: &str = "application/vnd.stoic.batch+json";
/// Media type of a stream of [`ProgressLine`]s, one JSON object a line.
pub const NDJSON_MEDIA_TYPE: &str = "application/x-ndjson";
/// Media type of a [`Problem`] (RFC 9457).
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";
/// Media type of a zip package.
pub const ZIP_MEDIA_TYPE: &str = "application/zip";
/// Media type of a tar package.
pub const TAR_MEDIA_TYPE: &str = "application/x-tar";

/// Paths a pod answers beside the invocation itself (`POST /`).
pub mod paths {
    /// Readiness: 200 once the model is loaded and has run once, 503 before and while draining.
    pub const HEALTH: &str = "/healthz";
    /// Prometheus metrics of the pod.
    pub const METRICS: &str = "/metrics";
    /// `GET ?items=N`: a package of N representative items, for bootstrap (paper, section 3.7).
    /// 404 where the function has no sample.
    pub const SAMPLE: &str = "/_stoic/sample";
    /// `PUT` with a JSON `ModelRef`: load this model, run it once, and serve it from now on.
    /// Answers 204; 404 where the function takes no models; on failure a problem, and the former
    /// model stays in force.
    pub const MODEL: &str = "/_stoic/model";
    /// `GET ?invocation=ID&within_ms=N`: 204 as soon as no batch of this invocation runs in the pod,
    /// 409 `invocation_running` after so many milliseconds (at most 10,000). How a gateway that gave
    /// up a batch learns that the pod did, too.
    pub const ENDED: &str = "/_stoic/ended";
    /// `PUT` with a JSON `LimitRequest`: a part that runs ends after so many items, since another pod
    /// has done the others. 204; 404 `part_absent` where it does not run any more.
    pub const LIMIT: &str = "/_stoic/limit";
    /// `POST` with a JSON `MergeRequest`: the results of the parts of one batch become its result.
    /// Answers one `ProgressLine`, `result`; 501 where the function's batches cannot be divided.
    pub const MERGE: &str = "/_stoic/merge";
    /// `GET`: the `PodReport` of this pod.
    pub const REPORT: &str = "/_stoic/report";
}

/// Stages of a pod's start, by what names them in reports, metrics, `/v1/pods` and `Server-Timing`. They
/// follow each other: their sum is the time from the site's order until the pod answered its health check.
/// A pod has those that it went through. In their usual order:
pub mod stages {
    /// Docker: the image is fetched.
    pub const PULL: &str = "pull";
    /// Docker and Kubernetes: the container, or the pod's object, is made.
    pub const CREATE: &str = "create";
    /// Kubernetes: a node is found for the pod.
    pub const SCHEDULE: &str = "schedule";
    /// The process, or container, is started; of a pod with the SDK, what is left of it before `exec`. On
    /// Kubernetes the image is fetched in it, and the node tells of it once a second.
    pub const START: &str = "start";
    /// From the site's order to the program's own code: fork, exec, and dynamic linking.
    pub const EXEC: &str = "exec";
    /// Static initialisers of the libraries, until `main`.
    pub const INITIALISE: &str = "initialise";
    /// The environment is read, the port is bound.
    pub const BIND: &str = "bind";
    /// A published model is fetched.
    pub const MODEL: &str = "model";
    /// The function loads, without its first run.
    pub const LOAD: &str = "load";
    /// The function's first run, where it tells of it.
    pub const FIRST: &str = "first";
    /// A pod that waited until its zygote stood ready waited so long.
    pub const ZYGOTE: &str = "zygote";
    /// From the order to the forked pod's own code.
    pub const FORK: &str = "fork";
    /// A forked pod renews what it may not share: threads, random seeds.
    pub const RENEW: &str = "renew";
    /// A pod without the SDK: from its start until it answered.
    pub const LISTEN: &str = "listen";
    /// What is left until the site had the answer to its health check.
    pub const READY: &str = "ready";

    /// A pod of another gateway: what the link to it took.
    pub const LINK: &str = "link";

    /// All of them.
    pub const ALL: [&str; 16] = [
        PULL, CREATE, SCHEDULE, START, ZYGOTE, EXEC, INITIALISE, BIND, MODEL, LOAD, FIRST, FORK,
        RENEW, LISTEN, READY, LINK,
    ];

    /// The stage of this name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static str> {
        ALL.into_iter().find(|stage| *stage == name)
    }
}

/// Environment variables with which a site starts a pod.
pub mod env {
    /// Port to listen on (default 8080). Any HTTP container honours this one.
    pub const PORT: &str = "PORT";
    /// Address to bind (default `0.0.0.0`; process sites say `127.0.0.1`).
    pub const HOST: &str = "STOIC_HOST";
    /// Name of the pod, for logs.
    pub const POD: &str = "STOIC_POD";
    /// Name of the function.
    pub const FUNCTION: &str = "STOIC_FUNCTION";
    /// Name of the runtime: `edge`, `cpu`, `gpu1`, ...
    pub const RUNTIME: &str = "STOIC_RUNTIME";
    /// Threads the pod may compute with (default: all).
    pub const THREADS: &str = "STOIC_THREADS";
    /// `fp32`, `bf16`, or `auto` (bf16 where the device computes it natively).
    pub const PRECISION: &str = "STOIC_PRECISION";
    /// Comma-separated devices, one worker each: `cpu`, `cuda:0`, `cuda:0,cuda:1`.
    pub const DEVICES: &str = "STOIC_DEVICES";
    /// Number of CPU workers (thread groups); threads are divided evenly among them (default 1).
    pub const WORKERS: &str = "STOIC_WORKERS";
    /// URL or path of the model to load at start, where one has been published.
    pub const MODEL: &str = "STOIC_MODEL";
    /// Version of that model.
    pub const MODEL_VERSION: &str = "STOIC_MODEL_VERSION";
    /// Folder with one file for each secret that the function names.
    pub const SECRETS: &str = "STOIC_SECRETS";
    /// When the site began to start the pod, by `CLOCK_MONOTONIC`, in nanoseconds: where the stages of
    /// its start are counted from.
    pub const STARTED: &str = "STOIC_STARTED_NS";
    /// Set (to 1) where the process is to be a zygote: see [`zygote`](crate::zygote).
    pub const ZYGOTE: &str = "STOIC_ZYGOTE";
    /// `pod` (the default), or `invocation`: each invocation runs in a fresh child of the pod.
    pub const ISOLATION: &str = "STOIC_ISOLATION";
    /// Identity of the gateway that owns the pod; how orphans are recognised.
    pub const GATEWAY: &str = "STOIC_GATEWAY_ID";
}
