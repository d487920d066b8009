//! What all of a pod's requests share: its phase, its function, and what it counts.

use crate::call::Call;
use crate::isolated::Front;
use crate::transfer::Transfer;
use crate::{Context, Function};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use stoic_protocol::{PodReport, Problem};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Life of a pod. Loading -> Ready (the function is loaded) -> Draining (`SIGTERM`), or Loading ->
/// Draining. The process ends from Draining, or from Loading where that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Loading,
    Ready,
    Draining,
}

/// One pod.
pub(crate) struct Pod<F> {
    pub(crate) context: Context,
    pub(crate) transfer: Transfer,
    /// Where each invocation runs in a child of its own: the way to those.
    pub(crate) front: Option<Arc<Front>>,
    /// Cancelled when running invocations are to stop.
    pub(crate) stop: CancellationToken,
    /// One model is taken into use at a time.
    pub(crate) model_change: tokio::sync::Mutex<()>,
    phase: AtomicU8,
    function: OnceLock<F>,
    busy: AtomicUsize,
    idle: Notify,
    /// Batches that run.
    batches: Mutex<Vec<Listed>>,
    batch_number: AtomicU64,
    batch_ended: Notify,
    counts: Counts,
    /// Whether the function was loaded in another process, which this one was forked from.
    forked: AtomicBool,
    /// Seconds by stage of the start.
    start_s: Mutex<BTreeMap<String, f64>>,
    /// Seconds by stage of all batches.
    stages_s: Mutex<BTreeMap<String, f64>>,
}

#[derive(Debug, Default)]
struct Counts {
    invocations: AtomicU64,
    failures: AtomicU64,
    refused: AtomicU64,
    cancelled: AtomicU64,
    items: AtomicU64,
    failed_items: AtomicU64,
}

/// How an invocation ended, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Done,
    Failed,
    Refused,
    Cancelled,
}

/// Permit of one running invocation; given back when dropped.
pub(crate) struct Running<F: Function>(Arc<Pod<F>>);

impl<F: Function> Drop for Running<F> {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

/// A batch that runs, as others find it.
#[derive(Debug)]
struct Listed {
    number: u64,
    invocation: String,
    /// Of a part: its first item, and how many of its items are wanted.
    part: Option<(u64, Arc<AtomicUsize>)>,
}

/// A batch that runs, told by the identity of its invocation.
pub(crate) struct RunningBatch<F: Function> {
    pod: Arc<Pod<F>>,
    number: u64,
}

impl<F: Function> RunningBatch<F> {
    /// Lets others lower the limit of the part that it is.
    pub(crate) fn is_part(&self, first: u64, limit: Arc<AtomicUsize>) {
        let mut batches = self.pod.batches();
        if let Some(listed) = batches.iter_mut().find(|b| b.number == self.number) {
            listed.part = Some((first, limit));
        }
    }
}

impl<F: Function> Drop for RunningBatch<F> {
    fn drop(&mut self) {
        self.pod.batches().retain(|b| b.number != self.number);
        self.pod.batch_ended.notify_waiters();
    }
}

impl<F: Function> Pod<F> {
    pub(crate) fn new(context: Context, transfer: Transfer, front: Option<Arc<Front>>) -> Self {
        Self {
            context,
            transfer,
            front,
            stop: CancellationToken::new(),
            model_change: tokio::sync::Mutex::new(()),
            phase: AtomicU8::new(Phase::Loading as u8),
            function: OnceLock::new(),
            busy: AtomicUsize::new(0),
            idle: Notify::new(),
            batches: Mutex::default(),
            batch_number: AtomicU64::new(0),
            batch_ended: Notify::new(),
            counts: Counts::default(),
            forked: AtomicBool::new(false),
            start_s: Mutex::default(),
            stages_s: Mutex::default(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Loading,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// The function is loaded; a pod that drains already stays so.
    pub(crate) fn ready(&self, function: F) {
        // Set once: the pod loads once.
        let _ = self.function.set(function);
        let _ = self.phase.compare_exchange(
            Phase::Loading as u8,
            Phase::Ready as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }

    pub(crate) fn drain(&self) {
        self.phase.store(Phase::Draining as u8, Ordering::Release);
    }

    /// The function, if the pod takes work.
    pub(crate) fn serving(&self) -> Result<&F, Problem> {
        match (self.phase(), self.function.get()) {
            (Phase::Ready, Some(function)) => Ok(function),
            (Phase::Draining, _) => Err(Problem::new(
                503,
                "pod_draining",
                "the pod is stopping and takes nothing new",
            )),
            (Phase::Loading | Phase::Ready, _) => Err(Problem::new(
                503,
                "pod_loading",
                "the function is still being loaded; /healthz says when it is ready",
            )),
        }
    }

    /// The function, whatever the phase, once it was loaded: for work admitted earlier.
    pub(crate) fn loaded(&self) -> Result<&F, Problem> {
        self.function
            .get()
            .ok_or_else(|| Problem::new(503, "pod_loading", "the function is still being loaded"))
    }

    /// A permit to run one more, up to the limit.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Running<F>, Problem> {
        let limit = self.context.concurrency;
        self.busy
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |busy| {
                (busy < limit).then_some(busy + 1)
            })
            .map(|_| Running(Arc::clone(self)))
            .map_err(|busy| {
                Problem::new(
                    429,
                    "pod_full",
                    format!("{busy} invocations run in this pod already, which is its limit"),
                )
            })
    }

    /// Returns when nothing runs.
    pub(crate) async fn until_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.busy.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }

    fn batches(&self) -> std::sync::MutexGuard<'_, Vec<Listed>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a batch runs, until what is returned is dropped.
    pub(crate) fn runs(self: &Arc<Self>, invocation: &str) -> RunningBatch<F> {
        let number = self.batch_number.fetch_add(1, Ordering::Relaxed);
        self.batches().push(Listed {
            number,
            invocation: invocation.to_owned(),
            part: None,
        });
        RunningBatch {
            pod: Arc::clone(self),
            number,
        }
    }

    /// Lowers the limit of a part that runs; false where there is none such.
    pub(crate) fn limit(&self, invocation: &str, first: u64, items: usize) -> bool {
        let batches = self.batches();
        let mut found = false;
        for listed in batches.iter().filter(|b| b.invocation == invocation) {
            if let Some((of, limit)) = &listed.part
                && *of == first
            {
                limit.fetch_min(items, Ordering::Relaxed);
                found = true;
            }
        }
        found
    }

    /// Returns when no batch of this invocation runs.
    pub(crate) async fn until_ended(&self, invocation: &str) {
        loop {
            let mut ended = std::pin::pin!(self.batch_ended.notified());
            // Registered before the look, so that no end between the two is missed.
            ended.as_mut().enable();
            if !self.batches().iter().any(|b| b.invocation == invocation) {
                return;
            }
            ended.await;
        }
    }

    pub(crate) fn count(&self, ended: Ended) {
        let counter = match ended {
            Ended::Done => None,
            Ended::Failed => Some(&self.counts.failures),
            Ended::Refused => Some(&self.counts.refused),
            Ended::Cancelled => Some(&self.counts.cancelled),
        };
        self.counts.invocations.fetch_add(1, Ordering::Relaxed);
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_batch(&self, items: u64, failed_items: u64, call: &Call) {
        self.counts.items.fetch_add(items, Ordering::Relaxed);
        self.counts
            .failed_items
            .fetch_add(failed_items, Ordering::Relaxed);
        let mut sums = self.stages_s.lock().unwrap_or_else(PoisonError::into_inner);
        for (stage, seconds) in call.stages() {
            *sums.entry(stage).or_default() += seconds;
        }
    }

    pub(crate) fn started(&self, stages: impl IntoIterator<Item = (String, f64)>) {
        self.start_s
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(stages);
    }

    /// What the function says of its start happened in the process that this one was forked from.
    pub(crate) fn was_forked(&self) {
        self.forked.store(true, Ordering::Relaxed);
    }

    /// The function's report with the stages of the start; those of the function's own stay beside.
    pub(crate) fn report(&self) -> Result<PodReport, Problem> {
        let mut report = self.loaded()?.report();
        if self.forked.load(Ordering::Relaxed) {
            report.start_s.clear();
        }
        report.start_s.extend(self.starts());
        Ok(report)
    }

    pub(crate) fn starts(&self) -> BTreeMap<String, f64> {
        self.start_s
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Everything counted, in the Prometheus text format.
    pub(crate) fn metrics(&self) -> String {
        let counts = &self.counts;
        let mut text = String::with_capacity(2048);
        let mut family = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
            );
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        family(
            "stoic_pod_invocations_total",
            "counter",
            "Invocations ended, however they did.",
            load(&counts.invocations),
        );
        family(
            "stoic_pod_failures_total",
            "counter",
            "Invocations that ended with a status of 500 or more.",
            load(&counts.failures),
        );
        family(
            "stoic_pod_refused_total",
            "counter",
            "Invocations refused or answered with a status from 400 to 498.",
            load(&counts.refused),
        );
        family(
            "stoic_pod_cancelled_total",
            "counter",
            "Invocations whose caller left.",
            load(&counts.cancelled),
        );
        family(
            "stoic_pod_items_total",
            "counter",
            "Items of batches worked.",
            load(&counts.items),
        );
        family(
            "stoic_pod_failed_items_total",
            "counter",
            "Items that got an error instead of a result.",
            load(&counts.failed_items),
        );
        family(
            "stoic_pod_busy",
            "gauge",
            "Invocations running now.",
            self.busy.load(Ordering::Relaxed) as u64,
        );
        family(
            "stoic_pod_ready",
            "gauge",
            "1 while the pod takes work.",
            u64::from(self.phase() == Phase::Ready),
        );
        let sums = self
            .stages_s
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut start_s = self.report().map(|report| report.start_s);
        if start_s.is_err() {
            start_s = Ok(self.starts());
        }
        for (name, kind, help, stages) in [
            (
                "stoic_pod_stage_seconds_total",
                "counter",
                "Time of batches by stage; stages overlap.",
                sums,
            ),
            (
                "stoic_pod_start_seconds",
                "gauge",
                "Time of the start by stage.",
                start_s.unwrap_or_default(),
            ),
        ] {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (stage, seconds) in stages {
                let _ = writeln!(text, "{name}{{stage=\"{}\"}} {seconds}", label(&stage));
            }
        }
        if let Some(function) = self.function.get() {
            text.push_str(&function.metrics());
        }
        text
    }
}

/// A label's value, escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
