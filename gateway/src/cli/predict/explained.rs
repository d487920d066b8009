//! What a prediction rests on, for people.

use crate::cli::output::table;
use crate::cli::quantity::{moment, seconds};
use crate::http::PredictView;
use crate::pods::Standing;
use crate::scheduler::{Explanation, PartExplanation, RecentAccuracy, RuntimeEstimate};

/// Everything that `--explain` adds to the table of estimates; empty where nothing was explained.
pub(super) fn text(view: &PredictView) -> String {
    let mut text = String::new();
    if !view.modes.is_empty() {
        let row = |forecast: &crate::scheduler::ModeForecast| {
            vec![
                forecast.mode.clone(),
                forecast.runtimes.join(" + "),
                seconds(forecast.expected_s),
                match forecast.price {
                    0.0 => "-".to_owned(),
                    price => format!("{price:.4}"),
                },
            ]
        };
        let rows = table(
            &["MODE", "RUNTIMES", "EXPECTED>", "PRICE>"],
            view.modes.iter().map(row),
        );
        text.push_str(&format!("\n\n{rows}"));
    }
    for estimate in &view.runtimes {
        if let Some(explanation) = &estimate.explanation {
            text.push_str(&format!("\n\n{}", of_runtime(estimate, explanation)));
        }
    }
    text
}

fn of_runtime(estimate: &RuntimeEstimate, explanation: &Explanation) -> String {
    let mut lines = vec![format!(
        "{} at site {}: {}",
        estimate.runtime,
        estimate.site,
        standing(&explanation.standing, estimate.available)
    )];
    if let Some(chance) = explanation.chance {
        lines.push(format!(
            "  a chance of {:.1} % to answer within the deadline",
            100.0 * chance
        ));
    }
    if let Some(price) = explanation.price {
        lines.push(format!("  expected to cost {price:.4}"));
    }
    if let Some(link) = &explanation.link {
        let when = |at: Option<f64>| at.map_or_else(|| "never".to_owned(), moment);
        lines.push(format!(
            "  link measured by a package {}, by a probe {} (UTC)",
            when(link.transfer_at),
            when(link.probe_at)
        ));
    }
    let rows = table(
        &[
            "  PART",
            "ESTIMATOR",
            "POINTS>",
            "OFF BY>",
            "OUTCOMES>",
            "MEAN ERROR>",
            "HELD>",
            "FROM",
        ],
        explanation.parts.iter().map(of_part),
    );
    lines.push(rows);
    lines.join("\n")
}

fn of_part(part: &PartExplanation) -> Vec<String> {
    let RecentAccuracy {
        outcomes,
        mae_s,
        coverage_90,
        ..
    } = part.recent;
    let dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let name = match part.part.as_str() {
        "queueing" => "T_q",
        "transfer" => "T_t",
        "deployment" => "T_d",
        "processing" => "T_p",
        "response" => "T_s",
        other => other,
    };
    vec![
        format!("  {name}"),
        part.estimator.clone(),
        part.points.to_string(),
        dash(
            part.recent_error
                .map(|error| format!("{:.1} %", 100.0 * error)),
        ),
        outcomes.to_string(),
        dash(mae_s.map(|mae| format!("{} s", seconds(mae)))),
        dash(coverage_90.map(|share| format!("{:.0} %", 100.0 * share))),
        part.detail.clone(),
    ]
}

/// Whether a runtime may be used, since when not and why not, and what was measured there last.
pub(in crate::cli) fn standing(standing: &Standing, available: bool) -> String {
    let mut text = match (available, standing.unavailable_since) {
        (true, _) => "available".to_owned(),
        (false, Some(since)) => format!("unavailable since {} (UTC)", moment(since)),
        (false, None) => "unavailable".to_owned(),
    };
    if let Some(reason) = &standing.reason {
        text.push_str(&format!(": {reason}"));
    }
    if let Some(last) = standing.last_deployment {
        let by = if last.probe { "probe" } else { "work" };
        text.push_str(&format!(
            "; deployed in {} s at {} ({by})",
            seconds(last.seconds),
            moment(last.at)
        ));
    }
    text
}
