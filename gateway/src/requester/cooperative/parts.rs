//! The results of the parts of a batch: which items each holds, and which of them count.

use std::ops::Range;

/// The result of one part, in the home store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartResult {
    /// Items it holds.
    pub(super) items: Range<usize>,
    pub(super) key: String,
    /// Size.
    pub(super) bytes: u64,
}

/// What has been done of a batch.
#[derive(Debug, Default)]
pub(super) struct Results {
    parts: Vec<PartResult>,
    /// Items that count, each in one range, and the part that they are taken from.
    taken: Vec<(Range<usize>, usize)>,
}

impl Results {
    /// Takes in a part of which these items had not been done before.
    pub(super) fn add(&mut self, part: PartResult, new: Vec<Range<usize>>) {
        let number = self.parts.len();
        self.taken
            .extend(new.into_iter().map(|range| (range, number)));
        self.parts.push(part);
    }

    /// What is taken of which part, in the order of the items.
    pub(super) fn in_order(&self) -> Vec<(&PartResult, Range<usize>)> {
        let mut taken: Vec<&(Range<usize>, usize)> = self.taken.iter().collect();
        taken.sort_by_key(|(range, _)| range.start);
        taken
            .into_iter()
            .map(|(range, number)| {
                let part = &self.parts[*number];
                let of = range.start - part.items.start..range.end - part.items.start;
                (part, of)
            })
            .collect()
    }

    /// Whether these are the items `0..count`, each once.
    pub(super) fn whole(&self, count: usize) -> bool {
        let mut next = 0;
        let mut taken: Vec<&Range<usize>> = self.taken.iter().map(|(range, _)| range).collect();
        taken.sort_by_key(|range| range.start);
        for range in taken {
            if range.start != next {
                return false;
            }
            next = range.end;
        }
        next == count
    }

    /// Keys of all parts.
    pub(super) fn keys(&self) -> Vec<String> {
        self.parts.iter().map(|part| part.key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(items: Range<usize>) -> PartResult {
        PartResult {
            key: format!("{items:?}"),
            items,
            bytes: 1,
        }
    }

    #[test]
    fn what_is_taken_is_in_order_and_each_item_once() {
        let mut results = Results::default();
        let only = |items: Range<usize>| Vec::from_iter([items]);
        results.add(part(0..4), only(0..4));
        results.add(part(6..9), only(6..9));
        assert!(!results.whole(9));
        // Worked by two: the middle is new.
        results.add(part(3..7), only(4..6));
        assert!(results.whole(9));
        let taken: Vec<_> = results
            .in_order()
            .into_iter()
            .map(|(part, of)| (part.items.clone(), of))
            .collect();
        assert_eq!(taken, [(0..4, 0..4), (3..7, 1..3), (6..9, 0..3)]);
    }
}
