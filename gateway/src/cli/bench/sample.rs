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

/// Stages of a start and parts of an answer, in the order in which they happen; unknown ones stand before `wait`.
const ORDER: [&str; 21] = [
    "run",
    "pull",
    "create",
    "start",
    "zygote",
    "exec",
    "initialise",
    "bind",
    "model",
    "load",
    "first",
    "first_inference",
    "fork",
    "renew",
    "listen",
    "ready",
    "wait",
    "queueing",
    "transfer",
    "processing",
    "around",
];

/// Sorts stages into the order in which they happen.
pub(super) fn rank(stage: &str) -> usize {
    let place = |stage: &str| ORDER.iter().position(|known| *known == stage);
    match place(stage) {
        Some(place) => place * 2,
        // An unknown one belongs to the start.
        None => place("wait").unwrap_or(0) * 2 - 1,
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

    /// Whether the pod was forked from a process that stood ready: one that had to wait for that, or has the stages of
    /// its start among its own, was not.
    pub(super) fn forked(&self) -> bool {
        let has = |stage: &str| self.stages.contains_key(stage);
        has("fork")
            && !["zygote", "exec", "initialise", "load"]
                .iter()
                .any(|stage| has(stage))
    }

    /// The whole time as parts that add up to it, in the order in which they happen: the stages of the start, what is
    /// left of the wait for it (`wait`), the other parts, and what the caller had beyond all of them (`around`: the
    /// gateway's own time and the way there and back).
    ///
    /// Where stages overlap or say more than the wait had, they are cut to it, in proportion.
    pub(super) fn stack(&self, seconds: f64) -> Vec<(String, f64)> {
        let part = |name: &str| self.parts.get(name).copied().unwrap_or(0.0);
        let told: f64 = self.stages.values().sum();
        let wait = part("deployment");
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
        stack.push(("wait".to_owned(), (wait - told).max(0.0)));
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
        assert_eq!(names, ["exec", "load", "wait", "processing", "around"]);
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
    fn a_pod_that_waited_for_its_zygote_was_not_forked_from_one_that_stood_ready() {
        let of = |value| Timing::of(&headers(&[value])).forked();
        assert!(of("start-fork;dur=1, start-renew;dur=0.2"));
        assert!(!of("start-zygote;dur=300, start-fork;dur=1"));
        assert!(!of("start-exec;dur=3"));
        assert!(!of(
            "start-exec;dur=200, start-load;dur=90, start-fork;dur=1"
        ));
    }

    #[test]
    fn stages_stand_in_their_order_and_unknown_ones_before_the_rest_of_the_wait() {
        let mut names = ["around", "wait", "odd", "load", "exec", "queueing", "pull"];
        names.sort_by_key(|name| rank(name));
        assert_eq!(
            names,
            ["pull", "exec", "load", "odd", "wait", "queueing", "around"]
        );
    }
}
