//! The bytes of a batch's items. Of a package at a URL the index is read first, then runs of items of
//! about 4 MiB, one run ahead of the work; nothing outside the batch's range is fetched.

use crate::batch::{Shared, open_package};
use crate::call::Call;
use crate::transfer::Transfer;
use bytes::Bytes;
use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use stoic_package::{Item, ItemError, Kind, Limits, Package, ReadAt};
use stoic_protocol::Problem;

/// Bytes of a run, unless one item alone is larger.
pub(crate) const RUN_BYTES: u64 = 4 << 20;
/// Gap between two items up to which they are still fetched as one.
const GAP_BYTES: u64 = 64 << 10;
/// What is fetched of a zip's end at first: holds the directory of some hundred items.
const TAIL_BYTES: u64 = (64 << 10) + 22;
/// What is fetched at once of a longer directory, and of a tar around each header.
const ZIP_AHEAD_BYTES: u64 = 512 << 10;
const TAR_AHEAD_BYTES: u64 = 16 << 10;
/// Index bytes kept at once, the tail apart.
const INDEX_SEGMENTS: usize = 8;

/// Where the items come from.
#[derive(Debug)]
pub(crate) enum Input {
    /// One item, which was the whole body.
    Single { item: Item, bytes: Bytes },
    /// A package in memory.
    Memory(Package),
    /// A package at a URL.
    Remote(Remote),
}

impl Input {
    pub(crate) fn single(bytes: Bytes) -> Self {
        let size = bytes.len() as u64;
        Self::Single {
            item: Item {
                index: 0,
                name: "item".to_owned(),
                size,
                packed: size,
                span: 0..size,
            },
            bytes,
        }
    }

    pub(crate) fn in_memory(
        bytes: Bytes,
        content_type: &str,
        limits: Limits,
    ) -> Result<Self, Problem> {
        open_package(Arc::new(Shared(bytes)), content_type, limits).map(Self::Memory)
    }

    /// Reads the index of a package at a URL.
    pub(crate) fn remote_package(
        url: &str,
        total: u64,
        content_type: &str,
        transfer: Transfer,
        call: &Call,
    ) -> Result<Self, Problem> {
        let zip = Kind::of(content_type) == Some(Kind::Zip);
        let index = Arc::new(IndexReader {
            url: url.to_owned(),
            total,
            ahead: if zip {
                ZIP_AHEAD_BYTES
            } else {
                TAR_AHEAD_BYTES
            },
            transfer: transfer.clone(),
            call: call.clone(),
            segments: Mutex::default(),
        });
        if zip {
            index.fetch(total.saturating_sub(TAIL_BYTES)..total)?;
        }
        let opened = open_package(
            Arc::clone(&index) as Arc<dyn ReadAt>,
            content_type,
            Limits::default(),
        );
        index.forget();
        // What the index could not be read for is the better explanation.
        let package = opened.map_err(|problem| call.failure().unwrap_or(problem))?;
        Ok(Self::Remote(Remote {
            package,
            runs: OnceLock::new(),
            source: Source {
                url: url.to_owned(),
                total,
                transfer,
                call: call.clone(),
            },
        }))
    }

    pub(crate) fn items(&self) -> &[Item] {
        match self {
            Self::Single { item, .. } => std::slice::from_ref(item),
            Self::Memory(package) => package.items(),
            Self::Remote(remote) => remote.package.items(),
        }
    }

    /// Says which items will be read, and begins to fetch the first.
    pub(crate) fn plan(&self, range: Range<usize>) {
        if let Self::Remote(remote) = self {
            let runs = Runs::plan(remote.package.items(), range);
            remote
                .source
                .start(remote.runs.get_or_init(|| Arc::new(runs)), 0);
        }
    }

    pub(crate) fn read(&self, index: usize) -> Result<Bytes, ItemError> {
        match self {
            Self::Single { bytes, .. } => Ok(bytes.clone()),
            Self::Memory(package) => package.read(index).map(Bytes::from),
            Self::Remote(remote) => remote.read(index),
        }
    }
}

/// A package at a URL.
#[derive(Debug)]
pub(crate) struct Remote {
    package: Package,
    runs: OnceLock<Arc<Runs>>,
    source: Source,
}

/// From where and for whom is fetched.
#[derive(Debug, Clone)]
struct Source {
    url: String,
    total: u64,
    transfer: Transfer,
    call: Call,
}

/// The runs of a range, each fetched once and let go when its last item has been read.
#[derive(Debug)]
struct Runs {
    first_item: usize,
    /// The run of each item of the range.
    run_of: Vec<usize>,
    spans: Vec<Range<u64>>,
    state: Mutex<Vec<Run>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Run {
    phase: Phase,
    /// Items not read yet.
    unread: HashSet<usize>,
}

/// Waiting -> Fetching (first read of it, or of the run before) -> Ready (the bytes came) -> Gone
/// (each item was read once). A failed fetch ends the whole call, so it needs no phase.
#[derive(Debug)]
enum Phase {
    Waiting,
    Fetching,
    Ready(Bytes),
    Gone,
}

impl Runs {
    fn plan(items: &[Item], range: Range<usize>) -> Self {
        let mut spans: Vec<Range<u64>> = Vec::new();
        let mut state: Vec<Run> = Vec::new();
        let mut run_of = Vec::with_capacity(range.len());
        for index in range.clone() {
            let span = &items[index].span;
            let joined = match (spans.last_mut(), state.last_mut()) {
                (Some(last), Some(run))
                    if span.start >= last.end
                        && span.start - last.end <= GAP_BYTES
                        && span.end - last.start <= RUN_BYTES =>
                {
                    last.end = span.end;
                    run.unread.insert(index);
                    true
                }
                _ => false,
            };
            if !joined {
                spans.push(span.clone());
                state.push(Run {
                    phase: Phase::Waiting,
                    unread: HashSet::from([index]),
                });
            }
            run_of.push(spans.len() - 1);
        }
        Self {
            first_item: range.start,
            run_of,
            spans,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Vec<Run>> {
        // Nothing in here can be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// Begins to fetch a run, unless that was done before.
    fn start(&self, runs: &Arc<Runs>, number: usize) {
        match runs.state().get_mut(number) {
            Some(run) if matches!(run.phase, Phase::Waiting) => run.phase = Phase::Fetching,
            _ => return,
        }
        let (this, runs, span) = (self.clone(), Arc::clone(runs), runs.spans[number].clone());
        self.transfer.handle().spawn(async move {
            let began = Instant::now();
            let fetched = tokio::select! {
                fetched = this.transfer.fetch(&this.url, span, this.total) => fetched,
                () = this.call.token().cancelled() => Err(crate::transfer::cancelled()),
            };
            this.call.stage("fetch", began.elapsed());
            match fetched {
                Ok(bytes) => runs.state()[number].phase = Phase::Ready(bytes),
                Err(problem) => this.call.fail(problem),
            }
            // The lock is taken so that no reader checks before and waits after this.
            drop(runs.state());
            runs.changed.notify_all();
        });
    }
}

impl Remote {
    fn read(&self, index: usize) -> Result<Bytes, ItemError> {
        let unreadable = |problem: Problem| ItemError::new("item_unreadable", problem.to_string());
        let runs = self
            .runs
            .get()
            .ok_or_else(|| ItemError::new("item_unreadable", "the batch has not been planned"))?;
        let number = index
            .checked_sub(runs.first_item)
            .and_then(|position| runs.run_of.get(position).copied())
            .ok_or_else(|| ItemError::new("item_unreadable", "not in the batch's range"))?;
        self.source.start(runs, number);
        self.source.start(runs, number + 1);
        let mut state = runs.state();
        let held = loop {
            match &state[number].phase {
                Phase::Ready(bytes) => break Some(bytes.clone()),
                Phase::Gone => break None,
                Phase::Waiting | Phase::Fetching => {}
            }
            if let Err(problem) = self.source.call.check() {
                return Err(unreadable(problem));
            }
            state = runs
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let window = match held {
            Some(bytes) => Window {
                start: runs.spans[number].start,
                bytes,
            },
            None => self.fetch_again(index).map_err(unreadable)?,
        };
        let read = self.package.read_from(index, &window).map(Bytes::from);
        let mut state = runs.state();
        let run = &mut state[number];
        run.unread.remove(&index);
        if run.unread.is_empty() {
            run.phase = Phase::Gone;
        }
        read
    }

    /// An item whose run has been let go, alone.
    fn fetch_again(&self, index: usize) -> Result<Window, Problem> {
        let Source {
            url,
            total,
            transfer,
            call,
        } = &self.source;
        let span = self.package.items()[index].span.clone();
        let start = span.start;
        let fetched = transfer.fetch_blocking(url, span, *total, call);
        if let Err(problem) = &fetched {
            call.fail(problem.clone());
        }
        fetched.map(|bytes| Window { start, bytes })
    }
}

/// A part of a package, at the package's own offsets.
struct Window {
    start: u64,
    bytes: Bytes,
}

impl ReadAt for Window {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let inside = offset
            .checked_sub(self.start)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        self.bytes.as_ref().read_at(inside, buf)
    }
}

/// A package at a URL while its index is read: pieces are kept, so that small reads cost no request
/// each.
struct IndexReader {
    url: String,
    total: u64,
    /// Bytes fetched at once.
    ahead: u64,
    transfer: Transfer,
    call: Call,
    segments: Mutex<Vec<(u64, Bytes)>>,
}

impl IndexReader {
    fn segments(&self) -> MutexGuard<'_, Vec<(u64, Bytes)>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self) {
        self.segments().clear();
    }

    /// Fetches a piece and keeps it; a failure ends the call.
    fn fetch(&self, span: Range<u64>) -> Result<(), Problem> {
        let start = span.start;
        match self
            .transfer
            .fetch_blocking(&self.url, span, self.total, &self.call)
        {
            Ok(bytes) => {
                let mut segments = self.segments();
                if segments.len() > INDEX_SEGMENTS {
                    segments.remove(1);
                }
                segments.push((start, bytes));
                Ok(())
            }
            Err(problem) => {
                self.call.fail(problem.clone());
                Err(problem)
            }
        }
    }

    /// What is kept from `offset` on, and where the next kept piece begins.
    fn kept(&self, offset: u64) -> (Option<Bytes>, u64) {
        let mut next = self.total;
        for (start, bytes) in self.segments().iter() {
            let end = start + bytes.len() as u64;
            if (*start..end).contains(&offset) {
                // Cannot be larger than the piece, which is in memory.
                return (Some(bytes.slice((offset - start) as usize..)), end);
            }
            if *start > offset {
                next = next.min(*start);
            }
        }
        (None, next)
    }
}

impl ReadAt for IndexReader {
    fn len(&self) -> u64 {
        self.total
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            if offset >= self.total {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (kept, next) = self.kept(offset);
            let Some(kept) = kept else {
                let wanted = self.ahead.max(buf.len() as u64);
                let end = offset.saturating_add(wanted).min(next);
                self.fetch(offset..end)
                    .map_err(|problem| io::Error::new(io::ErrorKind::ConnectionAborted, problem))?;
                continue;
            };
            let count = kept.len().min(buf.len());
            buf[..count].copy_from_slice(&kept[..count]);
            buf = &mut buf[count..];
            offset += count as u64;
        }
        Ok(())
    }
}
