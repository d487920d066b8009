//! Processes as `/proc` shows them: what is left of a gateway's pods.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;

/// Ids of the processes that the gateway of this identity started and that still live.
#[must_use]
pub fn marked(gateway_id: &str) -> Vec<u32> {
    let mark = format!("{}={gateway_id}", stoic_protocol::env::GATEWAY);
    let entries = fs::read_dir("/proc").expect("this is Linux");
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        // A zombie's environment is empty, so that only the living are found.
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environ| environ.split(|b| *b == 0).any(|e| e == mark.as_bytes()))
    })
    .collect()
}

/// Whether a process lives and is no zombie.
#[must_use]
pub fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        // The state follows the name, which is in brackets and may hold anything.
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    })
}

/// Sends a signal to one process; whether it was there to get it.
pub(crate) fn signal(pid: u32, signal: Signal) -> bool {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .is_some_and(|pid| kill_process(pid, signal).is_ok())
}
