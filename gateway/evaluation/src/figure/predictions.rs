//! Figures of predictions: the error by window (Figure 2), predicted and actual over time (Figure 3), and how often the
//! intervals hold.

use super::{Axis, COLOURS, Figure, Mark, Panel, Shape};
use crate::score::Rate;

/// The error of one runtime's deployment predictions by window width: by the mean and by the median window.
#[derive(Debug, Clone)]
pub struct Curve {
    /// The runtime.
    pub runtime: String,
    /// Width and mean absolute error in seconds, of the mean window.
    pub mean: Vec<(usize, f64)>,
    /// The same of the median window.
    pub median: Vec<(usize, f64)>,
}

/// Figure 2: MAE of T_d by window size, average on the left and median on the right.
#[must_use]
pub fn mae_by_window(curves: &[Curve]) -> Figure {
    let points = |curve: &[(usize, f64)]| -> Vec<(f64, f64)> {
        curve
            .iter()
            .map(|(width, mae)| (*width as f64, *mae))
            .collect()
    };
    let all = || curves.iter().flat_map(|c| c.mean.iter().chain(&c.median));
    let widest = all().map(|(width, _)| *width).max().unwrap_or(1) as f64;
    let panel = |title: &str, of: fn(&Curve) -> &[(usize, f64)]| {
        let mut marks = Vec::new();
        for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
            let line = points(of(curve));
            let least = line.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
            let name = match least {
                Some((width, mae)) => format!("{} ({mae:.2} s at {width})", curve.runtime),
                None => curve.runtime.clone(),
            };
            marks.push(Mark::new(
                &name,
                colour,
                Shape::Line {
                    points: line,
                    dashed: false,
                },
            ));
            marks.push(Mark::new(
                "",
                colour,
                Shape::Points {
                    points: least.into_iter().collect(),
                    hollow: true,
                },
            ));
        }
        let mut y = Axis::linear("mean absolute error of T_d, s", all().map(|(_, mae)| *mae));
        y.low = 0.0;
        Panel::new(
            title,
            Axis::between("window, deployments", 0.0, widest),
            y,
            marks,
        )
    };
    Figure {
        title: "Figure 2: error of deployment predictions by window (hollow: least)".to_owned(),
        panels: vec![
            panel("Average sliding window", |c| &c.mean),
            panel("Median sliding window", |c| &c.median),
        ],
    }
}

/// One run for Figure 3; seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// When it ended, hours from the first; or its number where `over_time` is told so.
    pub at: f64,
    /// T_s as it was.
    pub actual: f64,
    /// T_s by the paper's method.
    pub paper: f64,
    /// T_s by ours.
    pub ours: f64,
    /// Our 90 % interval.
    pub interval_90: (f64, f64),
}

/// Figure 3: predicted and actual total latency over time, whose axis is called `label`.
#[must_use]
pub fn over_time(title: &str, label: &str, moments: &[Moment]) -> Figure {
    let line = |of: fn(&Moment) -> f64| -> Vec<(f64, f64)> {
        moments.iter().map(|m| (m.at, of(m))).collect()
    };
    let band = moments
        .iter()
        .map(|m| (m.at, m.interval_90.0, m.interval_90.1))
        .collect();
    // One wild upper end may not flatten the rest.
    let mut highest: Vec<f64> = moments
        .iter()
        .flat_map(|m| [m.actual, m.paper, m.ours])
        .collect();
    highest.sort_unstable_by(f64::total_cmp);
    let most = highest.last().copied().unwrap_or(1.0);
    let mut y = Axis::linear("total latency T_s, s", [0.0, most * 1.15]);
    y.low = 0.0;
    let mut panel = Panel::new(
        "",
        Axis::linear(label, moments.iter().map(|m| m.at)),
        y,
        vec![
            Mark::new("90 % interval of ours", COLOURS[0], Shape::Band(band)),
            Mark::new(
                "predicted by ours",
                COLOURS[0],
                Shape::Line {
                    points: line(|m| m.ours),
                    dashed: false,
                },
            ),
            Mark::new(
                "predicted by the paper's method",
                COLOURS[1],
                Shape::Line {
                    points: line(|m| m.paper),
                    dashed: true,
                },
            ),
            Mark::new(
                "actual",
                COLOURS[6],
                Shape::Points {
                    points: line(|m| m.actual),
                    hollow: false,
                },
            ),
        ],
    );
    panel.width = 920.0;
    Figure {
        title: title.to_owned(),
        panels: vec![panel],
    }
}

/// How often the intervals held: name, 50 % interval, 90 % interval.
#[must_use]
pub fn calibration(parts: &[(String, Option<Rate>, Option<Rate>)]) -> Figure {
    let mut points = [Vec::new(), Vec::new()];
    let mut whiskers = [Vec::new(), Vec::new()];
    let mut words = Vec::new();
    for (index, (name, half, most)) in parts.iter().enumerate() {
        let at = index as f64 + 1.0;
        words.push((at, name.clone()));
        for (which, rate) in [half, most].into_iter().enumerate() {
            if let Some(rate) = rate {
                let beside = at + if which == 0 { -0.1 } else { 0.1 };
                points[which].push((beside, rate.value * 100.0));
                whiskers[which].push((beside, rate.low * 100.0, rate.high * 100.0));
            }
        }
    }
    let ends = (0.4, parts.len() as f64 + 0.6);
    let mut marks = Vec::new();
    for (level, which, colour, name) in [
        (90.0, 1, COLOURS[0], "90 % intervals"),
        (50.0, 0, COLOURS[1], "50 % intervals"),
    ] {
        marks.push(Mark::new(
            "",
            colour,
            Shape::Line {
                points: vec![(ends.0, level), (ends.1, level)],
                dashed: true,
            },
        ));
        marks.push(Mark::new(
            "",
            colour,
            Shape::Whiskers(whiskers[which].clone()),
        ));
        marks.push(Mark::new(
            name,
            colour,
            Shape::Points {
                points: points[which].clone(),
                hollow: false,
            },
        ));
    }
    let mut x = Axis::between("part of the response time", ends.0, ends.1);
    x.words = words;
    let mut panel = Panel::new(
        "",
        x,
        Axis::between("outcomes inside, %", 0.0, 100.0),
        marks,
    );
    panel.width = 760.0;
    Figure {
        title: "Calibration: how often the intervals held (upright lines: 95 % confidence)"
            .to_owned(),
        panels: vec![panel],
    }
}
