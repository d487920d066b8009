//! How far a shared batch is, by what the pods say.

use super::super::events::Event;
use super::super::pod::Step;
use super::work::Shared;
use std::collections::BTreeMap;

impl Shared<'_> {
    /// A pod says how far it is.
    pub(super) fn progress(&mut self, side: usize, start: usize, step: &Step) {
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
}
