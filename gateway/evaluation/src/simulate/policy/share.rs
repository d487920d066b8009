//! The cooperative run: an event at a time, with the gateway's own division of the items.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::Range;

use stoic_placement::Estimate;
use stoic_placement::cooperative::{Division, End as From, Side};

use super::alone::{End, again, first_of};
use super::scene::Scene;
use crate::simulate::outcome::Cloud;
use crate::simulate::world::travelled;

/// Seconds after which a side that found nothing to do asks again.
const ASK_AGAIN_S: f64 = 1.0;

#[derive(Debug, Clone, PartialEq)]
enum What {
    /// A side's pod is up.
    Up(usize),
    /// A side works its first item.
    Began(usize, u32),
    /// A side's chunk is over, if it is still at it.
    Over(usize, u32),
    /// A side's pod dies, if it is still at that chunk.
    Dies(usize, u32),
    /// Items have arrived in the cloud.
    Staged(Range<usize>),
    /// Idle sides ask again.
    Ask,
}

#[derive(Debug, Clone, PartialEq)]
struct Event {
    at: f64,
    order: u32,
    what: What,
}

impl Eq for Event {}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at
            .total_cmp(&other.at)
            .then(self.order.cmp(&other.order))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A chunk under way.
#[derive(Debug, Clone)]
struct Chunk {
    range: Range<usize>,
    /// Where the work on it ends: what lies behind has been done by another.
    end: usize,
    from_s: f64,
    first_item_s: f64,
}

/// A side at work.
#[derive(Debug)]
struct Worker {
    runtime: usize,
    up: bool,
    gone: bool,
    /// Given back before it was up, since another was first: it may be ordered again.
    returned: bool,
    begun: bool,
    chunk: Option<Chunk>,
    /// Counts chunks and their changes: events of older ones are void.
    epoch: u32,
    worked_s: f64,
    /// Seconds of work after which the pod dies.
    dies_after_s: f64,
}

struct Share<'s, 'a> {
    scene: &'s Scene<'a>,
    division: Division,
    workers: Vec<Worker>,
    events: BinaryHeap<Reverse<Event>>,
    order: u32,
    /// The side that items are staged for, and whether some are on their way.
    stages_for: usize,
    staging: bool,
    asked: bool,
    cloud: Cloud,
}

/// The edge and one of `clouds` share the batch: all of them are deployed, the first up is kept.
pub(super) fn share(scene: &Scene<'_>, estimates: &[Estimate], clouds: &[usize]) -> End {
    let edge = scene.stage.edge;
    let sides: Vec<usize> = std::iter::once(edge)
        .chain(clouds.iter().copied())
        .collect();
    let division = divide(scene, estimates, &sides);
    let workers = sides
        .iter()
        .map(|&runtime| {
            let draw = &scene.draws[runtime];
            Worker {
                runtime,
                up: false,
                gone: false,
                returned: false,
                begun: false,
                chunk: None,
                epoch: 0,
                worked_s: 0.0,
                dies_after_s: if draw.dies_at <= 1.0 {
                    draw.dies_at * draw.work_s(scene.items())
                } else {
                    f64::INFINITY
                },
            }
        })
        .collect();
    let mut share = Share {
        scene,
        division,
        workers,
        events: BinaryHeap::with_capacity(16),
        order: 0,
        stages_for: 1,
        staging: false,
        asked: false,
        cloud: Cloud::default(),
    };
    share.run(clouds)
}

/// The division as predicted.
fn divide(scene: &Scene<'_>, estimates: &[Estimate], sides: &[usize]) -> Division {
    let items = scene.items();
    let start = |runtime: usize| {
        let line = scene.processing(runtime).line();
        line.map_or(0.0, |line| line.intercept.max(0.0))
    };
    let side = |&runtime: &usize| {
        let estimate = &estimates[runtime];
        let edge = scene.is_edge(runtime);
        let start_s = start(runtime).min(estimate.processing.mean);
        Side {
            end: if edge { From::Front } else { From::Back },
            seconds_per_item: (estimate.processing.mean - start_s) / items,
            chunk_overhead_s: scene.stage.scenario.runtimes[runtime].chunk_overhead_s.0,
            transfer_s_per_item: if edge {
                0.0
            } else {
                estimate.transfer.mean / items
            },
            ready_at: estimate.queueing.mean + estimate.deployment.mean,
        }
    };
    let mut division = Division::new(scene.batch.items as usize, sides.iter().map(side).collect());
    for (index, &runtime) in sides.iter().enumerate() {
        division.starts(
            index,
            start(runtime).min(estimates[runtime].processing.mean),
        );
    }
    division
}

impl Share<'_, '_> {
    fn run(&mut self, clouds: &[usize]) -> End {
        let scene = self.scene;
        for index in 0..self.workers.len() {
            let runtime = self.workers[index].runtime;
            let draw = &scene.draws[runtime];
            if index == 0 {
                if draw.comes_up {
                    self.push(draw.up_s.max(scene.edge_wait_s), What::Up(0));
                } else {
                    self.gone(0, 0.0);
                }
            } else if !draw.comes_up {
                self.workers[index].gone = true;
                self.cloud.deploying_s += draw.up_s * f64::from(scene.units(runtime));
            }
        }
        let first = first_of(scene, clouds);
        if let Some(first) = first {
            let index = 1 + clouds.iter().position(|c| *c == first).unwrap_or(0);
            self.push(scene.draws[first].up_s, What::Up(index));
        }
        self.stage(0.0);
        let mut now = 0.0;
        let mut edge_from = None;
        while !self.division.complete() {
            let Some(Reverse(event)) = self.events.pop() else {
                break;
            };
            now = event.at;
            if event.what == What::Up(0) {
                edge_from = Some(now);
            }
            self.take(event.what, now);
            self.give(now);
        }
        let ok = self.division.complete();
        for index in 0..self.workers.len() {
            self.close(index, now, first);
        }
        let edge = edge_from.map(|from| (from, now));
        let mut end = End {
            end_s: now,
            ok,
            cloud: self.cloud,
            edge,
        };
        if !ok {
            // Everybody is gone: the batch is placed again as a whole.
            let gone = || self.workers.iter().filter(|worker| !worker.returned);
            let mut failed: Vec<usize> = gone().map(|worker| worker.runtime).collect();
            let late = failed
                .iter()
                .map(|r| scene.draws[*r].up_s)
                .fold(now, f64::max);
            let next = again(scene, late, &mut failed);
            let mut cloud = end.cloud;
            cloud.add(&next.cloud);
            end = End {
                cloud,
                edge: next.edge.or(end.edge),
                ..next
            };
        }
        end
    }

    fn push(&mut self, at: f64, what: What) {
        self.order += 1;
        let order = self.order;
        self.events.push(Reverse(Event { at, order, what }));
    }

    fn take(&mut self, what: What, now: f64) {
        match what {
            What::Up(index) => {
                self.workers[index].up = true;
                self.division.expect(index, now);
                if index > 0 {
                    // The others are returned.
                    for other in 1..self.workers.len() {
                        if other != index && !self.workers[other].gone {
                            self.workers[other].gone = true;
                            self.workers[other].returned = true;
                            let runtime = self.workers[other].runtime;
                            let units = f64::from(self.scene.units(runtime));
                            self.cloud.deploying_s += now * units;
                        }
                        if other != index {
                            self.division.lost(other, now);
                        }
                    }
                    self.stages_for = index;
                }
            }
            What::Began(index, epoch) => {
                if self.workers[index].epoch == epoch {
                    self.workers[index].begun = true;
                    self.division.began(index, now);
                }
            }
            What::Over(index, epoch) => {
                if self.workers[index].epoch == epoch {
                    self.over(index, now);
                }
            }
            What::Dies(index, epoch) => {
                if self.workers[index].epoch == epoch {
                    self.gone(index, now);
                }
            }
            What::Staged(range) => {
                self.staging = false;
                for index in 1..self.workers.len() {
                    self.division.staged_up_to(index, &range);
                }
            }
            What::Ask => self.asked = false,
        }
    }

    /// A side's pod is no more.
    fn gone(&mut self, index: usize, now: f64) {
        let worker = &mut self.workers[index];
        worker.gone = true;
        worker.up = false;
        worker.epoch += 1;
        if let Some(chunk) = worker.chunk.take() {
            let lost = (now - chunk.from_s).max(0.0);
            let runtime = worker.runtime;
            self.spent(runtime, 0.0, lost);
        }
        self.division.lost(index, now);
    }

    fn over(&mut self, index: usize, now: f64) {
        let worker = &mut self.workers[index];
        worker.epoch += 1;
        let Some(chunk) = worker.chunk.take() else {
            return;
        };
        worker.worked_s += now - chunk.from_s;
        let runtime = worker.runtime;
        let counted = self.division.done(index, chunk.range.start..chunk.end, now);
        let counted: usize = counted.iter().map(Range::len).sum();
        if chunk.end < chunk.range.end {
            self.division.failed(index, chunk.range.clone(), now);
        }
        let took = (now - chunk.from_s).max(0.0);
        let share = counted as f64 / chunk.range.len().max(1) as f64;
        self.spent(runtime, took * share, took * (1.0 - share));
        // What others hold of it need not be worked to its end.
        for other in 0..self.workers.len() {
            self.shorten(other, now);
        }
    }

    /// Ends a side's chunk where what is left of it has been done by another.
    fn shorten(&mut self, index: usize, now: f64) {
        let worker = &mut self.workers[index];
        let Some(chunk) = &mut worker.chunk else {
            return;
        };
        let per_item = self.scene.draws[worker.runtime].per_item_s;
        match self.division.open_end(&chunk.range) {
            Some(end) if end >= chunk.end => {}
            Some(end) => {
                chunk.end = end;
                let items = (end - chunk.range.start) as f64;
                let at = (chunk.first_item_s + items * per_item).max(now);
                worker.epoch += 1;
                let epoch = worker.epoch;
                self.push(at, What::Over(index, epoch));
            }
            None => {
                let (range, from_s, runtime) = (chunk.range.clone(), chunk.from_s, worker.runtime);
                worker.chunk = None;
                worker.epoch += 1;
                self.division.failed(index, range, now);
                self.spent(runtime, 0.0, (now - from_s).max(0.0));
            }
        }
    }

    fn spent(&mut self, runtime: usize, used_s: f64, lost_s: f64) {
        if !self.scene.is_edge(runtime) {
            let units = f64::from(self.scene.units(runtime));
            self.cloud.used_s += used_s * units;
            self.cloud.lost_s += lost_s * units;
        }
    }

    /// Gives every idle side its next chunk.
    fn give(&mut self, now: f64) {
        self.stage(now);
        let mut idle = false;
        for index in 0..self.workers.len() {
            let worker = &self.workers[index];
            if !worker.up || worker.gone || worker.chunk.is_some() {
                continue;
            }
            if self.division.unclaimed() == 0 {
                self.report(now);
            }
            match self.division.claim(index, now) {
                Some(range) => self.begin(index, range, now),
                None => idle = true,
            }
        }
        if idle && !self.asked && !self.division.complete() {
            self.asked = true;
            self.push(now + ASK_AGAIN_S, What::Ask);
        }
    }

    /// Progress lines of every side.
    fn report(&mut self, now: f64) {
        for (index, worker) in self.workers.iter().enumerate() {
            if let Some(chunk) = &worker.chunk {
                let per_item = self.scene.draws[worker.runtime].per_item_s;
                let done = ((now - chunk.first_item_s) / per_item).max(0.0) as usize;
                if done > 0 {
                    let done = done.min(chunk.range.len());
                    let at = chunk.first_item_s + done as f64 * per_item;
                    self.division.progress(index, done, at);
                }
            }
        }
    }

    fn begin(&mut self, index: usize, range: Range<usize>, now: f64) {
        let scene = self.scene;
        let unstaged = self.division.unstaged(index, &range);
        let worker = &mut self.workers[index];
        let draw = &scene.draws[worker.runtime];
        let edge = index == 0;
        let travel_s = if edge {
            0.0
        } else {
            let link = &scene.stage.scenario.link;
            let seconds = unstaged as f64 * scene.batch.travel_s;
            travelled(&link.outages, scene.batch.at + now, seconds)
        };
        let overhead_s = scene.stage.scenario.runtimes[worker.runtime]
            .chunk_overhead_s
            .0;
        let start_s = if worker.begun { 0.0 } else { draw.start_s };
        let first_item_s = now + travel_s + overhead_s + start_s;
        let mut over_s = first_item_s + range.len() as f64 * draw.per_item_s;
        if !edge {
            over_s = scene.answered(over_s);
        }
        worker.epoch += 1;
        let epoch = worker.epoch;
        let dies_s = now + travel_s + (worker.dies_after_s - worker.worked_s).max(0.0);
        let begun = worker.begun;
        worker.chunk = Some(Chunk {
            end: range.end,
            range,
            from_s: now,
            first_item_s,
        });
        if dies_s < over_s {
            self.push(dies_s, What::Dies(index, epoch));
            return;
        }
        if !begun {
            self.push(first_item_s, What::Began(index, epoch));
        }
        self.push(over_s, What::Over(index, epoch));
    }

    /// Sends the next items to the cloud.
    fn stage(&mut self, now: f64) {
        if self.staging || self.workers.len() < 2 || self.workers[self.stages_for].gone {
            return;
        }
        if let Some(range) = self.division.stage(self.stages_for, now) {
            self.staging = true;
            let link = &self.scene.stage.scenario.link;
            let seconds = range.len() as f64 * self.scene.batch.travel_s;
            let at = self.scene.batch.at + now;
            let arrived = now + travelled(&link.outages, at, seconds + link.rtt_s.0);
            self.push(arrived, What::Staged(range));
        }
    }

    /// Ends what a side is at when the batch is complete, and counts its deployment.
    fn close(&mut self, index: usize, now: f64, first: Option<usize>) {
        let worker = &mut self.workers[index];
        let runtime = worker.runtime;
        if let Some(chunk) = worker.chunk.take() {
            self.spent(runtime, 0.0, (now - chunk.from_s).max(0.0));
        }
        let worker = &self.workers[index];
        if index == 0 || !self.scene.draws[runtime].comes_up {
            return;
        }
        let units = f64::from(self.scene.units(runtime));
        let up_s = self.scene.draws[runtime].up_s;
        // The kept one was awaited until it was up; those returned were counted then.
        if Some(runtime) == first || !worker.gone {
            self.cloud.deploying_s += up_s.min(now) * units;
        }
    }
}
