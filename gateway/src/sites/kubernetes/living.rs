//! The pods that live, as the watch last saw them.

use super::forward::Forward;
use super::status::Seen;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use tokio::sync::watch;

/// A pod that lives, or is being made.
#[derive(Debug)]
pub(super) struct Life {
    /// Its name in its pool.
    pub(super) pod: String,
    /// What the watch sees.
    pub(super) seen: watch::Sender<Seen>,
    /// How it ended.
    pub(super) exit: watch::Sender<Option<String>>,
    /// Where it is reached, once it answered.
    pub(super) address: Option<SocketAddr>,
    /// What carries its connections, where it is reached through the API server.
    _forward: Option<Forward>,
    /// Its limit of memory, bytes.
    pub(super) memory: Option<u64>,
    /// The API server has said that it made it.
    made: bool,
    /// The gateway itself ends it.
    pub(super) stopping: bool,
    /// Its death is being looked into.
    buried: bool,
}

/// Who waits for a pod is told by these.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) seen: watch::Receiver<Seen>,
    pub(super) exited: watch::Receiver<Option<String>>,
}

/// Pods by the names of their objects.
#[derive(Debug, Default)]
pub(super) struct Living {
    by_name: Mutex<HashMap<String, Life>>,
}

impl Living {
    /// A pod is about to be made, or was found.
    pub(super) fn add(&self, name: &str, pod: &str, memory: Option<u64>) -> Told {
        let (seen, see) = watch::channel(Seen::default());
        let (exit, exited) = watch::channel(None);
        let life = Life {
            pod: pod.to_owned(),
            seen,
            exit,
            address: None,
            _forward: None,
            memory,
            made: false,
            stopping: false,
            buried: false,
        };
        self.by_name.lock().insert(name.to_owned(), life);
        Told { seen: see, exited }
    }

    /// Its object exists: from now on a list without it says that it is gone.
    pub(super) fn made(&self, name: &str) {
        self.with(name, |life| life.made = true);
    }

    /// Changes what is known of one; none if it is gone.
    pub(super) fn with<T>(&self, name: &str, change: impl FnOnce(&mut Life) -> T) -> Option<T> {
        self.by_name.lock().get_mut(name).map(change)
    }

    pub(super) fn remove(&self, name: &str) -> Option<Life> {
        self.by_name.lock().remove(name)
    }

    /// Whether its death is to be looked into by the caller: once.
    pub(super) fn bury(&self, name: &str) -> bool {
        let first = self.with(name, |life| !std::mem::replace(&mut life.buried, true));
        first == Some(true)
    }

    /// Those whose objects exist.
    pub(super) fn all_made(&self) -> HashSet<String> {
        let by_name = self.by_name.lock();
        let made = by_name.iter().filter(|(_, life)| life.made);
        made.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.by_name.lock().len()
    }

    /// Whether some are being made.
    pub(super) fn any_coming(&self) -> bool {
        self.by_name.lock().values().any(|life| !life.made)
    }

    /// The object of a pool's pod.
    pub(super) fn of_pod(&self, pod: &str) -> Option<String> {
        let by_name = self.by_name.lock();
        let found = by_name.iter().find(|(_, life)| life.pod == pod);
        found.map(|(name, _)| name.clone())
    }

    /// A pod answers at this address: whoever had it before is no more, even if nobody said so yet.
    pub(super) fn settle(
        &self,
        name: &str,
        address: SocketAddr,
        forward: Option<Forward>,
    ) -> Vec<String> {
        let mut by_name = self.by_name.lock();
        if let Some(life) = by_name.get_mut(name) {
            life.address = Some(address);
            life._forward = forward;
        }
        let former = by_name
            .iter()
            .filter(|(other, life)| *other != name && life.address == Some(address));
        former.map(|(name, _)| name.clone()).collect()
    }
}
