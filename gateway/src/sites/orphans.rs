//! Finds the processes of a gateway in `/proc` by the identity in their environment.

use rustix::process::{
    Pid, Signal, getpgid, getpgrp, kill_process, kill_process_group, test_kill_process_group,
};
use std::fs;

/// Whether any process of the group lives (zombies count until they are waited for).
pub(super) fn group_alive(group: Pid) -> bool {
    test_kill_process_group(group).is_ok()
}

/// Kills every process started by the gateway of this identity, and what is in a group with it; returns
/// how many. A pod may be gone and a child of it left, so that the mark counts, not the head of a group.
pub(super) fn remove(gateway_id: &str) -> usize {
    let mark = format!("{}={gateway_id}", stoic_protocol::env::GATEWAY);
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0;
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own)
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| environ.split(|b| *b == 0).any(|e| e == mark.as_bytes()))
        })
        .filter_map(|pid| i32::try_from(pid).ok().and_then(Pid::from_raw))
        .filter(|pid| {
            if let Ok(group) = getpgid(Some(*pid))
                && group != getpgrp()
            {
                let _ = kill_process_group(group, Signal::KILL);
            }
            kill_process(*pid, Signal::KILL).is_ok()
        })
        .count()
}
