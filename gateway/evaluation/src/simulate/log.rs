//! A simulation as a log: every batch run on every runtime, as the authors logged theirs, so that what replays logs
//! shows the scenario too.

use std::path::PathBuf;

use super::scenario::Scenario;
use super::world::World;
use crate::log::{Names, Parts, Run, Runs};
use crate::workload::TRACE_BEGINS;

/// Every batch of a simulation on every runtime that came up, each by itself. The same seed gives the batches and draws
/// of [`super::run`].
#[must_use]
pub fn log(scenario: &Scenario, batches: usize, seed: u64) -> Runs {
    let world = World::new(scenario, batches.max(1), seed);
    let edge = scenario.edge();
    let mut runtimes = Names::default();
    for runtime in &scenario.runtimes {
        runtimes.number(&runtime.name.0);
    }
    let mut rows = Vec::new();
    for (number, batch) in world.batches.iter().enumerate() {
        let items = f64::from(batch.items);
        for (runtime, draw) in world.draws(number).iter().enumerate() {
            if !draw.comes_up {
                continue;
            }
            let actual = Parts {
                transfer: if runtime == edge {
                    0.0
                } else {
                    batch.travel_s * items
                },
                deployment: draw.up_s,
                processing: draw.work_s(items),
            };
            rows.push(Run {
                line: rows.len() as u64 + 2,
                epoch: TRACE_BEGINS + batch.at,
                items,
                runtime,
                actual,
                logged_total: actual.total(),
                predicted: None,
                file: None,
            });
        }
    }
    Runs::of_rows(PathBuf::from(&scenario.name), rows, runtimes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::batches::batches;

    #[test]
    fn every_batch_is_a_batch_of_the_log_on_all_runtimes() {
        let scenario = Scenario::nautilus();
        let runs = log(&scenario, 50, 3);
        let runtimes = scenario.runtimes.len();
        // Batches of equal size that follow one another stay apart, since a runtime comes again.
        let whole = batches(&runs)
            .iter()
            .filter(|b| b.len() == runtimes)
            .count();
        assert!(whole >= 48, "{whole}");
        assert!(runs.rows.is_sorted_by_key(|run| run.epoch));
    }
}
