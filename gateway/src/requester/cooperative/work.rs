//! The way of a shared batch: an event loop over everything that is under way on either side. Dropping
//! it ends all of it.

use super::super::batch::{BatchAnswer, BatchJob, Failed};
use super::super::events::{Event, Events};
use super::super::package::Staged;
use super::super::part::Parts;
use super::super::pod::{PodError, Session, Step};
use super::super::{places, single};
use super::happenings::Happening;
use super::parts::Results;
use super::sides::{Running, Side};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::storage::{URL_LIFE, result_key};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, abortable};
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use stoic_placement::cooperative::Division;
use stoic_placement::{Running as Wait, sum};
use stoic_protocol::{BatchRequest, ItemRange, OutputRef, PackageRef, PartRef};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How often sides that have nothing to do ask again.
const TICK: Duration = Duration::from_millis(100);

type Under = FuturesUnordered<BoxFuture<'static, (usize, Happening)>>;

/// See the module.
pub(super) struct Shared<'a> {
    pub(super) gateway: &'a Arc<Gateway>,
    pub(super) job: &'a BatchJob,
    pub(super) staged: &'a Staged,
    pub(super) events: &'a Events,
    pub(super) begun: Instant,
    pub(super) parts: Parts,
    pub(super) division: Division,
    pub(super) sides: Vec<Side>,
    pub(super) results: Results,
    /// The model of the first part; all others have to be of the same.
    pub(super) model: Option<Option<String>>,
    pub(super) failed_items: u64,
    pub(super) first_work: Option<(usize, f64)>,
    pub(super) told: u64,
    pub(super) under: Under,
    pub(super) steps: mpsc::UnboundedSender<(usize, usize, Step)>,
}

/// Works a batch on the edge and in the cloud together.
pub(in super::super) async fn run(
    gateway: &Arc<Gateway>,
    job: &BatchJob,
    staged: &Staged,
    events: &Events,
) -> Result<BatchAnswer, Failed> {
    let begun = Instant::now();
    let (edge, cloud) = places::pair(gateway, job, staged);
    let (edge, cloud) = match (edge, cloud) {
        (Some(edge), Some(cloud)) if places::divisible(job, staged) => (edge, cloud),
        (Some(one), _) | (None, Some(one)) => {
            // One item, or one place that can take it: there is nothing to share.
            return single::run(gateway, job, staged, vec![one], events).await;
        }
        (None, None) => {
            let detail = "no runtime can take the batch now";
            return Err(Failure::new(503, "runtime_unavailable", detail).into());
        }
    };
    let predicted = places::shared([&edge, &cloud], staged);
    for placed in [&edge, &cloud] {
        let info = &gateway.scheduler.runtimes()[placed.runtime];
        events.tell(|| Event::Placed {
            runtime: info.name.clone(),
            site: info.site.clone(),
            mode: job.mode.name().to_owned(),
            predicted_s: predicted.known.then_some(predicted.mean),
            predicted_90: predicted
                .known
                .then_some((predicted.p90.low, predicted.p90.high)),
            reason: REASON.to_owned(),
        });
    }
    let home = gateway.stores.home()?.clone();
    let parts = Parts::open(&home, staged).await?;
    let sides = vec![Side::new(gateway, &edge)?, Side::new(gateway, &cloud)?];
    let division = sides
        .iter()
        .map(|side| side.predicted(gateway, staged.items))
        .collect();
    let count = usize::try_from(staged.items).unwrap_or(usize::MAX);
    let (steps, mut stepped) = mpsc::unbounded_channel();
    let mut shared = Shared {
        gateway,
        job,
        staged,
        events,
        begun,
        parts,
        division: Division::new(count, division),
        sides,
        results: Results::default(),
        model: None,
        failed_items: 0,
        first_work: None,
        told: 0,
        under: FuturesUnordered::new(),
        steps,
    };
    for side in 0..shared.sides.len() {
        shared.acquire(side);
    }
    let mut tick = tokio::time::interval(TICK);
    while !shared.division.complete() {
        shared.drive();
        tokio::select! {
            biased;
            Some((side, happening)) = shared.under.next(), if !shared.under.is_empty() => {
                shared.take(side, happening).map_err(|failed| *failed)?;
            }
            Some((side, start, step)) = stepped.recv() => shared.progress(side, start, &step),
            _ = tick.tick() => shared.expect(),
        }
        shared.check().map_err(|failed| *failed)?;
    }
    let worked_s = shared.now();
    let answer = shared.finish(worked_s, predicted).await?;
    Ok(answer)
}

/// Why a batch went where it went.
pub(super) const REASON: &str =
    "the edge works from the front, the cloud from the back, until they meet";

impl Shared<'_> {
    /// Seconds since the batch began.
    pub(super) fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    pub(super) fn acquire(&mut self, side: usize) {
        let (job, placed) = (self.job.clone(), self.sides[side].placed.clone());
        self.under.push(Box::pin(async move {
            (
                side,
                Happening::Acquired(single::acquire(&job, &placed).await),
            )
        }));
    }

    /// Gives everybody something to do.
    fn drive(&mut self) {
        let now = self.now();
        for side in 0..self.sides.len() {
            if self.sides[side].given_up.is_some() {
                continue;
            }
            if self.sides[side].remote
                && !self.sides[side].sending
                && let Some(items) = self.division.stage(side, now)
            {
                self.send(side, items, false);
            }
            if self.sides[side].idle()
                && let Some(claim) = self.division.claim(side, now)
            {
                let (_, absent) = self.sides[side].cut(&claim);
                for items in absent {
                    self.send(side, items, true);
                }
                self.enqueue(side, claim);
            }
            self.begin(side);
        }
    }

    /// Queues a claim once all of its items are at the site.
    pub(super) fn enqueue(&mut self, side: usize, claim: Range<usize>) {
        let side = &mut self.sides[side];
        let (there, absent) = side.cut(&claim);
        if absent.is_empty() {
            side.queue.extend(there);
        } else {
            side.awaited = Some(claim);
        }
    }

    /// Sends items to a side's store.
    pub(super) fn send(&mut self, side: usize, items: Range<usize>, claimed: bool) {
        let this = &mut self.sides[side];
        this.sending |= !claimed;
        let key = format!(
            "packages/{}.{}-{}",
            self.job.invocation, items.start, items.end
        );
        let emulated = self.gateway.scheduler.runtimes()[this.placed.runtime].link_emulated;
        let packed = self.parts.packed(items.clone());
        self.events.tell(|| Event::Transfer {
            runtime: this.name.clone(),
            bytes: packed,
            emulated,
        });
        let (parts, store) = (self.parts.clone(), this.store.clone());
        self.under.push(Box::pin(async move {
            let sent = parts.send(items.clone(), &store, key).await;
            let happening = Happening::Sent {
                items,
                claimed,
                sent,
            };
            (side, happening)
        }));
    }

    /// Begins with what a side has queued, if it is at nothing.
    fn begin(&mut self, side: usize) {
        let now = self.now();
        let total = self.staged.items;
        let this = &mut self.sides[side];
        if this.running.is_some() {
            return;
        }
        let Some(items) = this.queue.pop_front() else {
            return;
        };
        // What others did meanwhile is not done again.
        let Some(end) = self.division.open_end(&items) else {
            return self.give_back(side, &items);
        };
        let items = items.start..end;
        let Some(lease) = &this.lease else { return };
        let (input, range) = match this.piece(&items) {
            Some(piece) if this.remote => {
                let of = items.start - piece.items.start..items.end - piece.items.start;
                let whole = of.len() == piece.items.len();
                let key = (piece.key.clone(), piece.bytes);
                (key, (!whole).then_some(of))
            }
            _ => {
                let key = (self.staged.key.clone(), self.staged.bytes);
                (key, Some(items.clone()))
            }
        };
        let output = format!(
            "{}.{}.{}",
            result_key(&self.job.invocation),
            this.name,
            items.start
        );
        let media = self.staged.content_type.clone();
        let (job, pod, store) = (self.job.clone(), Arc::clone(&lease.pod), this.store.clone());
        let (session, steps, of) = (this.session.take(), self.steps.clone(), items.clone());
        let timeout = self.job.deployed.function.object.spec.timeout;
        let work = async move {
            let request = async {
                Ok::<_, Failure>(BatchRequest {
                    invocation: job.invocation.clone(),
                    action: job.action.clone(),
                    input: PackageRef {
                        url: store.presign_get(&input.0, URL_LIFE).await?,
                        bytes: input.1,
                        content_type: media,
                    },
                    output: Some(OutputRef {
                        url: store.presign_put(&output, URL_LIFE).await?,
                    }),
                    range: range.map(|range| ItemRange {
                        start: range.start as u64,
                        end: range.end as u64,
                    }),
                    part: Some(PartRef {
                        first: of.start as u64,
                        total,
                    }),
                    model_output: None,
                    parameters: job.parameters.clone(),
                })
            };
            let request = match request.await {
                Ok(request) => request,
                Err(failure) => return (None, Err(PodError::Problem(failure.problem))),
            };
            let step = |step: Step| {
                let _ = steps.send((side, of.start, step));
            };
            if let Some(mut session) = session {
                match session.work(&request, timeout, step).await {
                    // A pod may have closed a connection that was not used for long.
                    Err(PodError::Died(_)) => {}
                    worked => return (Some(session), worked),
                }
            }
            match Session::open(&pod).await {
                Ok(mut session) => {
                    let worked = session.work(&request, timeout, step).await;
                    (Some(session), worked)
                }
                Err(error) => (None, Err(error)),
            }
        };
        let (work, abort) = abortable(work);
        let running = Running {
            limit: items.end,
            items: items.clone(),
            since: Instant::now(),
            abort,
            reported: 0,
        };
        this.running = Some(running);
        self.first_work.get_or_insert((side, now));
        self.under.push(Box::pin(async move {
            let happening = match work.await {
                Ok((session, worked)) => Happening::Worked {
                    items,
                    session,
                    worked,
                },
                Err(_) => Happening::Nothing,
            };
            (side, happening)
        }));
    }

    /// A pod says how far it is.
    fn progress(&mut self, side: usize, start: usize, step: &Step) {
        let now = self.now();
        let done = usize::try_from(step.done).unwrap_or(0);
        let this = &mut self.sides[side];
        let Some(running) = this.running.as_mut().filter(|r| r.items.start == start) else {
            return;
        };
        running.reported = done.min(running.items.len());
        let reached = running.items.start + running.reported;
        if let Some(oldest) = self.division.held(side).first()
            && oldest.contains(&start)
        {
            self.division.progress(side, reached - oldest.start, now);
        }
        self.tell();
    }

    /// Tells the client how far the whole batch is, and by whom.
    pub(super) fn tell(&mut self) {
        let mut by_runtime = BTreeMap::new();
        for (side, this) in self.sides.iter().enumerate() {
            let reported = this.running.as_ref().map_or(0, |r| r.reported);
            by_runtime.insert(
                this.name.clone(),
                (self.division.counted(side) + reported) as u64,
            );
        }
        // Items may be worked twice, and a pod that dies takes some back: what was told stands.
        let done: u64 = by_runtime.values().sum();
        self.told = self.told.max(done.min(self.staged.items));
        let (done, total, elapsed_s) = (self.told, self.staged.items, self.now());
        self.events.tell(|| Event::Progress {
            done,
            total,
            elapsed_s,
            stage: None,
            by_runtime,
        });
    }

    /// Looks anew at when sides without a pod will have one.
    fn expect(&mut self) {
        let now = self.now();
        for (side, this) in self.sides.iter().enumerate() {
            if this.lease.is_none() && this.given_up.is_none() {
                let e = &this.placed.estimate;
                let wait = Wait {
                    total: sum(&[e.queueing, e.deployment]),
                    elapsed_s: now,
                };
                self.division.expect(side, now + wait.remaining().mean);
            }
        }
    }

    /// Whether anybody is left who may end it.
    fn check(&mut self) -> Result<(), Box<Failed>> {
        if self.division.complete() || self.sides.iter().any(|s| s.given_up.is_none()) {
            return Ok(());
        }
        // Results on their way home may still be the last.
        if !self.under.is_empty() && self.sides.iter().any(|s| s.largest.is_some()) {
            return Ok(());
        }
        let runtimes = self.sides.iter().map(|s| s.placed.runtime).collect();
        let died = self.sides.iter().any(|s| s.deaths > 0);
        let failure = self.sides.iter().find_map(|s| s.given_up.clone());
        let none = || Failure::new(503, "runtime_unavailable", "no side could do the batch");
        Err(Box::new(Failed {
            failure: failure.unwrap_or_else(none),
            again: false,
            runtimes,
            died,
        }))
    }
}
