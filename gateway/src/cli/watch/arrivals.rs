//! Tells when something happens in the folder. Where the system does not tell (a network file system,
//! too many watches), it is looked at now and then.

use super::folder::identity;
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How often the folder is looked at although nothing was told.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The same, where nothing will be told.
const LOOK_OFTEN: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Arrivals {
    happened: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    of: Option<(u64, u64)>,
    recursive: bool,
}

impl Arrivals {
    /// Nothing is watched before the first wait.
    pub(super) fn new(recursive: bool) -> Self {
        Self {
            happened: Arc::default(),
            watcher: None,
            of: None,
            recursive,
        }
    }

    /// Watches the folder, anew where it vanished and came back. Tells why it cannot.
    pub(super) fn follow(&mut self, path: &Path) -> Result<(), String> {
        let now = identity(path);
        if now.is_some() && now == self.of {
            return Ok(());
        }
        self.of = now;
        self.watcher = None;
        if now.is_none() {
            return Ok(());
        }
        let happened = Arc::clone(&self.happened);
        let tell = move |event: notify::Result<Event>| {
            // Reading the folder is an event too, and would never end.
            if !matches!(
                event,
                Ok(Event {
                    kind: EventKind::Access(_),
                    ..
                })
            ) {
                happened.notify_one();
            }
        };
        let mode = if self.recursive {
            RecursiveMode::Recursive
        } else {
            RecursiveMode::NonRecursive
        };
        let mut watcher =
            RecommendedWatcher::new(tell, Config::default()).map_err(|e| e.to_string())?;
        watcher.watch(path, mode).map_err(|e| e.to_string())?;
        self.watcher = Some(watcher);
        Ok(())
    }

    /// Until something happens, or it is time to look anyway.
    pub(super) async fn wait(&self) {
        let look = if self.watcher.is_some() {
            LOOK_EVERY
        } else {
            LOOK_OFTEN
        };
        let _ = tokio::time::timeout(look, self.happened.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_arrival_is_told_before_it_is_time_to_look() {
        let folder = tempfile::tempdir().expect("folder");
        let mut arrivals = Arrivals::new(false);
        arrivals.follow(folder.path()).expect("watched");
        let begun = tokio::time::Instant::now();
        std::fs::write(folder.path().join("a.jpg"), b"a").expect("written");
        arrivals.wait().await;
        assert!(begun.elapsed() < LOOK_EVERY / 2);
    }

    #[tokio::test]
    async fn a_folder_that_came_back_is_followed_again() {
        let parent = tempfile::tempdir().expect("folder");
        let path = parent.path().join("watched");
        let mut arrivals = Arrivals::new(false);
        arrivals.follow(&path).expect("nothing to watch yet");
        assert!(arrivals.watcher.is_none());
        std::fs::create_dir(&path).expect("made");
        arrivals.follow(&path).expect("watched");
        assert!(arrivals.watcher.is_some());
    }
}
