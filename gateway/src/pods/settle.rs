//! A standby's first work: the function's own sample.
//!
//! A pod that has just loaded, or was forked, is ready and yet slower once: its first invocation touches
//! pages that nothing touched before, connects, and fills caches. A pod that nobody waits for has the time
//! to do that before anybody asks (mission M14). Whoever comes meanwhile gets it at once.

use super::pod::{Pod, PodState};
use super::pool::Pool;
use crate::function::Isolation;
use bytes::Bytes;
use std::time::Duration;
use stoic_protocol::stages;
use tracing::debug;

/// Longest that a sample may take; the pod serves then all the same.
const LONGEST: Duration = Duration::from_secs(30);

/// A representative request of a function.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Media type of the body.
    pub content_type: String,
    /// The body.
    pub bytes: Bytes,
}

impl Pool {
    /// Has a pod that nobody waits for work the function's sample, until somebody does.
    pub(super) async fn settle(&self, pod: &Pod) {
        if !self.may_settle(pod) {
            return;
        }
        let wanted = self.wanted.notified();
        tokio::pin!(wanted);
        // From here on nobody's coming is missed.
        wanted.as_mut().enable();
        if !self.is_spare(pod) {
            return;
        }
        let work = async {
            let asked = || self.warmer.sample(pod.reach);
            match self.sample.get_or_try_init(asked).await? {
                Some(sample) => self.warmer.settle(pod.reach, sample).await,
                None => Ok(()),
            }
        };
        tokio::select! {
            done = tokio::time::timeout(LONGEST, work) => match done {
                Ok(Ok(())) => {}
                // Invocations will tell what is wrong, if anything is.
                Ok(Err(error)) => debug!(pod = %pod.name, "did not work its sample: {error:#}"),
                Err(_) => debug!(pod = %pod.name, "worked its sample for too long"),
            },
            () = wanted => {}
        }
    }

    /// Whether this is of use: the pod was built on the SDK, which is what can be asked for a sample; it
    /// was not told of another first request; and it is no pod of another gateway, which saw to that.
    fn may_settle(&self, pod: &Pod) -> bool {
        let went_through = |stage| pod.stages.iter().any(|(name, _)| *name == stage);
        self.options.warmup.is_none()
            && self.options.pod.isolation == Isolation::Pod
            && (went_through(stages::LOAD) || went_through(stages::FORK))
            && !went_through(stages::LINK)
    }

    /// Whether a pod is up and nobody waits.
    fn is_spare(&self, pod: &Pod) -> bool {
        let mut state = self.state.lock();
        !state.closed
            && state.waiting.iter().all(|waiter| waiter.answer.is_closed())
            && state
                .entry(&pod.name)
                .is_some_and(|entry| entry.state == PodState::Warming)
    }
}
