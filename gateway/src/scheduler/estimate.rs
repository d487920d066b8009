//! One placement: from what is asked and what the pools hold to estimates and a choice.

use super::Scheduler;
use super::explain::Explanation;
use super::learner::{hour, unix_now};
use crate::history::Parts;
use crate::pods::Load;
use crate::runnable::Deployed;
use serde::{Deserialize, Serialize};
use stoic_placement::goal::Goal;
use stoic_placement::load::{overlapped, wait};
use stoic_placement::{
    Candidate, ChoiceError, Estimate, Features, Mode, Part, Reason, Regime, choose,
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
    /// What it rests on, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Box<Explanation>>,
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

    /// The 50 % interval of the response time, in seconds.
    #[must_use]
    pub fn interval_50(&self) -> Option<(f64, f64)> {
        let response = &self.estimate.response;
        response
            .known
            .then_some((response.p50.low, response.p50.high))
    }
}

/// One runtime under consideration.
pub(super) struct Considered {
    pub(super) runtime: usize,
    pub(super) available: bool,
    pub(super) cold: bool,
    pub(super) estimate: Estimate,
}

impl Scheduler {
    /// Chooses the runtime for an invocation, and remembers who got it.
    ///
    /// # Errors
    /// No runtime can take it, or the pinned one cannot.
    pub fn place(&self, deployed: &Deployed, ask: &Ask<'_>) -> Result<Placed, ChoiceError> {
        let placed = self.choose(deployed, ask)?;
        if ask.pinned.is_none() {
            let incumbents = &deployed.incumbents;
            incumbents.set(ask.action, ask.features.items, placed.runtime);
        }
        Ok(placed)
    }

    /// Chooses the runtime for an invocation that is only asked about.
    ///
    /// # Errors
    /// As [`place`](Self::place).
    pub fn choose(&self, deployed: &Deployed, ask: &Ask<'_>) -> Result<Placed, ChoiceError> {
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
        let incumbent = deployed.incumbents.get(ask.action, ask.features.items);
        let incumbent = incumbent
            .filter(|_| ask.pinned.is_none())
            .and_then(|index| self.runtimes().get(index))
            .map(|info| info.name.as_str());
        let of_runtime = |c: &Considered| self.runtimes()[c.runtime].price.unwrap_or(0.0);
        let prices: Vec<f64> = match self.seconds_per_price > 0.0 || self.enough.is_some() {
            true => considered.iter().map(of_runtime).collect(),
            false => Vec::new(),
        };
        let mode = match ask.pinned {
            Some(runtime) => Mode::Pinned(runtime),
            None if ask.deadline_s.is_none() && prices.iter().all(|price| *price == 0.0) => {
                Mode::Selector {
                    incumbent,
                    margin: self.margin,
                }
            }
            None => Mode::Goal(Goal {
                deadline_s: ask.deadline_s,
                chance: self.enough,
                prices: &prices,
                seconds_per_price: self.seconds_per_price,
                incumbent,
                margin: self.margin,
            }),
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
        self.predict_and(deployed, ask, false)
    }

    /// The same, with what each estimate rests on.
    #[must_use]
    pub fn predict_explained(&self, deployed: &Deployed, ask: &Ask<'_>) -> Vec<RuntimeEstimate> {
        self.predict_and(deployed, ask, true)
    }

    fn predict_and(
        &self,
        deployed: &Deployed,
        ask: &Ask<'_>,
        explain: bool,
    ) -> Vec<RuntimeEstimate> {
        let of = |c: Considered| {
            let info = &self.runtimes()[c.runtime];
            let pool = deployed.pool(c.runtime).filter(|_| explain);
            let explanation = pool.map(|pool| self.explain(deployed, pool, ask, &c));
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
                explanation: explanation.map(Box::new),
            }
        };
        self.consider(deployed, ask).into_iter().map(of).collect()
    }

    pub(super) fn consider(&self, deployed: &Deployed, ask: &Ask<'_>) -> Vec<Considered> {
        let models = deployed.models();
        let runtimes = deployed
            .pools()
            .iter()
            .enumerate()
            .filter_map(|(index, pool)| Some((index, pool.as_ref()?)));
        let mut considered: Vec<Considered> = runtimes
            .map(|(runtime, pool)| {
                let load = pool.load();
                let available = !load.failing;
                let warm = load.free > 0 && load.waiting.is_empty();
                let deployment = match models.deployment.get(runtime) {
                    // The path of every warm request: nothing is deployed.
                    _ if warm => Part::ZERO,
                    Some(model) => model.predict_in(&regime(&load)),
                    None => Part::UNKNOWN,
                };
                let wait = wait(&load.borrowed(), &deployment);
                let (items, bytes) = (ask.features.items, ask.features.bytes);
                let features = self.run_features(runtime, items, bytes, wait.cold);
                let processing = deployed
                    .processing(ask.action, runtime)
                    .map_or(Part::UNKNOWN, |model| model.predict_run(&features));
                let transfer = self.link(runtime).predict(bytes);
                let estimate = overlapped(&wait, &transfer, &processing);
                Considered {
                    runtime,
                    available,
                    cold: wait.cold,
                    estimate: models.calibrator.adjust(&estimate),
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

/// What is known of a deployment that would begin now.
pub(super) fn regime(load: &Load) -> Regime {
    Regime {
        image_present: None,
        standby: Some(load.places > 0),
        hour: Some(hour(unix_now())),
    }
}
