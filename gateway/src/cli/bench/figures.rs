//! The figures of a bench.

use super::results::{BurstRow, LoadRow, QUANTILES, Row};
use super::sample::rank;
use super::target::Target;
use super::ways::Way;
use std::rc::Rc;
use stoic_evaluation::figure::{Axis, COLOURS, Figure, Mark, Panel, Shape};

const MS: f64 = 1000.0;

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// Every measurement, its median with the interval, and p99, by way; a colour for each target.
pub(super) fn latencies(rows: &[Row], targets: &[Rc<Target>]) -> Figure {
    let ways: Vec<Way> = Way::ALL
        .into_iter()
        .filter(|way| rows.iter().any(|row| row.way == *way))
        .collect();
    let all = rows
        .iter()
        .flat_map(|row| row.seconds.iter().map(|s| s * MS));
    let mut x = Axis::between("", 0.0, ways.len() as f64);
    x.words = ways
        .iter()
        .enumerate()
        .map(|(place, way)| (place as f64 + 0.5, way.name().to_owned()))
        .collect();
    let step = 1.0 / (targets.len() as f64 + 1.0);
    let (mut points, mut medians, mut tails) = (Vec::new(), Vec::new(), Vec::new());
    for (index, target) in targets.iter().enumerate() {
        let (mut each, mut middle, mut far) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows.iter().filter(|row| row.target == index) {
            let place = ways.iter().position(|way| *way == row.way).unwrap_or(0) as f64;
            let at = place + step * (index as f64 + 1.0);
            // Side by side, so that equal ones do not hide each other.
            let aside = |n: usize| at + step * 0.5 * ((n % 9) as f64 / 8.0 - 0.5);
            each.extend(
                row.seconds
                    .iter()
                    .enumerate()
                    .map(|(n, s)| (aside(n), s * MS)),
            );
            if let Some(median) = row.quantiles[0] {
                let half = step * 0.35;
                middle.push((at - half, at + half, median.value * MS));
            }
            if let Some(p99) = row.quantiles[2] {
                far.push((at, p99.low * MS, p99.high * MS));
            }
        }
        points.push(Mark::new(
            &target.label(),
            colour(index),
            Shape::Points {
                points: each,
                hollow: true,
            },
        ));
        medians.push(Mark::new("", COLOURS[6], Shape::Spans(middle)));
        tails.push(Mark::new("", colour(index), Shape::Whiskers(far)));
    }
    let mut marks = points;
    marks.extend(medians);
    marks.extend(tails);
    let mut panel = Panel::new(
        "Each measurement; level line: median, upright line: interval of p99",
        x,
        Axis::logarithmic("milliseconds to the last byte", all),
        marks,
    );
    panel.width = (140.0 * ways.len() as f64).clamp(560.0, 1200.0);
    panel.height = 420.0;
    Figure {
        title: "Cold and warm".to_owned(),
        panels: vec![panel],
    }
}

/// Where the time goes: stacked stages of the starts, and of the calls that need none.
pub(super) fn stages(rows: &[Row], targets: &[Rc<Target>]) -> Figure {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| &row.stages) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| (rank(name), (*name).to_owned()));
    let panels = [true, false].map(|starts| {
        let bars: Vec<&Row> = rows
            .iter()
            .filter(|row| row.way.starts() == starts && !row.stages.is_empty())
            .collect();
        panel(&bars, &names, targets, starts)
    });
    Figure {
        title: "Where the time goes (mean of the middle half of the measurements)".to_owned(),
        panels: panels.into_iter().flatten().collect(),
    }
}

fn panel(bars: &[&Row], names: &[&str], targets: &[Rc<Target>], starts: bool) -> Option<Panel> {
    if bars.is_empty() {
        return None;
    }
    let highest = bars
        .iter()
        .map(|row| row.stages.iter().map(|(_, s)| s * MS).sum::<f64>())
        .fold(0.0, f64::max);
    let mut x = Axis::between("", 0.0, bars.len() as f64);
    x.words = bars
        .iter()
        .enumerate()
        .map(|(place, row)| {
            let target = &targets[row.target];
            let text = format!("{} {} {}", target.function, target.backend, row.way.name());
            (place as f64 + 0.5, text)
        })
        .collect();
    let marks = names.iter().enumerate().map(|(index, name)| {
        let boxes = bars.iter().enumerate().filter_map(|(place, row)| {
            let place_in = row.stages.iter().position(|(of, _)| of == name)?;
            let low: f64 = row.stages[..place_in].iter().map(|(_, s)| s * MS).sum();
            let took = row.stages[place_in].1 * MS;
            Some((place as f64 + 0.15, place as f64 + 0.85, low, low + took))
        });
        Mark::new(name, colour(index), Shape::Boxes(boxes.collect()))
    });
    let marks = marks
        .filter(|mark| matches!(&mark.shape, Shape::Boxes(boxes) if !boxes.is_empty()))
        .collect();
    let mut panel = Panel::new(
        if starts { "Starts" } else { "Ready pods" },
        x,
        Axis::between("milliseconds", 0.0, highest * 1.05),
        marks,
    );
    let longest = panel.x.words.iter().map(|(_, text)| text.len()).max();
    let room = longest.unwrap_or(10) as f64 * 7.0 + 20.0;
    panel.width = (room * bars.len() as f64 + 90.0).max(420.0);
    panel.height = 420.0;
    Some(panel)
}

/// Quantiles under load, closed-loop beside open-loop.
pub(super) fn loads(rows: &[LoadRow], targets: &[Rc<Target>]) -> Figure {
    let mut x = Axis::between("", 0.0, QUANTILES.len() as f64);
    x.words = QUANTILES
        .iter()
        .enumerate()
        .map(|(place, (name, _))| (place as f64 + 0.5, (*name).to_owned()))
        .collect();
    let values = rows
        .iter()
        .flat_map(|row| row.quantiles.iter().flatten())
        .flat_map(|interval| [interval.low * MS, interval.high * MS]);
    let axis = Axis::logarithmic("milliseconds", values);
    let step = 1.0 / (rows.len() as f64 + 1.0);
    let mut marks = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let at = |place: usize| place as f64 + step * (index as f64 + 1.0);
        let told = || {
            row.quantiles
                .iter()
                .enumerate()
                .filter_map(|(place, interval)| Some((at(place), (*interval)?)))
        };
        let name = format!("{}, {}-loop", targets[row.target].label(), row.kind);
        marks.push(Mark::new(
            &name,
            colour(index),
            Shape::Points {
                points: told().map(|(at, i)| (at, i.value * MS)).collect(),
                hollow: row.kind == "closed",
            },
        ));
        let whiskers = told().map(|(at, i)| (at, i.low * MS, i.high * MS));
        marks.push(Mark::new(
            "",
            colour(index),
            Shape::Whiskers(whiskers.collect()),
        ));
    }
    let mut panel = Panel::new("Hollow: closed-loop. Filled: open-loop", x, axis, marks);
    panel.width = 720.0;
    panel.height = 400.0;
    Figure {
        title: "Under load".to_owned(),
        panels: vec![panel],
    }
}

/// A burst's calls against one cold start.
pub(super) fn bursts(rows: &[BurstRow], targets: &[Rc<Target>]) -> Figure {
    let mut x = Axis::between("", 0.0, rows.len() as f64);
    x.words = rows
        .iter()
        .enumerate()
        .map(|(place, row)| (place as f64 + 0.5, targets[row.target].label()))
        .collect();
    let kinds = [
        ("one cold start, median", 0),
        ("burst, median", 1),
        ("burst, p99", 2),
    ];
    let of = |row: &BurstRow, kind: usize| match kind {
        0 => row.single,
        1 => row.together[0],
        _ => row.together[1],
    };
    let highest = rows
        .iter()
        .flat_map(|row| (0..3).filter_map(|kind| of(row, kind)))
        .map(|interval| interval.high * MS)
        .fold(1e-3, f64::max);
    let mut marks = Vec::new();
    for (name, kind) in kinds {
        let told = || {
            rows.iter().enumerate().filter_map(move |(place, row)| {
                Some((place as f64 + 0.2 + 0.2 * kind as f64, of(row, kind)?))
            })
        };
        let bars = told().map(|(at, i)| (at, at + 0.2, i.value * MS));
        marks.push(Mark::new(name, colour(kind), Shape::Bars(bars.collect())));
        let whiskers = told().map(|(at, i)| (at + 0.1, i.low * MS, i.high * MS));
        marks.push(Mark::new(
            "",
            COLOURS[6],
            Shape::Whiskers(whiskers.collect()),
        ));
    }
    let mut panel = Panel::new(
        "",
        x,
        Axis::between("milliseconds", 0.0, highest * 1.05),
        marks,
    );
    panel.width = (180.0 * rows.len() as f64).clamp(460.0, 1200.0);
    Figure {
        title: "Bursts on a cold function".to_owned(),
        panels: vec![panel],
    }
}
