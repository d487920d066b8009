//! What is said of an invocation when it is done.

use crate::cli::output::table;
use crate::cli::quantity::seconds;
use crate::history::{Measurement, Parts, Race};
use http::HeaderMap;
use serde::Serialize;
use std::collections::BTreeMap;
use stoic_protocol::headers;

/// Where an invocation ran, and how long it took against what was predicted.
#[derive(Debug, Clone, Serialize)]
pub(in crate::cli) struct Summary {
    pub(in crate::cli) function: String,
    pub(in crate::cli) invocation: String,
    pub(in crate::cli) runtime: String,
    pub(in crate::cli) site: String,
    /// `cold` or `warm`.
    pub(in crate::cli) start: String,
    pub(in crate::cli) pod: Option<String>,
    pub(in crate::cli) reason: Option<String>,
    pub(in crate::cli) model: Option<String>,
    /// `link`, `deployment`, both, or nothing.
    pub(in crate::cli) emulated: String,
    pub(in crate::cli) items: Option<u64>,
    pub(in crate::cli) failed_items: u64,
    /// In seconds.
    pub(in crate::cli) predicted: Option<Parts>,
    pub(in crate::cli) predicted_90: Option<(f64, f64)>,
    /// In seconds.
    pub(in crate::cli) actual: Parts,
    /// Seconds by stage inside the pod; stages overlap.
    pub(in crate::cli) stages_s: BTreeMap<String, f64>,
    /// The mode that was used.
    pub(in crate::cli) mode: String,
    /// Items done by each runtime, where more than one could have a part.
    pub(in crate::cli) items_by: BTreeMap<String, u64>,
    /// What it cost the cloud, where the edge and the cloud were used together.
    pub(in crate::cli) race: Option<Race>,
}

impl Summary {
    /// Of a batch.
    pub(in crate::cli) fn of(measurement: Measurement) -> Self {
        Self {
            function: measurement.function,
            invocation: measurement.invocation,
            runtime: measurement.runtime,
            site: measurement.site,
            start: measurement.start,
            pod: None,
            reason: None,
            model: measurement.model,
            emulated: measurement.emulated,
            items: Some(measurement.items),
            failed_items: 0,
            predicted: measurement.predicted,
            predicted_90: measurement.predicted_90,
            actual: measurement.actual,
            stages_s: BTreeMap::new(),
            mode: measurement.mode,
            items_by: measurement.items_by,
            race: measurement.race,
        }
    }

    /// Of a request that passed through, as the headers of its answer tell. None where the gateway did
    /// not get so far.
    pub(super) fn from_headers(function: &str, all: &HeaderMap) -> Option<Self> {
        let text = |name: &str| Some(all.get(name)?.to_str().ok()?.to_owned());
        let parts = |name: &str| text(name).map(|text| parse_parts(&text));
        let predicted = parts(headers::PREDICTED);
        Some(Self {
            function: function.to_owned(),
            invocation: text(headers::INVOCATION)?,
            runtime: text(headers::RUNTIME)?,
            site: text(headers::SITE).unwrap_or_default(),
            start: text(headers::START).unwrap_or_default(),
            pod: text(headers::POD),
            reason: text(headers::REASON),
            model: text(headers::MODEL),
            emulated: text(headers::EMULATED).unwrap_or_default(),
            items: None,
            failed_items: 0,
            predicted: predicted.map(|(parts, _)| parts),
            predicted_90: predicted.and_then(|(_, interval)| interval),
            actual: parts(headers::ACTUAL)?.0,
            stages_s: BTreeMap::new(),
            mode: text(headers::MODE).unwrap_or_default(),
            items_by: BTreeMap::new(),
            race: None,
        })
    }

    /// For people.
    pub(in crate::cli) fn text(&self) -> String {
        let mut head = format!(
            "{} ran on {} (site {}), {}",
            self.function, self.runtime, self.site, self.start
        );
        if let Some(pod) = &self.pod {
            head.push_str(&format!(", in pod {pod}"));
        }
        if let Some(model) = &self.model {
            head.push_str(&format!(", model {model}"));
        }
        if let Some(items) = self.items {
            let noun = if items == 1 { "item" } else { "items" };
            head.push_str(&format!("\n{items} {noun}"));
            if self.failed_items > 0 {
                head.push_str(&format!(", {} of them failed", self.failed_items));
            }
        }
        if !self.items_by.is_empty() {
            let by: Vec<String> = self
                .items_by
                .iter()
                .map(|(r, n)| format!("{n} on {r}"))
                .collect();
            head.push_str(&format!(": {}", by.join(", ")));
        }
        if let Some(reason) = &self.reason {
            head.push_str(&format!("\nwhy there: {reason}"));
        }
        if let Some(race) = &self.race {
            let account = [
                ("given back", race.saved_s),
                ("spent in vain", race.lost_s),
                ("spent on the answer", race.used_s),
            ];
            let account: Vec<String> = account
                .into_iter()
                .filter(|(_, s)| *s > 0.0)
                .map(|(what, s)| format!("{} s {what}", seconds(s)))
                .collect();
            let account = match account.is_empty() {
                true => "nothing".to_owned(),
                false => account.join(", "),
            };
            head.push_str(&format!("\ncloud time of {}: {account}", race.runtime));
        }
        let emulated = |part: &str| {
            let is = self.emulated.split(',').any(|name| name == part);
            if is { ", emulated" } else { "" }
        };
        let row = |name: &str, parts: &Parts, interval: Option<(f64, f64)>| {
            let interval = interval.map_or_else(String::new, |(low, high)| {
                format!("{}..{}", seconds(low), seconds(high))
            });
            vec![
                name.to_owned(),
                seconds(parts.queueing),
                seconds(parts.transfer),
                seconds(parts.deployment),
                seconds(parts.processing),
                seconds(parts.response()),
                interval,
            ]
        };
        let mut rows = Vec::new();
        match &self.predicted {
            Some(predicted) => rows.push(row("predicted", predicted, self.predicted_90)),
            None => head.push_str("\nnothing was predicted: too little has been measured yet"),
        }
        rows.push(row("actual", &self.actual, None));
        let transfer = format!("T_t transfer{}>", emulated("link"));
        let deployment = format!("T_d deployment{}>", emulated("deployment"));
        let rows = table(
            &[
                "seconds",
                "T_q queueing>",
                &transfer,
                &deployment,
                "T_p processing>",
                "T_s response>",
                "90 % interval",
            ],
            rows,
        );
        format!("{head}\n{rows}")
    }
}

/// Reads `queueing=0;transfer=4.52;...;low90=6.2;high90=7.4`.
fn parse_parts(text: &str) -> (Parts, Option<(f64, f64)>) {
    let values: BTreeMap<&str, f64> = text
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(key, value)| Some((key.trim(), value.trim().parse().ok()?)))
        .collect();
    let value = |key: &str| values.get(key).copied();
    let parts = Parts {
        queueing: value("queueing").unwrap_or_default(),
        transfer: value("transfer").unwrap_or_default(),
        deployment: value("deployment").unwrap_or_default(),
        processing: value("processing").unwrap_or_default(),
    };
    (parts, value("low90").zip(value("high90")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requester::write_parts;

    #[test]
    fn headers_are_read_as_the_gateway_writes_them() {
        let parts = Parts {
            queueing: 0.5,
            transfer: 4.52,
            deployment: 0.0,
            processing: 2.31,
        };
        let mut text = String::new();
        write_parts(&mut text, &parts, Some((6.2, 7.4)));
        assert_eq!(parse_parts(&text), (parts, Some((6.2, 7.4))));
        assert_eq!(parse_parts("nonsense"), (Parts::default(), None));
    }

    #[test]
    fn what_is_emulated_is_called_so() {
        let summary = Summary::of(Measurement {
            function: "f".to_owned(),
            emulated: "link".to_owned(),
            items: 3,
            ..Measurement::default()
        });
        let text = summary.text();
        assert!(text.contains("T_t transfer, emulated"), "{text}");
        assert!(!text.contains("T_d deployment, emulated"), "{text}");
    }
}
