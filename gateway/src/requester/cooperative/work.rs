//! The way of a shared batch: an event loop over everything that is under way on either side. Dropping
//! it ends all of it.

use super::super::batch::{BatchAnswer, BatchJob, Failed};
use super::super::events::{Event, Events};
use super::super::package::Staged;
use super::super::part::Parts;
use super::super::pod::Step;
use super::super::{places, single};
use super::happenings::Happening;
use super::parts::Results;
use super::sides::Side;
use crate::failure::Failure;
use crate::gateway::Gateway;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::Duration;
use stoic_placement::cooperative::Division;
use stoic_placement::{Running as Wait, sum};
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
    let together = places::shared(gateway, job, [&edge, &cloud], staged);
    let predicted = together.part;
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
    let answer = shared.finish(worked_s, together).await?;
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
