//! Where a batch may go by its mode, from what is predicted of each runtime: the edge, the best cloud
//! runtime, several of them.

use super::batch::BatchJob;
use super::package::Staged;
use crate::gateway::Gateway;
use crate::mode::Mode;
use crate::scheduler::{Ask, Placed};
use stoic_package::Kind;
use stoic_placement::hedge::{self, Contender};
use stoic_placement::{Estimate, Part, Reason, cooperative, modes, sum};

/// Runtimes that can take the batch now: those of the home site, and those of others. The best of each
/// first; one of which nothing is known comes after those of which something is.
fn both(gateway: &Gateway, job: &BatchJob, staged: &Staged) -> (Vec<Placed>, Vec<Placed>) {
    let ask = Ask {
        pinned: None,
        ..job.ask(staged, &[])
    };
    let mut all: Vec<(bool, Placed)> = gateway
        .scheduler
        .predict(&job.deployed, &ask)
        .into_iter()
        .filter(|one| one.available)
        .filter_map(|one| {
            let runtime = gateway.scheduler.runtime(&one.runtime)?;
            let placed = Placed {
                runtime,
                estimate: one.estimate,
                reason: Reason::Pinned,
            };
            Some((gateway.scheduler.runtimes()[runtime].remote, placed))
        })
        .collect();
    let key = |e: &Estimate| (!e.response.known, e.response.mean);
    all.sort_by(|(_, a), (_, b)| {
        let (a, b) = (key(&a.estimate), key(&b.estimate));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    let (remote, home): (Vec<_>, Vec<_>) = all.into_iter().partition(|(remote, _)| *remote);
    let placed = |all: Vec<(bool, Placed)>| all.into_iter().map(|(_, placed)| placed).collect();
    (placed(home), placed(remote))
}

/// The edge runtime, and the cloud runtime that is named or else the best, for modes that use both.
pub(super) fn pair(
    gateway: &Gateway,
    job: &BatchJob,
    staged: &Staged,
) -> (Option<Placed>, Option<Placed>) {
    let (home, remote) = both(gateway, job, staged);
    let named = |placed: &Placed| {
        let name = &gateway.scheduler.runtimes()[placed.runtime].name;
        job.runtime.as_ref().is_none_or(|wanted| wanted == name)
    };
    (home.into_iter().next(), remote.into_iter().find(named))
}

/// GPUs of a runtime; one for those without, as a second of theirs counts once.
pub(super) fn units(gateway: &Gateway, runtime: usize) -> u32 {
    let name = &gateway.scheduler.runtimes()[runtime].name;
    let config = gateway.config.runtimes.get(name);
    config.map_or(1, |config| config.gpus.max(1))
}

/// The runtimes to deploy together, for mode `hedged`: what the selector chose, and where that is a
/// cloud runtime, those that may be up and done before it. Where mode `auto` has chosen to hedge, the
/// cloud's in any case: together they are sooner than the one that the selector would take.
pub(super) fn hedged(
    gateway: &Gateway,
    job: &BatchJob,
    staged: &Staged,
    selected: &Placed,
    avoid: &[usize],
    decided: bool,
) -> Vec<Placed> {
    let remote = gateway.scheduler.runtimes()[selected.runtime].remote;
    if !remote && job.runtime.is_none() && !decided {
        return vec![selected.clone()];
    }
    let (_, mut cloud) = both(gateway, job, staged);
    cloud.retain(|placed| !avoid.contains(&placed.runtime));
    if let Some(wanted) = &job.runtime {
        let runtimes = gateway.scheduler.runtimes();
        cloud.retain(|placed| runtimes[placed.runtime].name == *wanted);
    }
    let contenders: Vec<Contender> = cloud
        .iter()
        .map(|placed| Contender {
            index: placed.runtime,
            deployment: sum(&[placed.estimate.queueing, placed.estimate.deployment]),
            after: sum(&[placed.estimate.transfer, placed.estimate.processing]),
            units: units(gateway, placed.runtime),
        })
        .collect();
    let plan = hedge::plan(&contenders, &gateway.config.placement.hedge);
    let planned = plan.runtimes.iter().filter_map(|runtime| {
        let place = |placed: &&Placed| placed.runtime == *runtime;
        cloud.iter().find(place).cloned()
    });
    let planned: Vec<Placed> = planned.collect();
    if !planned.is_empty() {
        return planned;
    }
    match cloud.into_iter().next().filter(|_| job.runtime.is_some()) {
        Some(named) => vec![named],
        None => vec![selected.clone()],
    }
}

/// What a place would take of a batch that it shares: the wait until its first item, the whole
/// processing, what of that is spent before the first item, and the seconds that each item travels.
fn share(
    gateway: &Gateway,
    job: &BatchJob,
    placed: &Placed,
    staged: &Staged,
) -> (Part, Part, f64, f64) {
    let e = &placed.estimate;
    let transfer = e.transfer.mean / staged.items.max(1) as f64;
    (
        sum(&[e.queueing, e.deployment]),
        e.processing,
        gateway
            .scheduler
            .start_s(&job.deployed, &job.action, placed.runtime),
        transfer,
    )
}

/// The expected time of a batch that two places share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Together {
    /// As predicted.
    pub(super) part: Part,
    /// By the fluid view alone, where it knows.
    pub(super) fluid_s: Option<f64>,
}

/// The expected time of a batch that the edge and a place in the cloud share.
pub(super) fn shared(
    gateway: &Gateway,
    job: &BatchJob,
    [edge, cloud]: [&Placed; 2],
    staged: &Staged,
) -> Together {
    let places = [edge, cloud].map(|placed| share(gateway, job, placed, staged));
    let fluid = cooperative::predict(staged.items as f64, &places);
    let models = job.deployed.models();
    Together {
        part: models.sharing(&job.action, cloud.runtime).of(&fluid),
        fluid_s: fluid.known.then_some(fluid.mean),
    }
}

/// Whether the batch can be divided among pods.
pub(super) fn divisible(job: &BatchJob, staged: &Staged) -> bool {
    job.deployed.function.object.spec.divisible
        && job.action == "infer"
        && staged.items > 1
        && Kind::of(&staged.content_type).is_some()
}

/// What mode `auto` has chosen.
#[derive(Debug)]
pub(super) struct Chosen {
    /// The mode.
    pub(super) mode: Mode,
    /// The cloud runtime that it uses beside the edge.
    pub(super) cloud: Option<String>,
    /// Why, in one line.
    pub(super) why: String,
}

/// The mode that is predicted to be best, for mode `auto`, among those that the gateway can run.
pub(super) fn best(gateway: &Gateway, job: &BatchJob, staged: &Staged) -> Chosen {
    let ask = Ask {
        pinned: None,
        ..job.ask(staged, &[])
    };
    let work = modes::Work {
        items: usize::try_from(staged.items).unwrap_or(usize::MAX),
        divisible: divisible(job, staged),
        repeatable: job.action == "infer",
    };
    let pick = match gateway.scheduler.pick_mode(&job.deployed, &ask, &work) {
        Ok(pick) => pick,
        Err(error) => {
            // The selector refuses it in its own words.
            return Chosen {
                mode: Mode::Selector,
                cloud: None,
                why: error.to_string(),
            };
        }
    };
    let mode = match pick.best.mode {
        modes::Kind::Selector => Mode::Selector,
        modes::Kind::Hedged => Mode::Hedged,
        modes::Kind::Duplicator => Mode::Duplicator,
        modes::Kind::Cooperative => Mode::Cooperative,
    };
    let beside = matches!(mode, Mode::Duplicator | Mode::Cooperative);
    let runtimes = gateway.scheduler.runtimes();
    let mut used = pick.best.places.iter().map(|runtime| &runtimes[*runtime]);
    let cloud = used.find(|info| info.remote).filter(|_| beside);
    Chosen {
        mode,
        cloud: cloud.map(|info| info.name.clone()),
        why: pick.to_string(),
    }
}
