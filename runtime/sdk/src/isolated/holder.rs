//! The process that has the function loaded, and forks: it has one thread, and does nothing else.

use super::{Ask, Tell};
use crate::invocation::guarded;
use crate::zygote::fork::{self, HeldSignals, Side};
use crate::zygote::load_alone;
use crate::{Context, Function};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpid, getppid, kill_process,
    kill_process_group, set_parent_process_death_signal, setpgid, waitid,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use stoic_protocol::Problem;
use stoic_protocol::zygote::packets;

/// What a process finds itself to be when holding is over for it.
pub(crate) enum Held<F> {
    /// The front: it serves HTTP, and has invocations done by children.
    Front(Option<F>, OwnedFd),
    /// A child: it serves this connection.
    Child(Option<F>, UnixStream),
    /// The holder: the front has ended, so the pod has.
    Ended(ExitCode),
}

/// Loads the function, unless that was done before, starts the front, and forks a child whenever the front
/// asks for one.
///
/// # Errors
/// The function cannot be loaded, or this process cannot be forked.
pub(crate) fn hold<F: Function>(
    context: &mut Context,
    loaded: Option<F>,
    start_s: &mut BTreeMap<String, f64>,
) -> Result<Held<F>, Problem> {
    let broken = |error: io::Error| {
        let detail = format!("invocations cannot be isolated: {error}");
        Problem::new(500, "isolation_failed", detail)
    };
    let function = match loaded {
        Some(function) => Some(function),
        None => load_alone(context, start_s)?,
    };
    let (ours, fronts) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| broken(error.into()))?;
    let signals = HeldSignals::hold(&[libc::SIGTERM, libc::SIGINT, libc::SIGCHLD]);
    let signals = signals.map_err(broken)?;
    let holder = getpid();
    match fork::child().map_err(broken)? {
        Side::Child => {
            part_from(holder, signals).map_err(broken)?;
            Ok(Held::Front(function, fronts))
        }
        Side::Parent(front) => {
            drop(fronts);
            let holder = Holder {
                function,
                front,
                control: ours,
                signals,
                children: BTreeSet::new(),
            };
            holder.run().map_err(broken)
        }
    }
}

/// In a child: signals come through again, its group is its own, and it does not outlive the holder.
fn part_from(holder: Pid, signals: HeldSignals) -> io::Result<()> {
    signals.release();
    setpgid(None, None)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(holder) {
        fork::end(1);
    }
    Ok(())
}

struct Holder<F> {
    function: Option<F>,
    front: Pid,
    control: OwnedFd,
    signals: HeldSignals,
    /// Children that were not waited for yet: until then their ids are nobody else's.
    children: BTreeSet<i32>,
}

impl<F: Function> Holder<F> {
    fn run(mut self) -> io::Result<Held<F>> {
        loop {
            let mut watched = [
                PollFd::new(self.signals.fd(), PollFlags::IN),
                PollFd::new(&self.control, PollFlags::IN),
            ];
            match poll(&mut watched, None) {
                Err(rustix::io::Errno::INTR) => continue,
                ready => ready?,
            };
            let [signalled, asked] = watched.map(|fd| !fd.revents().is_empty());
            if signalled && let Some(status) = self.signalled() {
                return Ok(Held::Ended(status));
            }
            if asked {
                match packets::receive::<Ask>(&self.control)? {
                    Some((ask, fds)) => {
                        if let Some(stream) = self.carry_out(ask, fds)? {
                            return Ok(Held::Child(self.function, stream));
                        }
                    }
                    // The front has ended, or is about to: its status comes with a signal.
                    None => return Ok(Held::Ended(self.wait_for_front())),
                }
            }
        }
    }

    /// Passes signals on, and waits for those who ended; gives the status when the front did.
    fn signalled(&mut self) -> Option<ExitCode> {
        while let Some(signal) = self.signals.next() {
            let passed = match signal {
                libc::SIGTERM => Signal::TERM,
                libc::SIGINT => Signal::INT,
                _ => continue,
            };
            // One that is gone needs no signal.
            let _ = kill_process(self.front, passed);
        }
        let children: Vec<i32> = self.children.iter().copied().collect();
        for raw in children {
            let Some(pid) = Pid::from_raw(raw) else {
                continue;
            };
            if let Some(how) = ended(pid, WaitIdOptions::NOHANG) {
                self.children.remove(&raw);
                let pid = raw.unsigned_abs();
                let how = describe(&how);
                // A front that is gone needs not be told.
                let _ = packets::send(&self.control, &Tell::Ended { pid, how }, &[]);
            }
        }
        ended(self.front, WaitIdOptions::NOHANG).map(|how| status(&how))
    }

    fn wait_for_front(&self) -> ExitCode {
        ended(self.front, WaitIdOptions::empty()).map_or(ExitCode::FAILURE, |how| status(&how))
    }

    /// Does what the front asks; in a child, gives the connection that it serves.
    fn carry_out(&mut self, ask: Ask, fds: Vec<OwnedFd>) -> io::Result<Option<UnixStream>> {
        let tell = match ask {
            Ask::Child { number } => {
                let stream = fds.into_iter().next();
                let stream = stream.ok_or_else(|| io::Error::other("no connection came"))?;
                let holder = getpid();
                let pid = match fork::child() {
                    Ok(Side::Child) => {
                        let own = HeldSignals::hold(&[])?;
                        part_from(holder, std::mem::replace(&mut self.signals, own))?;
                        return Ok(Some(UnixStream::from(stream)));
                    }
                    Ok(Side::Parent(pid)) => {
                        let raw = pid.as_raw_nonzero().get();
                        self.children.insert(raw);
                        Ok(raw.unsigned_abs())
                    }
                    Err(error) => Err(error.to_string()),
                };
                Tell::Child { number, pid }
            }
            Ask::Kill { pid } => {
                let pid = i32::try_from(pid).ok();
                if let Some(pid) = pid
                    .filter(|pid| self.children.contains(pid))
                    .and_then(Pid::from_raw)
                {
                    let _ = kill_process(pid, Signal::KILL);
                }
                return Ok(None);
            }
            Ask::Model { version, path } => Tell::Model {
                problem: self.use_model(&version, &path).err(),
            },
        };
        packets::send(&self.control, &tell, &[])?;
        Ok(None)
    }

    fn use_model(&self, version: &str, path: &Path) -> Result<(), Problem> {
        match &self.function {
            Some(function) => guarded(|| function.use_model(version, path)),
            None => Err(Problem::new(
                501,
                "model_unsupported",
                "with isolated invocations on a GPU, each loads the function anew: name the model at the start",
            )),
        }
    }
}

/// How a child ended, if it did. What it left in its group ends with it.
fn ended(pid: Pid, how: WaitIdOptions) -> Option<WaitIdStatus> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | how;
    match waitid(WaitId::Pid(pid), look) {
        Ok(Some(_)) => {}
        Ok(None) | Err(_) => return None,
    }
    let _ = kill_process_group(pid, Signal::KILL);
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED)
        .ok()
        .flatten()
}

fn status(how: &WaitIdStatus) -> ExitCode {
    let code = how
        .exit_status()
        .or(how.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

fn describe(how: &WaitIdStatus) -> String {
    match (how.exit_status(), how.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
