//! What a prediction rests on, for `stoic predict --explain`: which estimator speaks for each part, on what,
//! how well it did lately; what runs and waits; the link; whether the runtime may be used, and why not.

use super::estimate::{Ask, Considered, regime};
use super::{LinkState, RecentAccuracy, Scheduler};
use crate::pods::{Load, Pool, Standing};
use crate::runnable::Deployed;
use serde::{Deserialize, Serialize};
use stoic_placement::{LinkModel, Method, chance};

/// What the estimate of one runtime rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// What is known of deployments there: available or not, since when and why.
    pub standing: Standing,
    /// What runs and waits, from which T_q follows.
    pub load: LoadView,
    /// The link, from which T_t follows; none where nothing has to travel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkView>,
    /// One row for each part: `queueing`, `transfer`, `deployment`, `processing`, `response`.
    pub parts: Vec<PartExplanation>,
    /// The chance, 0 to 1, to answer within the deadline, where one was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// What it is expected to cost, where the runtime has a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
}

/// How one part is predicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartExplanation {
    /// Which part.
    pub part: String,
    /// The estimator in force.
    pub estimator: String,
    /// Measurements that it has taken in.
    pub points: usize,
    /// What it is made of, in words.
    pub detail: String,
    /// The estimator's own recent error, relative to what was measured, the latest counting most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent_error: Option<f64>,
    /// Outcomes of late against what was predicted in advance.
    pub recent: RecentAccuracy,
}

/// What runs and waits at a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadView {
    /// Places in ready pods.
    pub places: u32,
    /// Of these, free.
    pub free: u32,
    /// Running invocations.
    pub running: Vec<RunningView>,
    /// Predicted seconds of the invocations that wait, the first first.
    pub waiting: Vec<f64>,
    /// Seconds since the oldest pod on its way was ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploying_s: Option<f64>,
    /// Whether one more pod may be started.
    pub may_grow: bool,
}

/// A running invocation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RunningView {
    /// Seconds it was predicted to take.
    pub predicted_s: f64,
    /// Seconds it has taken.
    pub elapsed_s: f64,
}

/// A link as it is known now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LinkView {
    /// Bytes a second.
    pub bandwidth_bytes_per_s: f64,
    /// Round trip, in seconds.
    pub rtt_s: f64,
    /// Measurements it is known from; zero when it is as configured.
    pub points: usize,
    /// When a package was measured on it last, seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_at: Option<f64>,
    /// When a probe was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_at: Option<f64>,
    /// Transfers of late against what was predicted for them.
    pub recent: RecentAccuracy,
}

impl LinkView {
    /// The view of a link; none for the local site's.
    #[must_use]
    pub fn of(state: &LinkState) -> Option<Self> {
        let LinkModel {
            bandwidth_bytes_per_s,
            rtt_s,
            points,
            ..
        } = state.model;
        bandwidth_bytes_per_s.is_finite().then_some(Self {
            bandwidth_bytes_per_s,
            rtt_s,
            points,
            transfer_at: state.transfer_at,
            probe_at: state.probe_at,
            recent: state.accuracy,
        })
    }
}

impl LoadView {
    fn of(load: &Load) -> Self {
        let running = load.running.iter();
        Self {
            places: load.places,
            free: load.free,
            running: running
                .map(|&(predicted_s, elapsed_s)| RunningView {
                    predicted_s,
                    elapsed_s,
                })
                .collect(),
            waiting: load.waiting.clone(),
            deploying_s: load.deploying_s,
            may_grow: load.may_grow,
        }
    }

    fn in_words(&self) -> String {
        if self.free > 0 && self.waiting.is_empty() {
            return format!("{} of {} places free", self.free, self.places);
        }
        let rest: f64 = self
            .running
            .iter()
            .map(|r| (r.predicted_s - r.elapsed_s).max(0.0))
            .sum();
        format!(
            "{} of {} places busy for {rest:.1} s more in sum, {} waiting",
            self.running.len(),
            self.places,
            self.waiting.len()
        )
    }
}

impl Scheduler {
    /// What the estimate of one runtime rests on.
    pub(super) fn explain(
        &self,
        deployed: &Deployed,
        pool: &Pool,
        ask: &Ask<'_>,
        considered: &Considered,
    ) -> Explanation {
        let runtime = considered.runtime;
        let load = pool.load();
        let load_view = LoadView::of(&load);
        let link = LinkView::of(&self.link_state(runtime));
        let parts = vec![
            queueing(deployed, ask, considered, &load_view),
            transfer(link.as_ref()),
            deployment(deployed, considered, &load),
            processing(deployed, ask, runtime),
            response(deployed, ask, runtime),
        ];
        let estimate = &considered.estimate;
        let used_s = estimate.deployment.mean + estimate.processing.mean;
        Explanation {
            standing: pool.standing(),
            load: load_view,
            link,
            parts,
            chance: ask
                .deadline_s
                .map(|deadline| chance::within(&estimate.response, deadline)),
            price: self.runtimes()[runtime].price.map(|price| price * used_s),
        }
    }
}

fn row(part: &str, estimator: impl Into<String>, detail: String) -> PartExplanation {
    PartExplanation {
        part: part.to_owned(),
        estimator: estimator.into(),
        points: 0,
        detail,
        recent_error: None,
        recent: RecentAccuracy::default(),
    }
}

fn queueing(
    deployed: &Deployed,
    ask: &Ask<'_>,
    considered: &Considered,
    load: &LoadView,
) -> PartExplanation {
    let accuracy = deployed.accuracy(ask.action, considered.runtime);
    let detail = match considered.cold {
        true => format!("{}; a new pod is nearer", load.in_words()),
        false => load.in_words(),
    };
    PartExplanation {
        recent: accuracy.queueing,
        ..row("queueing", "rest of what runs and waits", detail)
    }
}

fn transfer(link: Option<&LinkView>) -> PartExplanation {
    let Some(link) = link else {
        return row("transfer", "local", "nothing has to travel".to_owned());
    };
    let estimator = match link.points {
        0 => "as configured",
        _ => "weighted median of recent rates",
    };
    let detail = format!(
        "{:.2} Mbit/s, round trip {:.1} ms",
        link.bandwidth_bytes_per_s * 8.0 / 1e6,
        link.rtt_s * 1e3
    );
    PartExplanation {
        points: link.points,
        recent: link.recent,
        ..row("transfer", estimator, detail)
    }
}

fn deployment(deployed: &Deployed, considered: &Considered, load: &Load) -> PartExplanation {
    let models = deployed.models();
    let recent = models.accuracy.deployment.get(considered.runtime).copied();
    let Some(model) = models.deployment.get(considered.runtime) else {
        return row("deployment", "none", "nothing was measured yet".to_owned());
    };
    let (basis, window, now) = (
        model.basis(),
        model.window(),
        model.predict_in(&regime(load)),
    );
    let mut detail = match window.mae {
        Some(mae) => format!(
            "best window: {} of the last {}, error {mae:.3} s",
            Method::name(window.method),
            window.width
        ),
        None => "no window was calibrated yet".to_owned(),
    };
    if !considered.cold {
        detail = format!(
            "a pod is ready; a new one would take {:.2} s; {detail}",
            now.mean
        );
    }
    PartExplanation {
        points: basis.points,
        recent_error: basis.recent_error,
        recent: recent.unwrap_or_default(),
        ..row("deployment", basis.estimator, detail)
    }
}

fn processing(deployed: &Deployed, ask: &Ask<'_>, runtime: usize) -> PartExplanation {
    let Some(model) = deployed.processing(ask.action, runtime) else {
        return row("processing", "none", "nothing was measured yet".to_owned());
    };
    let basis = model.basis();
    let measure = serde_json::to_value(model.measure());
    let measure = measure
        .ok()
        .and_then(|word| word.as_str().map(|word| word.replace('_', " ")));
    let line = model.line().map_or_else(
        || "no line yet".to_owned(),
        |line| format!("{:.4} s an item and {:.3} s", line.slope, line.intercept),
    );
    let detail = match measure {
        _ if basis.estimator == "boosted_trees" => {
            format!("boosted trees; beyond the sizes seen: {line}")
        }
        Some(measure) if measure != "items" => format!("{line}; in force: the line over {measure}"),
        _ => line,
    };
    PartExplanation {
        points: basis.points,
        recent_error: basis.recent_error,
        recent: deployed.accuracy(ask.action, runtime).processing,
        ..row("processing", basis.estimator, detail)
    }
}

fn response(deployed: &Deployed, ask: &Ask<'_>, runtime: usize) -> PartExplanation {
    let models = deployed.models();
    let calibrator = &models.calibrator;
    let (_, stretch) = calibrator.factors();
    let detail = format!(
        "the parts' errors taken as independent; the 90 % interval stretched by {stretch:.2}, as {} outcomes of the function ask for",
        calibrator.outcomes()
    );
    PartExplanation {
        points: usize::try_from(calibrator.outcomes()).unwrap_or(usize::MAX),
        recent: deployed.accuracy(ask.action, runtime).response,
        ..row("response", "sum of the parts, calibrated", detail)
    }
}
