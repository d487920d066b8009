//! Who is next: one line per function, served in turn, so that a function with many calls does not keep
//! the others waiting. Pure: knows no clock and no disk.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

/// Calls that wait, in memory. What waits is in the database too; this is its order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: HashMap<String, VecDeque<String>>,
    /// Functions with a line, in the order of their turns.
    turns: VecDeque<String>,
    /// Calls whose time has not come: milliseconds since the epoch, function, id.
    later: BinaryHeap<Reverse<(u64, String, String)>>,
    waiting: usize,
}

impl Queue {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting + self.later.len()
    }

    /// One more, at the end of its function's line.
    pub(super) fn push(&mut self, function: &str, id: String) {
        self.waiting += 1;
        if let Some(line) = self.lines.get_mut(function) {
            line.push_back(id);
            return;
        }
        self.lines.insert(function.to_owned(), VecDeque::from([id]));
        self.turns.push_back(function.to_owned());
    }

    /// One that waits for its time, in seconds since the epoch.
    pub(super) fn push_at(&mut self, function: &str, id: String, due: f64) {
        let due = (due.max(0.0) * 1e3).ceil() as u64;
        self.later.push(Reverse((due, function.to_owned(), id)));
    }

    /// When the next one's time comes.
    pub(super) fn next_due(&self) -> Option<f64> {
        let Reverse((due, ..)) = self.later.peek()?;
        Some(*due as f64 / 1e3)
    }

    /// Those whose time has come go to their lines.
    pub(super) fn ripen(&mut self, now: f64) {
        while self.next_due().is_some_and(|due| due <= now) {
            if let Some(Reverse((_, function, id))) = self.later.pop() {
                self.push(&function, id);
            }
        }
    }

    /// The next call of the next function that may have one run: its function and id.
    pub(super) fn take(&mut self, may: impl Fn(&str) -> bool) -> Option<(String, String)> {
        for _ in 0..self.turns.len() {
            let function = self.turns.pop_front()?;
            if !may(&function) {
                self.turns.push_back(function);
                continue;
            }
            let line = self.lines.get_mut(&function)?;
            let id = line.pop_front();
            if line.is_empty() {
                self.lines.remove(&function);
            } else {
                self.turns.push_back(function.clone());
            }
            if let Some(id) = id {
                self.waiting -= 1;
                return Some((function, id));
            }
        }
        None
    }

    /// Takes one out, wherever it waits.
    pub(super) fn remove(&mut self, function: &str, id: &str) {
        if let Some(line) = self.lines.get_mut(function) {
            let before = line.len();
            line.retain(|waiting| waiting != id);
            self.waiting -= before - line.len();
            if line.is_empty() {
                self.lines.remove(function);
                self.turns.retain(|turn| turn != function);
            }
        }
        self.later.retain(|Reverse((_, _, waiting))| waiting != id);
    }

    /// Whether any waits whose time has come.
    pub(super) fn ripe(&self) -> bool {
        self.waiting > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_take_turns_and_each_keeps_its_order() {
        let mut queue = Queue::default();
        for n in 0..4 {
            queue.push("many", format!("m{n}"));
        }
        queue.push("few", "f0".to_owned());
        let order: Vec<String> = std::iter::from_fn(|| queue.take(|_| true))
            .map(|(_, id)| id)
            .collect();
        assert_eq!(order, ["m0", "f0", "m1", "m2", "m3"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn one_that_may_not_run_holds_up_nobody() {
        let mut queue = Queue::default();
        queue.push("full", "a".to_owned());
        queue.push("free", "b".to_owned());
        let free = |function: &str| function == "free";
        assert_eq!(queue.take(free).map(|(_, id)| id), Some("b".to_owned()));
        assert_eq!(queue.take(free), None);
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.take(|_| true).map(|(_, id)| id), Some("a".to_owned()));
    }

    #[test]
    fn what_is_due_later_waits_and_what_is_taken_out_is_gone() {
        let mut queue = Queue::default();
        queue.push_at("f", "late".to_owned(), 20.0);
        queue.push_at("f", "soon".to_owned(), 10.0);
        queue.push("f", "now".to_owned());
        queue.remove("f", "now");
        assert_eq!((queue.len(), queue.ripe()), (2, false));
        queue.ripen(9.9);
        assert!(!queue.ripe());
        queue.ripen(10.0);
        assert_eq!(
            queue.take(|_| true).map(|(_, id)| id),
            Some("soon".to_owned())
        );
        queue.remove("f", "late");
        assert_eq!((queue.len(), queue.next_due()), (0, None));
    }
}
