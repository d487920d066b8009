//! When the process started: where the time before `main` went.
//!
//! The kernel keeps a process's start in ticks of 10 ms. The site therefore says when it gave the order
//! (`STOIC_STARTED_NS`, by `CLOCK_MONOTONIC`, which all processes of a machine share), and a function
//! that the dynamic linker calls before any library's initialisers notes when these begin.
// JUSTIFICATION: a static has to be placed into the section of functions that are called first.
#![allow(unsafe_code)]

use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use stoic_protocol::{env, stages};

/// When static initialisers began, by `CLOCK_MONOTONIC` in nanoseconds; 0 where nobody noted it.
static LINKED: AtomicU64 = AtomicU64::new(0);

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[used]
// SAFETY: entries of this section are pointers to functions of this signature, called once each by the
// dynamic linker when every library is mapped and relocated; this one makes a system call and writes to
// an atomic, which needs nothing initialised.
#[unsafe(link_section = ".preinit_array")]
static NOTE_LINKED: extern "C" fn() = note_linked;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
extern "C" fn note_linked() {
    LINKED.store(now(), Ordering::Relaxed);
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Seconds from one time to another; 0 where they are the wrong way round.
pub(crate) fn between(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

/// Seconds by stage until now, which is the begin of `main`; and that time.
pub(crate) fn before_main() -> (BTreeMap<String, f64>, u64) {
    let now = now();
    let told = std::env::var(env::STARTED).ok();
    let began = told
        .and_then(|text| text.parse().ok())
        .filter(|began| *began <= now)
        .or_else(|| start_tick(now));
    let mut found = BTreeMap::new();
    if let Some(began) = began {
        let linked = match LINKED.load(Ordering::Relaxed) {
            linked if (began..=now).contains(&linked) => linked,
            _ => now,
        };
        found.insert(stages::EXEC.to_owned(), between(began, linked));
        found.insert(stages::INITIALISE.to_owned(), between(linked, now));
    }
    (found, now)
}

/// The process's start by the kernel's ticks of 10 ms, by `CLOCK_MONOTONIC`.
fn start_tick(now: u64) -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: u64 = stat
        .rsplit(')')
        .next()?
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    // Ticks count from the boot, with the time that the machine slept.
    let boot = clock_gettime(ClockId::Boottime);
    let boot =
        u64::try_from(boot.tv_sec).ok()? * 1_000_000_000 + u64::try_from(boot.tv_nsec).ok()?;
    let age = boot.checked_sub(ticks.checked_mul(10_000_000)?)?;
    Some(now.saturating_sub(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initialisers_were_seen_to_begin() {
        let linked = LINKED.load(Ordering::Relaxed);
        assert!(linked > 0 && linked < now());
    }

    #[test]
    fn the_kernels_start_is_before_now_and_within_a_tick_of_the_linkers() {
        let linked = LINKED.load(Ordering::Relaxed);
        let tick = start_tick(now()).unwrap();
        assert!(tick <= linked + 10_000_000, "{tick} {linked}");
    }
}
