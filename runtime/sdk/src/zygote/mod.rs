//! A zygote: a process that has loaded its function on one thread, has run it once, and then waits to
//! fork pods from itself. A pod forked so has everything in memory that its start would have had to make:
//! it is ready in milliseconds, and shares the pages that nobody writes to.
//!
//! The zygote has no async runtime and opens no GPU: neither survives a fork. It talks to its site over
//! its standard input ([`stoic_protocol::zygote`]). Its pods are its siblings, not its children: the site
//! waits for them, they die with the site and not with the zygote, and one that crashes harms nobody.
//! A pod does all its work on threads that did not exist before, so that what is kept per thread (the
//! seeds of hash maps among it) is its own.

pub(crate) mod fork;
pub(crate) mod note;

use crate::context::Model;
use crate::invocation::guarded;
use crate::transfer::Transfer;
use crate::{Context, Function, model, started};
use fork::Side;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getppid, kill_process, pidfd_open,
    set_parent_process_death_signal, setpgid, waitpid,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use stoic_protocol::zygote::packets;
use stoic_protocol::{ModelRef, Problem, ZygoteOrder, ZygoteReply, env, stages};
use tempfile::TempPath;

/// How parking ended: in a pod that was forked, or with the zygote itself.
pub(crate) enum Parked<F> {
    /// This process is a forked pod.
    Pod(Box<Forked<F>>),
    /// The site is gone, or this function cannot be forked.
    Ended(ExitCode),
}

/// What a forked pod begins with.
pub(crate) struct Forked<F> {
    pub(crate) context: Context,
    /// None where the pod has to load it itself: it computes on a GPU.
    pub(crate) function: Option<F>,
    pub(crate) listener: TcpListener,
    pub(crate) start_s: BTreeMap<String, f64>,
}

/// Whether this process is to be a zygote.
pub(crate) fn wanted() -> bool {
    std::env::var_os(env::ZYGOTE).is_some_and(|value| !value.is_empty())
}

/// Loads the function and forks pods until the site is gone.
///
/// # Errors
/// The function cannot be loaded; or standard input is no socket.
pub(crate) fn park<F: Function>(
    context: Context,
    start_s: BTreeMap<String, f64>,
) -> Result<Parked<F>, Problem> {
    let broken = |error: io::Error| {
        let detail = format!("the site cannot be talked to on standard input: {error}");
        Problem::new(500, "zygote_unheard", detail)
    };
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3);
    let control = control.map_err(|error| broken(error.into()))?;
    // What the function starts while it loads does not get the socket.
    silence_stdin().map_err(broken)?;
    let site = getppid();
    let zygote = Zygote::<F>::load(context, start_s, control)?;
    if let Some(reason) = zygote.unable() {
        tracing::warn!(reason, "cannot be forked");
        packets::send(&zygote.control, &ZygoteReply::Unable { reason }, &[]).map_err(broken)?;
        return Ok(Parked::Ended(ExitCode::SUCCESS));
    }
    fork::give_free_memory_back();
    let start_s = zygote.start_s.clone();
    packets::send(&zygote.control, &ZygoteReply::Ready { start_s }, &[]).map_err(broken)?;
    tracing::info!("zygote ready");
    zygote.wait(site).map_err(broken)
}

fn silence_stdin() -> io::Result<()> {
    Ok(rustix::stdio::dup2_stdin(File::open("/dev/null")?)?)
}

struct Zygote<F> {
    context: Context,
    function: Option<F>,
    /// Version of the model that is loaded.
    model: Option<String>,
    start_s: BTreeMap<String, f64>,
    control: OwnedFd,
    fetch: Option<Fetch>,
}

impl<F: Function> Zygote<F> {
    fn load(
        mut context: Context,
        mut start_s: BTreeMap<String, f64>,
        control: OwnedFd,
    ) -> Result<Self, Problem> {
        let function = load_alone::<F>(&mut context, &mut start_s)?;
        let model = context.model.as_ref().map(|model| model.version.clone());
        Ok(Self {
            model: model.filter(|_| function.is_some()),
            context,
            function,
            start_s,
            control,
            fetch: None,
        })
    }

    /// Why this process cannot be forked, if it cannot.
    fn unable(&self) -> Option<String> {
        match fork::threads() {
            Ok(1) => None,
            Ok(threads) => Some(format!(
                "loading the function left {} threads running beside the first",
                threads - 1
            )),
            Err(error) => Some(format!("threads cannot be counted: {error}")),
        }
    }

    fn wait(mut self, site: Option<Pid>) -> io::Result<Parked<F>> {
        loop {
            let mut watched = vec![PollFd::new(&self.control, PollFlags::IN)];
            if let Some(fetch) = &self.fetch {
                watched.push(PollFd::new(&fetch.ended, PollFlags::IN));
            }
            match poll(&mut watched, None) {
                Err(rustix::io::Errno::INTR) => continue,
                ready => ready?,
            };
            let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready.get(1) == Some(&true)
                && let Some(fetch) = self.fetch.take()
            {
                self.use_fetched(fetch);
                fork::give_free_memory_back();
                if let Some(reason) = self.unable() {
                    // Those who order pods find the socket closed, and start another zygote.
                    tracing::error!(reason, "the zygote ends");
                    return Ok(Parked::Ended(ExitCode::FAILURE));
                }
            }
            if ready.first() != Some(&true) {
                continue;
            }
            let Some((order, fds)) = packets::receive(&self.control)? else {
                return Ok(Parked::Ended(ExitCode::SUCCESS));
            };
            let reply = match order {
                ZygoteOrder::Model(model) => self.order_model(model),
                ZygoteOrder::Fork { env } => match fork::sibling() {
                    Ok(Side::Child) => return self.become_pod(site, &env, fds),
                    Ok(Side::Parent(pid)) => ZygoteReply::Forked {
                        pid: pid.as_raw_nonzero().get().unsigned_abs(),
                        model: self.model.clone(),
                    },
                    Err(error) => failed(&error),
                },
            };
            packets::send(&self.control, &reply, &[])?;
        }
    }

    fn order_model(&mut self, model: ModelRef) -> ZygoteReply {
        let coming = self.fetch.as_ref().map(|fetch| &fetch.model.version);
        if self.function.is_none() || coming.or(self.model.as_ref()) == Some(&model.version) {
            return ZygoteReply::Accepted;
        }
        // One that is on its way is older, and not needed any more.
        self.fetch = None;
        match Fetch::begin(model, &self.context) {
            Ok(fetch) => {
                self.fetch = Some(fetch);
                ZygoteReply::Accepted
            }
            Err(problem) => failed(&problem),
        }
    }

    /// Loads a model that was fetched; on failure the former one stays.
    fn use_fetched(&mut self, fetch: Fetch) {
        let version = fetch.model.version.clone();
        let used = fetch.finish().and_then(|file| {
            guarded(|| match &self.function {
                Some(function) => function.use_model(&version, &file),
                None => Ok(()),
            })
        });
        match used {
            Ok(()) => {
                tracing::info!(version, "model in the zygote");
                self.model = Some(version);
            }
            Err(problem) => tracing::warn!(version, "model not in the zygote: {problem}"),
        }
    }

    /// In the child: what makes it a process of its own.
    fn become_pod(
        self,
        site: Option<Pid>,
        variables: &BTreeMap<String, String>,
        fds: Vec<OwnedFd>,
    ) -> io::Result<Parked<F>> {
        let Self {
            context,
            function,
            model,
            control,
            fetch,
            start_s: _,
        } = self;
        if let Some(fetch) = fetch {
            fetch.leave_to_parent();
        }
        drop(control);
        setpgid(None, None)?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != site {
            // The site died before it could have been noticed.
            fork::end(1);
        }
        let mut fds = fds.into_iter();
        let (Some(listener), Some(log)) = (fds.next(), fds.next()) else {
            return Err(io::Error::other("an order came without its descriptors"));
        };
        rustix::stdio::dup2_stdout(&log)?;
        rustix::stdio::dup2_stderr(&log)?;
        drop((log, fds));
        let variables = variables.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        fork::set_env(variables.chain([(env::ZYGOTE, "")]))?;
        let mut own = Context::from_env().map_err(io::Error::other)?;
        own.model = context.model.filter(|_| function.is_none());
        if let (Some(version), Some(_)) = (model, &function) {
            own.model = Some(Model {
                version,
                path: PathBuf::new(),
            });
        }
        let mut start_s = BTreeMap::new();
        let ordered = std::env::var(env::STARTED);
        if let Some(ordered) = ordered.ok().and_then(|text| text.parse().ok()) {
            start_s.insert(
                stages::FORK.to_owned(),
                started::between(ordered, started::now()),
            );
        }
        Ok(Parked::Pod(Box::new(Forked {
            context: own,
            function,
            listener: TcpListener::from(listener),
            start_s,
        })))
    }
}

/// Loads the function on this thread alone; none where it computes on a GPU, which does not survive a fork:
/// whoever is forked then loads it.
pub(crate) fn load_alone<F: Function>(
    context: &mut Context,
    start_s: &mut BTreeMap<String, f64>,
) -> Result<Option<F>, Problem> {
    if context.devices.iter().any(|device| device != "cpu") {
        return Ok(None);
    }
    context.alone = true;
    let mut fetched = None;
    if let Some(Model { version, path }) = &context.model {
        let began = started::now();
        let (version, place) = (version.clone(), path.to_string_lossy().into_owned());
        let path = if model::is_url(&place) {
            let order = ModelRef {
                version: version.clone(),
                url: place,
            };
            fetched = Some(Fetch::begin(order, context)?.finish()?);
            fetched
                .as_deref()
                .map(Path::to_path_buf)
                .unwrap_or_default()
        } else {
            model::local_path(&place)
        };
        context.model = Some(Model { version, path });
        let took = started::between(began, started::now());
        start_s.insert(stages::MODEL.to_owned(), took);
    }
    let began = started::now();
    let function = guarded(|| F::load(context))?;
    let took = started::between(began, started::now());
    drop(fetched);
    note_load(&function, took, start_s);
    context.alone = false;
    Ok(Some(function))
}

fn failed(error: &impl std::fmt::Display) -> ZygoteReply {
    ZygoteReply::Failed {
        reason: error.to_string(),
    }
}

/// Notes how long a load took; a first run that the function tells of is a stage of its own.
pub(crate) fn note_load<F: Function>(function: &F, took: f64, start_s: &mut BTreeMap<String, f64>) {
    let first = function.report().start_s.get(stages::FIRST).copied();
    let first = first.unwrap_or(0.0).clamp(0.0, took);
    start_s.insert(stages::LOAD.to_owned(), took - first);
    if first > 0.0 {
        start_s.insert(stages::FIRST.to_owned(), first);
    }
}

/// A model on its way: fetched by a child, since fetching takes an async runtime and that takes threads.
struct Fetch {
    model: ModelRef,
    file: Option<TempPath>,
    child: Pid,
    /// Readable when the child has ended.
    ended: OwnedFd,
    /// Whether the child is waited for already, or another's to wait for.
    settled: bool,
}

impl Fetch {
    fn begin(model: ModelRef, context: &Context) -> Result<Self, Problem> {
        let failed = |error: io::Error| Problem::new(500, "model_unavailable", error.to_string());
        let file = model::empty_file(&model.url, context)?;
        let child = match fork::child().map_err(failed)? {
            Side::Parent(child) => child,
            Side::Child => {
                let _ = set_parent_process_death_signal(Some(Signal::KILL));
                let fetched = guarded(|| download(&model.url, &file));
                if let Err(problem) = &fetched {
                    tracing::warn!("{problem}");
                }
                // Nothing of the parent's is undone here, the file's removal least of all.
                fork::end(i32::from(fetched.is_err()));
            }
        };
        let ended = pidfd_open(child, PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
        Ok(Self {
            model,
            file: Some(file),
            child,
            ended,
            settled: false,
        })
    }

    /// Waits for the end; gives the file.
    fn finish(mut self) -> Result<TempPath, Problem> {
        let status = waitpid(Some(self.child), WaitOptions::empty());
        self.settled = true;
        let well = matches!(status, Ok(Some((_, status))) if status.exit_status() == Some(0));
        match self.file.take() {
            Some(file) if well => Ok(file),
            _ => Err(Problem::new(
                502,
                "model_unavailable",
                format!("model {} could not be fetched", self.model.version),
            )),
        }
    }

    /// In a forked pod: the child and the file are the zygote's.
    fn leave_to_parent(mut self) {
        self.settled = true;
        if let Some(file) = self.file.take() {
            // Forgotten, not removed; there is no error in that.
            let _ = file.keep();
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if !self.settled {
            let _ = kill_process(self.child, Signal::KILL);
            let _ = waitpid(Some(self.child), WaitOptions::empty());
        }
    }
}

fn download(url: &str, file: &TempPath) -> Result<(), Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new(500, "runtime_failed", error.to_string()))?;
    let transfer = Transfer::new(runtime.handle().clone());
    let fetched = transfer.download(url, file, "model_unavailable");
    runtime.block_on(fetched).map(drop)
}
