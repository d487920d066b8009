//! Mode `auto`: which mode is predicted to answer soonest, or at the best price.
//!
//! Every mode is forecast from the same estimates: the selector by the expected
//! response of the runtime it would choose; hedged by the first of several
//! deployments; the duplicator by the first of edge and cloud; cooperative by
//! the fluid view of both working together. Expectations are of whole
//! distributions ([`crate::chance`]), so what a heavy tail of deployments costs
//! the selector, and not the others, counts.

use std::fmt;

use serde::Serialize;

use crate::chance::{expected, expected_first, sooner};
use crate::choose::{ChoiceError, Margin};
use crate::cooperative;
use crate::estimate::{Estimate, MAX_SECONDS, Part, sane_seconds, sum};
use crate::hedge::{self, Budget, Contender};

/// A mode of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One runtime, the best.
    Selector,
    /// Several cloud runtimes are deployed, one is kept.
    Hedged,
    /// Edge and cloud race.
    Duplicator,
    /// Edge and cloud share the items.
    Cooperative,
}

impl Kind {
    /// The word for headers and labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Selector => "selector",
            Self::Hedged => "hedged",
            Self::Duplicator => "duplicator",
            Self::Cooperative => "cooperative",
        }
    }
}

/// A runtime with its estimate for the invocation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place<'a> {
    /// The runtime's name.
    pub runtime: &'a str,
    /// Whether it can take work.
    pub available: bool,
    /// Whether it is the edge: the place where the batch is, which costs nothing
    /// to use beside another.
    pub edge: bool,
    /// Its estimate for the whole invocation.
    pub estimate: &'a Estimate,
    /// Seconds of its processing that are spent before the first item (the
    /// fitted line's intercept), zero when unknown.
    pub start_s: f64,
    /// What sharing a batch between the edge and it costs beyond the fluid view.
    pub sharing: cooperative::Sharing,
    /// GPUs, or how much a second of it counts for; at least one.
    pub units: u32,
    /// Price per second of it.
    pub price_per_s: f64,
}

impl Place<'_> {
    fn known(&self) -> bool {
        self.available && self.estimate.response.known
    }

    /// What it waits for before it can work.
    fn wait(&self) -> Part {
        sum(&[self.estimate.queueing, self.estimate.deployment])
    }

    /// What follows its wait.
    fn after(&self) -> Part {
        sum(&[self.estimate.transfer, self.estimate.processing])
    }

    fn used_s(&self) -> f64 {
        self.estimate.deployment.mean + self.estimate.processing.mean
    }
}

/// What the invocation allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Items in the batch.
    pub items: usize,
    /// Whether its items can be worked apart (a batch): cooperative mode needs
    /// it.
    pub divisible: bool,
    /// Whether it may run twice: duplicator and cooperative modes need it.
    pub repeatable: bool,
}

/// What may be spent to be sooner.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spending {
    /// Of hedging.
    pub budget: Budget,
    /// Seconds of waiting that one unit of price is worth.
    pub seconds_per_price: f64,
    /// By how much a mode must be sooner to be taken instead of a simpler one.
    pub margin: Margin,
    /// Whether a shared batch takes one cloud runtime, instead of deploying several
    /// and keeping the first that is up: for who cannot do that.
    pub one_cloud: bool,
}

/// What a mode would do with the invocation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// The mode.
    pub mode: Kind,
    /// Indices of the places it would use: the edge first, then the cloud's in
    /// the order of preference.
    pub places: Vec<usize>,
    /// Expected seconds until the answer.
    pub expected_s: f64,
    /// Expected price.
    pub price: f64,
    /// Both together, in seconds: the least one wins.
    pub worth_s: f64,
}

/// The mode chosen and what it was chosen among.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pick {
    /// The mode to use, as forecast.
    pub best: Forecast,
    /// The best forecast of each mode that was possible, simplest first.
    pub forecasts: Vec<Forecast>,
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Forecast {
            mode, expected_s, ..
        } = &self.best;
        write!(f, "{}, expected {expected_s:.3} s", mode.word())?;
        if self.best.price > 0.0 {
            write!(f, " for {:.4}", self.best.price)?;
        }
        for (nth, other) in self
            .forecasts
            .iter()
            .filter(|o| o.mode != *mode)
            .enumerate()
        {
            let before = if nth == 0 { "; instead of " } else { ", " };
            write!(f, "{before}{} {:.3} s", other.mode.word(), other.expected_s)?;
        }
        Ok(())
    }
}

/// Forecasts every mode and picks the one of least expected time (with its
/// price, when seconds per price are given). A mode that is sooner by no more
/// than the margin than a simpler one is not taken: fewer pods do as well.
///
/// Runtimes of which nothing is known are left out; when nothing is known of any
/// available one, it is the selector over them, whose rules for the unknown
/// apply, and the forecast lists the first available place.
///
/// # Errors
/// When no place is given or none is available.
pub fn auto(places: &[Place<'_>], work: &Work, spending: &Spending) -> Result<Pick, ChoiceError> {
    if places.is_empty() {
        return Err(ChoiceError::NoCandidates);
    }
    let Some(first_available) = places.iter().position(|p| p.available) else {
        return Err(ChoiceError::NoneAvailable {
            candidates: places.len(),
        });
    };
    let known: Vec<usize> = (0..places.len()).filter(|&i| places[i].known()).collect();
    let mut forecasts: Vec<Forecast> = Vec::with_capacity(4);
    let mut offer =
        |forecast: Forecast| match forecasts.iter_mut().find(|f| f.mode == forecast.mode) {
            Some(best) if forecast.worth_s < best.worth_s => *best = forecast,
            Some(_) => {}
            None => forecasts.push(forecast),
        };
    let forecast = |mode, places: Vec<usize>, expected_s: f64, price: f64| {
        let worth = sane_seconds(spending.seconds_per_price).unwrap_or(0.0) * price;
        Forecast {
            mode,
            places,
            expected_s,
            price,
            worth_s: expected_s + worth.min(MAX_SECONDS),
        }
    };
    let price = |place: &Place<'_>, seconds: f64| {
        (sane_seconds(place.price_per_s).unwrap_or(0.0) * seconds).min(MAX_SECONDS)
    };
    for &index in &known {
        let place = &places[index];
        let seconds = expected(&place.estimate.response);
        offer(forecast(
            Kind::Selector,
            vec![index],
            seconds,
            price(place, place.used_s()),
        ));
    }
    let clouds: Vec<usize> = known.iter().copied().filter(|&i| !places[i].edge).collect();
    let plan = plan_of(places, &clouds, &spending.budget);
    if plan.runtimes.len() > 1 {
        offer(forecast(
            Kind::Hedged,
            plan.runtimes.clone(),
            plan.expected_s,
            hedged_price(places, &plan, &price),
        ));
    }
    let edge = known.iter().copied().find(|&i| places[i].edge);
    if let Some(edge) = edge.filter(|_| work.repeatable) {
        let here = places[edge].estimate.response;
        for &cloud in &clouds {
            let place = &places[cloud];
            let there = place.estimate.response;
            let seconds = expected_first(&[here, there]);
            // Until the race is over, or for nothing when the edge is alone.
            let used = place.used_s().min(seconds);
            offer(forecast(
                Kind::Duplicator,
                vec![edge, cloud],
                seconds,
                price(&places[edge], seconds) + price(place, used),
            ));
            if work.divisible && work.items > 1 {
                let together = cooperative_with(places, edge, &[cloud], work.items);
                if together.known {
                    let used = (together.mean - place.estimate.queueing.mean).max(0.0);
                    offer(forecast(
                        Kind::Cooperative,
                        vec![edge, cloud],
                        together.mean,
                        price(&places[edge], together.mean) + price(place, used),
                    ));
                }
            }
        }
        let hedged = plan.runtimes.len() > 1 && !spending.one_cloud;
        if hedged && work.divisible && work.items > 1 {
            let together = cooperative_hedged(places, edge, &plan.runtimes, work.items);
            if together.known {
                let used =
                    price(&places[edge], together.mean) + hedged_price(places, &plan, &price);
                let all = std::iter::once(edge).chain(plan.runtimes.iter().copied());
                offer(forecast(
                    Kind::Cooperative,
                    all.collect(),
                    together.mean,
                    used,
                ));
            }
        }
    }
    forecasts.sort_by_key(|f| f.mode);
    let mut best: Option<&Forecast> = None;
    for forecast in &forecasts {
        if best
            .is_none_or(|b| forecast.worth_s + spending.margin.around(forecast.worth_s) < b.worth_s)
        {
            best = Some(forecast);
        }
    }
    let best = best.cloned().unwrap_or_else(|| {
        // Nothing is known: the selector takes the first.
        forecast(Kind::Selector, vec![first_available], 0.0, 0.0)
    });
    Ok(Pick { best, forecasts })
}

/// The hedge over the cloud places at `clouds` (indices into `places`).
#[must_use]
pub fn plan_of(places: &[Place<'_>], clouds: &[usize], budget: &Budget) -> hedge::Plan {
    let contenders: Vec<Contender> = clouds
        .iter()
        .filter_map(|&index| {
            let place = places.get(index)?;
            Some(Contender {
                index,
                deployment: place.wait(),
                after: place.after(),
                units: place.units,
            })
        })
        .collect();
    hedge::plan(&contenders, budget)
}

fn hedged_price(
    places: &[Place<'_>],
    plan: &hedge::Plan,
    price: &impl Fn(&Place<'_>, f64) -> f64,
) -> f64 {
    let Some(first) = plan.runtimes.first() else {
        return 0.0;
    };
    let waits: Vec<Part> = plan.runtimes.iter().map(|&i| places[i].wait()).collect();
    let until_up = expected_first(&waits);
    let others: f64 = plan.runtimes[1..]
        .iter()
        .map(|&i| price(&places[i], until_up))
        .sum();
    price(&places[*first], places[*first].used_s()) + others
}

/// The expected time of a batch that the edge and the clouds work together.
#[must_use]
pub fn cooperative_with(places: &[Place<'_>], edge: usize, clouds: &[usize], items: usize) -> Part {
    let all: Vec<(Part, Part, f64, f64)> = std::iter::once(&edge)
        .chain(clouds)
        .filter_map(|&index| places.get(index))
        .map(|place| course(place, place.wait(), items))
        .collect();
    let fluid = cooperative::predict(items as f64, &all);
    match clouds {
        [cloud] => places
            .get(*cloud)
            .map_or(fluid, |place| place.sharing.of(&fluid)),
        _ => fluid,
    }
}

fn course(place: &Place<'_>, wait: Part, items: usize) -> (Part, Part, f64, f64) {
    let transfer = place.estimate.transfer.mean / items.max(1) as f64;
    (wait, place.estimate.processing, place.start_s, transfer)
}

/// The same with several clouds deployed of which the first up is kept: each is
/// counted with its chance to be the first.
fn cooperative_hedged(places: &[Place<'_>], edge: usize, clouds: &[usize], items: usize) -> Part {
    let waits: Vec<Part> = clouds.iter().map(|&i| places[i].wait()).collect();
    let ends = |f: fn(&Part) -> f64| waits.iter().map(f).fold(f64::INFINITY, f64::min);
    let mean = expected_first(&waits);
    let wait = Part::around(
        mean,
        (ends(|w| w.p50.low) - mean, ends(|w| w.p50.high) - mean),
        (ends(|w| w.p90.low) - mean, ends(|w| w.p90.high) - mean),
        waits.iter().map(|w| w.points).min().unwrap_or(0),
    );
    let mut total = 0.0;
    let mut blend = [0.0f64; 5];
    let mut points = usize::MAX;
    for (nth, &cloud) in clouds.iter().enumerate() {
        let first: f64 = (0..waits.len())
            .filter(|other| *other != nth)
            .map(|other| sooner(&waits[nth], &waits[other]))
            .product();
        let both = [
            course(&places[edge], places[edge].wait(), items),
            course(&places[cloud], wait, items),
        ];
        let part = cooperative::predict(items as f64, &both);
        if !part.known {
            return Part::UNKNOWN;
        }
        let ends = [
            part.mean,
            part.p50.low,
            part.p50.high,
            part.p90.low,
            part.p90.high,
        ];
        for (sum, end) in blend.iter_mut().zip(ends) {
            *sum += first * end;
        }
        total += first;
        points = points.min(part.points);
    }
    if total <= 0.0 {
        return Part::UNKNOWN;
    }
    let [mean, low50, high50, low90, high90] = blend.map(|sum| sum / total);
    Part::around(
        mean,
        (low50 - mean, high50 - mean),
        (low90 - mean, high90 - mean),
        points,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Work = Work {
        items: 150,
        divisible: true,
        repeatable: true,
    };

    fn steady(mean: f64) -> Part {
        Part::around(
            mean,
            (-0.02 * mean, 0.02 * mean),
            (-0.05 * mean, 0.05 * mean),
            10,
        )
    }

    fn edge(seconds: f64) -> Estimate {
        Estimate::of(Part::ZERO, Part::ZERO, Part::ZERO, steady(seconds))
    }

    fn cloud(deployment: Part, processing: f64) -> Estimate {
        Estimate::of(Part::ZERO, Part::exact(9.0), deployment, steady(processing))
    }

    fn tail(middle: f64) -> Part {
        Part::around(middle, (-4.0, 7.0), (-8.0, 60.0), 50)
    }

    fn place<'a>(runtime: &'a str, edge: bool, estimate: &'a Estimate) -> Place<'a> {
        Place {
            runtime,
            available: true,
            edge,
            estimate,
            start_s: 10.0,
            sharing: cooperative::Sharing::default(),
            units: 1,
            price_per_s: 0.0,
        }
    }

    #[test]
    fn a_large_batch_is_shared_and_every_forecast_is_told() {
        let (e, g1, g2) = (
            edge(230.0),
            cloud(tail(25.0), 60.0),
            cloud(tail(30.0), 52.0),
        );
        let places = [
            place("edge", true, &e),
            place("gpu1", false, &g1),
            place("gpu2", false, &g2),
        ];
        let pick = auto(&places, &BATCH, &Spending::default()).unwrap();
        assert_eq!(pick.best.mode, Kind::Cooperative, "{pick}");
        let modes: Vec<Kind> = pick.forecasts.iter().map(|f| f.mode).collect();
        assert_eq!(
            modes,
            [
                Kind::Selector,
                Kind::Hedged,
                Kind::Duplicator,
                Kind::Cooperative
            ]
        );
        assert!(pick.to_string().contains("instead of selector"), "{pick}");
        for forecast in &pick.forecasts[1..] {
            assert!(
                forecast.expected_s <= pick.forecasts[0].expected_s + 1e-9,
                "{pick:?}"
            );
        }
    }

    /// Where a shared batch takes one cloud runtime, no forecast counts on more, and every other forecast
    /// is as before.
    #[test]
    fn who_shares_with_one_cloud_is_promised_no_more() {
        let (e, g1, g2) = (
            edge(230.0),
            cloud(tail(25.0), 60.0),
            cloud(tail(25.0), 60.0),
        );
        let places = [
            place("edge", true, &e),
            place("gpu1", false, &g1),
            place("gpu2", false, &g2),
        ];
        let any = auto(&places, &BATCH, &Spending::default()).unwrap();
        let spending = Spending {
            one_cloud: true,
            ..Spending::default()
        };
        let one = auto(&places, &BATCH, &spending).unwrap();
        assert_eq!(any.best.places, [0, 1, 2], "{any:?}");
        assert_eq!(
            (one.best.mode, one.best.places.as_slice()),
            (Kind::Cooperative, &[0, 1][..])
        );
        assert!(one.best.expected_s > any.best.expected_s);
        let last = any.forecasts.len() - 1;
        assert_eq!(one.forecasts[..last], any.forecasts[..last]);
    }

    #[test]
    fn what_cannot_be_divided_or_repeated_is_not() {
        let (e, g1) = (edge(230.0), cloud(tail(25.0), 77.0));
        let places = [place("edge", true, &e), place("gpu1", false, &g1)];
        let modes = |work: Work| -> Vec<Kind> {
            let pick = auto(&places, &work, &Spending::default()).unwrap();
            pick.forecasts.iter().map(|f| f.mode).collect()
        };
        let apart = Work {
            divisible: false,
            ..BATCH
        };
        assert_eq!(modes(apart), [Kind::Selector, Kind::Duplicator]);
        let once = Work {
            repeatable: false,
            ..BATCH
        };
        assert_eq!(modes(once), [Kind::Selector]);
        assert_eq!(
            modes(Work { items: 1, ..BATCH }),
            [Kind::Selector, Kind::Duplicator]
        );
    }

    #[test]
    fn a_small_batch_stays_at_the_edge_alone() {
        let (e, g1) = (edge(6.0), cloud(tail(25.0), 30.0));
        let places = [place("edge", true, &e), place("gpu1", false, &g1)];
        let work = Work { items: 4, ..BATCH };
        let pick = auto(&places, &work, &Spending::default()).unwrap();
        assert_eq!(
            (pick.best.mode, pick.best.places.as_slice()),
            (Kind::Selector, &[0][..])
        );
    }

    #[test]
    fn a_price_keeps_the_cloud_out() {
        let (e, g1) = (edge(230.0), cloud(tail(25.0), 77.0));
        let mut places = [place("edge", true, &e), place("gpu1", false, &g1)];
        places[1].price_per_s = 1.0;
        let dear = Spending {
            seconds_per_price: 10.0,
            ..Spending::default()
        };
        let pick = auto(&places, &BATCH, &dear).unwrap();
        assert_eq!(
            (pick.best.mode, pick.best.places.as_slice()),
            (Kind::Selector, &[0][..])
        );
        assert_eq!(pick.best.price, 0.0);
    }

    #[test]
    fn the_unknown_and_the_unavailable() {
        let (e, unknown) = (edge(10.0), cloud(Part::UNKNOWN, 1.0));
        let mut places = [place("edge", true, &e), place("gpu1", false, &unknown)];
        let pick = auto(&places, &BATCH, &Spending::default()).unwrap();
        assert_eq!(pick.best.places, [0]);
        places[0].available = false;
        let pick = auto(&places, &BATCH, &Spending::default()).unwrap();
        assert_eq!(
            (pick.best.mode, pick.best.places.as_slice()),
            (Kind::Selector, &[1][..])
        );
        places[1].available = false;
        assert_eq!(
            auto(&places, &BATCH, &Spending::default()),
            Err(ChoiceError::NoneAvailable { candidates: 2 })
        );
        assert_eq!(
            auto(&[], &BATCH, &Spending::default()),
            Err(ChoiceError::NoCandidates)
        );
    }
}
