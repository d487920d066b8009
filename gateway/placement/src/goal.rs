//! A choice by more than expected time: by the chance to answer within a
//! deadline, and by what the runtime's seconds cost.
//!
//! * Without a deadline the least **worth** wins: expected response in seconds,
//!   plus the runtime seconds used (T_d + T_p) times their price, times how many
//!   seconds of waiting one unit of price is worth.
//! * With a deadline and no chance named, the greatest chance to meet it wins;
//!   those within [`CHANCE_NOISE`] of it count as equal, and of them the least
//!   worth wins. So a lax deadline, which all meet, leaves the fastest (or, with
//!   prices, the cheapest) in its place.
//! * With a deadline and a chance named, the least worth wins among those that
//!   meet the deadline with at least that chance; when none does, it is as if
//!   none had been named.
//!
//! An incumbent stays as in the selector: within the margin of worth, and with
//! a chance less by no more than the noise once more.

use serde::Serialize;

use crate::chance;
use crate::choose::{Candidate, Choice, ChoiceError, Margin, Reason};
use crate::estimate::{MAX_SECONDS, sane_seconds};

/// Chances closer than this are equal: predictions tell no finer.
pub const CHANCE_NOISE: f64 = 0.005;

/// What the caller wants of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Goal<'a> {
    /// Seconds from now within which the answer is wanted.
    pub deadline_s: Option<f64>,
    /// The chance, 0 to 1, of meeting the deadline that is good enough.
    pub chance: Option<f64>,
    /// Price per runtime-second of each candidate, in their order; missing ones
    /// cost nothing.
    pub prices: &'a [f64],
    /// Seconds of waiting that one unit of price is worth.
    pub seconds_per_price: f64,
    /// Who got the last invocation like this one, if that matters.
    pub incumbent: Option<&'a str>,
    /// By how much another must be better to take over from the incumbent.
    pub margin: Margin,
}

impl Default for Goal<'_> {
    /// The selector's: least expected response.
    fn default() -> Self {
        Self {
            deadline_s: None,
            chance: None,
            prices: &[],
            seconds_per_price: 0.0,
            incumbent: None,
            margin: Margin::DEFAULT,
        }
    }
}

/// A candidate as the goal sees it.
#[derive(Debug, Clone, Copy)]
struct Judged {
    index: usize,
    /// Chance to meet the deadline; one when there is none.
    chance: f64,
    /// Expected response, and with the price, in seconds.
    expected_s: f64,
    worth_s: f64,
    price: f64,
    incumbent: bool,
}

impl Goal<'_> {
    /// The deadline, if it is a time; one that is over is zero seconds away.
    fn deadline(&self) -> Option<f64> {
        self.deadline_s.filter(|s| !s.is_nan()).map(|s| s.max(0.0))
    }

    fn judge(&self, index: usize, candidate: &Candidate<'_>) -> Option<Judged> {
        let estimate = candidate.estimate.filter(|e| e.response.known)?;
        let expected_s = estimate.response.mean;
        if !candidate.available || !expected_s.is_finite() {
            return None;
        }
        let per_second = self.prices.get(index).copied().and_then(sane_seconds);
        let used = estimate.deployment.mean + estimate.processing.mean;
        let price = (per_second.unwrap_or(0.0) * used).min(MAX_SECONDS);
        let seconds = sane_seconds(self.seconds_per_price).unwrap_or(0.0) * price;
        Some(Judged {
            index,
            chance: self
                .deadline()
                .map_or(1.0, |deadline| chance::within(&estimate.response, deadline)),
            expected_s,
            worth_s: expected_s + seconds.min(MAX_SECONDS),
            price,
            incumbent: self.incumbent == Some(candidate.runtime),
        })
    }

    /// Chooses among the candidates whose whole estimate is known; `None` when
    /// there is none, and the selector's rules for the unknown are to hold.
    pub(crate) fn choose<'c>(
        &self,
        count: usize,
        candidate: &impl Fn(usize) -> Candidate<'c>,
    ) -> Option<Choice> {
        let mut greatest = 0.0f64;
        for index in 0..count {
            if let Some(judged) = self.judge(index, &candidate(index)) {
                greatest = greatest.max(judged.chance);
            }
        }
        let wanted = self
            .chance
            .filter(|c| c.is_finite())
            .map(|c| c.clamp(0.0, 1.0));
        let met = self.deadline().is_some() && wanted.is_some_and(|wanted| greatest >= wanted);
        let least = match wanted {
            Some(wanted) if met => wanted,
            _ => greatest - CHANCE_NOISE,
        };
        let mut best: Option<Judged> = None;
        let mut next: Option<Judged> = None;
        let mut incumbent: Option<Judged> = None;
        for index in 0..count {
            let Some(judged) = self.judge(index, &candidate(index)) else {
                continue;
            };
            if judged.incumbent && judged.chance >= least - CHANCE_NOISE && incumbent.is_none() {
                incumbent = Some(judged);
            }
            if judged.chance < least {
                continue;
            }
            if best.is_none_or(|b| judged.worth_s < b.worth_s) {
                next = best.replace(judged);
            } else if next.is_none_or(|n| judged.worth_s < n.worth_s) {
                next = Some(judged);
            }
        }
        let best = best?;
        if let Some(kept) = incumbent
            && kept.index != best.index
            && kept.worth_s - best.worth_s <= self.margin.around(best.worth_s)
        {
            return Some(Choice {
                index: kept.index,
                reason: Reason::Incumbent {
                    expected_s: kept.expected_s,
                    best: best.index,
                    behind_s: kept.worth_s - best.worth_s,
                },
            });
        }
        let reason = match self.deadline() {
            Some(deadline_s) if met => Reason::LikelyEnough {
                deadline_s,
                chance: best.chance,
                wanted: least,
                expected_s: best.expected_s,
                price: best.price,
            },
            Some(deadline_s) => Reason::MostLikely {
                deadline_s,
                chance: best.chance,
                expected_s: best.expected_s,
            },
            None if best.worth_s > best.expected_s || next.is_some_and(|n| n.price > 0.0) => {
                Reason::LeastWorth {
                    expected_s: best.expected_s,
                    price: best.price,
                    worth_s: best.worth_s,
                }
            }
            None => match next {
                Some(next) => Reason::Least {
                    expected_s: best.expected_s,
                    next: next.index,
                    ahead_s: next.expected_s - best.expected_s,
                },
                None => Reason::Only {
                    expected_s: Some(best.expected_s),
                },
            },
        };
        Some(Choice {
            index: best.index,
            reason,
        })
    }
}

/// The chance of each candidate to answer within `deadline_s`, in their order;
/// zero for those that are unavailable or whose estimate is not whole.
///
/// # Errors
/// When there is no candidate.
pub fn chances(candidates: &[Candidate<'_>], deadline_s: f64) -> Result<Vec<f64>, ChoiceError> {
    if candidates.is_empty() {
        return Err(ChoiceError::NoCandidates);
    }
    Ok(candidates
        .iter()
        .map(|c| match c.estimate {
            Some(estimate) if c.available => chance::within(&estimate.response, deadline_s),
            _ => 0.0,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::{Mode, choose};
    use crate::estimate::{Estimate, Part};

    fn of(deployment: Part, processing: Part) -> Estimate {
        Estimate::of(Part::ZERO, Part::ZERO, deployment, processing)
    }

    /// A steady edge of 40 s, and a cloud of 30 s with a tail.
    fn two() -> [Estimate; 2] {
        [
            of(Part::ZERO, Part::around(40.0, (-1.0, 1.0), (-2.0, 2.0), 9)),
            of(
                Part::around(20.0, (-4.0, 6.0), (-8.0, 60.0), 9),
                Part::exact(10.0),
            ),
        ]
    }

    fn pick(estimates: &[Estimate], goal: Goal<'_>) -> Choice {
        let names = ["edge", "gpu1", "gpu2"];
        let candidates: Vec<Candidate<'_>> = estimates
            .iter()
            .zip(names)
            .map(|(estimate, runtime)| Candidate {
                runtime,
                available: true,
                estimate: Some(estimate),
            })
            .collect();
        choose(&candidates, Mode::Goal(goal)).unwrap()
    }

    #[test]
    fn a_goal_of_nothing_is_the_selector() {
        let choice = pick(&two(), Goal::default());
        assert_eq!(choice.index, 1);
        assert!(
            matches!(choice.reason, Reason::Least { next: 0, .. }),
            "{choice:?}"
        );
    }

    #[test]
    fn a_deadline_takes_the_sure_one_and_a_tight_one_the_only_one_that_can() {
        let goal = |deadline_s| Goal {
            deadline_s: Some(deadline_s),
            ..Goal::default()
        };
        let sure = pick(&two(), goal(45.0));
        assert_eq!(sure.index, 0);
        assert_eq!(sure.reason.word(), "most_likely");
        assert!(
            sure.reason.to_string().contains("chance"),
            "{}",
            sure.reason
        );
        assert_eq!(pick(&two(), goal(32.0)).index, 1);
        // One that all of them meet is as none.
        assert_eq!(pick(&two(), goal(4000.0)).index, 1);
    }

    #[test]
    fn a_chance_that_is_enough_leaves_room_for_the_cheaper() {
        let goal = Goal {
            deadline_s: Some(45.0),
            chance: Some(0.75),
            ..Goal::default()
        };
        let choice = pick(&two(), goal);
        assert_eq!((choice.index, choice.reason.word()), (1, "likely_enough"));
        // Nobody reaches it: the greatest chance.
        let choice = pick(
            &two(),
            Goal {
                deadline_s: Some(32.0),
                chance: Some(0.99),
                ..goal
            },
        );
        assert_eq!((choice.index, choice.reason.word()), (1, "most_likely"));
    }

    #[test]
    fn a_price_moves_the_choice_to_the_cheap() {
        let goal = |seconds_per_price| Goal {
            prices: &[0.0, 0.1],
            seconds_per_price,
            ..Goal::default()
        };
        assert_eq!(pick(&two(), goal(0.0)).index, 1);
        assert_eq!(pick(&two(), goal(2.0)).index, 1);
        let choice = pick(&two(), goal(10.0));
        assert_eq!((choice.index, choice.reason.word()), (0, "least_worth"));
    }

    #[test]
    fn what_is_no_goal_is_borne() {
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            let goal = Goal {
                deadline_s: Some(bad),
                chance: Some(bad),
                prices: &[bad, bad],
                seconds_per_price: bad,
                ..Goal::default()
            };
            pick(&two(), goal);
        }
        let unknown = [Estimate::of(
            Part::ZERO,
            Part::ZERO,
            Part::UNKNOWN,
            Part::ZERO,
        )];
        let goal = Goal {
            deadline_s: Some(1.0),
            ..Goal::default()
        };
        assert_eq!(pick(&unknown, goal).reason.word(), "partly_known");
        assert_eq!(chances(&[], 1.0), Err(ChoiceError::NoCandidates));
    }
}
