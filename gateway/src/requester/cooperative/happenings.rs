//! What happens on the sides of a shared batch, and what follows from it.

use super::super::batch::Failed;
use super::super::events::Event;
use super::super::loser;
use super::super::part::Piecework;
use super::super::pod::{Done, PodError, Session, limit};
use super::super::single;
use super::parts::PartResult;
use super::work::Shared;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::pods::Lease;
use crate::storage::result_key;
use std::ops::Range;
use std::sync::Arc;
use stoic_store::Transferred;
use tracing::warn;

/// Pods of one side that may die of a batch.
const DEATHS: usize = 2;

/// Something that came to its end.
pub(super) enum Happening {
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

impl Shared<'_> {
    /// Takes in what happened.
    pub(super) fn take(&mut self, side: usize, happening: Happening) -> Result<(), Box<Failed>> {
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
    pub(super) fn give_back(&mut self, side: usize, items: &Range<usize>) {
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

    pub(super) fn give_up(&mut self, side: usize, failure: Failure) {
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
