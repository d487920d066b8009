//! What each policy would have made of a batch whose every run is logged.
//!
//! Everything here is measured but one thing: how far the edge had come at a moment, which no log tells. It is taken to
//! go on evenly, from the first image to the last. A pod in the cloud is up after T_t + T_d, as the paper sums them.

use std::collections::BTreeMap;

use stoic_placement::account::{Account, Entry};
use stoic_placement::chance::expected;
use stoic_placement::duplicator::{Resolution, remaining, resolve};
use stoic_placement::hedge::{Budget, Coming, Contender, Keep, first_up, plan};
use stoic_placement::{Candidate, Estimate, Mode, Running, choose, sum};

use crate::log::Parts;
use crate::score::{Case, Outcome};

/// A batch on one runtime: what it took, and what was predicted before.
#[derive(Debug, Clone)]
pub struct Contest<'a> {
    /// The runtime's name.
    pub runtime: &'a str,
    /// What it took.
    pub actual: Parts,
    /// What the paper's method said.
    pub paper: Estimate,
    /// What ours said.
    pub ours: Estimate,
}

impl Contest<'_> {
    /// Whether nothing has to be deployed: the paper's edge.
    fn local(&self) -> bool {
        self.ours.deployment.known && self.ours.deployment.mean == 0.0
    }

    /// When its pod is up with the batch beside it, seconds from the arrival.
    fn up_s(&self) -> f64 {
        self.actual.transfer + self.actual.deployment
    }
}

/// GPUs of a runtime, or one: as the paper's Table 5 counts, the time of `gpu2` is that of both.
#[must_use]
pub fn units(runtime: &str) -> u32 {
    let digits = runtime
        .strip_prefix("gpu")
        .or_else(|| runtime.strip_prefix("GPU"));
    digits
        .and_then(|digits| digits.parse().ok())
        .filter(|units| (1..=64).contains(units))
        .unwrap_or(1)
}

/// The accounts of the duplicator policies, by policy (paper, Table 5).
pub type Accounts = BTreeMap<String, Account>;

/// Plays every policy on one batch of `items` images.
#[must_use]
pub fn play(items: f64, contests: &[Contest<'_>], accounts: &mut Accounts) -> Case {
    let mut case = Case {
        items,
        everywhere_s: contests
            .iter()
            .map(|c| (c.runtime.to_owned(), c.actual.total()))
            .collect(),
        outcomes: BTreeMap::new(),
    };
    case.choose_blindly();
    for (policy, by_paper) in [("paper_selector", true), ("selector", false)] {
        let candidates: Vec<Candidate<'_>> = contests
            .iter()
            .map(|c| Candidate {
                runtime: c.runtime,
                available: true,
                estimate: Some(if by_paper { &c.paper } else { &c.ours }),
            })
            .collect();
        if let Ok(choice) = choose(&candidates, Mode::selector()) {
            case.choose(policy, choice.index);
        }
    }
    let edge = contests.iter().position(Contest::local);
    let clouds: Vec<usize> = (0..contests.len())
        .filter(|index| !contests[*index].local())
        .collect();
    if clouds.is_empty() {
        return case;
    }
    let together = together(contests, &clouds);
    let hedged = hedged(contests, edge, &together, case.min_lat_s());
    case.outcomes.insert("hedged".to_owned(), hedged);
    if let Some(edge) = edge {
        let best = clouds
            .iter()
            .copied()
            .min_by(|a, b| {
                let mean = |index: usize| contests[index].ours.response.mean;
                mean(*a).total_cmp(&mean(*b))
            })
            .unwrap_or(clouds[0]);
        let mut race = |policy: String, clouds: &[usize]| {
            let race = Race {
                items,
                edge: &contests[edge],
                clouds: clouds.iter().map(|index| &contests[*index]).collect(),
            };
            let outcome = race.run(accounts.entry(policy.clone()).or_default());
            case.outcomes.insert(policy, outcome);
        };
        race("duplicator".to_owned(), &[best]);
        race("duplicator_hedged".to_owned(), &together.runtimes);
        for cloud in clouds {
            race(format!("duplicator_{}", contests[cloud].runtime), &[cloud]);
        }
    }
    case
}

/// The clouds that hedging deploys together.
struct Together {
    runtimes: Vec<usize>,
    expected_s: f64,
}

fn together(contests: &[Contest<'_>], clouds: &[usize]) -> Together {
    let contenders: Vec<Contender> = clouds
        .iter()
        .map(|&index| {
            let ours = &contests[index].ours;
            Contender {
                index,
                deployment: sum(&[ours.transfer, ours.deployment]),
                after: ours.processing,
                units: units(contests[index].runtime),
            }
        })
        .collect();
    let plan = plan(&contenders, &Budget::default());
    Together {
        runtimes: plan.runtimes,
        expected_s: plan.expected_s,
    }
}

/// The hedged selector: the edge where it is expected to be sooner, else the clouds of the plan, of which the first to
/// be up is kept.
fn hedged(
    contests: &[Contest<'_>],
    edge: Option<usize>,
    together: &Together,
    min_lat_s: f64,
) -> Outcome {
    if let Some(edge) = edge
        && (together.runtimes.is_empty()
            || expected(&contests[edge].ours.response) <= together.expected_s)
    {
        let response_s = contests[edge].actual.total();
        return Outcome {
            response_s,
            right: response_s <= min_lat_s + 1e-6,
            extra_cloud_s: 0.0,
        };
    }
    let clouds: Vec<&Contest<'_>> = together.runtimes.iter().map(|i| &contests[*i]).collect();
    let (response_s, extra_cloud_s) = first_of(&clouds);
    Outcome {
        response_s,
        right: response_s <= min_lat_s + 1e-6,
        extra_cloud_s,
    }
}

/// Clouds deployed together: when the answer is there, and the runtime seconds that gave none.
fn first_of(clouds: &[&Contest<'_>]) -> (f64, f64) {
    let mut order: Vec<&Contest<'_>> = clouds.to_vec();
    order.sort_by(|a, b| a.up_s().total_cmp(&b.up_s()));
    let Some((first, others)) = order.split_first() else {
        return (0.0, 0.0);
    };
    let up_s = first.up_s();
    let done_s = up_s + first.actual.processing;
    let coming: Vec<Coming> = others
        .iter()
        .enumerate()
        .map(|(index, c)| Coming {
            index,
            deployment: Running {
                total: sum(&[c.ours.transfer, c.ours.deployment]),
                elapsed_s: up_s,
            },
            after: c.ours.processing,
        })
        .collect();
    let held = |c: &Contest<'_>, until: f64| until.min(c.up_s()) * f64::from(units(c.runtime));
    match first_up(&first.ours.processing, &coming) {
        Keep::Also { index } => {
            let kept = others[index];
            let returned: f64 = (others.iter().enumerate())
                .filter(|(other, _)| *other != index)
                .map(|(_, c)| held(c, up_s))
                .sum();
            // It is overdue, and returned, past the upper end of its 90 % interval.
            let overdue_s = sum(&[kept.ours.transfer, kept.ours.deployment]).p90.high;
            let until = done_s.min(overdue_s.max(up_s));
            if kept.up_s() >= until {
                return (done_s, returned + held(kept, until));
            }
            let other_s = kept.up_s() + kept.actual.processing;
            let (loser, ran_s) = if other_s < done_s {
                (*first, other_s - up_s)
            } else {
                (kept, done_s - kept.up_s())
            };
            let lost = ran_s * f64::from(units(loser.runtime));
            (done_s.min(other_s), returned + lost)
        }
        _ => (done_s, others.iter().map(|c| held(c, up_s)).sum()),
    }
}

/// A batch begun at the edge while clouds are deployed (paper, section 4.3).
struct Race<'a> {
    items: f64,
    edge: &'a Contest<'a>,
    clouds: Vec<&'a Contest<'a>>,
}

impl Race<'_> {
    fn run(&self, account: &mut Account) -> Outcome {
        let edge_s = self.edge.actual.total();
        let mut order = self.clouds.clone();
        order.sort_by(|a, b| a.up_s().total_cmp(&b.up_s()));
        let Some((cloud, others)) = order.split_first() else {
            return Outcome {
                response_s: edge_s,
                right: true,
                extra_cloud_s: 0.0,
            };
        };
        let up_s = cloud.up_s();
        let gpus = units(cloud.runtime);
        // Whoever is up later is returned at that moment.
        let until = up_s.min(edge_s);
        let returned: f64 = others
            .iter()
            .map(|c| until * f64::from(units(c.runtime)))
            .sum();
        let outcome = |response_s: f64, right: bool, entry: &Entry| Outcome {
            response_s,
            right,
            extra_cloud_s: entry.lost_s + returned,
        };
        if edge_s <= up_s {
            let entry = account.edge_before_pod(cloud.runtime, gpus, cloud.actual.processing);
            return outcome(edge_s, true, &entry);
        }
        let cloud_s = up_s + cloud.actual.processing;
        let worked_s = (up_s - self.edge.actual.transfer).max(0.0);
        let done = if self.edge.actual.processing > 0.0 {
            (self.items * worked_s / self.edge.actual.processing).floor()
        } else {
            0.0
        };
        let edge_rest = remaining(done, self.items, worked_s, &self.edge.ours.processing);
        match resolve(&edge_rest, &cloud.ours.processing) {
            Resolution::EdgeOnly => {
                let late = (edge_s - cloud_s).max(0.0);
                let processing = cloud.actual.processing;
                let entry = account.edge_alone(cloud.runtime, gpus, processing, Some(late));
                outcome(edge_s, late <= 0.0, &entry)
            }
            Resolution::Both if edge_s < cloud_s => {
                let entry = account.edge_first(cloud.runtime, gpus, edge_s - up_s);
                outcome(edge_s, false, &entry)
            }
            Resolution::Both => {
                let entry = account.cloud_first(cloud.runtime, gpus, cloud.actual.processing);
                outcome(cloud_s, true, &entry)
            }
        }
    }
}
