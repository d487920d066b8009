//! Which images the gateway fetched, and when they were used last: those alone it may remove.

use super::connect::status;
use bollard::Docker;
use bollard::query_parameters::RemoveImageOptions;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::{info, warn};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Image {
    /// The name it was fetched by.
    reference: String,
    /// Seconds since the Unix epoch.
    last_used: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pulled {
    file: PathBuf,
    by_id: Mutex<BTreeMap<String, Image>>,
}

impl Pulled {
    /// What an earlier life wrote to this file, if anything.
    pub(super) fn load(file: PathBuf) -> Self {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        Self {
            by_id: Mutex::new(serde_json::from_str(&text).unwrap_or_default()),
            file,
        }
    }

    /// An image was fetched.
    pub(super) fn note(&self, id: &str, reference: &str) {
        let image = Image {
            reference: reference.to_owned(),
            last_used: now(),
        };
        let text = {
            let mut by_id = self.by_id.lock();
            by_id.insert(id.to_owned(), image);
            serde_json::to_string(&*by_id).unwrap_or_default()
        };
        self.write(&text);
    }

    /// A pod of this image was started. Written down with the next change.
    pub(super) fn used(&self, id: &str) {
        if let Some(image) = self.by_id.lock().get_mut(id) {
            image.last_used = now();
        }
    }

    /// Removes those that no function names and that were not used for `keep`, and those whose tag has
    /// moved on. The engine keeps what a container needs.
    pub(super) async fn collect(&self, docker: &Docker, used: &[String], keep: Duration) {
        let images = self.by_id.lock().clone();
        let mut changed = false;
        for (id, image) in images {
            let current = docker.inspect_image(&image.reference).await;
            let is_current = match current {
                Ok(found) => found.id.as_deref() == Some(&*id),
                Err(error) if status(&error) == Some(404) => false,
                // The engine is away: another time.
                Err(_) => return,
            };
            let named = used.contains(&image.reference);
            if is_current && named {
                self.used(&id);
                continue;
            }
            if is_current && now().saturating_sub(image.last_used) < keep.as_secs() {
                continue;
            }
            let name = if is_current { &image.reference } else { &id };
            let removed = docker
                .remove_image(name, None::<RemoveImageOptions>, None)
                .await;
            match removed {
                Ok(_) => info!(image = %image.reference, %id, "image removed: no function uses it"),
                Err(error) => match status(&error) {
                    Some(404) => {}
                    // A container uses it, or somebody gave it another name.
                    Some(409) => continue,
                    _ => {
                        warn!(image = %image.reference, "cannot be removed: {error}");
                        continue;
                    }
                },
            }
            self.by_id.lock().remove(&id);
            changed = true;
        }
        if changed {
            let text = serde_json::to_string(&*self.by_id.lock()).unwrap_or_default();
            self.write(&text);
        }
    }

    fn write(&self, text: &str) {
        if let Err(error) = std::fs::write(&self.file, text) {
            warn!(file = %self.file.display(), "cannot note the images that were fetched: {error}");
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
