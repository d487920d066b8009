//! A set of item numbers as ascending ranges that do not touch. Knows nothing
//! of sides.

use std::ops::Range;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Range<usize>>);

impl Ranges {
    pub(super) fn of(range: Range<usize>) -> Self {
        let mut set = Self::default();
        set.insert(range);
        set
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(Range::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn first(&self) -> Option<&Range<usize>> {
        self.0.first()
    }

    pub(super) fn last(&self) -> Option<&Range<usize>> {
        self.0.last()
    }

    pub(super) fn insert(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let from = self.0.partition_point(|r| r.end < range.start);
        let to = self.0.partition_point(|r| r.start <= range.end);
        let merged = self.0[from..to]
            .iter()
            .fold(range, |a, b| a.start.min(b.start)..a.end.max(b.end));
        self.0.splice(from..to, [merged]);
    }

    /// Takes `range` out; returns what of it was in.
    pub(super) fn remove(&mut self, range: &Range<usize>) -> Self {
        if range.is_empty() {
            return Self::default();
        }
        let from = self.0.partition_point(|r| r.end <= range.start);
        let to = self.0.partition_point(|r| r.start < range.end).max(from);
        let mut taken = Self::default();
        let mut left = Vec::with_capacity(2);
        for r in &self.0[from..to] {
            taken.0.push(r.start.max(range.start)..r.end.min(range.end));
            if r.start < range.start {
                left.push(r.start..range.start);
            }
            if r.end > range.end {
                left.push(range.end..r.end);
            }
        }
        self.0.splice(from..to, left);
        taken
    }

    /// What of `range` is in.
    pub(super) fn within(&self, range: &Range<usize>) -> Self {
        let from = self.0.partition_point(|r| r.end <= range.start);
        Self(
            self.0[from..]
                .iter()
                .take_while(|r| r.start < range.end)
                .map(|r| r.start.max(range.start)..r.end.min(range.end))
                .filter(|r| !r.is_empty())
                .collect(),
        )
    }

    pub(super) fn into_vec(self) -> Vec<Range<usize>> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_behaves_as_a_set(
            steps in proptest::collection::vec((any::<bool>(), 0usize..30, 0usize..12), 0..40),
        ) {
            let mut ours = Ranges::default();
            let mut set = BTreeSet::new();
            for (insert, start, len) in steps {
                let range = start..start + len;
                prop_assert_eq!(
                    ours.within(&range).len(),
                    set.range(range.clone()).count()
                );
                if insert {
                    set.extend(range.clone());
                    ours.insert(range);
                } else {
                    let taken: Vec<usize> = ours.remove(&range).into_vec().into_iter().flatten().collect();
                    let expected: Vec<usize> = set.range(range.clone()).copied().collect();
                    prop_assert_eq!(taken, expected);
                    set.retain(|item| !range.contains(item));
                }
                let items: Vec<usize> = ours.clone().into_vec().into_iter().flatten().collect();
                prop_assert_eq!(&items, &set.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(ours.len(), set.len());
                let apart = ours.0.windows(2).all(|pair| pair[0].end < pair[1].start);
                prop_assert!(apart, "{:?}", ours);
            }
        }
    }
}
