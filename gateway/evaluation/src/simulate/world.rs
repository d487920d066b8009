//! What happens to be the case in a simulation: batches, and for each of them what every runtime and the link would
//! take. It is drawn once, from the seed and the number of the batch alone, so that all policies meet the very same
//! draws (common random numbers). Policies may not read it before the event; the oracle may.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::scenario::{Arrivals, Runtime, Scenario};
use super::units::{Window, after};

/// Tries of a deployment before it is given up, and the first pause between two (paper, section 3.7).
const TRIES: u32 = 10;
const FIRST_PAUSE_S: f64 = 0.1;

/// What one runtime would do with one batch. All times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Draw {
    /// From the order, at the batch's arrival, until the pod is up or the deployment is given up.
    pub(super) up_s: f64,
    /// Whether it comes up at all.
    pub(super) comes_up: bool,
    /// Work before the first item.
    pub(super) start_s: f64,
    /// Work per item.
    pub(super) per_item_s: f64,
    /// The share of the whole batch's work after which the pod dies; above one, it does not.
    pub(super) dies_at: f64,
}

impl Draw {
    /// T_p of so many items.
    pub(super) fn work_s(&self, items: f64) -> f64 {
        self.start_s + self.per_item_s * items
    }
}

/// A batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Batch {
    /// Arrival, seconds from the start of the simulation.
    pub(super) at: f64,
    /// Items.
    pub(super) items: u32,
    /// Seconds that an item travels to the cloud.
    pub(super) travel_s: f64,
}

/// All batches and draws.
#[derive(Debug)]
pub(super) struct World {
    pub(super) batches: Vec<Batch>,
    /// By batch and runtime.
    draws: Vec<Draw>,
    runtimes: usize,
}

impl World {
    pub(super) fn new(scenario: &Scenario, count: usize, seed: u64) -> Self {
        let runtimes = scenario.runtimes.len();
        let sizes = scenario.sizes();
        let mut batches = Vec::with_capacity(count);
        let mut draws = Vec::with_capacity(count * runtimes);
        let mut at = 0.0;
        for number in 0..count {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(number as u64);
            let apart = match scenario.workload.arrivals {
                Arrivals::Periodic => scenario.workload.every_s.0,
                Arrivals::Poisson => {
                    -(1.0 - rng.random::<f64>()).ln() * scenario.workload.every_s.0
                }
            };
            at += apart;
            let link = &scenario.link;
            let batch = Batch {
                at,
                items: sizes.draw(&mut rng).max(1),
                travel_s: link.bytes_per_item.0 / link.bytes_per_s.0
                    * (link.noise.0 * normal(&mut rng)).exp(),
            };
            for runtime in &scenario.runtimes {
                draws.push(draw(runtime, at, scenario.inquisitor.timeout_s.0, &mut rng));
            }
            batches.push(batch);
        }
        Self {
            batches,
            draws,
            runtimes,
        }
    }

    /// What every runtime would do with a batch.
    pub(super) fn draws(&self, number: usize) -> &[Draw] {
        &self.draws[number * self.runtimes..(number + 1) * self.runtimes]
    }
}

/// Draws what a runtime does with a batch that arrives at `at`. Takes the same number of random values whatever it is.
fn draw(runtime: &Runtime, at: f64, timeout_s: f64, rng: &mut ChaCha8Rng) -> Draw {
    let processing = &runtime.processing;
    let (slower, later) = regime(runtime, at);
    let noise = (processing.noise.0 * normal(rng)).exp();
    let slow = if rng.random::<f64>() < processing.slow_chance.0 {
        processing.slow_factor.0
    } else {
        1.0
    };
    let pace = noise * slow * slower;
    let (up_s, comes_up) = deploy(runtime, at, later, timeout_s, rng);
    let (dies, when) = (rng.random::<f64>(), rng.random::<f64>());
    Draw {
        up_s,
        comes_up,
        start_s: processing.start_s.0 * pace,
        per_item_s: processing.per_item_s.0 * pace,
        dies_at: if dies < runtime.dies.0 { when } else { 2.0 },
    }
}

/// By how much processing and deployment are slower at a moment.
pub(super) fn regime(runtime: &Runtime, at: f64) -> (f64, f64) {
    runtime
        .regimes
        .iter()
        .rev()
        .find(|r| r.from_s.0 <= at)
        .map_or((1.0, 1.0), |r| (r.processing.0, r.deployment.0))
}

/// Draws a deployment that is ordered at `at`: how long it takes or until it is given up, and which of the two.
pub(super) fn deploy(
    runtime: &Runtime,
    at: f64,
    later: f64,
    timeout_s: f64,
    rng: &mut ChaCha8Rng,
) -> (f64, bool) {
    let Some(deployment) = &runtime.deployment else {
        // The standby is away while the runtime is out.
        let _: f64 = rng.random();
        let wait = after(&runtime.outages, at) - at;
        return (wait.min(timeout_s), wait <= timeout_s);
    };
    let takes = deployment.quantiles.at(rng.random::<f64>()) * later;
    let mut spent = 0.0;
    if deployment.fails.0 > 0.0 {
        let mut pause = FIRST_PAUSE_S;
        for attempt in 1..=TRIES {
            if rng.random::<f64>() >= deployment.fails.0 {
                break;
            }
            spent += takes / 2.0;
            if attempt == TRIES {
                return (spent.min(timeout_s), false);
            }
            spent += pause;
            pause *= 2.0;
        }
    }
    // What begins in an outage comes up after it.
    let up = after(&runtime.outages, at + spent) - at + takes;
    (up.min(timeout_s), up <= timeout_s)
}

/// Seconds until `seconds` of moving, begun at `at`, are over: nothing moves in an outage.
pub(super) fn travelled(outages: &[Window], at: f64, seconds: f64) -> f64 {
    if outages.is_empty() {
        return seconds;
    }
    let (mut now, mut left) = (at, seconds);
    loop {
        now = after(outages, now);
        let next = outages
            .iter()
            .map(|w| w.from_s)
            .filter(|from| *from > now)
            .fold(f64::INFINITY, f64::min);
        if now + left <= next {
            return now + left - at;
        }
        left -= next - now;
        now = next;
    }
}

/// A standard normal value (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_draw_equal_worlds_and_more_batches_change_none_before() {
        let scenario = Scenario::nautilus();
        let (a, b) = (World::new(&scenario, 200, 4), World::new(&scenario, 300, 4));
        assert_eq!(a.batches, b.batches[..200]);
        assert_eq!(a.draws, b.draws[..800]);
        assert_ne!(a.batches, World::new(&scenario, 200, 5).batches);
    }

    #[test]
    fn the_draws_are_as_the_scenario_says() {
        let scenario = Scenario::nautilus();
        let world = World::new(&scenario, 4000, 1);
        let gpu1 = |n: usize| world.draws(n)[2];
        let mut up: Vec<f64> = (0..4000).map(|n| gpu1(n).up_s).collect();
        up.sort_by(f64::total_cmp);
        assert!((up[2000] - 25.0).abs() < 1.0 && (up[3600] - 45.0).abs() < 2.0);
        let mean = (0..4000).map(|n| gpu1(n).per_item_s).sum::<f64>() / 4000.0;
        assert!((mean - 0.3272 * 1.021).abs() < 0.01, "{mean}");
        assert!((0..4000).all(|n| world.draws(n)[0].up_s == 0.0));
    }

    #[test]
    fn nothing_moves_in_an_outage() {
        let outages = [
            Window {
                from_s: 10.0,
                to_s: 30.0,
            },
            Window {
                from_s: 40.0,
                to_s: 41.0,
            },
        ];
        assert_eq!(travelled(&outages, 0.0, 5.0), 5.0);
        assert_eq!(travelled(&outages, 5.0, 10.0), 30.0);
        assert_eq!(travelled(&outages, 15.0, 12.0), 28.0);
        assert_eq!(travelled(&[], 15.0, 12.0), 12.0);
    }
}
