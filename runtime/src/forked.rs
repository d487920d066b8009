//! libtorch in a process that is going to be forked, and in what was forked from it.
//!
//! Its pool of threads does not survive a fork, and once it exists a forked process hangs in it. So a
//! function that is loaded to be forked computes on the loading thread alone, whatever its places say;
//! the forked process then takes as many threads as it is given, and a random seed of its own.

use crate::Placement;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether this process computes on one thread, to be forked.
static ALONE: AtomicBool = AtomicBool::new(false);

/// From now on this process computes on the calling thread alone.
pub(crate) fn compute_alone() {
    ALONE.store(true, Ordering::Relaxed);
    tch::set_num_threads(1);
}

/// The threads to compute with, where so many are asked for.
pub(crate) fn allowed(threads: usize) -> usize {
    if ALONE.load(Ordering::Relaxed) {
        1
    } else {
        threads.max(1)
    }
}

/// What a function on libtorch does when [it was forked](stoic_sdk::Function::forked): threads as its
/// placement has them, random numbers of its own.
pub fn forked(placement: &Placement, seed: u64) {
    ALONE.store(false, Ordering::Relaxed);
    crate::workers::set_threads(placement.first().threads);
    tch::manual_seed(i64::from_ne_bytes(seed.to_ne_bytes()));
}
