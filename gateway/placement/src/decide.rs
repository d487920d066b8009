//! The request path's one call: from fitted models to a choice.
//!
//! It reads immutable models and allocates one vector, for the estimates.

use serde::Serialize;

use crate::choose::{Candidate, Choice, ChoiceError, Mode, choose_among};
use crate::deployment::DeploymentModel;
use crate::estimate::{Estimate, Features, Part};
use crate::processing::ProcessingModel;
use crate::transfer::LinkModel;

/// A runtime with what the gateway knows of it at this moment.
#[derive(Debug, Clone, Copy)]
pub struct CandidateInput<'a> {
    /// The runtime's name.
    pub runtime: &'a str,
    /// Whether it can take work at all.
    pub available: bool,
    /// T_q, from [`crate::queueing()`].
    pub queueing: Part,
    /// The way to its site; [`LinkModel::LOCAL`] for the local one.
    pub link: &'a LinkModel,
    /// Its deployment model when a pod must be started; `None` when a warm one
    /// takes the work (T_d = 0).
    pub deployment: Option<&'a DeploymentModel>,
    /// Its processing model for the function.
    pub processing: &'a ProcessingModel,
}

impl CandidateInput<'_> {
    /// The estimate of an invocation on this runtime.
    #[must_use]
    pub fn estimate(&self, features: &Features) -> Estimate {
        Estimate::of(
            self.queueing,
            self.link.predict(features.bytes),
            self.deployment.map_or(Part::ZERO, DeploymentModel::predict),
            self.processing.predict(features.items),
        )
    }
}

/// A choice with every candidate's estimate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// The runtime chosen, as an index into the candidates, and why.
    pub choice: Choice,
    /// One estimate per candidate, in the candidates' order, the unavailable
    /// ones included.
    pub estimates: Vec<Estimate>,
}

impl Decision {
    /// The estimate of the runtime chosen.
    #[must_use]
    pub fn chosen(&self) -> &Estimate {
        &self.estimates[self.choice.index]
    }
}

/// Estimates every candidate, without choosing: what `stoic predict` shows
/// also when no runtime is available.
#[must_use]
pub fn estimate_all(candidates: &[CandidateInput<'_>], features: &Features) -> Vec<Estimate> {
    candidates.iter().map(|c| c.estimate(features)).collect()
}

/// Estimates every candidate and chooses one. Same input, same answer.
///
/// # Errors
/// As [`crate::choose()`].
pub fn decide(
    candidates: &[CandidateInput<'_>],
    features: &Features,
    mode: Mode<'_>,
) -> Result<Decision, ChoiceError> {
    let named = |index: usize| (candidates[index].runtime, candidates[index].available);
    choose_from(estimate_all(candidates, features), named, mode)
}

/// Chooses among runtimes that were estimated; `named` says of each its name and whether it can take
/// work at all.
pub(crate) fn choose_from<'a>(
    estimates: Vec<Estimate>,
    named: impl Fn(usize) -> (&'a str, bool),
    mode: Mode<'_>,
) -> Result<Decision, ChoiceError> {
    let candidate = |index: usize| {
        let (runtime, available) = named(index);
        Candidate {
            runtime,
            available,
            estimate: Some(&estimates[index]),
        }
    };
    let choice = choose_among(estimates.len(), candidate, mode)?;
    Ok(Decision { choice, estimates })
}
