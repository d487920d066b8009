//! The system calls of forking that have no safe form, and what makes them safe here.
//!
//! A forked child has a copy of the memory and of the calling thread alone: a lock that another thread
//! held is never given back in it. So both functions that fork refuse to where the process has more than
//! one thread. With one thread no lock of the C library, of Rust's or of libtorch's is held at the call,
//! and the child is as good as its parent.
// JUSTIFICATION: `clone`, `fork`, signal masks and the environment of a child are not in rustix.
#![allow(unsafe_code)]

use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use rustix::process::Pid;
use std::io;

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Parent(Pid),
    Child,
}

/// Threads of this process.
pub(crate) fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

fn refuse_threads() -> io::Result<()> {
    match threads()? {
        1 => Ok(()),
        threads => Err(io::Error::other(format!(
            "the process has {threads} threads, and only a process of one can be forked"
        ))),
    }
}

fn side(pid: libc::c_long) -> io::Result<Side> {
    if pid == 0 {
        return Ok(Side::Child);
    }
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0);
    pid.and_then(Pid::from_raw)
        .map(Side::Parent)
        .ok_or_else(io::Error::last_os_error)
}

/// Forks a sibling: its parent is this process's parent, which gets its exit status and whose death it
/// can be told of. The death of this process means nothing to it.
///
/// The C library does not hear of it, so it keeps this thread's old id for the child's main thread. That
/// thread may therefore only start others and wait for them.
///
/// # Errors
/// There are other threads; or the kernel says no.
pub(crate) fn sibling() -> io::Result<Side> {
    refuse_threads()?;
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: without CLONE_VM this is a fork: the child goes on here, on a copy of this stack, with
    // memory of its own. All pointers are null, and flags come first on every architecture that Linux has
    // but s390, for which this is not compiled. One thread, as checked: see the module.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, 0, 0, 0) };
    side(pid)
}

/// Forks a child.
///
/// # Errors
/// There are other threads; or the kernel says no.
pub(crate) fn child() -> io::Result<Side> {
    refuse_threads()?;
    // SAFETY: one thread, as checked: see the module.
    side(libc::c_long::from(unsafe { libc::fork() }))
}

/// Gives the pages back that the allocator keeps for later: a child would copy each of them that it writes
/// to, for nothing, where it can have empty ones (huge ones too) for less. What it computes first, such as
/// a model's activations, lies there.
pub(crate) fn give_free_memory_back() {
    // SAFETY: takes no pointer and gives none; only memory that nobody holds is let go.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Sets variables of the environment, before there is a second thread.
///
/// # Errors
/// There is a second thread.
pub(crate) fn set_env<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> io::Result<()> {
    refuse_threads()?;
    for (name, value) in pairs {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            continue;
        }
        // SAFETY: no other thread can read the environment meanwhile, as there is none.
        unsafe { std::env::set_var(name, value) };
    }
    Ok(())
}

/// Ends this process at once: nothing of what the parent would do at its end is done here.
pub(crate) fn end(status: i32) -> ! {
    // SAFETY: it never returns, and runs no code of this process.
    unsafe { libc::_exit(status) }
}

/// Signals that are held back from this thread and read from a descriptor instead.
#[derive(Debug)]
pub(crate) struct HeldSignals {
    former: libc::sigset_t,
    fd: OwnedFd,
}

impl HeldSignals {
    /// Holds these back.
    ///
    /// # Errors
    /// The kernel says no.
    pub(crate) fn hold(signals: &[i32]) -> io::Result<Self> {
        // SAFETY: both sets are plain memory that these calls fill in; `former` is filled by the call that
        // changes the mask, and read only where that succeeded. The descriptor is new, and ours.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            let mut former: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, *signal);
            }
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut former);
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self {
                former,
                fd: OwnedFd::from_raw_fd(fd),
            })
        }
    }

    /// The descriptor: readable when a signal came.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The next signal that came, if any.
    pub(crate) fn next(&self) -> Option<i32> {
        // SAFETY: the buffer is as large as said, and of a type for which all bytes are valid.
        unsafe {
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            let size = size_of::<libc::signalfd_siginfo>();
            let read = libc::read(self.fd.as_raw_fd(), (&raw mut info).cast(), size);
            (usize::try_from(read) == Ok(size)).then(|| i32::try_from(info.ssi_signo).unwrap_or(0))
        }
    }

    /// Lets them through again: what a child does first.
    pub(crate) fn release(self) {
        // SAFETY: the mask was this thread's own, and the call writes to nothing of ours.
        unsafe {
            libc::pthread_sigmask(
                libc::SIG_SETMASK,
                &raw const self.former,
                std::ptr::null_mut(),
            );
        }
    }
}
