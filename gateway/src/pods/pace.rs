//! How many pods start at the same time on one machine.
//!
//! A start is mostly work for the processors: loading libraries, reading a model, the first inference.
//! Sixteen that start together on two cores are all ready late; two that start together are ready soon,
//! serve what waits, and the others may not be needed any more. So as many go together as there are
//! cores, and one more for each core that is found idle: starts that wait for something else than a
//! processor hold nobody up.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Between two looks at the processors: their times are counted in steps of 10 ms.
const LOOK: Duration = Duration::from_millis(30);
/// Fewest starts that go together.
const FEWEST: usize = 2;
/// Longest wait for a turn: starts that hang hold others up no longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the processors have spent so far, over all of them, in the same unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processors {
    /// Doing nothing.
    pub idle: u64,
    /// In all.
    pub total: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Pace {
    together: Semaphore,
    cores: usize,
    processors: fn() -> Option<Processors>,
    looked: Mutex<Looked>,
}

#[derive(Debug)]
struct Looked {
    at: Instant,
    then: Option<Processors>,
    /// Cores that were idle and that no start was let go for.
    idle: usize,
}

/// The turn of a start; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _permit: Option<SemaphorePermit<'a>>,
}

impl Default for Pace {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::new(cores, read_processors)
    }
}

impl Pace {
    /// The pace of a machine of so many cores, whose processors are looked at so.
    #[must_use]
    pub fn new(cores: usize, processors: fn() -> Option<Processors>) -> Self {
        Self {
            together: Semaphore::new(cores.max(FEWEST)),
            cores,
            processors,
            looked: Mutex::new(Looked {
                at: Instant::now(),
                then: None,
                idle: 0,
            }),
        }
    }

    /// Returns when a pod may be started, the first to ask first.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let permit = self.together.acquire();
        tokio::pin!(permit);
        let goes_at = Instant::now() + PATIENCE;
        loop {
            tokio::select! {
                biased;
                permit = &mut permit => return Turn { _permit: permit.ok() },
                () = tokio::time::sleep(LOOK) => if Instant::now() >= goes_at || self.idles() {
                    return Turn { _permit: None };
                },
            }
        }
    }

    /// Whether a core idles, for which one more start is let go.
    fn idles(&self) -> bool {
        let mut looked = self.looked.lock();
        let now = Instant::now();
        if now - looked.at >= LOOK {
            let current = (self.processors)();
            looked.idle = match (looked.then, current) {
                // Times of long ago say nothing of now.
                (Some(then), Some(now_)) if now - looked.at < LOOK * 4 => {
                    idle_cores(then, now_, self.cores)
                }
                _ => 0,
            };
            looked.then = current;
            looked.at = now;
        }
        let idle = looked.idle > 0;
        looked.idle = looked.idle.saturating_sub(1);
        idle
    }
}

/// Cores that did nothing between two looks, rounded.
fn idle_cores(then: Processors, now: Processors, cores: usize) -> usize {
    let total = now.total.saturating_sub(then.total);
    let idle = now.idle.saturating_sub(then.idle);
    if total == 0 {
        return 0;
    }
    (idle as f64 / total as f64 * cores as f64).round() as usize
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn read_processors() -> Option<Processors> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let times: Vec<u64> = text
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .take(8)
        .map_while(|word| word.parse().ok())
        .collect();
    Some(Processors {
        idle: times.get(3)? + times.get(4)?,
        total: times.iter().sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Lets sixteen starts of 300 ms go; how many went together at most, and the seconds of all.
    async fn sixteen(processors: fn() -> Option<Processors>) -> (usize, f64) {
        let pace = Arc::new(Pace::new(2, processors));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let begun = Instant::now();
        let all = (0..16).map(|_| {
            let (pace, now, most) = (Arc::clone(&pace), Arc::clone(&now), Arc::clone(&most));
            tokio::spawn(async move {
                let _turn = pace.turn().await;
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(300)).await;
                now.fetch_sub(1, Ordering::SeqCst);
            })
        });
        for one in all.collect::<Vec<_>>() {
            one.await.expect("it ends");
        }
        (most.load(Ordering::SeqCst), begun.elapsed().as_secs_f64())
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_go_together_as_there_are_cores() {
        let (most, seconds) = sixteen(|| None).await;
        assert_eq!(most, 2);
        assert!((2.3..2.6).contains(&seconds), "{seconds}");
        // Processors that are all busy let nothing more go.
        static BUSY: AtomicUsize = AtomicUsize::new(0);
        let (most, _) = sixteen(|| {
            let total = BUSY.fetch_add(6, Ordering::SeqCst) as u64;
            Some(Processors { idle: 0, total })
        })
        .await;
        assert_eq!(most, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn starts_that_leave_the_processors_idle_hold_nobody_up() {
        static IDLE: AtomicUsize = AtomicUsize::new(0);
        let (most, seconds) = sixteen(|| {
            let total = IDLE.fetch_add(6, Ordering::SeqCst) as u64;
            Some(Processors { idle: total, total })
        })
        .await;
        assert!(most > 12, "{most} went together");
        assert!(seconds < 0.7, "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn starts_that_hang_hold_others_up_for_seconds_only() {
        let pace = Arc::new(Pace::new(1, || None));
        for _ in 0..FEWEST {
            let pace = Arc::clone(&pace);
            tokio::spawn(async move {
                let _turn = pace.turn().await;
                std::future::pending::<()>().await;
            });
        }
        tokio::task::yield_now().await;
        let begun = Instant::now();
        let _turn = pace.turn().await;
        assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[test]
    fn this_machine_tells_its_times() {
        let first = read_processors().expect("this is Linux");
        assert!(first.total > first.idle && first.idle > 0);
        let later = Processors {
            idle: first.idle + 3,
            total: first.total + 6,
        };
        assert_eq!(idle_cores(first, later, 2), 1);
        assert_eq!(idle_cores(first, first, 2), 0);
    }
}
