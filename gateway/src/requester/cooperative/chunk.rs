//! One chunk of a shared batch in a side's pod: how it is begun.

use super::super::pod::{PodError, Session, Step};
use super::happenings::Happening;
use super::sides::Running;
use super::work::Shared;
use crate::failure::Failure;
use crate::storage::{URL_LIFE, result_key};
use futures_util::future::abortable;
use std::sync::Arc;
use stoic_protocol::{BatchRequest, ItemRange, OutputRef, PackageRef, PartRef};
use tokio::time::Instant;

impl Shared<'_> {
    /// Begins with what a side has queued, if it is at nothing.
    pub(super) fn begin(&mut self, side: usize) {
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
                let (read, write) = tokio::try_join!(
                    store.presign_get(&input.0, URL_LIFE),
                    store.presign_put(&output, URL_LIFE)
                )?;
                Ok::<_, Failure>(BatchRequest {
                    invocation: job.invocation.clone(),
                    action: job.action.clone(),
                    input: PackageRef {
                        url: read,
                        bytes: input.1,
                        content_type: media,
                    },
                    output: Some(OutputRef { url: write }),
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
                // A store that cannot be reached takes its pods along: the link is down.
                Err(failure) if failure.problem.status >= 500 => {
                    return (None, Err(PodError::Died(failure.problem.to_string())));
                }
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
}
