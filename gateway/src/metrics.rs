//! Prometheus metrics. Handles are resolved when a function is deployed, so that the request path only
//! adds to counters.

use crate::history::{DeploymentRecord, Parts, Race};
use crate::pods::Start;
use crate::requester::write_fixed;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use stoic_placement::Part;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Invocations {
    function: String,
    runtime: String,
    start: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failures {
    function: String,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stages {
    function: String,
    runtime: String,
    stage: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pods {
    function: String,
    runtime: String,
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Deployments {
    function: String,
    runtime: String,
    /// `ok` or `failed`.
    outcome: &'static str,
    /// `work` or `probe`.
    by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Probes {
    function: String,
    runtime: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LinkProbes {
    site: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRuntime {
    function: String,
    runtime: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFunction {
    function: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Predictions {
    function: String,
    runtime: String,
    part: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CloudSeconds {
    function: String,
    runtime: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Losers {
    function: String,
    runtime: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallsEnded {
    function: String,
    outcome: &'static str,
}

/// Everything that `/metrics` shows.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    invocations: Family<Invocations, Counter>,
    failures: Family<Failures, Counter>,
    stages: Family<Stages, Histogram, fn() -> Histogram>,
    pods: Family<Pods, Gauge>,
    dropped: Gauge,
    deployments: Family<Deployments, Counter>,
    start_stages: Family<Stages, Histogram, fn() -> Histogram>,
    probes: Family<Probes, Counter>,
    link_probes: Family<LinkProbes, Counter>,
    available: Family<OfRuntime, Gauge>,
    predictions: Family<Predictions, Counter>,
    within_90: Family<Predictions, Counter>,
    absolute_errors: Family<Predictions, Counter<f64, AtomicU64>>,
    outcomes: Family<Predictions, Counter<f64, AtomicU64>>,
    cloud: Family<CloudSeconds, Counter<f64, AtomicU64>>,
    losers: Family<Losers, Histogram, fn() -> Histogram>,
    calls_queued: Gauge,
    calls_running: Gauge,
    calls_ended: Family<CallsEnded, Counter>,
    /// Not shown: the sum of others.
    beside: Family<OfFunction, Counter>,
}

/// The meters of one function on one runtime.
#[derive(Debug, Clone)]
pub struct Meters {
    cold: Counter,
    warm: Counter,
    queueing: Histogram,
    transfer: Histogram,
    deployment: Histogram,
    processing: Histogram,
}

impl Meters {
    /// Invocations that ended well.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.cold.get() + self.warm.get()
    }

    /// Counts an invocation that ended well.
    pub fn count(&self, start: Start, parts: &Parts) {
        match start {
            Start::Cold => self.cold.inc(),
            Start::Warm => self.warm.inc(),
        };
        self.processing.observe(parts.processing);
        for (histogram, seconds) in [
            (&self.queueing, parts.queueing),
            (&self.transfer, parts.transfer),
            (&self.deployment, parts.deployment),
        ] {
            if seconds > 0.0 {
                histogram.observe(seconds);
            }
        }
    }
}

/// From a millisecond to twenty minutes.
fn seconds() -> Histogram {
    Histogram::new([
        0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1200.0,
    ])
}

/// From a millisecond to a second.
fn endings() -> Histogram {
    Histogram::new([0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("stoic");
        let invocations = Family::default();
        registry.register(
            "invocations",
            "Invocations that ended well, by start: cold or warm",
            invocations.clone(),
        );
        let failures = Family::default();
        registry.register(
            "failures",
            "Invocations that failed, by code",
            failures.clone(),
        );
        let stages = Family::new_with_constructor(seconds as fn() -> Histogram);
        registry.register_with_unit(
            "stage",
            "Parts of the response time: queueing, transfer, deployment, processing",
            Unit::Seconds,
            stages.clone(),
        );
        let pods = Family::default();
        registry.register("pods", "Pods by state", pods.clone());
        let dropped = Gauge::default();
        registry.register(
            "records_dropped",
            "Records not written because the disk was too slow",
            dropped.clone(),
        );
        let deployments = Family::default();
        registry.register(
            "deployments",
            "Starts of pods, by outcome (ok, failed) and by what they were for (work, probe)",
            deployments.clone(),
        );
        let start_stages = Family::new_with_constructor(seconds as fn() -> Histogram);
        registry.register_with_unit(
            "start_stage",
            "Where the time of starts of pods went, by stage",
            Unit::Seconds,
            start_stages.clone(),
        );
        let probes = Family::default();
        registry.register(
            "probes",
            "The inquisitor's probes of deployment time, by how they ended",
            probes.clone(),
        );
        let link_probes = Family::default();
        registry.register(
            "link_probes",
            "Probes of the links to the sites, by outcome: ok or failed",
            link_probes.clone(),
        );
        let available = Family::default();
        registry.register(
            "available",
            "Whether the placement may choose the runtime for the function: 1 or 0",
            available.clone(),
        );
        let predictions = Family::default();
        registry.register(
            "predictions",
            "Outcomes that had been predicted, by part of the response time",
            predictions.clone(),
        );
        let within_90 = Family::default();
        registry.register(
            "predictions_within_90",
            "Of those, outcomes inside their 90 % interval",
            within_90.clone(),
        );
        let absolute_errors = Family::default();
        registry.register_with_unit(
            "prediction_error",
            "Sum of the absolute differences of predicted and actual, by part",
            Unit::Seconds,
            absolute_errors.clone(),
        );
        let outcomes = Family::default();
        registry.register_with_unit(
            "predicted_actual",
            "Sum of the actual times of the outcomes that had been predicted, by part",
            Unit::Seconds,
            outcomes.clone(),
        );
        let cloud = Family::default();
        registry.register_with_unit(
            "cloud",
            "Cloud time of races between edge and cloud: saved, lost, used; per GPU",
            Unit::Seconds,
            cloud.clone(),
        );
        let losers = Family::new_with_constructor(endings as fn() -> Histogram);
        registry.register_with_unit(
            "loser_ended",
            "From the decision that a pod's work is not wanted until the pod is idle or gone",
            Unit::Seconds,
            losers.clone(),
        );
        let calls_queued = Gauge::default();
        registry.register(
            "calls_queued",
            "Asynchronous calls that wait, for their turn or for their next attempt",
            calls_queued.clone(),
        );
        let calls_running = Gauge::default();
        registry.register(
            "calls_running",
            "Asynchronous calls that run",
            calls_running.clone(),
        );
        let calls_ended = Family::default();
        registry.register(
            "calls_ended",
            "Asynchronous calls by how they ended, and attempts that are tried again (retried)",
            calls_ended.clone(),
        );
        Self {
            calls_queued,
            calls_running,
            calls_ended,
            cloud,
            losers,
            registry,
            invocations,
            failures,
            stages,
            pods,
            dropped,
            deployments,
            start_stages,
            probes,
            link_probes,
            available,
            predictions,
            within_90,
            absolute_errors,
            outcomes,
            beside: Family::default(),
        }
    }
}

impl Metrics {
    /// Asynchronous calls that wait and that run.
    pub fn calls(&self, queued: usize, running: usize) {
        let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.calls_queued.set(gauge(queued));
        self.calls_running.set(gauge(running));
    }

    /// An asynchronous call, or an attempt of one, ended.
    pub fn call_ended(&self, function: &str, outcome: &'static str) {
        let labels = CallsEnded {
            function: function.to_owned(),
            outcome,
        };
        self.calls_ended.get_or_create(&labels).inc();
    }

    /// The meters of a function on a runtime.
    #[must_use]
    pub fn meters(&self, function: &str, runtime: &str) -> Meters {
        let counter = |start: Start| {
            let labels = Invocations {
                function: function.to_owned(),
                runtime: runtime.to_owned(),
                start: start.name().to_owned(),
            };
            self.invocations.get_or_create(&labels).clone()
        };
        let stage = |stage: &str| {
            let labels = Stages {
                function: function.to_owned(),
                runtime: runtime.to_owned(),
                stage: stage.to_owned(),
            };
            self.stages.get_or_create(&labels).clone()
        };
        Meters {
            cold: counter(Start::Cold),
            warm: counter(Start::Warm),
            queueing: stage("queueing"),
            transfer: stage("transfer"),
            deployment: stage("deployment"),
            processing: stage("processing"),
        }
    }

    /// Adds what a race cost the cloud.
    pub fn raced(&self, function: &str, race: &Race) {
        let kinds = [
            ("saved", race.saved_s),
            ("lost", race.lost_s),
            ("used", race.used_s),
        ];
        for (kind, seconds) in kinds {
            let labels = CloudSeconds {
                function: function.to_owned(),
                runtime: race.runtime.clone(),
                kind,
            };
            self.cloud.get_or_create(&labels).inc_by(seconds.max(0.0));
        }
    }

    /// A pod whose work was not wanted any more was idle, or gone, after so many seconds.
    pub fn ended(&self, function: &str, runtime: &str, seconds: f64) {
        let labels = Losers {
            function: function.to_owned(),
            runtime: runtime.to_owned(),
        };
        self.losers.get_or_create(&labels).observe(seconds);
    }

    /// Counts an invocation that several runtimes shared.
    pub fn shared(&self, function: &str, runtime: &str, start: &str) {
        let labels = Invocations {
            function: function.to_owned(),
            runtime: runtime.to_owned(),
            start: start.to_owned(),
        };
        self.invocations.get_or_create(&labels).inc();
        self.beside(function).inc();
    }

    /// Invocations of a function that the meters of its runtimes do not count: failed, or shared by
    /// several runtimes.
    #[must_use]
    pub fn beside_meters(&self, function: &str) -> u64 {
        self.beside(function).get()
    }

    fn beside(&self, function: &str) -> Counter {
        let function = function.to_owned();
        self.beside.get_or_create(&OfFunction { function }).clone()
    }

    /// Counts a failure.
    pub fn failed(&self, function: &str, code: &str) {
        self.beside(function).inc();
        self.failures
            .get_or_create(&Failures {
                function: function.to_owned(),
                code: code.to_owned(),
            })
            .inc();
    }

    /// Counts a start of a pod, and the seconds of its stages.
    pub fn deployed(&self, deployment: &DeploymentRecord, stages: &[(&'static str, f64)]) {
        for (stage, seconds) in stages {
            let labels = Stages {
                function: deployment.function.clone(),
                runtime: deployment.runtime.clone(),
                stage: (*stage).to_owned(),
            };
            self.start_stages.get_or_create(&labels).observe(*seconds);
        }
        self.deployments
            .get_or_create(&Deployments {
                function: deployment.function.clone(),
                runtime: deployment.runtime.clone(),
                outcome: if deployment.ok { "ok" } else { "failed" },
                by: if deployment.probe { "probe" } else { "work" },
            })
            .inc();
    }

    /// Counts a probe of the inquisitor's, by how it ended.
    pub fn probed(&self, function: &str, runtime: &str, outcome: &'static str) {
        self.probes
            .get_or_create(&Probes {
                function: function.to_owned(),
                runtime: runtime.to_owned(),
                outcome,
            })
            .inc();
    }

    /// Counts a probe of a link.
    pub fn link_probed(&self, site: &str, ok: bool) {
        self.link_probes
            .get_or_create(&LinkProbes {
                site: site.to_owned(),
                outcome: if ok { "ok" } else { "failed" },
            })
            .inc();
    }

    /// Counts an outcome against what was predicted for it: a part of the response time
    /// (`transfer`, `deployment`, `processing`) or `response`. What was unknown is not counted.
    pub fn predicted(
        &self,
        function: &str,
        runtime: &str,
        part: &'static str,
        predicted: &Part,
        actual_s: f64,
    ) {
        if !(predicted.known && actual_s.is_finite() && actual_s >= 0.0) {
            return;
        }
        let labels = Predictions {
            function: function.to_owned(),
            runtime: runtime.to_owned(),
            part,
        };
        self.predictions.get_or_create(&labels).inc();
        let within = self.within_90.get_or_create(&labels);
        within.inc_by(u64::from(predicted.p90.contains(actual_s)));
        drop(within);
        let error = (predicted.mean - actual_s).abs();
        self.absolute_errors.get_or_create(&labels).inc_by(error);
        self.outcomes.get_or_create(&labels).inc_by(actual_s);
    }

    /// The text of `/metrics`, with the pods as they are now (function, runtime, state), and whether
    /// each function has each of its runtimes.
    #[must_use]
    pub fn render<'a>(
        &self,
        pods: impl Iterator<Item = (&'a str, &'a str, &'a str)>,
        available: impl Iterator<Item = (&'a str, &'a str, bool)>,
        dropped: u64,
    ) -> String {
        self.available.clear();
        for (function, runtime, is) in available {
            let labels = OfRuntime {
                function: function.to_owned(),
                runtime: runtime.to_owned(),
            };
            self.available.get_or_create(&labels).set(i64::from(is));
        }
        self.pods.clear();
        for (function, runtime, state) in pods {
            let labels = Pods {
                function: function.to_owned(),
                runtime: runtime.to_owned(),
                state: state.to_owned(),
            };
            self.pods.get_or_create(&labels).inc();
        }
        self.dropped.set(i64::try_from(dropped).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Writes `Server-Timing` of an invocation: its parts, and the stages of the start that it waited for, in
/// milliseconds.
pub(crate) fn write_server_timing(
    text: &mut impl std::fmt::Write,
    p: &Parts,
    started: &[(&'static str, f64)],
) {
    let named = [
        ("queueing;dur=", p.queueing),
        (", transfer;dur=", p.transfer),
        (", deployment;dur=", p.deployment),
        (", processing;dur=", p.processing),
        (", total;dur=", p.response()),
    ];
    for (name, seconds) in named {
        write_fixed(text, name, seconds * 1000.0);
    }
    for (stage, seconds) in started {
        for piece in [", start-", stage] {
            let _ = text.write_str(piece);
        }
        write_fixed(text, ";dur=", seconds * 1000.0);
    }
}
