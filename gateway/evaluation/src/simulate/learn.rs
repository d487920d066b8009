//! What the histories have learned when each batch arrives, by our estimators and by the paper's.
//!
//! All policies share one memory: as in the paper's evaluation each batch that is learned from runs on every runtime, and
//! the inquisitor's probes tell deployments in between. Of a long simulation only so many batches are learned from
//! ([`super::Learning`]); each history belongs to one thread.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use stoic_placement::availability::{Action, Event, ProbeConfig, Watch};
use stoic_placement::{
    DeploymentHistory, DeploymentModel, Part, ProcessingConfig, ProcessingHistory, ProcessingModel,
    paper,
};

use super::scenario::Scenario;
use super::world::{World, deploy, regime};

/// What is known of one runtime.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) deployment: Option<DeploymentModel>,
    pub(super) processing: ProcessingModel,
    /// The paper's method, fitted on the same measurements.
    pub(super) paper_deployment: Part,
    pub(super) paper_processing: paper::Processing,
}

/// What is known over the whole simulation.
#[derive(Debug)]
pub(super) struct Memory {
    /// By runtime, then by lesson.
    known: Vec<Vec<Known>>,
    /// By runtime: the seconds from which it is unavailable, and until when.
    unavailable: Vec<Vec<(f64, f64)>>,
    /// Batches between two lessons.
    every: usize,
}

/// What is known before each lesson, and when the runtime was unavailable.
type Life = (Vec<Known>, Vec<(f64, f64)>);

impl Memory {
    /// Lets every history live through the simulation.
    pub(super) fn new(scenario: &Scenario, world: &World, seed: u64) -> Self {
        let count = world.batches.len();
        let every = count.div_ceil(scenario.learning.batches.max(1)).max(1);
        let lives: Vec<Life> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..scenario.runtimes.len())
                .map(|runtime| scope.spawn(move || live(scenario, world, runtime, every, seed)))
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        let (known, unavailable) = lives.into_iter().unzip();
        Self {
            known,
            unavailable,
            every,
        }
    }

    /// What is known of a runtime when a batch arrives.
    pub(super) fn known(&self, runtime: usize, batch: usize) -> &Known {
        &self.known[runtime][batch / self.every]
    }

    /// Whether work may be placed on a runtime at a moment.
    pub(super) fn available(&self, runtime: usize, at: f64) -> bool {
        let spans = &self.unavailable[runtime];
        let after = spans.partition_point(|span| span.0 <= at);
        after == 0 || spans[after - 1].1 <= at
    }

    /// Batches learned from.
    pub(super) fn lessons(&self) -> usize {
        self.known.first().map_or(0, Vec::len)
    }
}

/// Lets one runtime's histories live through the simulation.
fn live(scenario: &Scenario, world: &World, index: usize, every: usize, seed: u64) -> Life {
    let runtime = &scenario.runtimes[index];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::MAX - index as u64);
    let mut deployment = DeploymentHistory::default();
    let mut processing = ProcessingHistory::new(ProcessingConfig::default(), seed);
    let mut paper_deployment = paper::Deployment::new();
    let mut paper_processing = paper::Processing::new(seed);
    // Bootstrap: the authors' two batches, as every new version runs them.
    for items in [33.0, 10.0] {
        let seconds = runtime.processing.start_s.0 + runtime.processing.per_item_s.0 * items;
        processing.push(items, seconds);
        paper_processing.push(items, seconds);
    }
    let mut probing = Probing::new(scenario, index);
    let mut lessons = Vec::with_capacity(world.batches.len().div_ceil(every));
    for (number, batch) in world.batches.iter().enumerate() {
        let lesson = number % every == 0;
        let probes = if lesson {
            scenario.learning.probes.max(1)
        } else {
            0
        };
        for seconds in probing.until(batch.at, probes, &mut rng) {
            deployment.push(seconds);
            paper_deployment.push(seconds);
        }
        if !lesson {
            continue;
        }
        lessons.push(Known {
            deployment: runtime.deployment.as_ref().map(|_| deployment.fit()),
            processing: processing.fit(),
            paper_deployment: match &runtime.deployment {
                Some(_) => paper_deployment.predict(),
                None => Part::ZERO,
            },
            paper_processing: paper_processing.clone(),
        });
        let draw = world.draws(number)[index];
        if draw.comes_up && runtime.deployment.is_some() {
            deployment.push(draw.up_s);
            paper_deployment.push(draw.up_s);
        }
        if draw.comes_up && draw.dies_at > 1.0 {
            let seconds = draw.work_s(f64::from(batch.items));
            processing.push(f64::from(batch.items), seconds);
            paper_processing.push(f64::from(batch.items), seconds);
        }
    }
    (lessons, probing.unavailable)
}

/// The inquisitor over one runtime: the gateway's own state machine on simulated time.
struct Probing<'a> {
    scenario: &'a Scenario,
    index: usize,
    watch: Watch,
    now: f64,
    unavailable: Vec<(f64, f64)>,
    was_available: bool,
}

impl<'a> Probing<'a> {
    fn new(scenario: &'a Scenario, index: usize) -> Self {
        let config = ProbeConfig {
            every_s: scenario.inquisitor.every_s.0,
            timeout_s: scenario.inquisitor.timeout_s.0,
            seconds_per_day: 86_400.0,
            ..ProbeConfig::default()
        };
        Self {
            scenario,
            index,
            watch: Watch::new(config),
            now: 0.0,
            unavailable: Vec::new(),
            was_available: true,
        }
    }

    /// Probes until `end`; returns the newest `keep` deployment times.
    fn until(&mut self, end: f64, keep: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let runtime = &self.scenario.runtimes[self.index];
        let mut newest: Vec<f64> = Vec::new();
        if runtime.deployment.is_none() {
            return newest;
        }
        while let Some(next) = self.watch.next_tick(self.now).filter(|next| *next < end) {
            self.now = next;
            if self.watch.on(Event::Tick, next) != Action::StartProbe {
                continue;
            }
            let timeout = self.scenario.inquisitor.timeout_s.0;
            let (seconds, up) = deploy(runtime, next, regime(runtime, next).1, timeout, rng);
            self.now = next + seconds;
            let event = if up {
                newest.push(seconds);
                Event::ProbeUp { seconds }
            } else {
                Event::Tick
            };
            self.watch.on(event, self.now);
            self.note();
        }
        newest.split_off(newest.len().saturating_sub(keep))
    }

    fn note(&mut self) {
        let available = self.watch.available();
        match (self.was_available, available) {
            (true, false) => self.unavailable.push((self.now, f64::INFINITY)),
            (false, true) => {
                if let Some(span) = self.unavailable.last_mut() {
                    span.1 = self.now;
                }
            }
            (true, true) | (false, false) => {}
        }
        self.was_available = available;
    }
}
