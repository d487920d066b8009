//! Which files of a folder are written to no more.

use crate::cli::call::{Entry, Stamp};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// How many settle times the first settled file waits for the last one.
const PATIENCE: u32 = 10;

/// Remembers how files looked, and since when.
#[derive(Debug)]
pub(super) struct Settling {
    settle: Duration,
    seen: HashMap<PathBuf, (Stamp, Instant)>,
}

/// What a look at the folder told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Files that may be taken.
    pub(super) settled: Vec<Entry>,
    /// Files that may still be written to.
    pub(super) restless: usize,
    /// Whether to wait no more for those.
    pub(super) overdue: bool,
}

impl Settling {
    /// Files settle once they have not changed for this long.
    pub(super) fn new(settle: Duration) -> Self {
        Self {
            settle,
            seen: HashMap::new(),
        }
    }

    /// Takes a list of the folder. A file has settled when it was seen unchanged for the settle time, or
    /// when the file system says that nobody touched it for so long: the first works with any clock,
    /// the second at once after a start. Empty files are never taken: something is to come.
    pub(super) fn look(&mut self, files: Vec<Entry>, now: Instant, wall: SystemTime) -> Look {
        let mut former = std::mem::take(&mut self.seen);
        let mut look = Look::default();
        for file in files {
            let since = match former.remove(&file.path) {
                Some((stamp, since)) if stamp == file.stamp => since,
                _ => now,
            };
            self.seen.insert(file.path.clone(), (file.stamp, since));
            let observed = now.saturating_duration_since(since);
            let untouched = wall.duration_since(file.stamp.touched).unwrap_or_default();
            if observed.max(untouched) < self.settle {
                look.restless += 1;
            } else if file.stamp.bytes > 0 {
                look.overdue |= observed >= self.settle * PATIENCE;
                look.settled.push(file);
            }
        }
        look
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::Path;

    const SETTLE: Duration = Duration::from_secs(5);

    fn scan(folder: &Path) -> Vec<Entry> {
        crate::cli::call::list(folder, false, |_, _| true)
            .expect("listed")
            .0
    }

    fn names(look: &Look) -> Vec<String> {
        let name = |file: &Entry| file.path.display().to_string();
        look.settled.iter().map(name).collect()
    }

    /// The clock of the folder's files is the machine's; the test's clocks start there.
    fn clocks() -> (Instant, SystemTime) {
        (Instant::now(), SystemTime::now())
    }

    #[test]
    fn a_file_settles_when_it_is_not_written_to_for_the_settle_time() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.jpg");
        std::fs::write(&path, b"half").expect("written");
        let (now, wall) = clocks();
        let mut settling = Settling::new(SETTLE);
        let look = settling.look(scan(folder.path()), now, wall);
        assert_eq!((names(&look).len(), look.restless), (0, 1));

        let mut file = std::fs::File::options()
            .append(true)
            .open(&path)
            .expect("open");
        file.write_all(b" and half").expect("appended");
        // The wall clock stands: only what was observed counts.
        let look = settling.look(scan(folder.path()), now + SETTLE, wall);
        assert_eq!(names(&look).len(), 0, "it changed since");
        let look = settling.look(scan(folder.path()), now + SETTLE * 2, wall);
        assert_eq!(names(&look), ["a.jpg"]);
    }

    #[test]
    fn a_file_that_lay_there_before_the_start_settles_at_once() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("old.jpg"), b"old").expect("written");
        let (now, wall) = clocks();
        let look = Settling::new(SETTLE).look(scan(folder.path()), now, wall + SETTLE * 2);
        assert_eq!(names(&look), ["old.jpg"]);
        assert!(!look.overdue);
    }

    #[test]
    fn a_file_from_the_future_settles_by_observation() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("a.jpg"), b"a").expect("written");
        let (now, wall) = clocks();
        let past = wall - Duration::from_secs(3600);
        let mut settling = Settling::new(SETTLE);
        assert_eq!(settling.look(scan(folder.path()), now, past).restless, 1);
        let look = settling.look(scan(folder.path()), now + SETTLE, past);
        assert_eq!(names(&look), ["a.jpg"]);
    }

    #[test]
    fn an_empty_file_is_awaited_for_a_while_and_never_taken() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("a.jpg"), b"").expect("written");
        let (now, wall) = clocks();
        let mut settling = Settling::new(SETTLE);
        let look = settling.look(scan(folder.path()), now, wall);
        assert_eq!((look.settled.len(), look.restless), (0, 1));
        let look = settling.look(scan(folder.path()), now + SETTLE, wall);
        assert_eq!((look.settled.len(), look.restless), (0, 0));
    }

    #[test]
    fn one_file_that_never_settles_does_not_hold_up_the_others() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("a.jpg"), b"a").expect("written");
        let (now, wall) = clocks();
        let mut settling = Settling::new(SETTLE);
        settling.look(scan(folder.path()), now, wall);
        std::fs::write(folder.path().join("b.jpg"), b"b").expect("written");
        let look = settling.look(scan(folder.path()), now + SETTLE, wall);
        assert_eq!((names(&look), look.restless), (vec!["a.jpg".to_owned()], 1));
        assert!(!look.overdue);
        std::fs::write(folder.path().join("b.jpg"), b"bb").expect("written");
        assert!(
            settling
                .look(scan(folder.path()), now + SETTLE * PATIENCE, wall)
                .overdue
        );
    }

    #[test]
    fn a_zero_settle_time_takes_files_as_they_are() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("a.jpg"), b"a").expect("written");
        let (now, wall) = clocks();
        let look = Settling::new(Duration::ZERO).look(scan(folder.path()), now, wall);
        assert_eq!(names(&look), ["a.jpg"]);
    }
}
