//! Which mode of execution is predicted to be best: for mode `auto`, and for `stoic predict`.
//!
//! One forecast for both, so that what is told is what would be done.

use super::Scheduler;
use super::estimate::Ask;
use crate::runnable::Deployed;
use serde::{Deserialize, Serialize};
use stoic_placement::ChoiceError;
use stoic_placement::modes::{self, Forecast, Pick, Place, Spending, Work};

/// What a mode of execution would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModeForecast {
    /// The mode.
    pub mode: String,
    /// The runtimes that it would use.
    pub runtimes: Vec<String>,
    /// Expected seconds until the answer.
    pub expected_s: f64,
    /// Expected price, by the runtimes' prices.
    pub price: f64,
}

impl Scheduler {
    /// Seconds of a run on a runtime that are spent before its first item: where its processing has a
    /// line, the line's intercept.
    #[must_use]
    pub fn start_s(&self, deployed: &Deployed, action: &str, runtime: usize) -> f64 {
        let model = deployed.processing(action, runtime);
        let line = model.and_then(|model| model.line());
        line.map_or(0.0, |line| line.intercept.max(0.0))
    }

    /// The mode that is predicted to be best, among those that can be run; its places are indices of
    /// [runtimes](Scheduler::runtimes).
    ///
    /// # Errors
    /// No runtime can take the invocation.
    pub fn pick_mode(
        &self,
        deployed: &Deployed,
        ask: &Ask<'_>,
        work: &Work,
    ) -> Result<Pick, ChoiceError> {
        let mut considered = self.consider(deployed, ask);
        // The best of each site first: what the modes that use several runtimes take.
        considered.sort_by(|a, b| {
            let (a, b) = (&a.estimate.response, &b.estimate.response);
            b.known.cmp(&a.known).then(a.mean.total_cmp(&b.mean))
        });
        let places: Vec<Place<'_>> = considered
            .iter()
            .map(|c| {
                let info = &self.runtimes()[c.runtime];
                Place {
                    runtime: &info.name,
                    available: c.available,
                    edge: !info.remote,
                    estimate: &c.estimate,
                    start_s: self.start_s(deployed, ask.action, c.runtime),
                    sharing: deployed.models().sharing(ask.action, c.runtime),
                    units: info.gpus.max(1),
                    price_per_s: info.price.unwrap_or(0.0),
                }
            })
            .collect();
        let spending = Spending {
            budget: self.hedge,
            seconds_per_price: self.seconds_per_price,
            margin: self.margin,
            // A shared batch is worked by the edge and one cloud runtime.
            one_cloud: true,
        };
        let mut pick = modes::auto(&places, work, &spending)?;
        for forecast in pick.forecasts.iter_mut().chain([&mut pick.best]) {
            for place in &mut forecast.places {
                *place = considered[*place].runtime;
            }
        }
        Ok(pick)
    }

    /// What each mode of execution is predicted to take, which is the best, and why.
    ///
    /// # Errors
    /// No runtime can take the invocation.
    pub fn forecast(
        &self,
        deployed: &Deployed,
        ask: &Ask<'_>,
        work: &Work,
    ) -> Result<(Vec<ModeForecast>, ModeForecast, String), ChoiceError> {
        let pick = self.pick_mode(deployed, ask, work)?;
        let view = |forecast: &Forecast| ModeForecast {
            mode: forecast.mode.word().to_owned(),
            runtimes: forecast
                .places
                .iter()
                .map(|runtime| self.runtimes()[*runtime].name.clone())
                .collect(),
            expected_s: forecast.expected_s,
            price: forecast.price,
        };
        let all = pick.forecasts.iter().map(view).collect();
        Ok((all, view(&pick.best), pick.to_string()))
    }
}
