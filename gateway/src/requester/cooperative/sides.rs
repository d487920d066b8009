//! One side of a shared batch: its runtime, its pod, what it is at, and what came of it.

use super::super::part::Piecework;
use super::super::pod::Session;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::pods::{Lease, Start};
use crate::scheduler::Placed;
use futures_util::future::AbortHandle;
use std::collections::VecDeque;
use std::ops::Range;
use stoic_placement::cooperative as division;
use stoic_placement::sum;
use stoic_store::Store;
use tokio::time::Instant;

/// Seconds that a chunk costs besides its items and the link: a request, the index of the package, the
/// result's way to the store.
const CHUNK_S: f64 = 0.03;
/// What an item is taken to need where nothing is known yet, in seconds.
const UNKNOWN_ITEM_S: f64 = 0.1;

/// Items that a pod works now.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) items: Range<usize>,
    pub(super) since: Instant,
    pub(super) abort: AbortHandle,
    /// One past the last item that is still wanted of it.
    pub(super) limit: usize,
    /// Items that it says it has done.
    pub(super) reported: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) name: String,
    pub(super) site: String,
    pub(super) remote: bool,
    pub(super) placed: Placed,
    pub(super) store: Store,
    pub(super) lease: Option<Lease>,
    /// The connection to its pod, while nothing runs.
    pub(super) session: Option<Session>,
    /// Of its first pod.
    pub(super) start: Option<Start>,
    /// Name of its last pod.
    pub(super) pod: String,
    pub(super) running: Option<Running>,
    /// To be worked next, in this order.
    pub(super) queue: VecDeque<Range<usize>>,
    /// A claim whose items are still on their way.
    pub(super) awaited: Option<Range<usize>>,
    /// Parts of the package that lie at its site.
    pub(super) pieces: Vec<Piecework>,
    pub(super) sending: bool,
    pub(super) deaths: usize,
    pub(super) broken_transfers: usize,
    /// Nothing more is to be had of it, and why.
    pub(super) given_up: Option<Failure>,
    /// Seconds its pods worked.
    pub(super) worked_s: f64,
    /// Its largest part: items and seconds, and the model.
    pub(super) largest: Option<(usize, f64, Option<String>)>,
}

impl Side {
    pub(super) fn new(gateway: &Gateway, placed: &Placed) -> Result<Self, Failure> {
        let info = &gateway.scheduler.runtimes()[placed.runtime];
        Ok(Self {
            name: info.name.clone(),
            site: info.site.clone(),
            remote: info.remote,
            placed: placed.clone(),
            store: gateway.stores.site(&info.site)?.clone(),
            lease: None,
            session: None,
            start: None,
            pod: String::new(),
            running: None,
            queue: VecDeque::new(),
            awaited: None,
            pieces: Vec::new(),
            sending: false,
            deaths: 0,
            broken_transfers: 0,
            given_up: None,
            worked_s: 0.0,
            largest: None,
        })
    }

    /// What the division of the items starts from.
    pub(super) fn predicted(&self, gateway: &Gateway, items: u64) -> division::Side {
        let e = &self.placed.estimate;
        let items = items.max(1) as f64;
        let rtt_s = gateway.scheduler.link(self.placed.runtime).rtt_s;
        division::Side {
            end: if self.remote {
                division::End::Back
            } else {
                division::End::Front
            },
            seconds_per_item: if e.processing.known && e.processing.mean > 0.0 {
                e.processing.mean / items
            } else {
                UNKNOWN_ITEM_S
            },
            chunk_overhead_s: CHUNK_S + 2.0 * rtt_s,
            transfer_s_per_item: if self.remote {
                e.transfer.mean / items
            } else {
                0.0
            },
            ready_at: sum(&[e.queueing, e.deployment]).mean,
        }
    }

    /// Whether it could take a chunk now.
    pub(super) fn idle(&self) -> bool {
        self.given_up.is_none()
            && self.lease.is_some()
            && self.running.is_none()
            && self.queue.is_empty()
            && self.awaited.is_none()
    }

    /// Cuts a claim at the ends of the parts that lie at the site; what lies in none is told apart.
    pub(super) fn cut(&self, claim: &Range<usize>) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
        if !self.remote {
            return (vec![claim.clone()], Vec::new());
        }
        let (mut there, mut absent) = (Vec::new(), Vec::new());
        let mut at = claim.start;
        while at < claim.end {
            let holds = |p: &&Piecework| p.items.contains(&at);
            let held = self.pieces.iter().filter(holds).map(|p| p.items.end).max();
            match held {
                Some(end) => {
                    there.push(at..end.min(claim.end));
                    at = end.min(claim.end);
                }
                None => {
                    let next = self.pieces.iter().map(|p| p.items.start);
                    let next = next.filter(|start| *start > at).min();
                    let end = next.unwrap_or(claim.end).min(claim.end);
                    absent.push(at..end);
                    at = end;
                }
            }
        }
        (there, absent)
    }

    /// The part of the package that holds these items.
    pub(super) fn piece(&self, items: &Range<usize>) -> Option<&Piecework> {
        let holds = |p: &&Piecework| p.items.start <= items.start && p.items.end >= items.end;
        self.pieces.iter().filter(holds).min_by_key(|p| p.bytes)
    }

    /// Forgets what it was at: its pod is gone.
    pub(super) fn halt(&mut self) {
        if let Some(running) = self.running.take() {
            self.worked_s += running.since.elapsed().as_secs_f64();
            running.abort.abort();
        }
        self.queue.clear();
        self.awaited = None;
        self.session = None;
    }
}
