//! Who got the last invocation like this one: the choice goes to another runtime only when that is better
//! by more than the noise.

use std::sync::atomic::{AtomicU8, Ordering};

/// Sizes are told apart by their power of two.
const SIZES: usize = 32;
/// Actions are told apart by their hash; two that meet cost nothing but a little hysteresis.
const ACTIONS: usize = 8;
/// Nobody yet.
const NOBODY: u8 = u8::MAX;

/// The incumbents of one function, by action and about the same size. Runtimes beyond the 254th are
/// never incumbents.
#[derive(Debug)]
pub struct Incumbents([AtomicU8; SIZES * ACTIONS]);

impl Default for Incumbents {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU8::new(NOBODY)))
    }
}

impl Incumbents {
    fn of(&self, action: &str, items: f64) -> &AtomicU8 {
        // FNV-1a: short words, on the path of every request.
        let hash = action.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        let size = (items.max(1.0).log2() as usize).min(SIZES - 1);
        &self.0[(hash as usize % ACTIONS) * SIZES + size]
    }

    /// The runtime of the last invocation like this one.
    #[must_use]
    pub fn get(&self, action: &str, items: f64) -> Option<usize> {
        let index = self.of(action, items).load(Ordering::Relaxed);
        (index != NOBODY).then_some(usize::from(index))
    }

    /// Remembers who got it.
    pub fn set(&self, action: &str, items: f64, runtime: usize) {
        let index = u8::try_from(runtime).unwrap_or(NOBODY);
        self.of(action, items).store(index, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_actions_are_told_apart() {
        let all = Incumbents::default();
        assert_eq!(all.get("infer", 5.0), None);
        all.set("infer", 5.0, 1);
        all.set("train", 5.0, 2);
        all.set("infer", 5e12, 3);
        assert_eq!(all.get("infer", 7.0), Some(1));
        assert_eq!(all.get("infer", 8.0), None);
        assert_eq!(all.get("train", 4.0), Some(2));
        assert_eq!(all.get("infer", f64::INFINITY), Some(3));
        assert_eq!(all.get("infer", f64::NAN), None);
        all.set("infer", 5.0, 300);
        assert_eq!(all.get("infer", 5.0), None);
    }
}
