//! A pool that is to take over from that of another version: it has its pods ready first, or says why
//! it cannot.

use super::failures::StartFailures;
use super::pool::Pool;
use super::queue::GIVE_WAY_AFTER;
use super::state::State;
use crate::sites::StartError;
use std::sync::Arc;
use std::time::Duration;

/// How long the others are awaited once one pod is ready.
const OTHERS: Duration = Duration::from_secs(10);

/// Why a pool is not ready to take over.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotUp {
    /// Its pods cannot be started.
    #[error("{0}")]
    Start(StartFailures),
    /// It was closed meanwhile.
    #[error("it was removed meanwhile")]
    Closed,
}

impl StartFailures {
    /// Whether these are more than a slip: the version will not come up by itself. A pod that was not
    /// ready in its time has had its time.
    fn convincing(&self) -> bool {
        self.hopeless()
            || self.count() >= GIVE_WAY_AFTER
            || matches!(self.last(), Some(StartError::NeverReady(_)))
    }
}

impl State {
    fn raised_in_vain(&self) -> Option<NotUp> {
        if self.closed {
            return Some(NotUp::Closed);
        }
        let trouble = self.trouble.as_ref()?;
        let stuck = self.ready() == 0 && trouble.convincing();
        stuck.then(|| NotUp::Start(trouble.clone()))
    }
}

impl Pool {
    /// Pods that take work now.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.state.lock().ready()
    }

    /// Pods that the work of this moment needs.
    #[must_use]
    pub fn needed(&self) -> usize {
        let state = self.state.lock();
        let places = self.options.concurrency.max(1) as usize;
        (state.running + state.waiting.len()).div_ceil(places)
    }

    /// Has so many pods ready, within what the pool may have, and at least one; returns when they are,
    /// or when one is and the others took too long. They are kept until [`lower`](Self::lower).
    ///
    /// # Errors
    /// None could be started.
    pub async fn raise(self: &Arc<Self>, pods: usize) -> Result<(), NotUp> {
        let wanted = pods.clamp(1, self.options.standby.max.max(1) as usize);
        self.state.lock().raised = u32::try_from(wanted).unwrap_or(u32::MAX);
        self.maintain();
        self.until_ready(1).await?;
        match tokio::time::timeout(OTHERS, self.until_ready(wanted)).await {
            Ok(ready) => ready,
            Err(_) => Ok(()),
        }
    }

    /// Ends what [`raise`](Self::raise) began: from now on pods come and go by themselves.
    pub fn lower(&self) {
        self.state.lock().raised = 0;
    }

    async fn until_ready(&self, pods: usize) -> Result<(), NotUp> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.state.lock();
                if state.ready() >= pods {
                    return Ok(());
                }
                if let Some(why) = state.raised_in_vain() {
                    return Err(why);
                }
            }
            changed.await;
        }
    }
}
