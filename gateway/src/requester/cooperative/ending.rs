//! The end of a shared batch: what still runs is stopped, the results are put together, and what is said
//! and learned of it.

use super::super::batch::{BatchAnswer, Failed, race};
use super::super::places::Together;
use super::super::pod::Done;
use super::super::{emulated, loser, places, single};
use super::merge;
use super::sides::Side;
use super::work::{REASON, Shared};
use crate::failure::Failure;
use crate::history::{Measurement, Parts as Seconds};
use crate::pods::Start;
use futures_util::stream::FuturesUnordered;
use stoic_placement::account::Account;
use tracing::info;

impl Shared<'_> {
    /// Ends what still runs, has the results put together, and says how it went.
    pub(super) async fn finish(
        mut self,
        worked_s: f64,
        together: Together,
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
        Ok(self.answer(worked_s, total_s, together, merged))
    }

    fn answer(&self, worked_s: f64, total_s: f64, together: Together, merged: Done) -> BatchAnswer {
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
        let predicted = together.part;
        m.fluid_s = together.fluid_s;
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
            started: Vec::new(),
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
