//! Memory for activations is kept and reused instead of being mapped anew for every batch.
//!
//! By default glibc maps large blocks and returns them at once, so each batch faults in hundreds of
//! megabytes page by page; that costs a convolutional net half of its speed and more. The way out
//! (no mmap, no trimming, huge pages, one arena so that worker threads share what was freed) can only
//! be set in the environment before a program starts, so the program starts itself once more.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

const VARIABLE: &str = "GLIBC_TUNABLES";
const DISABLE: &str = "STOIC_ALLOCATOR";
/// Marks the second start, so that a failure cannot loop.
const MARK: &str = "STOIC_ALLOCATOR_SET";
const TUNABLES: &str = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967295:\
                        glibc.malloc.trim_threshold=4294967295:glibc.malloc.arena_max=1";
/// libgomp's threads spin while they wait; where pods share cores that steals time from the work.
const SPIN: (&str, &str) = ("GOMP_SPINCOUNT", "20000");

/// What `prepare` decides, apart from doing it.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Keep,
    Restart(String),
}

fn plan(tunables: Option<&str>, disabled: bool, marked: bool) -> Plan {
    let given = tunables.unwrap_or_default();
    if disabled || marked || given.contains("glibc.malloc.mmap_threshold") {
        return Plan::Keep;
    }
    Plan::Restart(if given.is_empty() {
        TUNABLES.to_owned()
    } else {
        format!("{given}:{TUNABLES}")
    })
}

/// Starts the program once more with glibc told to keep its memory, unless it is so already,
/// `STOIC_ALLOCATOR=system` asks for none of it, or the C library is not glibc.
///
/// Call it first in `main`: before threads, files and sockets. It returns where nothing is to be
/// done or the restart is not possible; the program is then correct and slower.
pub fn prepare() {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return;
    }
    let tunables = std::env::var(VARIABLE).ok();
    let disabled = std::env::var_os(DISABLE).is_some_and(|value| value == "system");
    let marked = std::env::var_os(MARK).is_some();
    if let Plan::Restart(value) = plan(tunables.as_deref(), disabled, marked) {
        restart(&value);
    }
}

fn restart(tunables: &str) {
    let c_string = |bytes: &[u8]| CString::new(bytes).ok();
    let arguments: Option<Vec<CString>> = std::env::args_os()
        .map(|argument| c_string(argument.as_bytes()))
        .collect();
    let own = [VARIABLE, MARK, SPIN.0];
    let spin = std::env::var_os(SPIN.0).unwrap_or_else(|| SPIN.1.into());
    let pair =
        |name: &OsStr, value: &OsStr| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat());
    let environment: Option<Vec<CString>> = std::env::vars_os()
        .filter(|(name, _)| !own.iter().any(|other| name == other))
        .chain([
            (VARIABLE.into(), tunables.into()),
            (MARK.into(), "1".into()),
            (SPIN.0.into(), spin),
        ])
        .map(|(name, value)| pair(&name, &value))
        .collect();
    let (Some(arguments), Some(environment)) = (arguments, environment) else {
        return;
    };
    // The real file rather than /proc/self/exe, so that `ps` shows the program's own name.
    let Some(program) = std::env::current_exe()
        .ok()
        .and_then(|path| c_string(path.as_os_str().as_bytes()))
    else {
        return;
    };
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, envp) = (pointers(&arguments), pointers(&environment));
    // SAFETY: both arrays end with a null pointer and their strings live until the call, which only
    // returns when it failed and then has changed nothing.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
}

/// Whether this process runs with the settings, for the start-up log line.
#[must_use]
pub fn is_prepared() -> bool {
    std::env::var(VARIABLE).is_ok_and(|value| value.contains("glibc.malloc.mmap_threshold"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_once_and_keeps_what_the_user_set() {
        assert_eq!(plan(None, false, false), Plan::Restart(TUNABLES.to_owned()));
        assert_eq!(
            plan(Some("glibc.malloc.check=1"), false, false),
            Plan::Restart(format!("glibc.malloc.check=1:{TUNABLES}"))
        );
        assert_eq!(
            plan(Some("glibc.malloc.mmap_threshold=1"), false, false),
            Plan::Keep
        );
        assert_eq!(plan(None, true, false), Plan::Keep);
        assert_eq!(plan(None, false, true), Plan::Keep);
    }
}
