//! One placement: from what is asked and what the pools hold to estimates and a choice.

use super::Scheduler;
use crate::history::Parts;
use crate::pods::Load;
use crate::runnable::Deployed;
use serde::{Deserialize, Serialize};
use stoic_placement::{
    Candidate, ChoiceError, Estimate, Features, Interval, Margin, Mode, Part, Reason, Running,
    choose, queueing,
};

/// What is asked of the placement.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// `infer`, `train`, ...
    pub action: &'a str,
    /// Size of the work.
    pub features: Features,
    /// The runtime that the caller insists on.
    pub pinned: Option<&'a str>,
    /// Runtimes that failed this invocation already; taken only if there is no other.
    pub avoid: &'a [usize],
    /// Seconds from now by which the answer is wanted.
    pub deadline_s: Option<f64>,
}

/// A choice, with what it rests on.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Index of the runtime.
    pub runtime: usize,
    /// Its estimate.
    pub estimate: Estimate,
    /// Why; as text, one line.
    pub reason: Reason,
}

/// The estimate for one runtime, as users see it (`predict`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeEstimate {
    /// Runtime.
    pub runtime: String,
    /// Its site.
    pub site: String,
    /// Whether it can take work now.
    pub available: bool,
    /// Whether it would start cold.
    pub cold: bool,
    /// What is emulated there: `link`, `deployment`, both, or nothing.
    pub emulated: String,
    /// Parts with intervals, in seconds; T_s is `response`.
    pub estimate: Estimate,
}

impl Placed {
    /// The predicted parts, where all of them are known.
    #[must_use]
    pub fn parts(&self) -> Option<Parts> {
        let e = &self.estimate;
        e.response.known.then_some(Parts {
            queueing: e.queueing.mean,
            transfer: e.transfer.mean,
            deployment: e.deployment.mean,
            processing: e.processing.mean,
        })
    }

    /// The 90 % interval of the response time, in seconds.
    #[must_use]
    pub fn interval_90(&self) -> Option<(f64, f64)> {
        self.estimate.response.known.then_some((
            self.estimate.response.p90.low,
            self.estimate.response.p90.high,
        ))
    }
}

/// One runtime under consideration.
struct Considered {
    runtime: usize,
    available: bool,
    cold: bool,
    estimate: Estimate,
}

impl Scheduler {
    /// Chooses the runtime for an invocation.
    ///
    /// # Errors
    /// No runtime can take it, or the pinned one cannot.
    pub fn place(&self, deployed: &Deployed, ask: &Ask<'_>) -> Result<Placed, ChoiceError> {
        let considered = self.consider(deployed, ask);
        // Who insists on a runtime gets another pod there.
        let any_other = ask.pinned.is_none()
            && considered
                .iter()
                .any(|c| c.available && !ask.avoid.contains(&c.runtime));
        let candidates: Vec<Candidate<'_>> = considered
            .iter()
            .map(|c| Candidate {
                runtime: &self.runtimes()[c.runtime].name,
                available: c.available && !(any_other && ask.avoid.contains(&c.runtime)),
                estimate: Some(&c.estimate),
            })
            .collect();
        let mode = match ask.pinned {
            Some(runtime) => Mode::Pinned(runtime),
            None => Mode::Selector {
                incumbent: None,
                margin: Margin::DEFAULT,
            },
        };
        let choice = choose(&candidates, mode)?;
        let chosen = &considered[choice.index];
        Ok(Placed {
            runtime: chosen.runtime,
            estimate: chosen.estimate,
            reason: choice.reason,
        })
    }

    /// The estimate of every runtime that the function may use.
    #[must_use]
    pub fn predict(&self, deployed: &Deployed, ask: &Ask<'_>) -> Vec<RuntimeEstimate> {
        let of = |c: Considered| {
            let info = &self.runtimes()[c.runtime];
            RuntimeEstimate {
                runtime: info.name.clone(),
                site: info.site.clone(),
                available: c.available,
                cold: c.cold,
                emulated: super::super::requester::emulated(
                    info.link_emulated,
                    c.cold && info.deployment_emulated,
                ),
                estimate: c.estimate,
            }
        };
        self.consider(deployed, ask).into_iter().map(of).collect()
    }

    fn consider(&self, deployed: &Deployed, ask: &Ask<'_>) -> Vec<Considered> {
        let models = deployed.models();
        let runtimes = deployed
            .pools()
            .iter()
            .enumerate()
            .filter_map(|(index, pool)| Some((index, pool.as_ref()?)));
        let mut considered: Vec<Considered> = runtimes
            .map(|(runtime, pool)| {
                let load = pool.load();
                let known = deployed.processing(ask.action, runtime);
                let processing =
                    known.map_or(Part::UNKNOWN, |model| model.predict(ask.features.items));
                let transfer = self.link(runtime).predict(ask.features.bytes);
                let deployment = models
                    .deployment
                    .get(runtime)
                    .map_or(Part::UNKNOWN, |model| model.predict());
                let (wait, cold) = wait(&load, deployment);
                // The package travels while a pod is awaited: only what is left of the wait is added.
                let wait = less(wait, transfer.mean);
                let (queue, deploy) = if cold {
                    (Part::ZERO, wait)
                } else {
                    (wait, Part::ZERO)
                };
                let estimate = Estimate::of(queue, transfer, deploy, processing);
                Considered {
                    runtime,
                    available: !load.failing,
                    cold,
                    estimate,
                }
            })
            .collect();
        // Where every runtime fails to start pods, trying is better than refusing: the answer then
        // names the cause.
        if considered.iter().all(|c| !c.available) {
            considered.iter_mut().for_each(|c| c.available = true);
        }
        considered
    }
}

/// The wait for a pod, and whether it is for a cold one.
fn wait(load: &Load, deployment: Part) -> (Part, bool) {
    if load.free > 0 && load.waiting.is_empty() {
        return (Part::ZERO, false);
    }
    let waiting: Vec<Part> = load
        .waiting
        .iter()
        .map(|seconds| Part::exact(*seconds))
        .collect();
    let running: Vec<Running> = load
        .running
        .iter()
        .map(|(total, elapsed)| Running {
            total: Part::exact(*total),
            elapsed_s: *elapsed,
        })
        .collect();
    let queue = (load.places > 0).then(|| queueing(load.places as usize, &running, &waiting));
    // A pod on its way is nearer than one not ordered yet.
    let coming = match load.deploying_s {
        Some(elapsed_s) => Some(
            Running {
                total: deployment,
                elapsed_s,
            }
            .remaining(),
        ),
        None if load.may_grow => Some(deployment),
        None => None,
    };
    match (queue, coming) {
        (Some(queue), Some(coming)) if coming.known && coming.mean < queue.mean => (coming, true),
        (Some(queue), _) => (queue, false),
        (None, Some(coming)) => (coming, true),
        (None, None) => (Part::UNKNOWN, true),
    }
}

/// What is left of a part after so many seconds that pass anyway.
fn less(part: Part, seconds: f64) -> Part {
    let cut = |value: f64| (value - seconds).max(0.0);
    let interval = |i: Interval| Interval {
        low: cut(i.low),
        high: cut(i.high),
    };
    Part {
        mean: cut(part.mean),
        p50: interval(part.p50),
        p90: interval(part.p90),
        ..part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(running: &[(f64, f64)], may_grow: bool) -> Load {
        Load {
            places: 1,
            running: running.to_vec(),
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
        assert_eq!(wait(&load, Part::exact(9.0)), (Part::ZERO, false));
    }

    #[test]
    fn the_wait_is_the_rest_of_what_runs_or_a_new_pod_if_that_is_nearer() {
        let (part, cold) = wait(&busy(&[(10.0, 4.0)], false), Part::exact(1.0));
        assert!((part.mean - 6.0).abs() < 1e-9 && !cold);
        let (part, cold) = wait(&busy(&[(10.0, 4.0)], true), Part::exact(1.0));
        assert!((part.mean - 1.0).abs() < 1e-9 && cold);
    }

    #[test]
    fn a_pod_on_its_way_is_awaited_for_the_rest_of_its_deployment() {
        let load = Load {
            deploying_s: Some(3.0),
            ..Load::default()
        };
        let (part, cold) = wait(&load, Part::exact(5.0));
        assert!((part.mean - 2.0).abs() < 1e-9 && cold);
    }

    #[test]
    fn a_transfer_hides_the_wait_beneath_it() {
        assert_eq!(less(Part::exact(2.0), 5.0).mean, 0.0);
        assert!((less(Part::exact(5.0), 2.0).p90.high - 3.0).abs() < 1e-9);
    }
}
