//! Figures of what was measured: the workload (Figure 4), the parts of the response time (Figure 6), and what policies
//! took beyond MIN-LAT.

use super::{Axis, COLOURS, Figure, Mark, Panel, Shape};
use crate::score::{Case, Rate};

/// Figure 4: mean images by hour of day, and the conditional empirical distribution of batch sizes as steps.
#[must_use]
pub fn workload(mean_images: &[f64; 24], steps: &[(f64, f64)]) -> Figure {
    let bars = mean_images
        .iter()
        .enumerate()
        .map(|(hour, mean)| (hour as f64, hour as f64 + 1.0, *mean))
        .collect();
    let mut images = Axis::linear("mean images in the hour", mean_images.iter().copied());
    images.low = 0.0;
    let mut hours = Axis::between("hour of day", 0.0, 24.0);
    hours.words = (0..24)
        .step_by(4)
        .map(|hour| (f64::from(hour) + 0.5, hour.to_string()))
        .collect();
    let activity = Panel::new(
        "Hourly activity",
        hours,
        images,
        vec![Mark::new("", COLOURS[0], Shape::Bars(bars))],
    );
    let mut line = vec![(steps.first().map_or(1.0, |step| step.0), 0.0)];
    line.extend_from_slice(steps);
    let distribution = Panel::new(
        "Batch sizes, given that there are images",
        Axis::logarithmic("images in the batch", steps.iter().map(|step| step.0)),
        Axis::between("cumulative probability", 0.0, 1.0),
        vec![Mark::new("", COLOURS[1], Shape::Steps(line))],
    );
    Figure {
        title: "Figure 4: the workload".to_owned(),
        panels: vec![activity, distribution],
    }
}

/// Bars of a histogram.
const BINS: usize = 24;

/// Figure 6: histograms of T_p, T_d and T_t on one runtime, in seconds.
#[must_use]
pub fn histograms(runtime: &str, parts: [(&str, Vec<f64>); 3]) -> Figure {
    let colours = [COLOURS[0], COLOURS[1], COLOURS[2]];
    let runs = parts[0].1.len();
    let panels = parts
        .into_iter()
        .zip(colours)
        .map(|((title, values), colour)| {
            let mut sorted = values.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            // The last bar holds all that lie further out, so that one of 600 s does not hide the rest.
            let cut = sorted
                .get((sorted.len() * 97) / 100)
                .copied()
                .unwrap_or(1.0)
                .max(1e-3);
            let most = sorted.last().copied().unwrap_or(1.0);
            let top = if most > cut * 1.6 {
                cut * 1.1
            } else {
                most.max(1e-3)
            };
            let width = top / BINS as f64;
            let mut counts = [0usize; BINS];
            for value in &values {
                counts[((value / width) as usize).min(BINS - 1)] += 1;
            }
            let bars = counts
                .iter()
                .enumerate()
                .map(|(bin, count)| (bin as f64 * width, (bin + 1) as f64 * width, *count as f64))
                .collect();
            let title = if most > top {
                format!("{title} (last bar: up to {most:.0} s)")
            } else {
                title.to_owned()
            };
            let highest = counts.iter().copied().max().unwrap_or(1) as f64;
            let mut panel = Panel::new(
                &title,
                Axis::between("seconds", 0.0, top),
                Axis::between("runs", 0.0, highest * 1.08),
                vec![Mark::new("", colour, Shape::Bars(bars))],
            );
            panel.width = 370.0;
            panel.height = 300.0;
            panel
        })
        .collect();
    Figure {
        title: format!("Figure 6: the parts of the response time on {runtime}, {runs} runs"),
        panels,
    }
}

/// What policies took beyond MIN-LAT, added up batch by batch, over the batches that all of them can be told for.
#[must_use]
pub fn regret(cases: &[Case], policies: &[&str]) -> Figure {
    let told: Vec<&str> = policies
        .iter()
        .copied()
        .filter(|policy| cases.iter().any(|case| case.outcomes.contains_key(*policy)))
        .collect();
    let common: Vec<&Case> = cases
        .iter()
        .filter(|case| {
            told.iter()
                .all(|policy| case.outcomes.contains_key(*policy))
        })
        .collect();
    // Long logs are drawn at some of their batches.
    let every = common.len().div_ceil(1500).max(1);
    let mut marks = Vec::new();
    let mut highest = vec![0.0];
    for (policy, colour) in told.iter().zip(COLOURS.iter().cycle()) {
        let mut sum = 0.0;
        let mut line = vec![(0.0, 0.0)];
        for (index, case) in common.iter().enumerate() {
            sum += case.outcomes[*policy].response_s - case.min_lat_s();
            if (index + 1) % every == 0 || index + 1 == common.len() {
                line.push(((index + 1) as f64, sum));
            }
        }
        highest.extend(line.iter().map(|(_, sum)| *sum));
        let name = format!("{policy} ({sum:.0} s)");
        marks.push(Mark::new(
            &name,
            colour,
            Shape::Line {
                points: line,
                dashed: false,
            },
        ));
    }
    let mut panel = Panel::new(
        "",
        Axis::between("batches", 0.0, common.len() as f64),
        Axis::linear("regret in sum, s", highest),
        marks,
    );
    panel.width = 920.0;
    panel.height = 400.0;
    Figure {
        title: "Regret: seconds beyond MIN-LAT, added up".to_owned(),
        panels: vec![panel],
    }
}

/// Policies by what they took of MIN-LAT, the best at the top; lines: 95 % confidence.
#[must_use]
pub fn of_min_lat(policies: &[(String, Rate)]) -> Figure {
    let mut sorted: Vec<&(String, Rate)> = policies.iter().collect();
    sorted.sort_by(|a, b| b.1.value.total_cmp(&a.1.value));
    let mut y = Axis::between("", 0.4, sorted.len() as f64 + 0.6);
    let (mut points, mut spans) = (Vec::new(), Vec::new());
    for (index, (name, rate)) in sorted.iter().enumerate() {
        let at = index as f64 + 1.0;
        y.words.push((at, format!("{name} {:.3}", rate.value)));
        points.push((rate.value, at));
        spans.push((rate.low, rate.high, at));
    }
    let values = sorted.iter().flat_map(|(_, rate)| [rate.low, rate.high]);
    let x = Axis::logarithmic("total response time, by MIN-LAT", values.chain([0.9, 1.1]));
    let one = vec![(1.0, y.low), (1.0, y.high)];
    let marks = vec![
        Mark::new(
            "MIN-LAT",
            COLOURS[6],
            Shape::Line {
                points: one,
                dashed: true,
            },
        ),
        Mark::new("95 % confidence", COLOURS[0], Shape::Spans(spans)),
        Mark::new(
            "total",
            COLOURS[0],
            Shape::Points {
                points,
                hollow: false,
            },
        ),
    ];
    let mut panel = Panel::new("", x, y, marks);
    panel.width = 860.0;
    panel.left = 210.0;
    panel.height = 110.0 + 24.0 * sorted.len() as f64;
    Figure {
        title: "Policies against the oracle that may use one place".to_owned(),
        panels: vec![panel],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_stand_in_the_last_bar_and_no_run_is_lost() {
        let mut deployments = vec![20.0; 99];
        deployments.push(606.0);
        let figure = histograms(
            "gpu2",
            [
                ("T_p", vec![5.0; 100]),
                ("T_d", deployments),
                ("T_t", vec![0.0; 100]),
            ],
        );
        for panel in &figure.panels {
            let Shape::Bars(bars) = &panel.marks[0].shape else {
                panic!("bars");
            };
            assert_eq!(bars.iter().map(|bar| bar.2).sum::<f64>(), 100.0);
        }
        assert!(figure.panels[1].title.contains("up to 606 s"));
        assert!(figure.panels[1].x.high < 30.0);
    }
}
