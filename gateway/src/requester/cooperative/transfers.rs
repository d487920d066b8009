//! The way of a shared batch's items to the sides: sent ahead while a pod is deployed, or for a claim
//! that waits for them.

use super::super::events::Event;
use super::super::part::Piecework;
use super::super::single;
use super::happenings::Happening;
use super::work::Shared;
use crate::failure::Failure;
use std::ops::Range;
use stoic_store::Transferred;
use tracing::warn;

/// Transfers to a side that may break.
const BROKEN: usize = 3;

impl Shared<'_> {
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

    /// Items are at a side's store, or did not get there.
    pub(super) fn sent(
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

    /// The link to a side broke once more.
    pub(super) fn broken(&mut self, side: usize, failure: Failure) {
        let this = &mut self.sides[side];
        warn!(invocation = %self.job.invocation, runtime = %this.name, "a transfer broke: {}", failure.problem);
        this.broken_transfers += 1;
        if this.broken_transfers >= BROKEN {
            self.give_up(side, failure);
        }
    }
}
