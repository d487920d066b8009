//! The policies: each lives through all batches with a line of its own at the edge.

mod alone;
mod race;
mod scene;
mod share;

use stoic_placement::modes::{Kind as Mode, Spending, Work, auto, cooperative_with};
use stoic_placement::{Account, Estimate, LinkModel};

use super::learn::Memory;
use super::outcome::Ended;
use super::scenario::Scenario;
use super::units::Quantiles;
use super::world::{World, regime};
use alone::End;
use scene::{Edge, Scene, Stage};

/// What decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// The oracle that may use one place only.
    MinLat,
    /// The oracle's opposite.
    Worst,
    /// The same runtime for every batch.
    Always(usize),
    /// The best that a selector can do that knows every distribution of the scenario, but no draw.
    IdealSelector,
    /// The paper's selector, by its own predictions.
    PaperSelector,
    /// Our selector.
    Selector,
    /// Our hedged selector.
    Hedged,
    /// The duplicator against one cloud runtime.
    Duplicator(usize),
    /// The edge and the best cloud runtime together.
    Cooperative,
    /// The same with hedged deployments.
    CooperativeHedged,
    /// Whatever mode is predicted to be soonest.
    Auto,
}

impl Policy {
    /// All policies for a scenario, oracles first.
    pub(super) fn all(scenario: &Scenario) -> Vec<Self> {
        let edge = scenario.edge();
        let mut all = vec![Self::MinLat, Self::Worst];
        all.extend((0..scenario.runtimes.len()).map(Self::Always));
        all.extend([
            Self::IdealSelector,
            Self::PaperSelector,
            Self::Selector,
            Self::Hedged,
        ]);
        let clouds = (0..scenario.runtimes.len()).filter(|r| *r != edge);
        all.extend(clouds.map(Self::Duplicator));
        all.extend([Self::Cooperative, Self::CooperativeHedged, Self::Auto]);
        all
    }

    /// Its name in tables.
    pub(super) fn name(self, scenario: &Scenario) -> String {
        let runtime = |index: usize| &scenario.runtimes[index].name.0;
        match self {
            Self::MinLat => "min_lat".to_owned(),
            Self::Worst => "worst".to_owned(),
            Self::Always(index) => format!("always_{}", runtime(index)),
            Self::IdealSelector => "ideal_selector".to_owned(),
            Self::PaperSelector => "paper_selector".to_owned(),
            Self::Selector => "selector".to_owned(),
            Self::Hedged => "hedged".to_owned(),
            Self::Duplicator(index) => format!("duplicator_{}", runtime(index)),
            Self::Cooperative => "cooperative".to_owned(),
            Self::CooperativeHedged => "cooperative_hedged".to_owned(),
            Self::Auto => "auto".to_owned(),
        }
    }

    /// Whether it is right when it is no slower than the fastest single place, rather than when a decision was.
    fn decides(self) -> bool {
        matches!(self, Self::Duplicator(_))
    }

    /// Lives through all batches.
    pub(super) fn live(
        self,
        scenario: &Scenario,
        world: &World,
        memory: &Memory,
    ) -> (Vec<Ended>, Account) {
        let link = &scenario.link;
        let stage = Stage {
            scenario,
            world,
            memory,
            edge: scenario.edge(),
            link: LinkModel {
                bandwidth_bytes_per_s: link.bytes_per_s.0,
                rtt_s: link.rtt_s.0,
                round_trips: 2.0,
                ..LinkModel::LOCAL
            },
        };
        let ideal = (self == Self::IdealSelector).then(|| Ideal::new(scenario));
        let mut edge = Edge::default();
        let mut account = Account::default();
        let ended = (0..world.batches.len())
            .map(|number| {
                let scene = Scene::new(stage, number, &mut edge);
                let (end, right) = self.play(&scene, ideal.as_ref(), &mut account);
                if let Some((from, to)) = end.edge {
                    let predicted = scene.predicted(stage.edge).mean;
                    edge.held(scene.batch.at + from, predicted, scene.batch.at + to);
                }
                self.judge(&scene, &end, right)
            })
            .collect();
        (ended, account)
    }

    fn judge(self, scene: &Scene<'_>, end: &End, right: bool) -> Ended {
        let best = scene.fastest(0..scene.count());
        let own = match self {
            Self::Duplicator(rival) => scene.fastest([scene.stage.edge, rival].into_iter()),
            _ => best,
        };
        let best_s = best.map_or(end.end_s, |b| b.1);
        Ended {
            response_s: end.end_s,
            best_s,
            own_best_s: own.map_or(end.end_s, |b| b.1),
            right: end.ok
                && if self.decides() {
                    right
                } else {
                    end.end_s <= best_s + 1e-6
                },
            failed: !end.ok,
            cloud: end.cloud,
        }
    }

    /// What it makes of one batch, and whether its decision was right where it takes one of its own.
    fn play(self, scene: &Scene<'_>, ideal: Option<&Ideal>, account: &mut Account) -> (End, bool) {
        let whole = |runtime: usize| (alone::alone(scene, runtime, 0.0, &mut Vec::new()), true);
        let edge = scene.stage.edge;
        match self {
            Self::MinLat => whole(scene.fastest(0..scene.count()).map_or(edge, |best| best.0)),
            Self::Worst => {
                let slowest = (0..scene.count())
                    .max_by(|&a, &b| scene.run(a, 0.0).end_s.total_cmp(&scene.run(b, 0.0).end_s));
                whole(slowest.unwrap_or(edge))
            }
            Self::Always(runtime) => whole(runtime),
            Self::IdealSelector => whole(ideal.map_or(edge, |ideal| ideal.choose(scene))),
            Self::PaperSelector => whole(alone::selected_as_in_the_paper(scene)),
            Self::Selector => {
                let estimates = scene.estimates();
                whole(alone::selected(scene, &estimates, &[]).unwrap_or(edge))
            }
            Self::Hedged => (alone::hedged(scene, &scene.estimates()), true),
            Self::Duplicator(rival) => {
                let estimates = scene.estimates();
                if scene.available(rival) {
                    race::race(scene, &estimates, rival, account)
                } else {
                    whole(edge)
                }
            }
            Self::Cooperative => (cooperative(scene, false), true),
            Self::CooperativeHedged => (cooperative(scene, true), true),
            Self::Auto => automatic(scene, account),
        }
    }
}

/// The edge with the cloud runtime that is predicted to share best, or with the whole hedge.
fn cooperative(scene: &Scene<'_>, hedged: bool) -> End {
    let estimates = scene.estimates();
    let places = alone::places(scene, &estimates);
    let edge = scene.stage.edge;
    let items = scene.batch.items as usize;
    let best = (0..scene.count())
        .filter(|&runtime| runtime != edge && scene.available(runtime))
        .map(|runtime| (runtime, cooperative_with(&places, edge, &[runtime], items)))
        .filter(|(_, part)| part.known)
        .min_by(|a, b| a.1.mean.total_cmp(&b.1.mean));
    let Some((best, _)) = best else {
        return alone::alone(scene, edge, 0.0, &mut Vec::new());
    };
    let mut clouds = vec![best];
    if hedged {
        let plan = alone::planned(scene, &places);
        clouds.extend(plan.runtimes.iter().copied().filter(|r| *r != best));
    }
    share::share(scene, &estimates, &clouds)
}

fn automatic(scene: &Scene<'_>, account: &mut Account) -> (End, bool) {
    let estimates: Vec<Estimate> = scene.estimates();
    let places = alone::places(scene, &estimates);
    let edge = scene.stage.edge;
    let work = Work {
        items: scene.batch.items as usize,
        divisible: true,
        repeatable: true,
    };
    let spending = Spending {
        budget: scene.stage.scenario.hedge,
        ..Spending::default()
    };
    let Ok(pick) = auto(&places, &work, &spending) else {
        return (alone::alone(scene, edge, 0.0, &mut Vec::new()), true);
    };
    let chosen = &pick.best.places;
    let first = chosen.first().copied().unwrap_or(edge);
    match pick.best.mode {
        Mode::Selector => (alone::alone(scene, first, 0.0, &mut Vec::new()), true),
        Mode::Hedged => (alone::deployed_together(scene, &estimates, chosen), true),
        Mode::Duplicator => match chosen.get(1) {
            Some(&rival) => race::race(scene, &estimates, rival, account),
            None => (alone::alone(scene, first, 0.0, &mut Vec::new()), true),
        },
        Mode::Cooperative => (share::share(scene, &estimates, &chosen[1..]), true),
    }
}

/// A selector that knows the distributions: the bound on every selector.
#[derive(Debug)]
struct Ideal {
    /// By runtime: equally likely deployments in rising order, with the sum of each and all above it.
    deployments: Vec<Vec<(f64, f64)>>,
    /// By runtime: what noise and slow machines make of a second on average.
    pace: Vec<f64>,
}

impl Ideal {
    fn new(scenario: &Scenario) -> Self {
        let outcomes = |quantiles: &Quantiles| {
            let count = 400;
            let mut above = 0.0;
            let mut all: Vec<(f64, f64)> = (0..count)
                .rev()
                .map(|i| {
                    let seconds = quantiles.at((f64::from(i) + 0.5) / f64::from(count));
                    above += seconds;
                    (seconds, above)
                })
                .collect();
            all.reverse();
            all
        };
        Self {
            deployments: scenario
                .runtimes
                .iter()
                .map(|r| {
                    r.deployment
                        .as_ref()
                        .map_or(Vec::new(), |d| outcomes(&d.quantiles))
                })
                .collect(),
            pace: scenario
                .runtimes
                .iter()
                .map(|r| {
                    let p = &r.processing;
                    let slow = 1.0 + p.slow_chance.0 * (p.slow_factor.0 - 1.0);
                    (p.noise.0 * p.noise.0 / 2.0).exp() * slow
                })
                .collect(),
        }
    }

    /// The runtime of least true expectation.
    fn choose(&self, scene: &Scene<'_>) -> usize {
        let expected = |runtime: usize| {
            let description = &scene.stage.scenario.runtimes[runtime];
            let p = &description.processing;
            let (slower, later) = regime(description, scene.batch.at);
            let work = (p.start_s.0 + p.per_item_s.0 * scene.items()) * self.pace[runtime] * slower;
            let arrived = if scene.is_edge(runtime) {
                scene.edge_wait_s
            } else {
                scene.arrived_s
            };
            let all = &self.deployments[runtime];
            if all.is_empty() {
                return arrived + work;
            }
            // The longer of the travel and the deployment.
            let scaled = arrived / later;
            let after = all.partition_point(|d| d.0 < scaled);
            let above = all.get(after).map_or(0.0, |d| d.1);
            (after as f64 * arrived + above * later) / all.len() as f64 + work
        };
        (0..scene.count())
            .filter(|&runtime| scene.available(runtime))
            .min_by(|&a, &b| expected(a).total_cmp(&expected(b)))
            .unwrap_or(scene.stage.edge)
    }
}
