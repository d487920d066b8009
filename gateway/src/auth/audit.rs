//! The audit log: one JSON line for each change, with who, what and when, in `audit.log` of the data
//! folder. What a change carried, a secret for example, never stands in it.

use parking_lot::Mutex;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::{info, warn};

/// A change, or one that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// When it had ended, in RFC 3339.
    pub at: String,
    /// Name of the token; `anonymous` where none is needed.
    pub who: String,
    /// The caller's address; none for a change at the data folder itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What was asked, as `PUT /v1/functions/wildlife`.
    pub what: String,
    /// Name of what was changed, where `what` does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Status of the answer.
    pub status: u16,
}

impl Change {
    /// A change that has ended at this time, in seconds since the epoch.
    #[must_use]
    pub fn new(now: f64, who: &str, what: String, status: u16) -> Self {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(now.max(0.0));
        Self {
            at: humantime::format_rfc3339_millis(at).to_string(),
            who: who.to_owned(),
            from: None,
            what,
            name: None,
            status,
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Audit {
    path: PathBuf,
    turn: Arc<Mutex<()>>,
}

impl Audit {
    /// The log of this data folder.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self {
            path: data.join("audit.log"),
            turn: Arc::default(),
        }
    }

    /// Writes a change down. Blocks on the disk.
    pub fn note(&self, change: &Change) {
        let Change {
            who, what, status, ..
        } = change;
        let name = change.name.as_deref().unwrap_or_default();
        info!(who, what, name, status, "change");
        let Ok(mut line) = serde_json::to_vec(change) else {
            return;
        };
        line.push(b'\n');
        let _turn = self.turn.lock();
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.path)
            .and_then(|mut file| file.write_all(&line));
        if let Err(error) = written {
            warn!(
                "the audit log {} cannot be written: {error}",
                self.path.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_a_line_that_only_the_owner_reads() {
        let data = tempfile::tempdir().expect("folder");
        let audit = Audit::new(data.path());
        for status in [201, 403] {
            let mut change = Change::new(1.5, "me", "POST /v1/functions".to_owned(), status);
            change.name = Some("a\"b\n".to_owned());
            audit.note(&change);
        }
        let path = data.path().join("audit.log");
        let text = std::fs::read_to_string(&path).expect("written");
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["at"], "1970-01-01T00:00:01.500Z");
        assert_eq!(
            (&lines[1]["status"], &lines[1]["who"]),
            (&403.into(), &"me".into())
        );
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&path).expect("there").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
}
