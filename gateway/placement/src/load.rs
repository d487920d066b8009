//! From what a runtime's pool holds at this moment to the estimate of one more
//! invocation there: the one estimate that the gateway's request path, the
//! simulator and the benches share.
//!
//! The package travels while a pod is awaited, so of the wait only what is left
//! after the transfer is added: T_s = max(T_t, T_q or T_d) + T_p.

use serde::Serialize;

use crate::choose::{ChoiceError, Mode};
use crate::decide::{Decision, choose_from};
use crate::deployment::DeploymentModel;
use crate::estimate::{Estimate, Features, Interval, Part, sane_seconds};
use crate::processing::ProcessingModel;
use crate::queueing::{Running, queueing};
use crate::transfer::LinkModel;

/// What a pool of pods holds. Plain numbers, borrowed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load<'a> {
    /// Places free in ready pods.
    pub free: usize,
    /// Places in ready pods, free or not.
    pub places: usize,
    /// Running invocations: predicted and elapsed seconds of each.
    pub running: &'a [(f64, f64)],
    /// Waiting invocations in order: predicted seconds of each.
    pub waiting: &'a [f64],
    /// Seconds since the oldest pod that is being deployed was ordered.
    pub deploying_s: Option<f64>,
    /// Whether one more pod may be started.
    pub may_grow: bool,
}

/// The wait for a place in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Wait {
    /// Seconds.
    pub part: Part,
    /// Whether it is for a pod that is not ready yet (T_d) or for one that is
    /// (T_q).
    pub cold: bool,
}

/// How long one more invocation waits for a place: not at all, for what runs
/// and waits before it, or for a pod on its way or not ordered yet, whichever is
/// nearest. `deployment` is T_d of a pod ordered now.
#[must_use]
pub fn wait(load: &Load<'_>, deployment: &Part) -> Wait {
    if load.free > 0 && load.waiting.is_empty() {
        return Wait {
            part: Part::ZERO,
            cold: false,
        };
    }
    let queue = (load.places > 0).then(|| {
        let running: Vec<Running> = load
            .running
            .iter()
            .map(|&(total, elapsed_s)| Running {
                total: Part::exact(total),
                elapsed_s,
            })
            .collect();
        let waiting: Vec<Part> = load.waiting.iter().map(|s| Part::exact(*s)).collect();
        queueing(load.places, &running, &waiting)
    });
    // A pod on its way is nearer than one not ordered yet.
    let coming = match load.deploying_s {
        Some(elapsed_s) => Some(
            Running {
                total: *deployment,
                elapsed_s,
            }
            .remaining(),
        ),
        None if load.may_grow => Some(*deployment),
        None => None,
    };
    let (part, cold) = match (queue, coming) {
        (Some(queue), Some(coming)) if coming.known && coming.mean < queue.mean => (coming, true),
        (Some(queue), _) => (queue, false),
        (None, Some(coming)) => (coming, true),
        (None, None) => (Part::UNKNOWN, true),
    };
    Wait { part, cold }
}

/// What is left of a part after `seconds` that pass anyway.
#[must_use]
pub fn less(part: &Part, seconds: f64) -> Part {
    let seconds = sane_seconds(seconds).unwrap_or(0.0);
    let cut = |value: f64| (value - seconds).max(0.0);
    let interval = |i: Interval| Interval {
        low: cut(i.low),
        high: cut(i.high),
    };
    Part {
        mean: cut(part.mean),
        p50: interval(part.p50),
        p90: interval(part.p90),
        ..*part
    }
}

/// Puts an estimate together from a transfer and a wait that pass at the same
/// time, and the processing after both. The part that is waited for longer
/// stands whole in the estimate, of the other only its rest: the sum is the
/// response.
#[must_use]
pub fn overlapped(wait: &Wait, transfer: &Part, processing: &Part) -> Estimate {
    let rest = less(&wait.part, transfer.mean);
    let (queueing, deployment) = if wait.cold {
        (Part::ZERO, rest)
    } else {
        (rest, Part::ZERO)
    };
    Estimate::of(queueing, *transfer, deployment, *processing)
}

/// A runtime with its pool's load and its fitted models.
#[derive(Debug, Clone, Copy)]
pub struct PoolInput<'a> {
    /// The runtime's name.
    pub runtime: &'a str,
    /// Whether it can take work at all (the inquisitor's word).
    pub available: bool,
    /// What its pool holds.
    pub load: Load<'a>,
    /// The way to its site; [`LinkModel::LOCAL`] for the local one.
    pub link: &'a LinkModel,
    /// T_d of a pod ordered now; `None` when it was never measured.
    pub deployment: Option<&'a DeploymentModel>,
    /// T_p of the function there; `None` when it never ran.
    pub processing: Option<&'a ProcessingModel>,
}

/// What [`PoolInput::estimate`] says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PoolEstimate {
    /// The estimate.
    pub estimate: Estimate,
    /// Whether the invocation would wait for a pod that is not ready yet.
    pub cold: bool,
}

impl PoolInput<'_> {
    /// The estimate of one more invocation on this runtime.
    #[must_use]
    pub fn estimate(&self, features: &Features) -> PoolEstimate {
        let deployment = self
            .deployment
            .map_or(Part::UNKNOWN, DeploymentModel::predict);
        let processing = self
            .processing
            .map_or(Part::UNKNOWN, |model| model.predict(features.items));
        let wait = wait(&self.load, &deployment);
        PoolEstimate {
            estimate: overlapped(&wait, &self.link.predict(features.bytes), &processing),
            cold: wait.cold,
        }
    }
}

/// Estimates every runtime from its pool's load and chooses one: the request
/// path's one call. Same input, same answer.
///
/// # Errors
/// As [`crate::choose()`].
pub fn place(
    candidates: &[PoolInput<'_>],
    features: &Features,
    mode: Mode<'_>,
) -> Result<Decision, ChoiceError> {
    let estimates = candidates
        .iter()
        .map(|c| c.estimate(features).estimate)
        .collect();
    let named = |index: usize| (candidates[index].runtime, candidates[index].available);
    choose_from(estimates, named, mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(running: &[(f64, f64)], may_grow: bool) -> Load<'_> {
        Load {
            places: 1,
            running,
            may_grow,
            ..Load::default()
        }
    }

    #[test]
    fn a_free_place_costs_nothing() {
        let load = Load {
            free: 1,
            places: 1,
            ..Load::default()
        };
        let wait = wait(&load, &Part::exact(9.0));
        assert_eq!((wait.part, wait.cold), (Part::ZERO, false));
    }

    #[test]
    fn the_wait_is_the_rest_of_what_runs_or_a_new_pod_if_that_is_nearer() {
        let still = wait(&busy(&[(10.0, 4.0)], false), &Part::exact(1.0));
        assert!((still.part.mean - 6.0).abs() < 1e-9 && !still.cold);
        let grown = wait(&busy(&[(10.0, 4.0)], true), &Part::exact(1.0));
        assert!((grown.part.mean - 1.0).abs() < 1e-9 && grown.cold);
    }

    #[test]
    fn a_pod_on_its_way_is_awaited_for_the_rest_of_its_deployment() {
        let load = Load {
            deploying_s: Some(3.0),
            ..Load::default()
        };
        let coming = wait(&load, &Part::exact(5.0));
        assert!((coming.part.mean - 2.0).abs() < 1e-9 && coming.cold);
    }

    #[test]
    fn a_pool_that_can_neither_serve_nor_grow_is_unknown() {
        assert!(!wait(&Load::default(), &Part::exact(5.0)).part.known);
    }

    #[test]
    fn a_transfer_hides_the_wait_beneath_it() {
        let wait = Wait {
            part: Part::exact(20.0),
            cold: true,
        };
        let short = overlapped(&wait, &Part::exact(4.0), &Part::exact(1.0));
        assert!((short.response.mean - 21.0).abs() < 1e-9);
        assert!((short.deployment.mean - 16.0).abs() < 1e-9);
        let long = overlapped(&wait, &Part::exact(50.0), &Part::exact(1.0));
        assert!((long.response.mean - 51.0).abs() < 1e-9);
        assert_eq!(less(&Part::exact(2.0), f64::NAN).mean, 2.0);
    }
}
