//! Hedged selector: where the predictions of several cloud runtimes overlap,
//! more than one is deployed, whichever is up first is kept and the others are
//! returned. It cuts the long tail of deployments, which the selector cannot
//! foresee, for a bounded price in runtime seconds.

use serde::{Deserialize, Serialize};

use crate::chance::{expected, expected_first};
use crate::estimate::{Part, sum};
use crate::queueing::Running;

/// A cloud runtime that could be deployed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contender {
    /// Its index among the caller's runtimes.
    pub index: usize,
    /// Wait for its pod.
    pub deployment: Part,
    /// What follows once the pod is up: the rest of the transfer, and T_p.
    pub after: Part,
    /// GPUs, or how much a second of it counts for; at least one.
    pub units: u32,
}

impl Contender {
    fn response(&self) -> Part {
        sum(&[self.deployment, self.after])
    }

    fn weight(&self) -> f64 {
        f64::from(self.units.max(1))
    }
}

/// What hedging may cost, per invocation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Expected seconds of runtime, times units, that the pods beside the first
    /// may be held in vain.
    pub seconds: f64,
    /// Pods deployed at once at most, the first included.
    pub most: usize,
    /// The expected answer must come sooner by at least this share of the
    /// runtime seconds spent: 0 takes any gain, 1 wants a second for a second.
    pub worth: f64,
}

impl Default for Budget {
    /// Three pods, two minutes of runtime, and a gain of a tenth of what it
    /// costs.
    fn default() -> Self {
        Self {
            seconds: 120.0,
            most: 3,
            worth: 0.1,
        }
    }
}

/// Which runtimes to deploy together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Indices of the contenders' runtimes, the best first; empty when nothing
    /// is known of any.
    pub runtimes: Vec<usize>,
    /// Expected seconds until the answer, with all of them.
    pub expected_s: f64,
    /// Expected seconds with the best alone.
    pub alone_s: f64,
    /// Expected runtime seconds, times units, of the pods returned.
    pub cost_s: f64,
}

/// Plans which cloud runtimes to deploy together.
///
/// The one of least expected response always goes. Of the others, those whose
/// 90 % interval reaches below the upper end of the best's 50 % interval are
/// tried in order of their expected response, and join if the first of all then
/// comes sooner by at least `worth` of what they cost more, within the budget.
/// A pod costs the time until the first of all is up.
#[must_use]
pub fn plan(contenders: &[Contender], budget: &Budget) -> Plan {
    let mut order: Vec<(f64, &Contender, Part)> = contenders
        .iter()
        .map(|c| (c, c.response()))
        .filter(|(_, response)| response.known)
        .map(|(c, response)| (expected(&response), c, response))
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some(&(alone_s, first, best)) = order.first() else {
        return Plan {
            runtimes: Vec::new(),
            expected_s: 0.0,
            alone_s: 0.0,
            cost_s: 0.0,
        };
    };
    let mut chosen = vec![first];
    let mut responses = vec![best];
    let (mut expected_s, mut cost_s) = (alone_s, 0.0);
    for &(_, contender, response) in &order[1..] {
        if chosen.len() >= budget.most.max(1) {
            break;
        }
        if response.p90.low > best.p50.high {
            continue;
        }
        responses.push(response);
        chosen.push(contender);
        let sooner = expected_first(&responses).min(expected_s);
        let cost = returned(&chosen);
        let gain = expected_s - sooner;
        let more = cost - cost_s;
        if gain > 0.0 && gain >= budget.worth * more && cost <= budget.seconds {
            (expected_s, cost_s) = (sooner, cost);
        } else {
            responses.pop();
            chosen.pop();
        }
    }
    Plan {
        runtimes: chosen.iter().map(|c| c.index).collect(),
        expected_s,
        alone_s,
        cost_s,
    }
}

/// Expected runtime seconds of the pods that will be returned: each is held
/// until the first of all is up. Which one that is, is not known: all but the
/// dearest count.
fn returned(chosen: &[&Contender]) -> f64 {
    let deployments: Vec<Part> = chosen.iter().map(|c| c.deployment).collect();
    let units: f64 = chosen.iter().map(|c| c.weight()).sum();
    let kept = chosen
        .iter()
        .map(|c| c.weight())
        .fold(f64::INFINITY, f64::min);
    expected_first(&deployments) * (units - kept)
}

/// A pod that is still being deployed when the first of a plan is up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coming {
    /// Its index among the caller's runtimes.
    pub index: usize,
    /// Its deployment as predicted, and for how long it has gone on.
    pub deployment: Running,
    /// What follows once it is up.
    pub after: Part,
}

/// What to do with a pod that is up while others are coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Keep {
    /// Give it the work and return the others.
    This,
    /// Another is predicted to answer sooner although it is not up yet: give
    /// the work to this one, and keep that one coming until it is overdue.
    Also {
        /// Its index.
        index: usize,
    },
}

/// The first pod of a plan is up and would take `after` from here: is it kept
/// alone? Another is kept beside it only if even with the rest of its deployment
/// it is predicted to answer at least a fifth sooner, which two GPUs may.
#[must_use]
pub fn first_up(after: &Part, coming: &[Coming]) -> Keep {
    const SOONER: f64 = 0.8;
    if !after.known {
        return Keep::This;
    }
    coming
        .iter()
        .map(|c| (c.index, sum(&[c.deployment.remaining(), c.after])))
        .filter(|(_, rest)| rest.known && rest.mean < SOONER * after.mean)
        .min_by(|a, b| a.1.mean.total_cmp(&b.1.mean))
        .map_or(Keep::This, |(index, _)| Keep::Also { index })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(middle: f64, tail: f64) -> Part {
        Part::around(middle, (-5.0, 8.0), (-9.0, tail), 50)
    }

    fn contender(index: usize, deployment: Part, after: f64, units: u32) -> Contender {
        Contender {
            index,
            deployment,
            after: Part::around(after, (-1.0, 1.0), (-3.0, 3.0), 10),
            units,
        }
    }

    #[test]
    fn overlapping_tails_are_hedged_and_the_gain_is_told() {
        let both = [
            contender(2, deployment(25.0, 60.0), 40.0, 1),
            contender(3, deployment(30.0, 90.0), 34.0, 2),
        ];
        let plan = plan(&both, &Budget::default());
        assert_eq!(plan.runtimes.len(), 2, "{plan:?}");
        assert!(plan.expected_s < plan.alone_s - 3.0, "{plan:?}");
        assert!(plan.cost_s > 0.0 && plan.cost_s <= 120.0);
    }

    #[test]
    fn what_cannot_win_is_not_deployed() {
        let apart = [
            contender(1, deployment(25.0, 40.0), 20.0, 1),
            contender(2, deployment(25.0, 40.0), 200.0, 1),
        ];
        assert_eq!(plan(&apart, &Budget::default()).runtimes, [1]);
    }

    #[test]
    fn the_budget_holds() {
        let both = [
            contender(2, deployment(25.0, 60.0), 40.0, 1),
            contender(3, deployment(30.0, 90.0), 34.0, 2),
        ];
        for budget in [
            Budget {
                seconds: 10.0,
                ..Budget::default()
            },
            Budget {
                most: 1,
                ..Budget::default()
            },
            Budget {
                most: 0,
                ..Budget::default()
            },
            Budget {
                worth: 5.0,
                ..Budget::default()
            },
        ] {
            let plan = plan(&both, &budget);
            assert_eq!(plan.runtimes.len(), 1, "{budget:?}");
            assert_eq!((plan.cost_s, plan.expected_s), (0.0, plan.alone_s));
        }
    }

    #[test]
    fn the_unknown_are_left_out() {
        let unknown = Contender {
            deployment: Part::UNKNOWN,
            ..contender(0, Part::ZERO, 1.0, 1)
        };
        assert!(plan(&[unknown], &Budget::default()).runtimes.is_empty());
        let known = contender(1, deployment(25.0, 60.0), 40.0, 1);
        assert_eq!(plan(&[unknown, known], &Budget::default()).runtimes, [1]);
    }

    #[test]
    fn the_first_up_is_kept_unless_another_is_clearly_sooner() {
        let coming = |total: f64, elapsed_s: f64, after: f64| Coming {
            index: 7,
            deployment: Running {
                total: Part::exact(total),
                elapsed_s,
            },
            after: Part::exact(after),
        };
        let after = Part::exact(100.0);
        assert_eq!(first_up(&after, &[coming(30.0, 25.0, 90.0)]), Keep::This);
        assert_eq!(
            first_up(&after, &[coming(30.0, 25.0, 40.0)]),
            Keep::Also { index: 7 }
        );
        assert_eq!(
            first_up(&Part::UNKNOWN, &[coming(1.0, 0.0, 1.0)]),
            Keep::This
        );
        assert_eq!(first_up(&after, &[]), Keep::This);
    }
}
