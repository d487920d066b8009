//! The choice of a runtime, from estimates. It knows no models: [`crate::decide()`]
//! makes the estimates and comes here.

use std::fmt;

use serde::Serialize;
use thiserror::Error;

use crate::estimate::Estimate;
use crate::goal::Goal;

/// A runtime that could take the invocation.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The runtime's name.
    pub runtime: &'a str,
    /// Whether it can take work at all (the inquisitor's word, section 3.7).
    pub available: bool,
    /// Its estimate; `None` or an unknown response when there is no data.
    pub estimate: Option<&'a Estimate>,
}

/// How a runtime is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Mode<'a> {
    /// The runtime of this name, whatever is predicted.
    Pinned(&'a str),
    /// The runtime of least expected response (the paper's selector mode).
    Selector {
        /// Who got the last invocation like this one (same function, about the
        /// same size), if that matters.
        incumbent: Option<&'a str>,
        /// By how much another must be better to take over from the incumbent.
        margin: Margin,
    },
    /// The runtime that serves a deadline or a price best ([`crate::goal`]).
    Goal(Goal<'a>),
}

impl Mode<'_> {
    /// Selector mode without an incumbent.
    #[must_use]
    pub const fn selector() -> Self {
        Self::Selector {
            incumbent: None,
            margin: Margin::DEFAULT,
        }
    }
}

/// Hysteresis: an incumbent keeps the work unless the best is better by more
/// than the larger of the two. With estimates that wander by less than half the
/// margin around fixed values the choice changes at most once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Margin {
    /// Share of the best's expected response.
    pub relative: f64,
    /// Seconds.
    pub seconds: f64,
}

impl Margin {
    /// Two per cent, and ten milliseconds: small against what placement gains
    /// and large against jitter.
    pub const DEFAULT: Self = Self {
        relative: 0.02,
        seconds: 0.010,
    };

    pub(crate) fn around(&self, best: f64) -> f64 {
        (self.relative * best).max(self.seconds).max(0.0)
    }
}

impl Default for Margin {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The runtime chosen, and why.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Choice {
    /// Index among the candidates given.
    pub index: usize,
    /// Why it was chosen; its `Display` is a sentence for people.
    pub reason: Reason,
}

/// Why a runtime was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The caller asked for it.
    Pinned,
    /// Of those available it alone has an estimate, or it alone is available.
    Only {
        /// Expected response, seconds; `None` when unknown.
        expected_s: Option<f64>,
    },
    /// It has the least expected response.
    Least {
        /// Expected response, seconds.
        expected_s: f64,
        /// Index of the next best.
        next: usize,
        /// By how many seconds the next best is slower.
        ahead_s: f64,
    },
    /// Another is better, but by no more than the margin.
    Incumbent {
        /// Expected response, seconds.
        expected_s: f64,
        /// Index of the best.
        best: usize,
        /// By how many seconds the best is faster.
        behind_s: f64,
    },
    /// Nothing is known of any runtime that is available; the first one in
    /// order was taken.
    NothingKnown,
    /// No available runtime has a whole estimate; this one has the least
    /// expected response of those whose processing time is known.
    PartlyKnown {
        /// Sum of the known parts, seconds.
        expected_s: f64,
    },
    /// It has the greatest chance to meet the deadline; among equals, the least
    /// expected response, with its price.
    MostLikely {
        /// Seconds within which the answer is wanted.
        deadline_s: f64,
        /// Its chance to meet it, 0 to 1.
        chance: f64,
        /// Expected response, seconds.
        expected_s: f64,
    },
    /// Of those whose chance to meet the deadline is enough, it has the least
    /// expected response, with its price.
    LikelyEnough {
        /// Seconds within which the answer is wanted.
        deadline_s: f64,
        /// Its chance to meet it, 0 to 1.
        chance: f64,
        /// The chance that is enough.
        wanted: f64,
        /// Expected response, seconds.
        expected_s: f64,
        /// What it is expected to cost.
        price: f64,
    },
    /// It has the least expected response with its price counted in seconds.
    LeastWorth {
        /// Expected response, seconds.
        expected_s: f64,
        /// What it is expected to cost.
        price: f64,
        /// Both together, seconds.
        worth_s: f64,
    },
}

impl Reason {
    /// A stable word for labels and headers.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Only { .. } => "only",
            Self::Least { .. } => "least",
            Self::Incumbent { .. } => "incumbent",
            Self::NothingKnown => "nothing_known",
            Self::PartlyKnown { .. } => "partly_known",
            Self::MostLikely { .. } => "most_likely",
            Self::LikelyEnough { .. } => "likely_enough",
            Self::LeastWorth { .. } => "least_worth",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned => f.write_str("pinned by the caller"),
            Self::Only {
                expected_s: Some(s),
            } => write!(f, "the only one available with an estimate, {s:.3} s"),
            Self::Only { expected_s: None } => f.write_str("the only one available"),
            Self::Least {
                expected_s,
                ahead_s,
                ..
            } => write!(
                f,
                "least expected response, {expected_s:.3} s, {ahead_s:.3} s ahead of the next"
            ),
            Self::Incumbent {
                expected_s,
                behind_s,
                ..
            } => write!(
                f,
                "kept at {expected_s:.3} s: the best is {behind_s:.3} s faster, within the margin"
            ),
            Self::NothingKnown => {
                f.write_str("nothing is known yet of any available one: the first in order")
            }
            Self::PartlyKnown { expected_s } => write!(
                f,
                "least of those whose processing time is known, {expected_s:.3} s in the known parts"
            ),
            Self::MostLikely {
                deadline_s,
                chance,
                expected_s,
            } => write!(
                f,
                "greatest chance to answer within {deadline_s:.3} s, {:.1} %, expected {expected_s:.3} s",
                100.0 * chance
            ),
            Self::LikelyEnough {
                deadline_s,
                chance,
                wanted,
                expected_s,
                price,
            } => write!(
                f,
                "answers within {deadline_s:.3} s with a chance of {:.1} %, at least {:.1} % as \
                 wanted, and of those is expected soonest for its price: {expected_s:.3} s for {price:.4}",
                100.0 * chance,
                100.0 * wanted
            ),
            Self::LeastWorth {
                expected_s,
                price,
                worth_s,
            } => write!(
                f,
                "least expected response with its price: {expected_s:.3} s for {price:.4}, \
                 together worth {worth_s:.3} s"
            ),
        }
    }
}

/// Why no runtime was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChoiceError {
    /// There is no candidate at all.
    #[error("no runtime is configured for this function; configure at least one")]
    NoCandidates,
    /// Every candidate is unavailable.
    #[error(
        "none of the {candidates} runtimes is available; \
         retry later, or look at `stoic runtimes` for the cause"
    )]
    NoneAvailable {
        /// How many there are.
        candidates: usize,
    },
    /// The pinned runtime does not exist.
    #[error("there is no runtime `{runtime}`; there are: {known}")]
    PinnedUnknown {
        /// What was asked for.
        runtime: String,
        /// The names there are, separated by commas.
        known: String,
    },
    /// The pinned runtime exists but is unavailable.
    #[error("runtime `{runtime}` is unavailable; retry later, or leave the choice to the selector")]
    PinnedUnavailable {
        /// What was asked for.
        runtime: String,
    },
}

impl ChoiceError {
    /// A stable word for error codes.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoCandidates => "no_runtimes",
            Self::NoneAvailable { .. } => "no_runtime_available",
            Self::PinnedUnknown { .. } => "unknown_runtime",
            Self::PinnedUnavailable { .. } => "runtime_unavailable",
        }
    }
}

/// Chooses a runtime.
///
/// Never an unavailable one. Selector mode takes the least expected response;
/// equals go by order. A runtime without a whole estimate is only taken when no
/// available one has one: then the one of least known parts among those whose
/// processing time is known, else the first available.
///
/// # Errors
/// When no candidate is available, or the pinned one is unavailable or unknown.
pub fn choose(candidates: &[Candidate<'_>], mode: Mode<'_>) -> Result<Choice, ChoiceError> {
    choose_among(candidates.len(), |index| candidates[index], mode)
}

/// How much is known of a candidate; less is better, as is less time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Knowledge {
    Whole,
    Processing,
    Nothing,
}

fn knowledge(candidate: &Candidate<'_>) -> (Knowledge, f64) {
    match candidate.estimate {
        Some(estimate) if estimate.response.mean.is_finite() => {
            let mean = estimate.response.mean;
            if estimate.response.known {
                (Knowledge::Whole, mean)
            } else if estimate.processing.known {
                (Knowledge::Processing, mean)
            } else {
                (Knowledge::Nothing, 0.0)
            }
        }
        _ => (Knowledge::Nothing, 0.0),
    }
}

/// [`choose`] without a slice, for callers that hold their candidates in
/// another shape.
pub(crate) fn choose_among<'a>(
    count: usize,
    candidate: impl Fn(usize) -> Candidate<'a>,
    mode: Mode<'_>,
) -> Result<Choice, ChoiceError> {
    if count == 0 {
        return Err(ChoiceError::NoCandidates);
    }
    let (incumbent, margin) = match mode {
        Mode::Pinned(runtime) => return pinned(count, candidate, runtime),
        Mode::Selector { incumbent, margin } => (incumbent, margin),
        Mode::Goal(goal) => match goal.choose(count, &candidate) {
            Some(choice) => return Ok(choice),
            None => (None, goal.margin),
        },
    };

    let mut best: Option<(usize, Knowledge, f64)> = None;
    // The next best, among those of which as much is known as of the best.
    let mut next: Option<(usize, f64)> = None;
    let mut available = 0usize;
    let mut kept: Option<(usize, f64)> = None;
    for index in 0..count {
        let this = candidate(index);
        if !this.available {
            continue;
        }
        available += 1;
        let (known, seconds) = knowledge(&this);
        if known == Knowledge::Whole && kept.is_none() && incumbent == Some(this.runtime) {
            kept = Some((index, seconds));
        }
        match best {
            Some((_, so_far, _)) if known > so_far => {}
            Some((_, so_far, least)) if known == so_far && seconds >= least => {
                if next.is_none_or(|(_, second)| seconds < second) {
                    next = Some((index, seconds));
                }
            }
            _ => {
                next = best
                    .filter(|(_, so_far, _)| *so_far == known)
                    .map(|(index, _, seconds)| (index, seconds));
                best = Some((index, known, seconds));
            }
        }
    }
    let Some((index, known, expected_s)) = best else {
        return Err(ChoiceError::NoneAvailable { candidates: count });
    };
    if let Some((incumbent, seconds)) = kept
        && incumbent != index
        && seconds - expected_s <= margin.around(expected_s)
    {
        return Ok(Choice {
            index: incumbent,
            reason: Reason::Incumbent {
                expected_s: seconds,
                best: index,
                behind_s: seconds - expected_s,
            },
        });
    }
    let reason = match (known, next) {
        (Knowledge::Whole, Some((next, seconds))) => Reason::Least {
            expected_s,
            next,
            ahead_s: seconds - expected_s,
        },
        (Knowledge::Whole, None) => Reason::Only {
            expected_s: Some(expected_s),
        },
        (Knowledge::Processing, _) => Reason::PartlyKnown { expected_s },
        (Knowledge::Nothing, _) if available == 1 => Reason::Only { expected_s: None },
        (Knowledge::Nothing, _) => Reason::NothingKnown,
    };
    Ok(Choice { index, reason })
}

fn pinned<'a>(
    count: usize,
    candidate: impl Fn(usize) -> Candidate<'a>,
    runtime: &str,
) -> Result<Choice, ChoiceError> {
    match (0..count).find(|&index| candidate(index).runtime == runtime) {
        Some(index) if candidate(index).available => Ok(Choice {
            index,
            reason: Reason::Pinned,
        }),
        Some(_) => Err(ChoiceError::PinnedUnavailable {
            runtime: runtime.to_owned(),
        }),
        None => {
            let names: Vec<&str> = (0..count).map(|index| candidate(index).runtime).collect();
            Err(ChoiceError::PinnedUnknown {
                runtime: runtime.to_owned(),
                known: names.join(", "),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::Part;

    fn of(seconds: f64) -> Estimate {
        Estimate::of(Part::ZERO, Part::ZERO, Part::ZERO, Part::exact(seconds))
    }

    fn candidates<'a>(all: &'a [(&'a str, bool, Option<Estimate>)]) -> Vec<Candidate<'a>> {
        all.iter()
            .map(|(runtime, available, estimate)| Candidate {
                runtime,
                available: *available,
                estimate: estimate.as_ref(),
            })
            .collect()
    }

    #[test]
    fn the_least_wins_and_says_by_how_much() {
        let all = [
            ("edge", true, Some(of(9.0))),
            ("cpu", true, Some(of(4.0))),
            ("gpu1", false, Some(of(1.0))),
            ("gpu2", true, Some(of(6.0))),
        ];
        let choice = choose(&candidates(&all), Mode::selector()).unwrap();
        assert_eq!(
            choice,
            Choice {
                index: 1,
                reason: Reason::Least {
                    expected_s: 4.0,
                    next: 3,
                    ahead_s: 2.0
                }
            }
        );
        assert!(choice.reason.to_string().contains("2.000 s ahead"));
    }

    #[test]
    fn equals_go_by_order() {
        let all = [("a", true, Some(of(3.0))), ("b", true, Some(of(3.0)))];
        assert_eq!(
            choose(&candidates(&all), Mode::selector()).unwrap().index,
            0
        );
    }

    #[test]
    fn the_unknown_wait_until_nothing_else_is_there() {
        let no_deployment = Estimate::of(Part::ZERO, Part::ZERO, Part::UNKNOWN, Part::exact(2.0));
        let mut all = [
            ("a", true, None),
            ("b", true, Some(no_deployment)),
            ("c", true, Some(of(50.0))),
        ];
        let pick = |all: &[_]| choose(&candidates(all), Mode::selector()).unwrap();
        assert_eq!(pick(&all).index, 2);
        assert_eq!(
            pick(&all).reason,
            Reason::Only {
                expected_s: Some(50.0)
            }
        );
        all[2].1 = false;
        assert_eq!(pick(&all).reason, Reason::PartlyKnown { expected_s: 2.0 });
        assert_eq!(pick(&all).index, 1);
        all[1].2 = None;
        assert_eq!(pick(&all).index, 0);
        assert_eq!(pick(&all).reason, Reason::NothingKnown);
        all[0].1 = false;
        assert_eq!(pick(&all).reason, Reason::Only { expected_s: None });
    }

    #[test]
    fn an_incumbent_stays_within_the_margin() {
        let all = [("a", true, Some(of(10.0))), ("b", true, Some(of(10.15)))];
        let mode = Mode::Selector {
            incumbent: Some("b"),
            margin: Margin::DEFAULT,
        };
        assert_eq!(choose(&candidates(&all), mode).unwrap().index, 1);
        let all = [("a", true, Some(of(10.0))), ("b", true, Some(of(10.25)))];
        assert_eq!(choose(&candidates(&all), mode).unwrap().index, 0);
        // One that is gone or unknown is no incumbent.
        let all = [("a", true, Some(of(10.0))), ("b", false, Some(of(10.1)))];
        assert_eq!(choose(&candidates(&all), mode).unwrap().index, 0);
    }

    #[test]
    fn errors_name_the_cause_and_the_way_out() {
        let all = [("edge", true, None), ("cpu", false, None)];
        let all = candidates(&all);
        let pin = |name| choose(&all, Mode::Pinned(name));
        assert_eq!(pin("edge").unwrap().reason, Reason::Pinned);
        assert_eq!(pin("cpu").unwrap_err().code(), "runtime_unavailable");
        assert_eq!(
            pin("gpu9").unwrap_err().to_string(),
            "there is no runtime `gpu9`; there are: edge, cpu"
        );
        assert_eq!(
            choose(&[], Mode::selector()),
            Err(ChoiceError::NoCandidates)
        );
        assert_eq!(
            choose(&all[1..], Mode::selector()),
            Err(ChoiceError::NoneAvailable { candidates: 1 })
        );
    }
}
