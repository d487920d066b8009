//! Policies that give the whole batch to one runtime, and what they do when it fails: it is placed again, without the
//! runtimes that failed.

use stoic_placement::cooperative::Sharing;
use stoic_placement::hedge::{Coming, Keep, first_up};
use stoic_placement::modes::{Place, plan_of};
use stoic_placement::{Candidate, Estimate, Margin, Mode, Part, Running, chance, choose, sum};

use super::scene::{Run, Scene};
use crate::simulate::outcome::Cloud;

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct End {
    pub(super) end_s: f64,
    pub(super) ok: bool,
    pub(super) cloud: Cloud,
    /// From and to when the edge was held.
    pub(super) edge: Option<(f64, f64)>,
}

impl End {
    /// One after the other.
    fn then(self, next: Self) -> Self {
        let mut cloud = self.cloud;
        cloud.add(&next.cloud);
        Self {
            cloud,
            edge: match (self.edge, next.edge) {
                (Some(first), Some(last)) => Some((first.0, last.1)),
                (one, other) => one.or(other),
            },
            ..next
        }
    }
}

/// The whole batch on one runtime from `from_s` on, and elsewhere when that fails.
pub(super) fn alone(
    scene: &Scene<'_>,
    runtime: usize,
    from_s: f64,
    failed: &mut Vec<usize>,
) -> End {
    let run = scene.run(runtime, from_s);
    let end = end_of(scene, runtime, from_s, &run);
    if run.ok {
        return end;
    }
    failed.push(runtime);
    end.then(again(scene, run.end_s, failed))
}

fn end_of(scene: &Scene<'_>, runtime: usize, from_s: f64, run: &Run) -> End {
    let units = f64::from(scene.units(runtime));
    let worked = (run.end_s - run.begin_s) * units;
    let edge = scene.is_edge(runtime);
    let cloud = if edge {
        Cloud::default()
    } else {
        Cloud {
            used_s: if run.ok { worked } else { 0.0 },
            lost_s: if run.ok { 0.0 } else { worked },
            deploying_s: (run.up_s - from_s) * units,
            saved_s: 0.0,
        }
    };
    End {
        end_s: run.end_s,
        ok: run.ok,
        cloud,
        edge: edge.then_some((run.begin_s, run.end_s)),
    }
}

/// Places a batch again at `from_s`, without the runtimes that failed.
pub(super) fn again(scene: &Scene<'_>, from_s: f64, failed: &mut Vec<usize>) -> End {
    let estimates = scene.estimates();
    match selected(scene, &estimates, failed) {
        Some(next) => alone(scene, next, from_s, failed),
        None => End {
            end_s: from_s,
            ok: false,
            cloud: Cloud::default(),
            edge: None,
        },
    }
}

/// The selector's choice; unavailable runtimes are tried when there is no other.
pub(super) fn selected(
    scene: &Scene<'_>,
    estimates: &[Estimate],
    failed: &[usize],
) -> Option<usize> {
    let pick = |available: &dyn Fn(usize) -> bool| {
        let candidates: Vec<Candidate<'_>> = estimates
            .iter()
            .enumerate()
            .map(|(runtime, estimate)| Candidate {
                runtime: scene.name(runtime),
                available: available(runtime) && !failed.contains(&runtime),
                estimate: Some(estimate),
            })
            .collect();
        let mode = Mode::Selector {
            incumbent: None,
            margin: Margin::DEFAULT,
        };
        choose(&candidates, mode).ok().map(|choice| choice.index)
    };
    pick(&|runtime| scene.available(runtime)).or_else(|| pick(&|_| true))
}

/// The paper's selector: its own predictions, T_s = T_t + T_d + T_p one after the other.
pub(super) fn selected_as_in_the_paper(scene: &Scene<'_>) -> usize {
    let features = scene.features();
    let estimate = |runtime: usize| {
        let known = scene.stage.memory.known(runtime, scene.number);
        let transfer = if scene.is_edge(runtime) {
            Part::ZERO
        } else {
            scene.stage.link.predict(features.bytes)
        };
        Estimate::of(
            scene.pool(runtime).estimate(&features).estimate.queueing,
            transfer,
            known.paper_deployment,
            known.paper_processing.predict(features.items),
        )
    };
    let estimates: Vec<Estimate> = (0..scene.count()).map(estimate).collect();
    selected(scene, &estimates, &[]).unwrap_or(scene.stage.edge)
}

/// The runtimes as the modes see them.
pub(super) fn places<'a>(scene: &'a Scene<'_>, estimates: &'a [Estimate]) -> Vec<Place<'a>> {
    estimates
        .iter()
        .enumerate()
        .map(|(runtime, estimate)| Place {
            runtime: scene.name(runtime),
            available: scene.available(runtime),
            edge: scene.is_edge(runtime),
            estimate,
            start_s: scene
                .processing(runtime)
                .line()
                .map_or(0.0, |line| line.intercept.max(0.0)),
            // Its link and its pods are as the fluid view has them.
            sharing: Sharing::default(),
            units: scene.units(runtime),
            price_per_s: 0.0,
        })
        .collect()
}

/// The hedge over the cloud runtimes that can be counted on.
pub(super) fn planned(scene: &Scene<'_>, places: &[Place<'_>]) -> stoic_placement::hedge::Plan {
    let clouds: Vec<usize> = (0..scene.count())
        .filter(|&runtime| !scene.is_edge(runtime) && scene.available(runtime))
        .collect();
    plan_of(places, &clouds, &scene.stage.scenario.hedge)
}

/// Hedged: the edge if it is expected to end before the hedge, else the hedge.
pub(super) fn hedged(scene: &Scene<'_>, estimates: &[Estimate]) -> End {
    let places = places(scene, estimates);
    let plan = planned(scene, &places);
    let here = &estimates[scene.stage.edge].response;
    let edge_first = here.known && chance::expected(here) <= plan.expected_s;
    if plan.runtimes.is_empty() || (edge_first && scene.available(scene.stage.edge)) {
        return alone(scene, scene.stage.edge, 0.0, &mut Vec::new());
    }
    deployed_together(scene, estimates, &plan.runtimes)
}

/// Several cloud runtimes are ordered; the first that is up works, the others are returned.
pub(super) fn deployed_together(
    scene: &Scene<'_>,
    estimates: &[Estimate],
    runtimes: &[usize],
) -> End {
    let mut deploying_s = 0.0;
    let Some(first) = first_of(scene, runtimes) else {
        // None comes up: the wait is over when the last is given up.
        let up = |r: &usize| scene.draws[*r].up_s;
        let last = runtimes.iter().map(up).fold(0.0, f64::max);
        for r in runtimes {
            deploying_s += up(r) * f64::from(scene.units(*r));
        }
        let mut failed = runtimes.to_vec();
        let mut end = again(scene, last, &mut failed);
        end.cloud.deploying_s += deploying_s;
        return end;
    };
    let up_s = scene.draws[first].up_s;
    let after = sum(&[
        stoic_placement::load::less(&estimates[first].transfer, up_s),
        scene.predicted(first),
    ]);
    let coming: Vec<Coming> = runtimes
        .iter()
        .filter(|r| **r != first)
        .map(|&r| Coming {
            index: r,
            deployment: Running {
                total: estimates[r].deployment,
                elapsed_s: up_s,
            },
            after: scene.predicted(r),
        })
        .collect();
    let also = match first_up(&after, &coming) {
        Keep::This => None,
        Keep::Also { index } => Some(index),
    };
    let mut failed = Vec::new();
    let mut end = alone(scene, first, 0.0, &mut failed);
    let mut rival = None;
    if let Some(other) = also {
        let run = scene.run(other, 0.0);
        rival = (run.ok && run.end_s < end.end_s).then_some((other, run));
    }
    for &r in runtimes.iter().filter(|r| **r != first) {
        let units = f64::from(scene.units(r));
        let kept = also == Some(r);
        let until = if kept {
            scene.draws[r].up_s.min(end.end_s)
        } else {
            up_s
        };
        end.cloud.deploying_s += until * units;
        if kept && rival.is_none() {
            // It raced in vain.
            let run = scene.run(r, 0.0);
            end.cloud.lost_s += (end.end_s.min(run.end_s) - run.begin_s).max(0.0) * units;
        }
    }
    if let Some((other, run)) = rival {
        let first_units = f64::from(scene.units(first));
        let first_run = scene.run(first, 0.0);
        end.cloud.used_s = (run.end_s - run.begin_s) * f64::from(scene.units(other));
        end.cloud.lost_s += (run.end_s - first_run.begin_s).max(0.0) * first_units;
        end.end_s = run.end_s;
        end.ok = true;
        end.edge = None;
    }
    end
}

/// Which of several ordered runtimes is up first.
pub(super) fn first_of(scene: &Scene<'_>, runtimes: &[usize]) -> Option<usize> {
    runtimes
        .iter()
        .copied()
        .filter(|&r| scene.draws[r].comes_up)
        .min_by(|&a, &b| scene.draws[a].up_s.total_cmp(&scene.draws[b].up_s))
}
