//! The memory of process groups, as `/proc` tells it.

use std::collections::HashMap;
use std::fs;

/// Bytes that the processes of each group hold: pages of their own whole, and of those that several
/// processes share, forked pods among them, their share.
pub(super) fn of_groups(groups: &[u32]) -> HashMap<u32, u64> {
    let mut found = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let Some(group) = group_of(pid).filter(|group| groups.contains(group)) else {
            continue;
        };
        if let Some(bytes) = proportional(pid).or_else(|| resident(pid)) {
            *found.entry(group).or_default() += bytes;
        }
    }
    found
}

/// The process group: the third field behind the name, which is in brackets and may hold anything.
fn group_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(2)?.parse().ok()
}

/// Proportional set size, in bytes.
fn proportional(pid: u32) -> Option<u64> {
    kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// Resident set size, in bytes.
fn resident(pid: u32) -> Option<u64> {
    kib(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Bytes of the line that begins so, which has them in kB.
fn kib(path: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn a_group_is_all_of_its_processes() {
        let mut alone = Command::new("sleep")
            .arg("60")
            .process_group(0)
            .spawn()
            .expect("sleep");
        let mut two = Command::new("sh")
            .args(["-c", "sleep 60 & echo up; wait"])
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let mut up = [0; 3];
        std::io::Read::read_exact(two.stdout.as_mut().expect("piped"), &mut up).expect("it is up");
        let groups = [alone.id(), two.id(), u32::MAX];
        let found = of_groups(&groups);
        let (one, both) = (found[&groups[0]], found[&groups[1]]);
        // Two processes hold more than one, and neither is large.
        assert!((16 << 10..8 << 20).contains(&one), "{one}");
        assert!(both > one && both < 16 << 20, "{both}");
        assert_eq!(found.len(), 2);
        for (child, group) in [(&mut alone, groups[0]), (&mut two, groups[1])] {
            let group = i32::try_from(group)
                .ok()
                .and_then(rustix::process::Pid::from_raw);
            let group = group.expect("an id");
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = child.wait();
        }
    }
}
