//! The audit log: one JSON line for each change, with who, what and when, in `audit.log` of the data
//! folder. Changes that were asked for and refused at the door stand in `audit-refused.log`, so that whoever
//! may do nothing cannot push out what others did. What a change carried, a secret for example, never
//! stands in either.

use parking_lot::Mutex;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::{debug, info, warn};

/// A change, or one that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// When it had ended, in RFC 3339.
    pub at: String,
    /// Name of the token; `anonymous` where none was shown, `unknown` where there is no such token.
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
    /// Why it was refused: the code of the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
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
            code: None,
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Audit(Arc<Logs>);

#[derive(Debug)]
struct Logs {
    changes: Log,
    refused: Log,
}

/// One of the two files.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// Bytes at which it is set aside as `.1`, in the place of the one before it.
    limit: Option<u64>,
    turn: Mutex<()>,
}

impl Audit {
    /// The log of this data folder, for a process beside the gateway: it only appends.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self::of(data, None)
    }

    /// The log of this data folder, for the gateway: a file that would become larger than this is set aside
    /// as `.1`, and what was set aside before goes.
    #[must_use]
    pub fn bounded(data: &Path, bytes: u64) -> Self {
        Self::of(data, Some(bytes))
    }

    fn of(data: &Path, limit: Option<u64>) -> Self {
        let log = |name| Log {
            path: data.join(name),
            limit,
            turn: Mutex::default(),
        };
        Self(Arc::new(Logs {
            changes: log("audit.log"),
            refused: log("audit-refused.log"),
        }))
    }

    /// Writes a change down. Blocks on the disk.
    pub fn note(&self, change: &Change) {
        let Change {
            who, what, status, ..
        } = change;
        let name = change.name.as_deref().unwrap_or_default();
        info!(who, what, name, status, "change");
        self.0.changes.write(change);
    }

    /// Writes down a change that was refused. Blocks on the disk.
    pub fn note_refused(&self, change: &Change) {
        let Change {
            who, what, status, ..
        } = change;
        // Anybody can have this said as often as they like.
        debug!(who, what, status, "change refused");
        self.0.refused.write(change);
    }
}

impl Log {
    fn write(&self, change: &Change) {
        let Ok(mut line) = serde_json::to_vec(change) else {
            return;
        };
        line.push(b'\n');
        let _turn = self.turn.lock();
        if let Err(error) = self.append(&line) {
            warn!(
                "the audit log {} cannot be written: {error}",
                self.path.display()
            );
        }
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut file = self.open()?;
        if let Some(limit) = self.limit {
            let bytes = file.metadata()?.len();
            if bytes > 0 && bytes.saturating_add(line.len() as u64) > limit {
                let mut aside = self.path.clone().into_os_string();
                aside.push(".1");
                std::fs::rename(&self.path, aside)?;
                file = self.open()?;
            }
        }
        file.write_all(line)
    }

    /// Opened for each line: another process may write to it, too.
    fn open(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.path)
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

    #[test]
    fn a_log_is_held_to_its_size_and_refusals_push_no_change_out() {
        let data = tempfile::tempdir().expect("folder");
        let audit = Audit::bounded(data.path(), 4096);
        let change = |n: u16| Change::new(1.5, "me", format!("PUT /{n}"), n);
        audit.note(&change(200));
        for n in 0..500 {
            audit.note_refused(&change(n));
        }
        // The command line does not set aside what the gateway may be writing.
        let beside = Audit::new(data.path());
        let read = |name: &str| std::fs::read_to_string(data.path().join(name)).expect("there");
        assert_eq!(read("audit.log").lines().count(), 1);
        let (aside, last) = (read("audit-refused.log.1"), read("audit-refused.log"));
        assert!(aside.len() <= 4096 && last.len() <= 4096);
        let kept: Vec<u16> = aside
            .lines()
            .chain(last.lines())
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("whole"))
            .map(|line| line["status"].as_u64().expect("a status") as u16)
            .collect();
        // The last ones, in order, none lost between the two.
        let first = 500 - kept.len() as u16;
        assert!(kept.len() > 40 && kept == (first..500).collect::<Vec<_>>());
        for n in 0..100 {
            beside.note_refused(&change(n));
        }
        assert!(read("audit-refused.log").len() > 4096);
        assert_eq!(std::fs::read_dir(data.path()).expect("folder").count(), 3);
    }
}
