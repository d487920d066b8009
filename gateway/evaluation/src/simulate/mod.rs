//! The simulator: batches arrive, policies place them with the gateway's own code, and each is held against the
//! oracles (paper, section 4; the issue's aims).
//!
//! Seeded and event-driven: a batch's arrival, a pod that is up, a chunk that is over, items that have arrived, a pod
//! that dies. Nothing here is measured: it says what the placement's decisions are worth where everything is known, on
//! a scenario that says what links and runtimes are like. The histories learn from simulated runs, the predictions are
//! the real estimators', the decisions those of `choose`, `hedge`, `duplicator`, `cooperative` and `modes`.
//!
//! | room | what |
//! |---|---|
//! | `scenario`, `units`, `nautilus.toml` | the file, checked as it is read |
//! | `world` | what happens to be the case: the same draws for every policy |
//! | `learn` | what is known when a batch arrives |
//! | `policy` | who decides what: `alone`, `race` (duplicator), `share` (cooperative) |
//! | `outcome` | rows with confidence intervals |
//! | `log` | the same batches as a log of runs, for tables of predictions |
//!
//! What is simplified: a package travels while a pod is awaited, for every policy and the oracles alike; a cloud has as
//! many pods as are asked for; policies share one memory ([`Learning`]); the transfer is predicted by the link's mean.
//!
//! ```
//! use stoic_evaluation::simulate::{Scenario, run};
//!
//! let outcome = run(&Scenario::nautilus(), 200, 7);
//! let row = outcome.policies.iter().find(|row| row.policy == "selector").unwrap();
//! assert!(row.versus_min_lat.value >= 1.0);
//! ```

mod learn;
mod log;
mod outcome;
mod policy;
mod scenario;
mod units;
mod world;

pub use log::log;
pub use outcome::{Bound, Outcome, Row};
pub use scenario::{
    Arrivals, Deployment, Inquisitor, Learning, Link, Processing, Regime, Runtime, Scenario,
    ScenarioError, SizeSource, Trap, Workload,
};
pub use units::{Count, Factor, Name, Positive, Quantiles, Seconds, Share, Window};

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use learn::Memory;
use outcome::Ended;
use policy::Policy;
use stoic_placement::Account;
use stoic_placement::cooperative::{Course, finish};
use world::World;

/// Simulates so many batches. Equal scenarios, counts and seeds give equal outcomes.
#[must_use]
pub fn run(scenario: &Scenario, batches: usize, seed: u64) -> Outcome {
    run_telling(scenario, batches, seed, &|_, _| {})
}

/// As [`run`], and tells after each step how many of how many are done (from any thread).
#[must_use]
pub fn run_telling(
    scenario: &Scenario,
    batches: usize,
    seed: u64,
    told: &(dyn Fn(usize, usize) + Sync),
) -> Outcome {
    let batches = batches.max(1);
    let world = World::new(scenario, batches, seed);
    let memory = Memory::new(scenario, &world, seed);
    let policies = Policy::all(scenario);
    let steps = policies.len() + 1;
    told(1, steps);
    let lives = live(scenario, &world, &memory, &policies, &|done| {
        told(done + 1, steps)
    });
    let min_lat: Vec<f64> = lives[0].0.iter().map(|e| e.response_s).collect();
    let min_lat_s: f64 = min_lat.iter().sum();
    Outcome {
        scenario: scenario.name.clone(),
        seed,
        batches,
        items: world.batches.iter().map(|b| u64::from(b.items)).sum(),
        learned: memory.lessons(),
        min_lat_s,
        fluid: bounds(scenario, &world, min_lat_s),
        policies: policies
            .iter()
            .zip(lives)
            .map(|(policy, (ended, account))| {
                Row::of(&policy.name(scenario), &ended, &min_lat, account, seed)
            })
            .collect(),
    }
}

type Life = (Vec<Ended>, Account);

/// Every policy's life, on as many threads as there are cores.
fn live(
    scenario: &Scenario,
    world: &World,
    memory: &Memory,
    policies: &[Policy],
    told: &(dyn Fn(usize) + Sync),
) -> Vec<Life> {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let lives: Vec<Mutex<Life>> = policies.iter().map(|_| Mutex::default()).collect();
    let work = || {
        loop {
            // The last ones take longest.
            let taken = next.fetch_add(1, Ordering::Relaxed);
            let Some(index) = policies.len().checked_sub(taken + 1) else {
                return;
            };
            let life = policies[index].live(scenario, world, memory);
            *lives[index]
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()) = life;
            told(1 + done.fetch_add(1, Ordering::Relaxed));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 1..threads.min(policies.len()) {
            scope.spawn(work);
        }
        work();
    });
    lives
        .into_iter()
        .map(|life| {
            life.into_inner()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
        })
        .collect()
}

/// What no division of the items could beat: of the edge with each cloud runtime (the best for each batch), and of all
/// places together.
fn bounds(scenario: &Scenario, world: &World, min_lat_s: f64) -> Vec<Bound> {
    let edge = scenario.edge();
    let (mut pair, mut all) = (0.0, 0.0);
    for (number, batch) in world.batches.iter().enumerate() {
        let items = f64::from(batch.items);
        let courses: Vec<Course> = world
            .draws(number)
            .iter()
            .enumerate()
            .map(|(runtime, draw)| Course {
                ready_s: if draw.comes_up {
                    draw.up_s + draw.start_s
                } else {
                    1e12
                },
                seconds_per_item: draw.per_item_s,
                transfer_s_per_item: if runtime == edge { 0.0 } else { batch.travel_s },
            })
            .collect();
        let best = (0..courses.len())
            .filter(|&r| r != edge)
            .map(|r| finish(items, &[courses[edge], courses[r]]))
            .fold(f64::INFINITY, f64::min);
        pair += best;
        all += finish(items, &courses);
    }
    let bound = |places: &str, total_s: f64| Bound {
        places: places.to_owned(),
        total_s,
        versus_min_lat: if min_lat_s > 0.0 {
            total_s / min_lat_s
        } else {
            1.0
        },
    };
    vec![
        bound("the edge and the best cloud runtime for each batch", pair),
        bound("all places together", all),
    ]
}
