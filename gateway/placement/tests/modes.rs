//! What must hold for the modes' decisions whatever comes in.

// In a test an unwrap is an assertion; clippy sees that only inside `#[test]`.
#![allow(clippy::unwrap_used)]

use std::ops::Range;

use proptest::prelude::*;
use stoic_placement::account::Entry;
use stoic_placement::availability::{Action, Event, ProbeConfig, Standing, Watch};
use stoic_placement::cooperative::{Division, End, Sharing, Side};
use stoic_placement::goal::{CHANCE_NOISE, chances};
use stoic_placement::hedge::{Budget, Contender, plan};
use stoic_placement::modes::{Kind, Place, Spending, Work, auto};
use stoic_placement::*;

/// Any number that a broken caller may give, and sensible ones.
fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => 0.0..500.0,
        1 => Just(0.0),
        1 => Just(1e12),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(-3.0),
    ]
}

prop_compose! {
    fn part()(
        mean in 0.0f64..300.0,
        low in 0.0f64..1.0, lower in 0.0f64..1.0,
        high in 0.0f64..50.0, higher in 0.0f64..400.0,
        points in 0usize..50, known in prop_oneof![9 => Just(true), 1 => Just(false)],
    ) -> Part {
        if !known {
            return Part::UNKNOWN;
        }
        let interval = |low, high| Interval { low, high };
        let inner = interval(mean * low, mean + high);
        let outer = interval(inner.low * lower, inner.high + higher);
        Part { mean, p50: inner, p90: outer, known, points }
    }
}

prop_compose! {
    fn estimate()(queueing in part(), transfer in part(), deployment in part(), processing in part()) -> Estimate {
        Estimate::of(queueing, transfer, deployment, processing)
    }
}

const NAMES: [&str; 6] = ["r0", "r1", "r2", "r3", "r4", "r5"];

fn candidates(all: &[(bool, Estimate)]) -> Vec<Candidate<'_>> {
    all.iter()
        .zip(NAMES)
        .map(|((available, estimate), runtime)| Candidate {
            runtime,
            available: *available,
            estimate: Some(estimate),
        })
        .collect()
}

fn is_sound(part: &Part) -> bool {
    let ends = [
        part.p90.low,
        part.p50.low,
        part.mean,
        part.p50.high,
        part.p90.high,
    ];
    part.p90.low >= 0.0
        && ends.iter().all(|end| end.is_finite())
        && ends.windows(2).all(|pair| pair[0] <= pair[1])
}

/// What a side does next in a random run of a shared batch.
#[derive(Debug, Clone)]
enum Step {
    Claim(usize),
    /// Does the oldest claim, or so many of its items.
    Work(usize, Option<usize>),
    /// Reports progress without results.
    Tell(usize, usize),
    /// Gives the oldest claim back.
    Fail(usize),
    Lose(usize),
    Revive(usize),
    Stage(usize),
    Arrive(usize),
    Break(usize),
    /// Results that nobody asked for.
    Stray(usize, usize, usize),
    Wait(f64),
}

fn step(sides: usize) -> impl Strategy<Value = Step> {
    let side = 0..sides;
    prop_oneof![
        8 => side.clone().prop_map(Step::Claim),
        8 => (side.clone(), proptest::option::of(1usize..9)).prop_map(|(s, n)| Step::Work(s, n)),
        2 => (side.clone(), 0usize..20).prop_map(|(s, n)| Step::Tell(s, n)),
        3 => side.clone().prop_map(Step::Fail),
        1 => side.clone().prop_map(Step::Lose),
        1 => side.clone().prop_map(Step::Revive),
        3 => side.clone().prop_map(Step::Stage),
        3 => side.clone().prop_map(Step::Arrive),
        1 => side.clone().prop_map(Step::Break),
        1 => (side, 0usize..200, 0usize..200).prop_map(|(s, a, b)| Step::Stray(s, a, b)),
        4 => (0.0f64..30.0).prop_map(Step::Wait),
    ]
}

prop_compose! {
    fn side()(
        back in any::<bool>(), seconds_per_item in any_number(), chunk_overhead_s in any_number(),
        transfer_s_per_item in any_number(), ready_at in any_number(),
    ) -> Side {
        Side {
            end: if back { End::Back } else { End::Front },
            seconds_per_item, chunk_overhead_s, transfer_s_per_item, ready_at,
        }
    }
}

/// A shared batch with what is counted, item by item.
struct Run {
    division: Division,
    counted: Vec<u32>,
    way: Vec<Option<Range<usize>>>,
    now: f64,
}

impl Run {
    fn new(items: usize, sides: Vec<Side>) -> Self {
        Self {
            way: vec![None; sides.len()],
            division: Division::new(items, sides),
            counted: vec![0; items],
            now: 0.0,
        }
    }

    fn count(&mut self, new: Vec<Range<usize>>) {
        for item in new.into_iter().flatten() {
            self.counted[item] += 1;
        }
    }

    fn take(&mut self, step: &Step) {
        let now = self.now;
        let oldest = |division: &Division, side: usize| division.held(side).first().cloned();
        match *step {
            Step::Claim(side) => {
                if let Some(claim) = self.division.claim(side, now) {
                    assert!(!claim.is_empty() && claim.end <= self.counted.len());
                }
            }
            Step::Work(side, some) => {
                if let Some(claim) = oldest(&self.division, side) {
                    let end = some.map_or(claim.end, |n| claim.end.min(claim.start + n));
                    let new = self.division.done(side, claim.start..end, now);
                    self.count(new);
                    for moot in self.division.moot(side) {
                        self.division.failed(side, moot, now);
                    }
                }
            }
            Step::Tell(side, items) => self.division.progress(side, items, now),
            Step::Fail(side) => {
                if let Some(claim) = oldest(&self.division, side) {
                    self.division.failed(side, claim, now);
                }
            }
            Step::Lose(side) => {
                self.division.lost(side, now);
            }
            Step::Revive(side) => self.division.revived(side, now),
            Step::Stage(side) => {
                if self.way[side].is_none() {
                    self.way[side] = self.division.stage(side, now);
                }
            }
            Step::Arrive(side) => {
                if let Some(range) = self.way[side].take() {
                    self.division.staged_up_to(side, &range);
                }
            }
            Step::Break(side) => {
                self.way[side] = None;
                self.division.stage_failed(side);
            }
            Step::Stray(side, from, to) => {
                let new = self.division.done(side, from..to, now);
                self.count(new);
            }
            Step::Wait(seconds) => self.now += seconds,
        }
    }

    /// What must hold at any moment.
    fn check(&self) {
        let done = self.counted.iter().filter(|n| **n > 0).count();
        assert!(self.counted.iter().all(|n| *n <= 1));
        assert_eq!(self.division.left(), self.counted.len() - done);
        assert_eq!(self.division.complete(), done == self.counted.len());
        let sides = self.way.len();
        let held: usize = (0..sides).map(|s| self.division.counted(s)).sum();
        assert_eq!(held, done);
        // What is free is held by nobody, what is neither free nor done by somebody.
        let mut held = vec![false; self.counted.len()];
        for claim in (0..sides).flat_map(|s| self.division.held(s)) {
            held[claim].fill(true);
        }
        let open = self
            .counted
            .iter()
            .zip(&held)
            .filter(|(n, held)| **n == 0 && !**held);
        assert_eq!(open.count(), self.division.unclaimed());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the order of claims, results, failures, losses and transfers, every item is counted once; and from any
    /// state, one side that lives on completes the batch in bounded steps although all others hang.
    #[test]
    fn every_item_is_counted_once_and_one_living_side_completes_the_batch(
        items in 0usize..200,
        sides in proptest::collection::vec(side(), 1..4),
        steps in proptest::collection::vec(step(3), 0..120),
        survivor in 0usize..3,
    ) {
        let count = sides.len();
        let survivor = survivor % count;
        let mut run = Run::new(items, sides);
        for step in &steps {
            let within = match step {
                Step::Claim(s) | Step::Work(s, _) | Step::Tell(s, _) | Step::Fail(s) | Step::Lose(s)
                | Step::Revive(s) | Step::Stage(s) | Step::Arrive(s) | Step::Break(s) | Step::Stray(s, ..) => *s < count,
                Step::Wait(_) => true,
            };
            if within {
                run.take(step);
                run.check();
            }
        }
        // All others hang from here on: they neither answer nor fail.
        run.take(&Step::Revive(survivor));
        run.take(&Step::Break(survivor));
        let mut asked = 0;
        while !run.division.complete() {
            run.take(&Step::Claim(survivor));
            if run.division.held(survivor).is_empty() {
                run.take(&Step::Wait(1.0 + run.now));
            } else {
                run.take(&Step::Work(survivor, None));
                run.now += 0.01;
            }
            asked += 1;
            prop_assert!(asked < 5 * items + 500, "{:?}", run.division);
        }
        run.check();
    }

    /// Two healthy sides with an exact pace end within a chunk or so of the fluid bound.
    #[test]
    fn chunks_end_together(
        items in 1usize..1500, edge in 0.2f64..3.0, cloud in 0.05f64..3.0, ready in 0.0f64..100.0,
        overhead in 0.0f64..0.5,
    ) {
        use stoic_placement::cooperative::{Course, finish};
        let side = |end, seconds_per_item, ready_at| Side {
            end, seconds_per_item, chunk_overhead_s: overhead, transfer_s_per_item: 0.0, ready_at,
        };
        let mut division = Division::new(items, vec![side(End::Front, edge, 0.0), side(End::Back, cloud, ready)]);
        let paces = [edge, cloud];
        let free_at = [0.0, ready];
        let mut at: [Option<(f64, Range<usize>)>; 2] = [None, None];
        let mut now: f64 = 0.0;
        let mut ended: f64 = 0.0;
        for _ in 0..100_000 {
            if division.complete() {
                break;
            }
            for side in 0..2 {
                if let Some(chunk) = &at[1 - side] {
                    let pace = paces[1 - side];
                    let started = chunk.0 - chunk.1.len() as f64 * pace;
                    division.progress(1 - side, ((now - started) / pace).max(0.0) as usize, now);
                }
                if at[side].is_none() && free_at[side] <= now {
                    at[side] = division.claim(side, now)
                        .map(|range| (now + overhead + range.len() as f64 * paces[side], range));
                }
            }
            let next = (0..2)
                .filter_map(|side| at[side].as_ref().map(|(over, _)| (*over, side)))
                .min_by(|a, b| a.0.total_cmp(&b.0));
            let waiting = free_at.iter().copied().filter(|t| *t > now).fold(f64::INFINITY, f64::min);
            match next {
                Some((over, side)) if over <= waiting.min(now + 1.0) => {
                    now = over;
                    let (_, range) = at[side].take().unwrap();
                    division.done(side, range, now);
                    ended = now;
                }
                _ => now = waiting.min(now + 1.0),
            }
        }
        prop_assert!(division.complete());
        let bound = finish(items as f64, &[
            Course { ready_s: 0.0, seconds_per_item: edge, transfer_s_per_item: 0.0 },
            Course { ready_s: ready, seconds_per_item: cloud, transfer_s_per_item: 0.0 },
        ]);
        // Overhead may be a tenth of the work, an item or two cannot be split, and idle sides ask once a second.
        let allowed = bound * 1.12 + 2.0 * edge.max(cloud) + 6.0 * overhead + 1.0;
        prop_assert!(ended <= allowed, "{} for {}", ended, bound);
        prop_assert!(ended >= bound - 1e-6);
    }

    #[test]
    fn an_account_adds_up(
        races in proptest::collection::vec((0usize..3, 0u32..4, 0u8..5, any_number(), any_number()), 0..60),
    ) {
        let mut account = Account::default();
        let mut sum = Entry::default();
        for &(runtime, units, end, seconds, delay) in &races {
            let name = NAMES[runtime];
            sum.add(&match end {
                0 => account.edge_alone(name, units, seconds, Some(delay)),
                1 => account.edge_before_pod(name, units, seconds),
                2 => account.edge_first(name, units, seconds),
                3 => account.cloud_first(name, units, seconds),
                _ => account.cloud_failed(name, units, seconds),
            });
        }
        let total = account.total();
        prop_assert_eq!(total.races, races.len() as u64);
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + a.abs());
        prop_assert!(close(total.saved_s, sum.saved_s) && close(total.lost_s, sum.lost_s));
        prop_assert!(close(total.used_s, sum.used_s) && close(total.delayed_s, sum.delayed_s));
        prop_assert!(total.edge_wins <= total.races && total.balance_s().is_finite());
        let mut twice = account.clone();
        twice.add(&account);
        prop_assert_eq!(twice.total().races, 2 * total.races);
    }

    /// On any course of events the watch never probes more often or longer a day than its budget, and never while a
    /// measurement is younger than the period; and it is unavailable exactly from a time-out to the next success.
    #[test]
    fn the_inquisitor_keeps_its_budget(
        every_s in 1.0f64..4000.0, timeout_s in 1.0f64..2000.0, probes in 0u32..40, seconds in 0.0f64..9000.0,
        events in proptest::collection::vec((0u8..8, 0.0f64..3000.0), 0..200),
    ) {
        let config = ProbeConfig { every_s, timeout_s, probes_per_day: probes, seconds_per_day: seconds };
        let mut watch = Watch::new(config);
        let mut now = 0.0;
        let mut began: Option<f64> = None;
        let mut measured: Option<f64> = None;
        let mut days: std::collections::BTreeMap<u64, (u32, f64)> = Default::default();
        let mut available = true;
        for (kind, wait) in events {
            // A gateway never sleeps past the time it was told to look.
            let until = now + wait;
            while let Some(next) = watch.next_tick(now).filter(|next| *next <= until) {
                let before = now;
                now = next.max(now);
                let action = watch.on(Event::Tick, now);
                match action {
                    Action::StartProbe => {
                        prop_assert!(measured.is_none_or(|at| now >= at + every_s - 1e-6));
                        days.entry((now / 86_400.0) as u64).or_default().0 += 1;
                        began = Some(now);
                    }
                    Action::StopProbe { timed_out } => {
                        spend(&mut days, began.take().unwrap(), now);
                        measured = Some(now);
                        available &= !timed_out;
                    }
                    Action::None | Action::TakeDown { .. } => prop_assert!(now > before || watch.next_tick(now) != Some(now)),
                }
            }
            now = until;
            let event = match kind {
                0 | 1 => Event::ProbeUp { seconds: wait },
                2 => Event::ProbeFailed,
                3 => Event::Deployed,
                4 => Event::TimedOut,
                5 => Event::Failed,
                _ => continue,
            };
            let probing = began.is_some();
            watch.on(event, now);
            match event {
                Event::ProbeUp { .. } | Event::ProbeFailed if probing => {
                    spend(&mut days, began.take().unwrap(), now);
                    measured = Some(now);
                    available |= matches!(event, Event::ProbeUp { .. });
                }
                Event::Deployed => {
                    available = true;
                    if !probing { measured = Some(now); }
                }
                Event::TimedOut => {
                    available = false;
                    if !probing { measured = Some(now); }
                }
                _ => {}
            }
            prop_assert_eq!(watch.available(), available);
            prop_assert_eq!(matches!(watch.standing(), Standing::Unavailable { .. }), !available);
        }
        for (day, (count, spent)) in days {
            prop_assert!(count <= probes, "day {}: {} probes", day, count);
            prop_assert!(spent <= seconds + 1e-6, "day {}: {} s", day, spent);
        }
    }

    /// With a deadline no candidate's chance is greater than the chosen one's by more than the noise, or the chance
    /// that was asked for is reached; never an unavailable one, and twice the same.
    #[test]
    fn a_deadline_s_choice_is_never_worse_in_chance(
        all in proptest::collection::vec((any::<bool>(), estimate()), 1..6),
        deadline in any_number(), chance in proptest::option::of(0.0f64..1.0),
        prices in proptest::collection::vec(any_number(), 0..6), worth in any_number(), incumbent in 0usize..8,
    ) {
        let candidates = candidates(&all);
        let goal = Goal {
            deadline_s: Some(deadline), chance, prices: &prices, seconds_per_price: worth,
            incumbent: NAMES.get(incumbent).copied(), ..Goal::default()
        };
        let choice = choose(&candidates, Mode::Goal(goal));
        prop_assert_eq!(&choice, &choose(&candidates, Mode::Goal(goal)));
        let Ok(choice) = choice else {
            prop_assert!(all.iter().all(|(available, _)| !available));
            return Ok(());
        };
        prop_assert!(all[choice.index].0);
        prop_assert!(!choice.reason.to_string().is_empty());
        let any_known = all.iter().any(|(available, e)| *available && e.response.known);
        if any_known {
            let chances = chances(&candidates, deadline).unwrap();
            let best = chances.iter().copied().fold(0.0, f64::max);
            let enough = chance.is_some_and(|wanted| best >= wanted && chances[choice.index] >= wanted - CHANCE_NOISE);
            prop_assert!(enough || chances[choice.index] >= best - 2.0 * CHANCE_NOISE - 1e-12);
            let alone = Goal { incumbent: None, ..goal };
            let alone = choose(&candidates, Mode::Goal(alone)).unwrap();
            let enough = chance.is_some_and(|wanted| best >= wanted && chances[alone.index] >= wanted);
            prop_assert!(enough || chances[alone.index] >= best - CHANCE_NOISE - 1e-12);
        }
    }

    /// Without deadline and price a goal is the selector.
    #[test]
    fn a_goal_of_nothing_chooses_as_the_selector(
        all in proptest::collection::vec((any::<bool>(), estimate()), 0..6), incumbent in 0usize..8,
    ) {
        let candidates = candidates(&all);
        let incumbent = NAMES.get(incumbent).copied();
        let goal = Goal { incumbent, ..Goal::default() };
        let selector = Mode::Selector { incumbent, margin: Margin::DEFAULT };
        let index = |mode| choose(&candidates, mode).map(|choice| choice.index);
        prop_assert_eq!(index(Mode::Goal(goal)), index(selector));
    }

    /// Chances rise with the deadline, quantiles with the level, and both agree.
    #[test]
    fn a_part_is_a_distribution(part in part(), mut at in proptest::collection::vec(0.0f64..900.0, 2..9), level in 0.0f64..1.0) {
        at.sort_by(f64::total_cmp);
        let chances: Vec<f64> = at.iter().map(|s| chance::within(&part, *s)).collect();
        prop_assert!(chances.iter().all(|c| (0.0..=1.0).contains(c)));
        prop_assert!(chances.is_sorted(), "{:?}", chances);
        let seconds = chance::quantile(&part, level);
        prop_assert!(seconds.is_finite() && seconds >= 0.0);
        if part.known {
            prop_assert!(chance::within(&part, seconds + 1e-6) >= level - 1e-6);
        }
        let first = chance::expected_first(&[part, part]);
        prop_assert!(first <= chance::expected(&part) + 1e-9 && first >= 0.0);
    }

    #[test]
    fn a_hedge_keeps_its_budget_and_begins_with_the_best(
        all in proptest::collection::vec((part(), part(), 0u32..5), 0..6),
        seconds in 0.0f64..300.0, most in 0usize..5, worth in 0.0f64..2.0,
    ) {
        let contenders: Vec<Contender> = all.iter().enumerate()
            .map(|(index, &(deployment, after, units))| Contender { index, deployment, after, units })
            .collect();
        let budget = Budget { seconds, most, worth };
        let plan = plan(&contenders, &budget);
        let known = all.iter().filter(|(d, a, _)| d.known && a.known).count();
        prop_assert_eq!(plan.runtimes.is_empty(), known == 0);
        prop_assert!(plan.runtimes.len() <= most.max(1));
        prop_assert!(plan.cost_s <= seconds || plan.runtimes.len() <= 1);
        prop_assert!(plan.expected_s <= plan.alone_s && plan.expected_s.is_finite());
        let mut unique = plan.runtimes.clone();
        unique.sort_unstable();
        unique.dedup();
        prop_assert_eq!(unique.len(), plan.runtimes.len());
    }

    #[test]
    fn mode_auto_uses_what_is_available_and_never_a_slower_mode(
        all in proptest::collection::vec((any::<bool>(), estimate(), 0.0f64..40.0, 0.0f64..2.0), 0..5),
        edge in 0usize..5, items in 0usize..3000, divisible in any::<bool>(), repeatable in any::<bool>(),
        worth in 0.0f64..10.0,
    ) {
        let places: Vec<Place<'_>> = all.iter().zip(NAMES).enumerate()
            .map(|(index, ((available, estimate, start_s, price), runtime))| Place {
                runtime, available: *available, edge: index == edge, estimate,
                start_s: *start_s, sharing: Sharing::default(), units: 1, price_per_s: *price,
            })
            .collect();
        let work = Work { items, divisible, repeatable };
        let spending = Spending { seconds_per_price: worth, ..Spending::default() };
        let pick = auto(&places, &work, &spending);
        prop_assert_eq!(&pick, &auto(&places, &work, &spending));
        let Ok(pick) = pick else {
            prop_assert!(all.iter().all(|(available, ..)| !available));
            return Ok(());
        };
        prop_assert!(pick.best.places.iter().all(|&index| places[index].available));
        prop_assert!(!pick.best.places.is_empty() && pick.best.expected_s.is_finite());
        prop_assert!(repeatable || matches!(pick.best.mode, Kind::Selector | Kind::Hedged));
        prop_assert!(divisible || pick.best.mode != Kind::Cooperative);
        for other in &pick.forecasts {
            // A simpler mode may be slower by the margin.
            let margin = (0.02 * pick.best.worth_s).max(0.010) * 2.0;
            prop_assert!(pick.best.worth_s <= other.worth_s + margin, "{:?}", pick);
        }
    }

    /// The wait and the transfer pass together, and what is predicted for a batch never falls as it grows.
    #[test]
    fn a_pool_s_estimate_is_sound_and_grows_with_the_batch(
        running in proptest::collection::vec((any_number(), any_number()), 0..4),
        waiting in proptest::collection::vec(any_number(), 0..4),
        places in 0usize..4, free in 0usize..2, may_grow in any::<bool>(), deploying in proptest::option::of(any_number()),
        starts in proptest::collection::vec(0.0f64..100.0, 0..12), slope in 0.0f64..3.0, start in 0.0f64..30.0,
        mut sizes in proptest::collection::vec(1.0f64..3000.0, 2..6),
    ) {
        let mut deployment = DeploymentHistory::default();
        for seconds in starts { deployment.push(seconds); }
        let mut processing = ProcessingHistory::new(ProcessingConfig::default(), 3);
        for items in [33.0, 10.0, 80.0] { processing.push(items, start + slope * items); }
        let (deployment, processing) = (deployment.fit(), processing.fit());
        let link = Bandwidth::new(LinkConfig::default()).fit(0.0);
        let pool = PoolInput {
            runtime: "gpu1", available: true,
            load: Load { free, places, running: &running, waiting: &waiting, deploying_s: deploying, may_grow },
            link: &link, deployment: Some(&deployment), processing: Some(&processing),
        };
        sizes.sort_by(f64::total_cmp);
        let estimates: Vec<Estimate> = sizes.iter()
            .map(|items| pool.estimate(&Features::new(*items, 212e3 * items)).estimate)
            .collect();
        for e in &estimates {
            for part in [e.queueing, e.transfer, e.deployment, e.processing, e.response] {
                prop_assert!(is_sound(&part), "{:?}", e);
            }
        }
        for pair in estimates.windows(2) {
            prop_assert!(pair[0].response.mean <= pair[1].response.mean * (1.0 + 1e-9) + 1e-9);
        }
    }
}

/// Adds a probe's seconds to the day on which each passed.
fn spend(days: &mut std::collections::BTreeMap<u64, (u32, f64)>, from: f64, to: f64) {
    let mut from = from;
    while from < to {
        let day = (from / 86_400.0) as u64;
        let end = to.min((day + 1) as f64 * 86_400.0);
        days.entry(day).or_default().1 += end - from;
        from = end;
    }
}
