//! The parked processes that pods of a function are forked from, on this machine: a cold start is one without them.
//!
//! They are found as an operator finds them, by what the kernel tells of the gateway's children.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::time::Duration;
use stoic_protocol::env;
use tokio::time::{Instant, sleep};

/// What marks them in their environment.
const MARK: &str = "STOIC_ZYGOTE";
/// How long one may take to go.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Ends those of a function on a runtime that this gateway's process started; says how many there were. Its pods are to
/// be gone before: what is forked from a zygote looks like one.
pub(super) async fn end(gateway: u32, function: &str, runtime: &str) -> Result<usize, String> {
    let found = of(gateway, function, runtime);
    for pid in &found {
        // One that is gone already is good.
        let _ = kill_process(*pid, Signal::TERM);
    }
    let begun = Instant::now();
    while found.iter().any(|pid| parent(*pid) == Some(gateway)) {
        if begun.elapsed() > PATIENCE {
            return Err(format!(
                "{} zygotes did not end within {} s",
                found.len(),
                PATIENCE.as_secs()
            ));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(found.len())
}

fn of(gateway: u32, function: &str, runtime: &str) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| parent(*pid) == Some(gateway))
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()));
            is_one(&environment.unwrap_or_default(), function, runtime)
        })
        .collect()
}

/// Whether an environment is that of a zygote of the function, on the runtime or on any.
fn is_one(environment: &[u8], function: &str, runtime: &str) -> bool {
    let value = |name: &str| {
        environment
            .split(|byte| *byte == 0)
            .filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    value(MARK).is_some_and(|mark| mark == "1")
        && value(env::FUNCTION) == Some(function)
        && value(env::RUNTIME).is_none_or(|its| its == runtime)
}

/// The parent of a process that is alive; one that has ended and is not yet buried is not.
fn parent(pid: Pid) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z" && state != "X").then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zygote_is_told_by_its_environment() {
        let zygote = b"PATH=/bin\0STOIC_ZYGOTE=1\0STOIC_FUNCTION=hi\0STOIC_RUNTIME=edge\0";
        assert!(is_one(zygote, "hi", "edge"));
        assert!(!is_one(zygote, "ho", "edge"));
        assert!(!is_one(zygote, "hi", "cpu"));
        assert!(is_one(b"STOIC_FUNCTION=hi\0STOIC_ZYGOTE=1", "hi", "cpu"));
        assert!(!is_one(
            b"STOIC_FUNCTION=hi\0STOIC_RUNTIME=edge",
            "hi",
            "edge"
        ));
        assert!(!is_one(b"", "hi", "edge"));
    }

    #[test]
    fn the_parent_is_read_whatever_the_name_of_the_process() {
        let me = rustix::process::getpid();
        let parent_of_me = rustix::process::getppid().expect("a test has a parent");
        let raw = u32::try_from(parent_of_me.as_raw_nonzero().get()).expect("positive");
        assert_eq!(parent(me), Some(raw));
    }

    #[tokio::test]
    async fn ending_none_is_done_at_once() {
        let me = std::process::id();
        assert_eq!(end(me, "a-function-that-nobody-has", "edge").await, Ok(0));
    }
}
