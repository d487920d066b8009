//! The containers that live, and how their deaths are learned: from the engine's events, and from its
//! list where events may have been missed.

use super::Inner;
use super::connect::{said, status};
use super::labels;
use bollard::models::EventMessage;
use bollard::query_parameters::{
    EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// Longest question about a container that has died.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a container that somebody else is removing.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Waits between tries to reach an engine that is away.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Lines of a dead pod that are kept.
const LAST_LINES: &str = "1000";

/// A container that lives.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) pod: String,
    /// Name of the container.
    pub(super) name: String,
    pub(super) exit: watch::Sender<Option<String>>,
    pub(super) address: Option<SocketAddr>,
    /// What its image wants to be told to stop with.
    pub(super) stop_signal: Option<String>,
    /// Its limit of memory, bytes.
    pub(super) memory: Option<u64>,
    /// The kernel ended a process of it for want of memory.
    pub(super) out_of_memory: bool,
    /// Its death is being looked into.
    buried: bool,
}

/// Containers by id, and the names of those that are being made.
#[derive(Debug, Default)]
pub(super) struct Living {
    by_id: Mutex<HashMap<String, Life>>,
    pub(super) coming: Mutex<HashSet<String>>,
}

impl Living {
    /// A container was made.
    pub(super) fn add(
        &self,
        id: &str,
        pod: &str,
        name: &str,
        memory: Option<u64>,
    ) -> watch::Receiver<Option<String>> {
        let (exit, exited) = watch::channel(None);
        let life = Life {
            pod: pod.to_owned(),
            name: name.to_owned(),
            exit,
            address: None,
            stop_signal: None,
            memory,
            out_of_memory: false,
            buried: false,
        };
        self.by_id.lock().insert(id.to_owned(), life);
        exited
    }

    /// Changes what is known of one; none if it is gone.
    pub(super) fn with<T>(&self, id: &str, change: impl FnOnce(&mut Life) -> T) -> Option<T> {
        self.by_id.lock().get_mut(id).map(change)
    }

    pub(super) fn remove(&self, id: &str) -> Option<Life> {
        self.by_id.lock().remove(id)
    }

    pub(super) fn knows(&self, id: &str, name: &str) -> bool {
        self.by_id.lock().contains_key(id) || self.coming.lock().contains(name)
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.by_id.lock().keys().cloned().collect()
    }

    /// The id of the pod's container, the newest if it was started more than once.
    pub(super) fn of_pod(&self, pod: &str) -> Option<String> {
        let by_id = self.by_id.lock();
        let found = by_id.iter().find(|(_, life)| life.pod == pod);
        found.map(|(id, _)| id.clone())
    }

    /// A container got this address: whoever had it before is no more, even if nobody said so yet.
    pub(super) fn settle(&self, id: &str, address: SocketAddr) -> Vec<String> {
        let mut by_id = self.by_id.lock();
        if let Some(life) = by_id.get_mut(id) {
            life.address = Some(address);
        }
        let former = by_id
            .iter()
            .filter(|(other, life)| *other != id && life.address == Some(address));
        former.map(|(id, _)| id.clone()).collect()
    }
}

impl Inner {
    /// Learns of deaths for as long as the site is in use.
    pub(super) async fn watch(site: Weak<Self>) {
        let mut pause = SHORTEST_PAUSE;
        let mut away = false;
        loop {
            let Some(inner) = site.upgrade() else { return };
            let mut filters = labels::filter(&inner.gateway_id, &inner.name);
            filters.insert("type".to_owned(), vec!["container".to_owned()]);
            filters.insert("event".to_owned(), vec!["die".to_owned(), "oom".to_owned()]);
            let options = EventsOptionsBuilder::new()
                .filters(&filters)
                // What happens between the list below and the first event is told again.
                .since(&unix_seconds())
                .build();
            let mut events = inner.docker.events(Some(options)).boxed();
            match inner.compare().await {
                Ok(()) if away => {
                    info!(site = %inner.name, engine = %inner.host, "the Docker engine is back");
                    away = false;
                }
                Ok(()) => {}
                Err(error) => {
                    if !away {
                        warn!(site = %inner.name, engine = %inner.host, "the Docker engine is away: {}", said(&error));
                    }
                    away = true;
                    drop((events, inner));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            }
            pause = SHORTEST_PAUSE;
            let ended = inner.ended.clone();
            drop(inner);
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = ended.cancelled() => return,
                };
                let (Some(Ok(event)), Some(inner)) = (event, site.upgrade()) else {
                    break;
                };
                inner.happened(event);
            }
            tokio::time::sleep(SHORTEST_PAUSE).await;
        }
    }

    fn happened(self: &Arc<Self>, event: EventMessage) {
        let Some(actor) = event.actor else { return };
        let Some(id) = actor.id else { return };
        match event.action.as_deref() {
            Some("oom") => {
                let pod = self.living.with(&id, |life| {
                    life.out_of_memory = true;
                    life.pod.clone()
                });
                if let Some(pod) = pod {
                    warn!(%pod, site = %self.name, "out of memory: the kernel ended a process of the pod");
                }
            }
            Some("die") => self.bury(id),
            _ => {}
        }
    }

    /// Holds what lives against the engine's list: buries what has died, and ends what nobody knows.
    async fn compare(self: &Arc<Self>) -> Result<(), bollard::errors::Error> {
        let known = self.living.ids();
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&labels::filter(&self.gateway_id, &self.name))
            .build();
        let listed = self.docker.list_containers(Some(options)).await?;
        let mut up = HashSet::new();
        for container in listed {
            let Some(id) = container.id else { continue };
            let names = container.names.unwrap_or_default();
            let name = names
                .first()
                .map_or("", |name| name.trim_start_matches('/'));
            let state = container.state.map(|state| state.to_string());
            if !self.living.knows(&id, name) {
                info!(container = %name, site = %self.name, "container of ours that nobody waits for; ending it");
                let inner = Arc::clone(self);
                tokio::spawn(async move { inner.remove(&id).await });
                continue;
            }
            // One that was made and not started yet is no dead one.
            if matches!(
                state.as_deref(),
                Some("running" | "created" | "paused" | "restarting")
            ) {
                up.insert(id);
            }
        }
        for id in known.into_iter().filter(|id| !up.contains(id)) {
            self.bury(id);
        }
        Ok(())
    }

    /// Tells those who wait for it how a container died, keeps its last words, and removes it.
    pub(super) fn bury(self: &Arc<Self>, id: String) {
        let first = self
            .living
            .with(&id, |life| !std::mem::replace(&mut life.buried, true));
        if first != Some(true) {
            return;
        }
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let look = async { tokio::join!(inner.how_it_died(&id), inner.last_words(&id)) };
            let (how, words) = tokio::time::timeout(ASK_TIMEOUT, look)
                .await
                .unwrap_or_default();
            let Some(life) = inner.living.remove(&id) else {
                return;
            };
            let how = how.unwrap_or_else(|| "the container is gone".to_owned());
            let how = match words.as_deref().and_then(crate::sites::last_line_of) {
                Some(line) => format!("{how}; its last line was: {line}"),
                None => how,
            };
            debug!(pod = %life.pod, container = %life.name, "ended: {how}");
            if let Some(words) = words.filter(|words| !words.is_empty()) {
                let _ = std::fs::write(inner.log_of(&life.pod), words);
            }
            let _ = life.exit.send(Some(how));
            inner.remove(&id).await;
            inner.secrets.clear(&inner.name, &life.name);
        });
    }

    async fn how_it_died(&self, id: &str) -> Option<String> {
        let found = self
            .docker
            .inspect_container(id, None::<InspectContainerOptions>)
            .await
            .ok()?;
        let state = found.state?;
        let code = state.exit_code.unwrap_or_default();
        let (noted, memory) = self
            .living
            .with(id, |life| (life.out_of_memory, life.memory))?;
        if state.oom_killed == Some(true) || noted && code == 137 {
            let limit = memory.map_or_else(String::new, |bytes| {
                format!(" (its limit is {})", bytesize::ByteSize(bytes))
            });
            return Some(format!("killed: out of memory{limit}"));
        }
        Some(match code {
            129..=192 => format!("killed by signal {}", code - 128),
            _ => format!("exit status {code}"),
        })
    }

    /// The last that a container wrote.
    pub(super) async fn last_words(&self, id: &str) -> Option<String> {
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .tail(LAST_LINES)
            .build();
        let mut pieces = self.docker.logs(id, Some(options));
        let mut words = Vec::new();
        while let Some(Ok(piece)) = pieces.next().await {
            words.extend_from_slice(&piece.into_bytes());
        }
        Some(String::from_utf8_lossy(&words).into_owned())
    }

    /// Kills a container, if it runs, and removes it; says whether it is gone.
    pub(super) async fn remove(&self, id: &str) -> bool {
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        match self.docker.remove_container(id, Some(options)).await {
            Ok(()) => true,
            Err(error) if status(&error) == Some(404) => true,
            // Somebody else is at it: it is gone when they are done.
            Err(error) if status(&error) == Some(409) => self.removed(id).await,
            Err(error) => {
                warn!(container = %id, site = %self.name, "cannot be removed now: {}", said(&error));
                false
            }
        }
    }

    /// Waits until a container that is being removed is gone; says whether it is.
    async fn removed(&self, id: &str) -> bool {
        let options = WaitContainerOptionsBuilder::new()
            .condition("removed")
            .build();
        let mut told = self.docker.wait_container(id, Some(options));
        match tokio::time::timeout(REMOVE_TIMEOUT, told.next()).await {
            // An exit status other than 0 comes as an error, and is none here.
            Ok(Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. }))) => true,
            Ok(Some(Err(error))) => status(&error) == Some(404),
            Ok(None) | Err(_) => {
                warn!(container = %id, site = %self.name, "somebody else is removing it, and it is not gone yet");
                false
            }
        }
    }
}

fn unix_seconds() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since
        .map_or(0, |since| since.as_secs().saturating_sub(1))
        .to_string()
}
