//! Seconds since the Unix epoch on a clock that does not go back: the wall clock at its making, then the
//! async runtime's. Under a paused runtime it stands still.

use std::time::SystemTime;
use tokio::time::Instant;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    at_origin: f64,
}

impl Clock {
    /// A clock that shows the wall clock's time now.
    #[must_use]
    pub fn new() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self::starting_at(wall.map_or(0.0, |since| since.as_secs_f64()))
    }

    /// A clock that shows so many seconds now.
    #[must_use]
    pub fn starting_at(seconds: f64) -> Self {
        Self {
            origin: Instant::now(),
            at_origin: seconds,
        }
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> f64 {
        self.at_origin + self.origin.elapsed().as_secs_f64()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
