//! The way of a shared batch: an event loop over everything that is under way on either side. Dropping
//! it ends all of it.

use super::super::batch::{BatchAnswer, BatchJob, Failed, race};
use super::super::events::{Event, Events};
use super::super::loser;
use super::super::package::Staged;
use super::super::part::{Parts, Piecework};
use super::super::pod::{Done, PodError, Session, Step, limit};
use super::super::{emulated, places, single};
use super::merge;
use super::parts::{PartResult, Results};
use super::sides::{Running, Side};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::history::{Measurement, Parts as Seconds};
use crate::pods::{Lease, Start};
use crate::storage::{URL_LIFE, result_key};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, abortable};
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use stoic_placement::account::Account;
use stoic_placement::cooperative::Division;
use stoic_placement::{Running as Wait, sum};
use stoic_protocol::{BatchRequest, ItemRange, OutputRef, PackageRef, PartRef};
use stoic_store::Transferred;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

/// How often sides that have nothing to do ask again.
const TICK: Duration = Duration::from_millis(100);
/// Pods of one side that may die of a batch.
const DEATHS: usize = 2;
/// Transfers to a side that may break.
const BROKEN: usize = 3;

/// Something that came to its end.
enum Happening {
    Acquired(Result<Lease, Failed>),
    Sent {
        items: Range<usize>,
        /// Whether a claim waits for it.
        claimed: bool,
        sent: Result<(Piecework, Transferred), Failure>,
    },
    Worked {
        items: Range<usize>,
        session: Option<Session>,
        worked: Result<Done, PodError>,
    },
    /// A part's result is in the home store.
    Home {
        items: Range<usize>,
        key: String,
        home: Result<u64, Failure>,
    },
    /// A pod was told what is no longer wanted of it, or was stopped.
    Nothing,
}

type Under = FuturesUnordered<BoxFuture<'static, (usize, Happening)>>;

/// See the module.
struct Shared<'a> {
    gateway: &'a Arc<Gateway>,
    job: &'a BatchJob,
    staged: &'a Staged,
    events: &'a Events,
    begun: Instant,
    parts: Parts,
    division: Division,
    sides: Vec<Side>,
    results: Results,
    /// The model of the first part; all others have to be of the same.
    model: Option<Option<String>>,
    failed_items: u64,
    first_work: Option<(usize, f64)>,
    told: u64,
    under: Under,
    steps: mpsc::UnboundedSender<(usize, usize, Step)>,
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

const REASON: &str = "the edge works from the front, the cloud from the back, until they meet";

impl Shared<'_> {
    /// Seconds since the batch began.
    fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    fn acquire(&mut self, side: usize) {
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
    fn enqueue(&mut self, side: usize, claim: Range<usize>) {
        let side = &mut self.sides[side];
        let (there, absent) = side.cut(&claim);
        if absent.is_empty() {
            side.queue.extend(there);
        } else {
            side.awaited = Some(claim);
        }
    }

    /// Sends items to a side's store.
    fn send(&mut self, side: usize, items: Range<usize>, claimed: bool) {
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

    /// Takes in what happened.
    fn take(&mut self, side: usize, happening: Happening) -> Result<(), Box<Failed>> {
        let now = self.now();
        match happening {
            Happening::Nothing => {}
            // It came too late: as every idle pod it goes after its idle time.
            Happening::Acquired(Ok(_)) if self.sides[side].given_up.is_some() => {}
            Happening::Acquired(Ok(lease)) => {
                let this = &mut self.sides[side];
                self.events.tell(|| Event::Working {
                    runtime: this.name.clone(),
                    pod: lease.pod.name.to_string(),
                    start: lease.start.name().to_owned(),
                });
                this.start.get_or_insert(lease.start);
                this.pod = lease.pod.name.to_string();
                this.lease = Some(lease);
                self.division.revived(side, now);
            }
            Happening::Acquired(Err(failed)) => self.give_up(side, failed.failure),
            Happening::Sent {
                items,
                claimed,
                sent,
            } => self.sent(side, items, claimed, sent),
            Happening::Worked {
                items,
                session,
                worked,
            } => self.worked(side, items, session, worked)?,
            Happening::Home { items, key, home } => match home {
                Ok(bytes) => self.done(side, PartResult { items, key, bytes }),
                Err(failure) => {
                    self.give_back(side, &items);
                    self.broken(side, failure);
                }
            },
        }
        Ok(())
    }

    fn sent(
        &mut self,
        side: usize,
        items: Range<usize>,
        claimed: bool,
        sent: Result<(Piecework, Transferred), Failure>,
    ) {
        let this = &mut self.sides[side];
        if !claimed {
            this.sending = false;
        }
        let sent = match sent {
            Ok(sent) => sent,
            Err(failure) => {
                if claimed {
                    if let Some(claim) = this.awaited.take() {
                        let now = self.now();
                        self.division.failed(side, claim, now);
                    }
                } else {
                    self.division.stage_failed(side);
                }
                return self.broken(side, failure);
            }
        };
        let (piece, moved) = sent;
        this.pieces.push(piece);
        single::transferred(self.gateway, &this.site, moved.bytes, moved.seconds);
        if !claimed {
            return self.division.staged_up_to(side, &items);
        }
        if let Some(claim) = this.awaited.take() {
            self.enqueue(side, claim);
        }
    }

    fn worked(
        &mut self,
        side: usize,
        items: Range<usize>,
        session: Option<Session>,
        worked: Result<Done, PodError>,
    ) -> Result<(), Box<Failed>> {
        let this = &mut self.sides[side];
        // A side that was halted meanwhile has nothing to do with it any more.
        let current = this.running.as_ref().is_some_and(|r| r.items == items);
        if !current {
            return Ok(());
        }
        let seconds = this
            .running
            .take()
            .map_or(0.0, |r| r.since.elapsed().as_secs_f64());
        this.worked_s += seconds;
        this.session = session;
        let done = match worked {
            Ok(done) => done,
            Err(error) => return self.pod_failed(side, &items, error),
        };
        let count = usize::try_from(done.items).unwrap_or(usize::MAX);
        if count == 0 || count > items.len() {
            self.give_back(side, &items);
            if count > 0 {
                let detail = format!("{count} results for {} items", items.len());
                self.give_up(side, Failure::new(502, "function_failed", detail));
            }
            return Ok(());
        }
        // One batch, one model: a pod that has another is of no use here.
        if self
            .model
            .as_ref()
            .is_some_and(|model| *model != done.model)
        {
            self.give_back(side, &items);
            let detail = "the pod serves another model than the other side's";
            self.give_up(side, Failure::new(409, "parts_disagree", detail));
            return Ok(());
        }
        let this = &mut self.sides[side];
        self.model.get_or_insert_with(|| done.model.clone());
        if this.largest.as_ref().is_none_or(|(most, ..)| count > *most) {
            this.largest = Some((count, seconds, done.model.clone()));
        }
        let items = items.start..items.start + count;
        let key = format!(
            "{}.{}.{}",
            result_key(&self.job.invocation),
            this.name,
            items.start
        );
        let (remote, site) = (this.remote, this.site.clone());
        let gateway = Arc::clone(self.gateway);
        self.under.push(Box::pin(async move {
            let home = if remote {
                single::home_result(&gateway, &site, &key).await
            } else {
                size(&gateway, &key).await
            };
            (side, Happening::Home { items, key, home })
        }));
        Ok(())
    }

    /// A pod failed its part.
    fn pod_failed(
        &mut self,
        side: usize,
        items: &Range<usize>,
        error: PodError,
    ) -> Result<(), Box<Failed>> {
        let now = self.now();
        let this = &mut self.sides[side];
        let runtime = this.placed.runtime;
        match error {
            PodError::Died(_) => {
                warn!(invocation = %self.job.invocation, runtime = %this.name, "a side lost its pod: {error}");
                self.events.tell(|| Event::Retry {
                    reason: format!("{}: {error}", this.name),
                });
                this.halt();
                if let Some(lease) = this.lease.take() {
                    lease.condemn();
                }
                this.deaths += 1;
                self.division.lost(side, now);
                if this.deaths < DEATHS {
                    self.acquire(side);
                } else {
                    self.give_up(side, Failed::of_pod(error, runtime).failure);
                }
            }
            // A verdict of the function on the request; the cloud's is heard when the edge gives the
            // same.
            PodError::Problem(ref problem) if problem.status < 500 && !this.remote => {
                return Err(Box::new(Failed::of_pod(error, runtime)));
            }
            PodError::Busy(_) | PodError::TimedOut(_) | PodError::Problem(_) => {
                self.give_back(side, items);
                self.give_up(side, Failed::of_pod(error, runtime).failure);
            }
        }
        Ok(())
    }

    /// Gives the claim that these items belong to back to the division.
    fn give_back(&mut self, side: usize, items: &Range<usize>) {
        let now = self.now();
        let held = self.division.held(side).into_iter();
        let claims: Vec<_> = held
            .filter(|claim| claim.start < items.end && items.start < claim.end)
            .collect();
        for claim in claims {
            let within =
                |queued: &Range<usize>| queued.start < claim.end && claim.start < queued.end;
            self.sides[side].queue.retain(|queued| !within(queued));
            self.division.failed(side, claim, now);
        }
    }

    /// The link to a side broke once more.
    fn broken(&mut self, side: usize, failure: Failure) {
        let this = &mut self.sides[side];
        warn!(invocation = %self.job.invocation, runtime = %this.name, "a transfer broke: {}", failure.problem);
        this.broken_transfers += 1;
        if this.broken_transfers >= BROKEN {
            self.give_up(side, failure);
        }
    }

    fn give_up(&mut self, side: usize, failure: Failure) {
        let now = self.now();
        let this = &mut self.sides[side];
        warn!(invocation = %self.job.invocation, runtime = %this.name, "a side is given up: {}", failure.problem);
        this.halt();
        this.given_up.get_or_insert(failure);
        if let Some(lease) = this.lease.take() {
            loser::end(self.gateway, lease, &self.job.invocation, self.job);
        }
        self.division.lost(side, now);
    }

    /// A part's result is at home.
    fn done(&mut self, side: usize, part: PartResult) {
        let now = self.now();
        let new = self.division.done(side, part.items.clone(), now);
        self.results.add(part, new);
        for other in 0..self.sides.len() {
            for claim in self.division.moot(other) {
                let this = &mut self.sides[other];
                let within =
                    |items: &Range<usize>| items.start >= claim.start && items.end <= claim.end;
                this.queue.retain(|queued| !within(queued));
                if this.awaited.as_ref().is_some_and(within) {
                    this.awaited = None;
                }
                if this.running.as_ref().is_some_and(|r| within(&r.items)) {
                    // Its last item ends within a moment; the connection goes with it.
                    let running = this.running.take();
                    if let Some(running) = running {
                        this.worked_s += running.since.elapsed().as_secs_f64();
                        running.abort.abort();
                    }
                }
                self.division.failed(other, claim, now);
            }
            self.shorten(other);
        }
        self.tell();
    }

    /// Tells a pod where others have done the last of its items.
    fn shorten(&mut self, side: usize) {
        let this = &mut self.sides[side];
        let (Some(running), Some(lease)) = (&mut this.running, &this.lease) else {
            return;
        };
        let end = self.division.open_end(&running.items);
        let Some(end) = end.filter(|end| *end < running.limit) else {
            return;
        };
        running.limit = end;
        let (pod, first) = (Arc::clone(&lease.pod), running.items.start);
        let (invocation, items) = (self.job.invocation.clone(), end - first);
        self.under.push(Box::pin(async move {
            limit(&pod, &invocation, first as u64, items as u64).await;
            (side, Happening::Nothing)
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
    fn tell(&mut self) {
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

    /// Ends what still runs, has the results put together, and says how it went.
    async fn finish(
        mut self,
        worked_s: f64,
        predicted: stoic_placement::Part,
    ) -> Result<BatchAnswer, Failed> {
        // Dropping what is under way stops it.
        self.under = FuturesUnordered::new();
        for side in &mut self.sides {
            let busy = side.running.is_some();
            side.halt();
            if side.remote
                && let Some(lease) = side.lease.take()
            {
                if busy {
                    loser::end(self.gateway, lease, &self.job.invocation, self.job);
                } else {
                    side.lease = Some(lease);
                }
            }
        }
        self.told = self.staged.items;
        self.tell();
        let count = usize::try_from(self.staged.items).unwrap_or(usize::MAX);
        if !self.results.whole(count) {
            let detail = "an item was not counted, or twice";
            return Err(Failure::new(500, "internal", detail).into());
        }
        let merged = merge::merge(self.gateway, self.job, &self.results, &mut self.sides).await?;
        self.failed_items = merged.failed_items;
        let total_s = self.now();
        let keys: Vec<String> = self.results.keys();
        let home = self.gateway.scheduler.runtimes()[self.sides[0].placed.runtime]
            .site
            .clone();
        single::clear(self.gateway, &home, keys);
        for side in self.sides.iter().filter(|side| side.remote) {
            let keys = side.pieces.iter().map(|p| p.key.clone()).collect();
            single::clear(self.gateway, &side.site, keys);
        }
        Ok(self.answer(worked_s, total_s, predicted, merged))
    }

    fn answer(
        &self,
        worked_s: f64,
        total_s: f64,
        predicted: stoic_placement::Part,
        merged: Done,
    ) -> BatchAnswer {
        let counted: Vec<usize> = (0..self.sides.len())
            .map(|side| self.division.counted(side))
            .collect();
        let took: Vec<(usize, &Side)> = self
            .sides
            .iter()
            .enumerate()
            .filter(|(side, _)| counted[*side] > 0)
            .collect();
        let joined = |of: fn(&Side) -> &str| {
            let names: Vec<&str> = took.iter().map(|(_, side)| of(side)).collect();
            names.join("+")
        };
        let mut m = self
            .job
            .measure(self.gateway, self.staged, &self.sides[0].placed);
        m.runtime = joined(|side| &side.name);
        m.site = joined(|side| &side.site);
        m.items_by = self
            .sides
            .iter()
            .zip(&counted)
            .map(|(side, counted)| (side.name.clone(), *counted as u64))
            .collect();
        let (first, waited_s) = self.first_work.unwrap_or((0, 0.0));
        let start = self.sides[first].start.unwrap_or(Start::Warm);
        start.name().clone_into(&mut m.start);
        match start {
            Start::Cold => m.actual.deployment = waited_s,
            Start::Warm => m.actual.queueing = waited_s,
        }
        m.actual.processing = total_s - waited_s;
        m.predicted = predicted.known.then(|| Seconds {
            processing: predicted.mean,
            ..Seconds::default()
        });
        m.predicted_90 = predicted
            .known
            .then_some((predicted.p90.low, predicted.p90.high));
        m.predicted_50 = predicted
            .known
            .then_some((predicted.p50.low, predicted.p50.high));
        m.model = merged.model.clone();
        let infos = took.iter().map(|(_, side)| {
            let info = &self.gateway.scheduler.runtimes()[side.placed.runtime];
            let cold = side.start == Some(Start::Cold);
            (info.link_emulated, info.deployment_emulated && cold)
        });
        let (link, deployment) = infos.fold((false, false), |a, b| (a.0 || b.0, a.1 || b.1));
        m.emulated = emulated(link, deployment);
        let cloud = &self.sides[1];
        let units = places::units(self.gateway, cloud.placed.runtime);
        let mut account = Account::default();
        let done = counted[1] + self.division.twice(1);
        let useful = if done == 0 {
            0.0
        } else {
            counted[1] as f64 / done as f64
        };
        // Work on items that the edge had done before was in vain.
        let mut entry = account.cloud_first(&cloud.name, units, cloud.worked_s * useful);
        let vain = account.edge_first(&cloud.name, units, cloud.worked_s * (1.0 - useful));
        entry.lost_s = vain.lost_s;
        m.race = Some(race(&cloud.name, &entry));
        info!(
            invocation = %self.job.invocation, function = self.job.deployed.function.name(), items_by = ?m.items_by,
            mode = %self.job.mode, worked_s, response_s = m.actual.response(), "batch done"
        );
        let lessons = took
            .iter()
            .filter_map(|(_, side)| self.lesson(side))
            .collect();
        BatchAnswer {
            pod: joined(|side| &side.pod),
            measurement: m,
            lost_s: 0.0,
            reason: REASON.to_owned(),
            done: merged,
            whole: false,
            lessons,
        }
    }

    /// The largest part that a side worked: one request of so many items, as any other.
    fn lesson(&self, side: &Side) -> Option<Measurement> {
        let (items, seconds, model) = side.largest.clone()?;
        let mut lesson = self.job.measure(self.gateway, self.staged, &side.placed);
        self.job.mode.name().clone_into(&mut lesson.mode);
        let share = items as f64 / self.staged.items.max(1) as f64;
        lesson.bytes = (self.staged.bytes as f64 * share) as u64;
        lesson.items = items as u64;
        Start::Warm.name().clone_into(&mut lesson.start);
        // What was predicted was for all of it.
        (lesson.predicted, lesson.predicted_90, lesson.predicted_50) = (None, None, None);
        lesson.actual.processing = seconds;
        lesson.model = model;
        Some(lesson)
    }
}

async fn size(gateway: &Gateway, key: &str) -> Result<u64, Failure> {
    let head = gateway.stores.home()?.head(key).await?;
    let absent = || {
        Failure::new(
            502,
            "storage_unavailable",
            "a result is not where the pod put it",
        )
    };
    head.map(|head| head.bytes).ok_or_else(absent)
}
