//! T_q, the time until a slot is free: first come, first served over a
//! runtime's slots. A pure function of what runs and what waits.

use serde::{Deserialize, Serialize};

use crate::estimate::{Part, Squares};

/// A task that holds a slot.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Seconds it was predicted to hold the slot in all.
    pub total: Part,
    /// Seconds it has held it.
    pub elapsed_s: f64,
}

/// A task that has outlived its prediction is expected to take this share of
/// its age longer: the longer it has run, the longer it may still run.
const OVERDUE: f64 = 0.1;

impl Running {
    /// Seconds it is still expected to hold the slot.
    #[must_use]
    pub fn remaining(&self) -> Part {
        let elapsed = if self.elapsed_s.is_finite() {
            self.elapsed_s.max(0.0)
        } else {
            0.0
        };
        let left = self.total.mean - elapsed;
        let mean = if left > 0.0 { left } else { OVERDUE * elapsed };
        let offsets = |low: f64, high: f64| (low - self.total.mean, high - self.total.mean);
        let mut part = Part::around(
            mean,
            offsets(self.total.p50.low, self.total.p50.high),
            offsets(self.total.p90.low, self.total.p90.high),
            self.total.points,
        );
        part.known = self.total.known;
        part
    }
}

/// Seconds until a task that arrives now gets one of `slots` slots.
///
/// `running` holds the tasks in slots, `waiting` the predictions for those in
/// line, in order. Slots that are not running are free. The mean is that of the
/// schedule with every task at its mean; the interval adds up the errors of the
/// tasks that end in the slot so found, taken as independent. Whether a pod
/// must first be deployed into the slot is T_d's business: `slots` are what the
/// runtime may hold at most. Unknown when there are no slots. Tasks whose
/// duration is unknown count as taking no time and make the answer unknown if
/// it rests on them.
#[must_use]
pub fn queueing(slots: usize, running: &[Running], waiting: &[Part]) -> Part {
    if slots == 0 {
        return Part::UNKNOWN;
    }
    if running.len() + waiting.len() < slots {
        return Part::ZERO;
    }
    let free = slots.saturating_sub(running.len());
    let mut ends: Vec<End> = Vec::with_capacity(slots.max(running.len()));
    ends.extend(
        running
            .iter()
            .map(|task| End::default().after(&task.remaining())),
    );
    ends.extend(std::iter::repeat_n(End::default(), free));
    // More running than slots (the limit was lowered): the slots are those
    // that end last, once the surplus is gone.
    ends.sort_by(|a, b| a.mean.total_cmp(&b.mean));
    ends.drain(..ends.len() - slots);
    for task in waiting {
        let first = earliest(&ends);
        ends[first] = ends[first].after(task);
    }
    let end = ends[earliest(&ends)];
    Part {
        known: !end.unknown,
        ..end.squares.around(end.mean, end.points.unwrap_or(0))
    }
}

/// When a slot becomes free.
#[derive(Debug, Clone, Copy, Default)]
struct End {
    mean: f64,
    squares: Squares,
    points: Option<usize>,
    unknown: bool,
}

impl End {
    fn after(mut self, task: &Part) -> Self {
        self.mean += task.mean;
        self.squares.add(task);
        self.unknown |= !task.known;
        self.points = Some(self.points.map_or(task.points, |p| p.min(task.points)));
        self
    }
}

/// The slot that is free first; the first of equals.
fn earliest(ends: &[End]) -> usize {
    ends.iter()
        .enumerate()
        .min_by(|a, b| a.1.mean.total_cmp(&b.1.mean))
        .map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(mean: f64) -> Part {
        Part::around(mean, (-1.0, 1.0), (-2.0, 4.0), 5)
    }

    fn running(total: f64, elapsed_s: f64) -> Running {
        Running {
            total: task(total),
            elapsed_s,
        }
    }

    #[test]
    fn a_free_slot_and_no_line_is_no_wait() {
        assert_eq!(queueing(2, &[running(10.0, 0.0)], &[]), Part::ZERO);
        assert_eq!(queueing(usize::MAX, &[], &[task(1.0)]), Part::ZERO);
    }

    #[test]
    fn one_slot_is_free_after_all_before() {
        let wait = queueing(1, &[running(10.0, 4.0)], &[task(5.0), task(7.0)]);
        assert_eq!(wait.mean, 18.0);
        assert!((wait.p90.high - (18.0 + 48f64.sqrt())).abs() < 1e-9);
        assert_eq!(wait.points, 5);
    }

    #[test]
    fn the_line_goes_to_whichever_slot_is_free_first() {
        // Slots end at 6 and 10; 5 goes to 6 (11), 7 to 10 (17): free at 11.
        let tasks = [running(10.0, 4.0), running(10.0, 0.0)];
        assert_eq!(queueing(2, &tasks, &[task(5.0), task(7.0)]).mean, 11.0);
    }

    #[test]
    fn an_overdue_task_is_given_a_share_of_its_age() {
        assert_eq!(queueing(1, &[running(10.0, 30.0)], &[]).mean, 3.0);
    }

    #[test]
    fn more_running_than_slots_must_end_first() {
        let tasks = [running(3.0, 0.0), running(8.0, 0.0), running(5.0, 0.0)];
        assert_eq!(queueing(2, &tasks, &[]).mean, 5.0);
    }

    #[test]
    fn no_slots_and_unknown_tasks_are_unknown() {
        assert!(!queueing(0, &[], &[]).known);
        assert!(!queueing(1, &[], &[Part::UNKNOWN]).known);
    }
}
