//! One measurement: how long it took, and where the time went, by the answer's own account.

use super::ways::Way;
use http::HeaderMap;
use std::collections::BTreeMap;

/// Prefix of the stages of a start in `Server-Timing`.
const START: &str = "start-";

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// Its round, from 0 on.
    pub(super) round: usize,
    /// Its place in the run.
    pub(super) order: usize,
    /// Index of what was measured.
    pub(super) target: usize,
    /// In which way.
    pub(super) way: Way,
    /// Seconds, as the caller has them.
    pub(super) seconds: f64,
    /// `cold` or `warm`, where the answer said so.
    pub(super) start: Option<String>,
    /// The pod that served.
    pub(super) pod: Option<String>,
    /// Where the time went.
    pub(super) timing: Timing,
    /// Seconds that the calibration loop took right before.
    pub(super) calibration_s: f64,
}

/// Where the time of an answer went, in seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Timing {
    /// The parts of the response time: `queueing`, `transfer`, `deployment`, `processing`.
    pub(super) parts: BTreeMap<String, f64>,
    /// The stages of the start, for cold ones.
    pub(super) stages: BTreeMap<String, f64>,
}

/// Stages of a start and parts of an answer, in the order in which they happen; others stand before `ready`.
const ORDER: [&str; 13] = [
    "pull",
    "create",
    "fork",
    "start",
    "exec",
    "load",
    "first_inference",
    "listen",
    "ready",
    "queueing",
    "transfer",
    "processing",
    "around",
];

/// Sorts stages into the order in which they happen.
pub(super) fn rank(stage: &str) -> usize {
    let ready = ORDER.iter().position(|known| *known == "ready");
    match ORDER.iter().position(|known| *known == stage) {
        Some(place) => place * 2,
        // An unknown one belongs to the start.
        None => ready.unwrap_or(0) * 2 - 1,
    }
}

impl Timing {
    /// Reads `Server-Timing`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut timing = Self::default();
        let values = headers.get_all("server-timing").iter();
        for metric in values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','))
        {
            let mut fields = metric.split(';').map(str::trim);
            let name = fields.next().unwrap_or_default();
            let milliseconds = fields
                .find_map(|field| field.strip_prefix("dur="))
                .and_then(|text| text.trim_matches('"').parse::<f64>().ok())
                .filter(|value| value.is_finite() && *value >= 0.0);
            let Some(seconds) = milliseconds.map(|ms| ms / 1000.0) else {
                continue;
            };
            if let Some(stage) = name.strip_prefix(START) {
                timing.stages.insert(stage.to_owned(), seconds);
            } else if ["queueing", "transfer", "deployment", "processing"].contains(&name) {
                timing.parts.insert(name.to_owned(), seconds);
            }
        }
        timing
    }

    /// The whole time as parts that add up to it, in the order in which they happen: the stages of the start, what is
    /// left of the wait for it (`ready`), the other parts, and what the caller had beyond all of them (`around`: the
    /// gateway's own time and the way there and back).
    ///
    /// Where stages overlap or say more than the wait had, they are cut to it, in proportion.
    pub(super) fn stack(&self, seconds: f64) -> Vec<(String, f64)> {
        let part = |name: &str| self.parts.get(name).copied().unwrap_or(0.0);
        let told: f64 = self.stages.values().sum();
        // Baselines have stages and no parts: their stages are all there is.
        let wait = if self.parts.is_empty() {
            told.min(seconds)
        } else {
            part("deployment")
        };
        let share = if told > wait && told > 0.0 {
            wait / told
        } else {
            1.0
        };
        let mut stack: Vec<(String, f64)> = self
            .stages
            .iter()
            .map(|(name, took)| (name.clone(), took * share))
            .collect();
        stack.push(("ready".to_owned(), (wait - told).max(0.0)));
        for name in ["queueing", "transfer", "processing"] {
            stack.push((name.to_owned(), part(name)));
        }
        let sum: f64 = stack.iter().map(|(_, took)| took).sum();
        stack.push(("around".to_owned(), (seconds - sum).max(0.0)));
        stack.retain(|(_, took)| *took > 0.0);
        stack.sort_by_key(|(name, _)| rank(name));
        stack
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("server-timing", HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_header_is_read_with_its_stages_whatever_else_stands_there() {
        let timing = Timing::of(&headers(&[
            "queueing;dur=0.5, transfer;dur=0, deployment;desc=\"a, b\";dur=120, processing;dur=30.25, total;dur=150.75",
            "start-load;dur=60, start-fork;dur=2;desc=x, broken, start-nan;dur=NaN, start-minus;dur=-1",
        ]));
        assert_eq!(timing.parts["processing"], 0.03025);
        assert_eq!(timing.stages["load"], 0.06);
        assert_eq!(timing.stages["fork"], 0.002);
        assert_eq!(timing.stages.len(), 2);
        assert!(!timing.parts.contains_key("total"));
        assert_eq!(Timing::of(&HeaderMap::new()), Timing::default());
    }

    #[test]
    fn a_stack_adds_up_and_names_what_is_left() {
        let timing = Timing::of(&headers(&[
            "deployment;dur=100, processing;dur=30, start-exec;dur=40, start-load;dur=50",
        ]));
        let stack = timing.stack(0.14);
        let names: Vec<&str> = stack.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["exec", "load", "ready", "processing", "around"]);
        let sum: f64 = stack.iter().map(|(_, took)| took).sum();
        assert!((sum - 0.14).abs() < 1e-12);
        assert!((stack[2].1 - 0.01).abs() < 1e-12);
    }

    #[test]
    fn stages_that_overlap_are_cut_to_the_wait() {
        let timing = Timing::of(&headers(&[
            "deployment;dur=60, processing;dur=1, start-exec;dur=40, start-other;dur=80",
        ]));
        let stack = timing.stack(0.061);
        let sum: f64 = stack.iter().map(|(_, took)| took).sum();
        assert!((sum - 0.061).abs() < 1e-12, "{stack:?}");
        assert_eq!(stack[1].0, "other");
        assert!((stack[1].1 - 0.04).abs() < 1e-12);
    }

    #[test]
    fn a_baseline_has_its_own_stages_alone() {
        let timing = Timing {
            stages: [("create".to_owned(), 0.01), ("start".to_owned(), 0.2)].into(),
            ..Timing::default()
        };
        let stack = timing.stack(0.25);
        assert_eq!(stack[0], ("create".to_owned(), 0.01));
        assert_eq!(stack[2].0, "around");
        assert!((stack[2].1 - 0.04).abs() < 1e-12);
    }
}
