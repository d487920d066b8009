//! How the site learns of its pods: one watch, which begins with a list, and begins again with one after
//! it broke. What it tells is held against what lives here.

use super::Inner;
use super::answer::answer;
use super::labels;
use super::status::{Ended, OUT_OF_MEMORY, Seen};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, LogParams};
use kube::runtime::watcher::{self, Event, watcher};
use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// The server ends a watch after this time, and it goes on from where it was: a server that has gone
/// without a word is noticed soon after.
const WATCH_S: u32 = 60;
/// Waits between tries to reach a server that is away.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Longest question about a pod that has died.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Lines of a dead pod that are kept.
const LAST_LINES: i64 = 1000;

impl Inner {
    /// Learns of pods for as long as the site is in use.
    pub(super) async fn watch(site: Weak<Self>, ended: CancellationToken) {
        let (mut away, mut told) = (false, false);
        let mut pause = SHORTEST_PAUSE;
        loop {
            let Some(inner) = site.upgrade() else { return };
            let config = watcher::Config::default()
                .labels(&labels::selector(&inner.gateway_id, &inner.name))
                .timeout(WATCH_S);
            let events = watcher(inner.watched.clone(), config);
            drop(inner);
            tokio::pin!(events);
            let mut list = List::default();
            let mut listed = None;
            let why = loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = ended.cancelled() => return,
                };
                let Some(inner) = site.upgrade() else { return };
                match event {
                    Some(Ok(event)) => {
                        if matches!(event, Event::InitDone) {
                            if away {
                                info!(site = %inner.name, server = %inner.server, "the API server is back");
                            }
                            away = false;
                            listed = Some(Instant::now());
                        }
                        inner.happened(event, &mut list);
                    }
                    Some(Err(error)) => break crate::failure::innermost(&error),
                    None => break "the watch ended".to_owned(),
                }
            };
            // A list is no sign that the watch after it holds: an account may do the one without the other.
            let held = listed.is_some_and(|at| at.elapsed() >= LONGEST_PAUSE);
            if !away {
                let Some(inner) = site.upgrade() else { return };
                // One that only ran out of time, or was too far behind, is no outage.
                away = answer(inner.client.apiserver_version()).await.is_err();
                if away {
                    warn!(site = %inner.name, server = %inner.server, "the API server is away: {why}");
                } else if !held && !told {
                    warn!(site = %inner.name, "the watch of the site's pods does not hold: {why}");
                } else {
                    debug!(site = %inner.name, "the watch broke and begins again: {why}");
                }
            }
            told = !held;
            pause = pause_after(pause, held);
            let rest = tokio::time::sleep(pause);
            if ended.run_until_cancelled(rest).await.is_none() {
                return;
            }
        }
    }

    fn happened(self: &Arc<Self>, event: Event<Pod>, list: &mut List) {
        match event {
            Event::Init => {
                list.before = self.living.all_made();
                list.seen.clear();
            }
            Event::InitApply(pod) => {
                list.seen.insert(pod.name_any());
                self.saw(&pod);
            }
            Event::InitDone => {
                let gone = list.before.difference(&list.seen);
                for name in gone {
                    self.bury(name.clone(), None);
                }
                list.before.clear();
            }
            Event::Apply(pod) => self.saw(&pod),
            Event::Delete(pod) => {
                let name = pod.name_any();
                // Its last state may say how it ended.
                self.saw(&pod);
                self.bury(name, None);
            }
        }
    }

    fn saw(self: &Arc<Self>, pod: &Pod) {
        let name = pod.name_any();
        let Some(memory) = self.living.with(&name, |life| life.memory) else {
            if pod.metadata.deletion_timestamp.is_none() {
                info!(pod = %name, site = %self.name, "pod of ours that nobody waits for; ending it");
                let inner = Arc::clone(self);
                tokio::spawn(async move { inner.delete(&name, Duration::ZERO).await });
            }
            return;
        };
        let seen = Seen::of(pod, memory);
        let (ended, leaving) = (seen.ended.clone(), seen.leaving);
        self.living.with(&name, |life| {
            life.seen.send_replace(seen);
            if leaving && !life.stopping && life.exit.borrow().is_none() {
                // It finishes what it runs, and gets no more.
                let how = "it was deleted by somebody else, or by its node's drain".to_owned();
                life.exit.send_replace(Some(how));
            }
        });
        if let Some(ended) = ended {
            self.bury(name, Some(ended));
        }
    }

    /// Tells those who wait for it how a pod ended, keeps its last words, and removes it. Without
    /// `ended`, its object is gone.
    pub(super) fn bury(self: &Arc<Self>, name: String, ended: Option<Ended>) {
        if !self.living.bury(&name) {
            return;
        }
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let words = match &ended {
                None => None,
                Some(ended) => {
                    let asked = tokio::time::timeout(ASK_TIMEOUT, inner.last_words(&name)).await;
                    asked.ok().flatten().or_else(|| ended.words.clone())
                }
            };
            let Some(life) = inner.living.remove(&name) else {
                return;
            };
            let how = match &ended {
                Some(ended) => ended.how.clone(),
                None => "the pod is gone from the cluster".to_owned(),
            };
            // Whoever lost a connection to it has given it up already, and will not say why it went.
            if life.stopping && how.starts_with(OUT_OF_MEMORY) {
                warn!(pod = %life.pod, site = %inner.name, "{how}");
            }
            let how = match words.as_deref().and_then(crate::sites::last_line_of) {
                Some(line) if !how.contains(&line) => format!("{how}; its last line was: {line}"),
                _ => how,
            };
            debug!(pod = %life.pod, object = %name, "ended: {how}");
            if let Some(words) = words.filter(|words| !words.is_empty()) {
                let _ = std::fs::write(inner.log_of(&life.pod), words);
            }
            if life.exit.borrow().is_none() {
                life.exit.send_replace(Some(how));
            }
            if ended.is_some() {
                inner.delete(&name, Duration::ZERO).await;
            }
        });
    }

    /// The last that a pod wrote.
    pub(super) async fn last_words(&self, name: &str) -> Option<String> {
        let params = LogParams {
            tail_lines: Some(LAST_LINES),
            ..LogParams::default()
        };
        self.pods.logs(name, &params).await.ok()
    }

    /// Has a pod deleted: told to finish, and killed when the grace has passed; says whether the server
    /// will. A second is the least: a node has to have seen it go before another takes its place.
    pub(super) async fn delete(&self, name: &str, grace: Duration) -> bool {
        let seconds = grace.as_millis().div_ceil(1000).max(1);
        let params = DeleteParams {
            grace_period_seconds: Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
            ..DeleteParams::default()
        };
        match answer(self.pods.delete(name, &params)).await {
            Ok(_) => true,
            // 409: somebody else is at it.
            Err(error) if error.is_absent() || error.status == Some(409) => true,
            Err(error) => {
                warn!(pod = %name, site = %self.name, "cannot be deleted now: {error}");
                false
            }
        }
    }
}

/// How long to wait before the next list and watch: what held begins again at once, what did not is left
/// alone for twice as long as before.
fn pause_after(pause: Duration, held: bool) -> Duration {
    if held {
        SHORTEST_PAUSE
    } else {
        (pause * 2).min(LONGEST_PAUSE)
    }
}

/// A list under way: who lived when it was begun, and who was seen in it.
#[derive(Debug, Default)]
struct List {
    before: HashSet<String>,
    seen: HashSet<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_never_holds_is_begun_ever_less_often() {
        let mut pause = SHORTEST_PAUSE;
        let mut waited = Duration::ZERO;
        for _ in 0..10 {
            pause = pause_after(pause, false);
            waited += pause;
        }
        assert_eq!(pause, LONGEST_PAUSE);
        assert!(waited > Duration::from_secs(11), "{waited:?}");
        assert_eq!(pause_after(pause, true), SHORTEST_PAUSE);
    }
}
