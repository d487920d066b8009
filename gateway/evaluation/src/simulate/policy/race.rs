//! The duplicator (paper, section 4.3): the edge begins at once, a cloud pod is deployed beside it, and when it is up
//! the gateway's own code decides from the edge's progress.

use stoic_placement::duplicator::{Progress, Resolution, cloud_rest, resolve};
use stoic_placement::{Account, Estimate, Part, Running, load::less, sum};

use super::alone::{End, again};
use super::scene::{Run, Scene};
use crate::simulate::outcome::Cloud;

/// How a race ended, and whether the decision in it was right (section 4.3): the one not chosen would not have been
/// faster.
pub(super) fn race(
    scene: &Scene<'_>,
    estimates: &[Estimate],
    rival: usize,
    account: &mut Account,
) -> (End, bool) {
    let edge = scene.stage.edge;
    let here = scene.run(edge, 0.0);
    let there = scene.run(rival, 0.0);
    let (name, units) = (scene.name(rival), scene.units(rival));
    let factor = f64::from(units);
    let cloud_s = scene.draws[rival].work_s(scene.items());
    // The end of a race that one side has won.
    let won = |end_s: f64, cloud: Cloud| End {
        end_s,
        ok: true,
        cloud: Cloud {
            deploying_s: there.up_s.min(end_s) * factor,
            ..cloud
        },
        edge: held(&here, end_s),
    };
    // Both failed: whatever is left takes it.
    let lost = |from_s: f64, cloud: Cloud| {
        let mut end = again(scene, from_s, &mut vec![edge, rival]);
        end.cloud.add(&Cloud {
            deploying_s: there.up_s * factor,
            ..cloud
        });
        end.edge = end.edge.or(held(&here, from_s));
        end
    };
    if here.ok && here.end_s <= there.up_s {
        let entry = account.edge_before_pod(name, units, cloud_s);
        let cloud = Cloud {
            saved_s: entry.saved_s,
            ..Cloud::default()
        };
        return (won(here.end_s, cloud), true);
    }
    if !scene.draws[rival].comes_up {
        return if here.ok {
            (won(here.end_s, Cloud::default()), true)
        } else {
            (lost(there.up_s.max(here.end_s), Cloud::default()), false)
        };
    }
    let decided = if here.ok || here.end_s > there.up_s {
        let edge_rest = edge_rest(scene, estimates, &here, there.up_s);
        let cloud = cloud_rest(
            &if scene.arrived_s <= there.up_s {
                Part::ZERO
            } else {
                estimates[rival].transfer
            },
            there.up_s,
            &scene.predicted(rival),
        );
        resolve(&edge_rest, &cloud)
    } else {
        // The edge is dead: there is nothing to resolve.
        Resolution::Both
    };
    match decided {
        Resolution::EdgeOnly => {
            let delayed = there.ok.then_some((here.end_s - there.end_s).max(0.0));
            let entry = account.edge_alone(name, units, cloud_s, delayed);
            let cloud = Cloud {
                saved_s: entry.saved_s,
                ..Cloud::default()
            };
            if here.ok {
                (
                    won(here.end_s, cloud),
                    !there.ok || here.end_s <= there.end_s,
                )
            } else {
                (lost(here.end_s, cloud), false)
            }
        }
        Resolution::Both => match (here.ok, there.ok) {
            (true, _) if here.end_s < there.end_s || !there.ok => {
                let ran = here.end_s.min(there.end_s) - there.begin_s;
                let entry = account.edge_first(name, units, ran.max(0.0));
                let cloud = Cloud {
                    lost_s: entry.lost_s,
                    ..Cloud::default()
                };
                (won(here.end_s, cloud), false)
            }
            (_, true) => {
                let entry = account.cloud_first(name, units, there.end_s - there.begin_s);
                let cloud = Cloud {
                    used_s: entry.used_s,
                    ..Cloud::default()
                };
                (won(there.end_s, cloud), true)
            }
            _ => {
                let ran = there.end_s - there.begin_s;
                let entry = account.cloud_failed(name, units, ran);
                let cloud = Cloud {
                    lost_s: entry.lost_s,
                    ..Cloud::default()
                };
                (lost(here.end_s.max(there.end_s), cloud), false)
            }
        },
    }
}

/// When the edge was held, in a race that was over at `end_s`.
fn held(here: &Run, end_s: f64) -> Option<(f64, f64)> {
    (here.begin_s < end_s).then_some((here.begin_s, here.end_s.min(end_s)))
}

/// What is left at the edge at `now_s`, from its progress.
fn edge_rest(scene: &Scene<'_>, estimates: &[Estimate], here: &Run, now_s: f64) -> Part {
    let edge = scene.stage.edge;
    let predicted = scene.predicted(edge);
    if now_s <= here.begin_s {
        // It still waits in line.
        let wait = Running {
            total: estimates[edge].queueing,
            elapsed_s: now_s,
        };
        return sum(&[less(&wait.remaining(), 0.0), predicted]);
    }
    let draw = &scene.draws[edge];
    let (worked, total) = (now_s - here.begin_s, scene.items());
    let done = ((worked - draw.start_s) / draw.per_item_s)
        .floor()
        .clamp(0.0, total);
    let mut progress = Progress::new(total);
    if done >= 1.0 {
        let at = |items: f64| draw.start_s + items * draw.per_item_s;
        progress.mark(1.0, at(1.0));
        progress.mark(done, at(done));
    }
    progress.remaining(worked, &predicted)
}
