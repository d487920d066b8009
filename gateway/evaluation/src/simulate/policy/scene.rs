//! One batch as a policy meets it: what is predicted, and what then happens on a runtime. Seconds count from the
//! batch's arrival.

use std::collections::VecDeque;

use stoic_placement::{Estimate, Features, LinkModel, Load, Part, PoolInput, ProcessingModel};

use crate::simulate::learn::Memory;
use crate::simulate::scenario::Scenario;
use crate::simulate::units::after;
use crate::simulate::world::{Batch, Draw, World, travelled};

/// What every policy is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) world: &'a World,
    pub(super) memory: &'a Memory,
    pub(super) edge: usize,
    pub(super) link: LinkModel,
}

/// The edge's line, under one policy.
#[derive(Debug, Clone, Default)]
pub(super) struct Edge {
    /// Begin, predicted seconds and end of what runs or waits; in order, absolute seconds.
    work: VecDeque<(f64, f64, f64)>,
}

impl Edge {
    /// Seconds from `at` until the edge is free.
    pub(super) fn wait(&mut self, at: f64) -> f64 {
        while self.work.front().is_some_and(|work| work.2 <= at) {
            self.work.pop_front();
        }
        self.work.back().map_or(0.0, |work| (work.2 - at).max(0.0))
    }

    /// Takes in that a batch held the edge from and to, absolute seconds.
    pub(super) fn held(&mut self, from: f64, predicted_s: f64, to: f64) {
        if to > from {
            self.work.push_back((from, predicted_s, to));
        }
    }
}

/// A run on one runtime.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Run {
    /// When the pod is up, or the deployment given up.
    pub(super) up_s: f64,
    /// When the work begins.
    pub(super) begin_s: f64,
    /// When it ends, well or not.
    pub(super) end_s: f64,
    /// Whether it ends with an answer.
    pub(super) ok: bool,
}

/// A batch before a policy.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) stage: Stage<'a>,
    pub(super) number: usize,
    pub(super) batch: Batch,
    pub(super) draws: &'a [Draw],
    /// Seconds until the edge is free, as it will turn out.
    pub(super) edge_wait_s: f64,
    /// What runs at the edge, predicted and elapsed seconds, and what waits there.
    running: Vec<(f64, f64)>,
    waiting: Vec<f64>,
    /// Seconds until the whole package is in the cloud.
    pub(super) arrived_s: f64,
}

impl<'a> Scene<'a> {
    pub(super) fn new(stage: Stage<'a>, number: usize, edge: &mut Edge) -> Self {
        let batch = stage.world.batches[number];
        let edge_wait_s = edge.wait(batch.at);
        let (mut running, mut waiting) = (Vec::new(), Vec::new());
        for &(from, predicted, _) in &edge.work {
            if from <= batch.at {
                running.push((predicted, batch.at - from));
            } else {
                waiting.push(predicted);
            }
        }
        let link = &stage.scenario.link;
        let moving = 2.0 * link.rtt_s.0 + batch.travel_s * f64::from(batch.items);
        Self {
            stage,
            number,
            batch,
            draws: stage.world.draws(number),
            edge_wait_s,
            running,
            waiting,
            arrived_s: travelled(&link.outages, batch.at, moving),
        }
    }

    pub(super) fn items(&self) -> f64 {
        f64::from(self.batch.items)
    }

    pub(super) fn is_edge(&self, runtime: usize) -> bool {
        runtime == self.stage.edge
    }

    pub(super) fn units(&self, runtime: usize) -> u32 {
        self.stage.scenario.runtimes[runtime].units.0
    }

    pub(super) fn name(&self, runtime: usize) -> &'a str {
        &self.stage.scenario.runtimes[runtime].name.0
    }

    pub(super) fn count(&self) -> usize {
        self.draws.len()
    }

    /// Whether the inquisitor counts on a runtime now.
    pub(super) fn available(&self, runtime: usize) -> bool {
        self.stage.memory.available(runtime, self.batch.at)
    }

    /// The model of what a batch takes on a runtime.
    pub(super) fn processing(&self, runtime: usize) -> &'a ProcessingModel {
        &self.stage.memory.known(runtime, self.number).processing
    }

    /// T_p of the whole batch on a runtime, as predicted.
    pub(super) fn predicted(&self, runtime: usize) -> Part {
        self.processing(runtime).predict(self.items())
    }

    pub(super) fn features(&self) -> Features {
        let bytes = self.stage.scenario.link.bytes_per_item.0;
        Features::new(self.items(), self.items() * bytes)
    }

    /// A runtime as the gateway would see its pool.
    pub(super) fn pool(&self, runtime: usize) -> PoolInput<'_> {
        let known = self.stage.memory.known(runtime, self.number);
        let edge = self.is_edge(runtime);
        let standby = known.deployment.is_none();
        PoolInput {
            runtime: self.name(runtime),
            available: self.available(runtime),
            load: Load {
                free: usize::from(if edge {
                    self.running.is_empty()
                } else {
                    standby
                }),
                places: usize::from(standby),
                running: if edge { &self.running } else { &[] },
                waiting: if edge { &self.waiting } else { &[] },
                deploying_s: None,
                may_grow: !standby,
            },
            link: if edge {
                &LinkModel::LOCAL
            } else {
                &self.stage.link
            },
            deployment: known.deployment.as_ref(),
            processing: Some(&known.processing),
        }
    }

    /// Every runtime's estimate.
    pub(super) fn estimates(&self) -> Vec<Estimate> {
        let features = self.features();
        (0..self.count())
            .map(|runtime| self.pool(runtime).estimate(&features).estimate)
            .collect()
    }

    /// What happens when a runtime is given the whole batch at `from_s`.
    pub(super) fn run(&self, runtime: usize, from_s: f64) -> Run {
        let draw = &self.draws[runtime];
        let edge = self.is_edge(runtime);
        let up_s = from_s + draw.up_s;
        let begin_s = if edge {
            up_s.max(self.edge_wait_s)
        } else {
            // The package travels from the beginning, whoever will work it.
            up_s.max(self.arrived_s)
        };
        let work_s = draw.work_s(self.items()) * draw.dies_at.min(1.0);
        let end_s = if edge {
            begin_s + work_s
        } else {
            self.answered(begin_s + work_s)
        };
        if draw.comes_up {
            Run {
                up_s,
                begin_s,
                end_s,
                ok: draw.dies_at > 1.0,
            }
        } else {
            Run {
                up_s,
                begin_s: up_s,
                end_s: up_s,
                ok: false,
            }
        }
    }

    /// When an answer that is ready in the cloud at `end_s` is at the edge.
    pub(super) fn answered(&self, end_s: f64) -> f64 {
        let at = self.batch.at;
        after(&self.stage.scenario.link.outages, at + end_s) - at
    }

    /// The fastest of some runtimes with hindsight, and when it answers; `None` when none does.
    pub(super) fn fastest(&self, among: impl Iterator<Item = usize>) -> Option<(usize, f64)> {
        among
            .map(|runtime| (runtime, self.run(runtime, 0.0)))
            .filter(|(_, run)| run.ok)
            .map(|(runtime, run)| (runtime, run.end_s))
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }
}
