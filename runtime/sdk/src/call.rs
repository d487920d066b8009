//! One invocation while it runs: whether anybody still waits for it, how far it is, and where its
//! time went.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use stoic_protocol::{Problem, ProgressLine};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Least time between two progress lines.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Handle on a running invocation. Clones are the same invocation; it may be used from any thread.
#[derive(Debug, Clone)]
pub struct Call {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    invocation: Option<String>,
    began: Instant,
    cancel: CancellationToken,
    failed: AtomicBool,
    written: Mutex<Written>,
    /// Made for whoever listens; most calls have nobody who does.
    lines: OnceLock<watch::Sender<Option<ProgressLine>>>,
}

#[derive(Debug, Default)]
struct Written {
    failure: Option<Problem>,
    last_progress: Option<Instant>,
    stages: BTreeMap<String, f64>,
}

impl Call {
    /// A call that nobody watches: for tests, and for functions used as a library.
    #[must_use]
    pub fn detached() -> Self {
        Self::new(None, CancellationToken::new())
    }

    /// A call that ends when `cancel` does.
    pub(crate) fn new(invocation: Option<String>, cancel: CancellationToken) -> Self {
        Self {
            state: Arc::new(State {
                invocation,
                began: Instant::now(),
                cancel,
                failed: AtomicBool::new(false),
                written: Mutex::default(),
                lines: OnceLock::new(),
            }),
        }
    }

    /// Identity of the invocation, where the caller gave it one.
    #[must_use]
    pub fn invocation(&self) -> Option<&str> {
        self.state.invocation.as_deref()
    }

    /// Whether there is no use in going on: the caller's connection is gone, the pod drains and its
    /// time is up, or the input failed for good. One atomic read or two; ask between two items.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.state.cancel.is_cancelled() || self.state.failed.load(Ordering::Relaxed)
    }

    /// [`cancelled`](Self::cancelled) as a result.
    ///
    /// # Errors
    /// The problem that ended it: `cancelled` (499), or `input_unavailable` (502).
    pub fn check(&self) -> Result<(), Problem> {
        if !self.cancelled() {
            return Ok(());
        }
        Err(self.failure().unwrap_or_else(|| {
            Problem::new(
                499,
                "cancelled",
                "the caller is gone or the pod is stopping",
            )
        }))
    }

    /// Says how far the work is: items, or steps where an action has phases of its own. Passed on a
    /// few times a second, and always when `done` equals `total`; calling it often costs little.
    pub fn progress(&self, done: u64, total: u64, stage: Option<&str>) {
        let Some(lines) = self.state.lines.get() else {
            return;
        };
        let now = Instant::now();
        {
            let mut written = self.written();
            let recent = |last: Instant| now.duration_since(last) < PROGRESS_EVERY;
            if done < total && written.last_progress.is_some_and(recent) {
                return;
            }
            written.last_progress = Some(now);
        }
        lines.send_replace(Some(ProgressLine::Progress {
            done,
            total,
            elapsed_s: now.duration_since(self.state.began).as_secs_f64(),
            stage: stage.map(str::to_owned),
        }));
    }

    /// Adds to the time of a stage (`decode`, `infer`, ...), which travels with the result. Stages
    /// may overlap. `fetch` and `store` are filled in by the SDK.
    pub fn stage(&self, name: &str, took: Duration) {
        let mut written = self.written();
        match written.stages.get_mut(name) {
            Some(sum) => *sum += took.as_secs_f64(),
            None => {
                written.stages.insert(name.to_owned(), took.as_secs_f64());
            }
        }
    }

    /// Seconds by stage so far.
    #[must_use]
    pub fn stages(&self) -> BTreeMap<String, f64> {
        self.written().stages.clone()
    }

    /// Ends the call because its input failed for good; the first problem stays.
    pub(crate) fn fail(&self, problem: Problem) {
        self.written().failure.get_or_insert(problem);
        self.state.failed.store(true, Ordering::Release);
    }

    /// Why the input failed, if it did.
    pub(crate) fn failure(&self) -> Option<Problem> {
        self.written().failure.clone()
    }

    /// Cancelled when nobody waits any more.
    pub(crate) fn token(&self) -> &CancellationToken {
        &self.state.cancel
    }

    /// The newest progress line, replaced whenever there is a newer one. Subscribe before the work
    /// begins: what nobody listens to is not kept.
    pub(crate) fn lines(&self) -> watch::Receiver<Option<ProgressLine>> {
        self.state
            .lines
            .get_or_init(|| watch::Sender::new(None))
            .subscribe()
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        // Nothing in here can be left half done.
        self.state
            .written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_thinned_but_the_last_is_sent() {
        let call = Call::detached();
        let mut lines = call.lines();
        let mut seen = Vec::new();
        for done in 0..=1000 {
            call.progress(done, 1000, None);
            if lines.has_changed().unwrap() {
                let line = lines.borrow_and_update().clone();
                if let Some(ProgressLine::Progress { done, .. }) = line {
                    seen.push(done);
                }
            }
        }
        assert!(seen.len() < 100, "{} lines", seen.len());
        assert_eq!(seen.first(), Some(&0));
        assert_eq!(seen.last(), Some(&1000));
    }

    #[test]
    fn the_first_failure_ends_the_call() {
        let call = Call::detached();
        assert!(call.check().is_ok());
        call.fail(Problem::new(502, "input_unavailable", "a"));
        call.fail(Problem::new(500, "other", "b"));
        assert!(call.cancelled());
        assert_eq!(call.check().unwrap_err().code, "input_unavailable");
    }

    #[test]
    fn stages_add_up() {
        let call = Call::detached();
        call.stage("decode", Duration::from_millis(20));
        call.stage("decode", Duration::from_millis(30));
        assert!((call.stages()["decode"] - 0.05).abs() < 1e-9);
    }
}
