//! The highest demand of a sliding window: what a pool has to be ready for, because it was so a while
//! ago.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// The most invocations that ran and waited together within the window. Constant work for each note,
/// averaged over many.
#[derive(Debug)]
pub(super) struct Demand {
    window: Duration,
    /// The last time of each height that nothing later has reached: times rise, heights fall.
    peaks: VecDeque<(Instant, usize)>,
}

impl Demand {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            peaks: VecDeque::new(),
        }
    }

    /// So many invocations run and wait now, or did until now.
    pub(super) fn note(&mut self, height: usize, now: Instant) {
        while self.peaks.back().is_some_and(|(_, last)| *last <= height) {
            self.peaks.pop_back();
        }
        self.peaks.push_back((now, height));
    }

    /// The highest of the window that ends now.
    pub(super) fn highest(&mut self, now: Instant) -> usize {
        while self
            .peaks
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= self.window)
        {
            self.peaks.pop_front();
        }
        self.peaks.front().map_or(0, |(_, height)| *height)
    }

    /// Forgets what was.
    pub(super) fn forget(&mut self) {
        self.peaks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_the_window_stands_until_it_is_past() {
        let begin = Instant::now();
        let at = |s: u64| begin + Duration::from_secs(s);
        let mut demand = Demand::new(Duration::from_secs(60));
        for (second, height) in [(0, 1), (10, 5), (20, 2), (30, 3), (40, 0)] {
            demand.note(height, at(second));
        }
        assert_eq!(demand.highest(at(40)), 5);
        assert_eq!(demand.highest(at(69)), 5);
        assert_eq!(demand.highest(at(70)), 3);
        assert_eq!(demand.highest(at(90)), 0);
        assert_eq!(demand.highest(at(900)), 0);
    }

    #[test]
    fn it_agrees_with_looking_at_everything_and_keeps_little() {
        let begin = Instant::now();
        let window = Duration::from_secs(7);
        let mut demand = Demand::new(window);
        let mut all: Vec<(Instant, usize)> = Vec::new();
        let mut seed = 12345_u64;
        for second in 0..5000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (now, height) = (begin + Duration::from_secs(second), (seed >> 60) as usize);
            demand.note(height, now);
            all.push((now, height));
            let within = all.iter().filter(|(at, _)| now - *at < window);
            assert_eq!(
                demand.highest(now),
                within.map(|(_, height)| *height).max().unwrap_or(0)
            );
            assert!(demand.peaks.len() <= 16);
        }
    }
}
