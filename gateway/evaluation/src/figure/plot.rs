//! Plots as SVG: panels side by side with axes, a legend above each, and marks. Knows nothing of what it shows.
//!
//! By hand and not by a plotting crate: what is needed is lines, points, bars and steps on linear and logarithmic axes,
//! and the page must be legible where no font can be measured.

use std::fmt::Write;

/// Colours that people with colour blindness tell apart (Okabe and Ito).
pub const COLOURS: [&str; 8] = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8a6d00",
];

/// Width of a character of the small text, pixels; a little more than most fonts have.
const CHARACTER: f64 = 6.9;
/// Room for the numbers of the vertical axis.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 18.0;
const BOTTOM: f64 = 52.0;
/// Height of a line of the legend.
const LEGEND: f64 = 18.0;

/// A figure: a title and panels from left to right.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    /// Above all panels.
    pub title: String,
    /// From left to right.
    pub panels: Vec<Panel>,
}

/// A pair of axes with marks.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Above the panel; may be empty.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// In the order in which they are drawn.
    pub marks: Vec<Mark>,
    /// Width, pixels.
    pub width: f64,
    /// Height of everything but the title of the figure, pixels.
    pub height: f64,
    /// Room left of the vertical axis, pixels; words need more than numbers.
    pub left: f64,
}

/// An axis from `low` to `high`.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What it counts, with its unit.
    pub label: String,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Whether equal ratios are equal distances.
    pub logarithmic: bool,
    /// Places with their own words, instead of numbers.
    pub words: Vec<(f64, String)>,
}

impl Axis {
    /// A linear axis that holds all values, from zero where that is near.
    #[must_use]
    pub fn linear(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        let low = if low >= 0.0 && low < high * 0.7 {
            0.0
        } else {
            low
        };
        let room = (high - low).max(high.abs() * 0.05).max(1e-9) * 0.05;
        Self {
            label: label.to_owned(),
            low: if low == 0.0 { 0.0 } else { low - room },
            high: high + room,
            logarithmic: false,
            words: Vec::new(),
        }
    }

    /// A logarithmic axis that holds all positive values.
    #[must_use]
    pub fn logarithmic(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values.into_iter().filter(|v| *v > 0.0)).unwrap_or((1.0, 10.0));
        Self {
            label: label.to_owned(),
            low: low / 1.2,
            high: (high * 1.2).max(low * 1.5),
            logarithmic: true,
            words: Vec::new(),
        }
    }

    /// A linear axis between two values.
    #[must_use]
    pub fn between(label: &str, low: f64, high: f64) -> Self {
        Self {
            label: label.to_owned(),
            low,
            high: if high > low { high } else { low + 1.0 },
            logarithmic: false,
            words: Vec::new(),
        }
    }

    /// The share of the axis at which a value stands, from 0 to 1; what lies outside stands at the nearer end.
    fn place(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// Places to mark, about as many as fit.
    fn ticks(&self, fit: usize) -> Vec<(f64, String)> {
        if !self.words.is_empty() {
            return self.words.clone();
        }
        // Within a decade or so, even steps tell more.
        let places = if self.logarithmic && self.high / self.low > 8.0 {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let of = |steps: &'static [f64]| -> Vec<f64> {
                decades
                    .clone()
                    .flat_map(|decade| steps.iter().map(move |s| s * 10f64.powi(decade)))
                    .filter(|v| *v >= self.low && *v <= self.high)
                    .collect()
            };
            let fine = of(&[1.0, 2.0, 5.0]);
            if fine.len() <= fit { fine } else { of(&[1.0]) }
        } else {
            let step = step((self.high - self.low) / fit.max(1) as f64);
            let first = (self.low / step - 1e-9).ceil();
            let last = (self.high / step + 1e-9).floor();
            let count = (last - first).clamp(0.0, 50.0) as usize;
            (0..=count).map(|i| (first + i as f64) * step).collect()
        };
        places.into_iter().map(|v| (v, number(v))).collect()
    }
}

/// What is drawn. Marks with a name are in the legend.
#[derive(Debug, Clone)]
pub struct Mark {
    /// In the legend; empty for none.
    pub name: String,
    /// Any of [`COLOURS`].
    pub colour: &'static str,
    /// Its form.
    pub shape: Shape,
}

/// The form of a mark, with its values on the axes.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A line through points; broken where `dashed`.
    Line {
        /// Its points.
        points: Vec<(f64, f64)>,
        /// Whether it is broken.
        dashed: bool,
    },
    /// A line of steps: each value holds until the next.
    Steps(Vec<(f64, f64)>),
    /// Points; hollow ones show what is under them.
    Points {
        /// Their places.
        points: Vec<(f64, f64)>,
        /// Whether they are hollow.
        hollow: bool,
    },
    /// Bars from the axis up: from, to, height.
    Bars(Vec<(f64, f64, f64)>),
    /// Boxes that stand anywhere, such as the parts of a stacked bar: from, to, lower end, upper end.
    Boxes(Vec<(f64, f64, f64, f64)>),
    /// A shaded range: place, lower end, upper end.
    Band(Vec<(f64, f64, f64)>),
    /// Upright lines from lower to upper end: place, lower end, upper end.
    Whiskers(Vec<(f64, f64, f64)>),
    /// Level lines from left to right end: left end, right end, height.
    Spans(Vec<(f64, f64, f64)>),
}

impl Mark {
    /// A mark with a name.
    #[must_use]
    pub fn new(name: &str, colour: &'static str, shape: Shape) -> Self {
        Self {
            name: name.to_owned(),
            colour,
            shape,
        }
    }
}

impl Figure {
    /// The figure as SVG.
    #[must_use]
    pub fn svg(&self) -> String {
        let above = if self.title.is_empty() { 8.0 } else { 38.0 };
        let width: f64 = self.panels.iter().map(|p| p.width).sum();
        let tallest = self.panels.iter().map(|p| p.height).fold(0.0, f64::max);
        let height = above + tallest;
        // All panels begin their axes at the same height.
        let lines = self
            .panels
            .iter()
            .map(Panel::legend_lines)
            .max()
            .unwrap_or(0);
        let mut out = Svg::default();
        out.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"12\" role=\"img\">\n<title>{0}</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"14\" y=\"25\" font-size=\"15\" font-weight=\"600\">{0}</text>\n",
            escape(&self.title)
        ));
        let mut left = 0.0;
        for panel in &self.panels {
            out.put(format_args!(
                "<g transform=\"translate({left} {above})\">\n"
            ));
            panel.draw(&mut out, lines);
            out.put(format_args!("</g>\n"));
            left += panel.width;
        }
        out.put(format_args!("</svg>\n"));
        out.0
    }
}

#[derive(Debug, Default)]
struct Svg(String);

impl Svg {
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(text);
    }
}

impl Panel {
    /// A panel of the usual size.
    #[must_use]
    pub fn new(title: &str, x: Axis, y: Axis, marks: Vec<Mark>) -> Self {
        Self {
            title: title.to_owned(),
            x,
            y,
            marks,
            width: 460.0,
            height: 360.0,
            left: LEFT,
        }
    }

    /// The legend: names with their places, as (line, offset, mark).
    fn legend(&self) -> Vec<(usize, f64, &Mark)> {
        let room = self.width - self.left - RIGHT;
        let (mut line, mut offset) = (0, 0.0);
        let mut placed = Vec::new();
        for mark in self.marks.iter().filter(|mark| !mark.name.is_empty()) {
            let width = 26.0 + CHARACTER * mark.name.chars().count() as f64 + 12.0;
            if offset > 0.0 && offset + width > room {
                (line, offset) = (line + 1, 0.0);
            }
            placed.push((line, offset, mark));
            offset += width;
        }
        placed
    }

    fn legend_lines(&self) -> usize {
        self.legend().last().map_or(0, |(line, _, _)| line + 1)
    }

    fn draw(&self, out: &mut Svg, legend_lines: usize) {
        let left = self.left;
        let title = if self.title.is_empty() { 4.0 } else { 20.0 };
        let top = title + LEGEND * legend_lines as f64 + 8.0;
        let (right, bottom) = (self.width - RIGHT, self.height - BOTTOM);
        let x = |v: f64| self.left + self.x.place(v) * (right - self.left);
        let y = |v: f64| bottom - self.y.place(v) * (bottom - top);
        out.put(format_args!(
            "<text x=\"{left}\" y=\"13\" font-weight=\"600\">{}</text>\n",
            escape(&self.title)
        ));
        for (line, offset, mark) in self.legend() {
            let at = title + LEGEND * line as f64 + 8.0;
            self.key(out, mark, self.left + offset, at);
        }
        self.grid(out, top);
        for mark in &self.marks {
            draw(out, mark, &x, &y, bottom);
        }
        out.put(format_args!(
            "<path d=\"M{left} {top:.1}V{bottom:.1}H{right:.1}\" fill=\"none\" stroke=\"#555\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(15 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
            (self.left + right) / 2.0,
            self.height - 12.0,
            escape(&self.x.label),
            (top + bottom) / 2.0,
            escape(&self.y.label),
        ));
    }

    fn grid(&self, out: &mut Svg, top: f64) {
        let (right, bottom) = (self.width - RIGHT, self.height - BOTTOM);
        let longest = |ticks: &[(f64, String)]| {
            let longest = ticks.iter().map(|(_, text)| text.chars().count()).max();
            longest.unwrap_or(1) as f64 * CHARACTER + 14.0
        };
        let mut fit = 9;
        let mut across = self.x.ticks(fit);
        while fit > 2 && across.len() as f64 * longest(&across) > right - self.left {
            fit -= 1;
            across = self.x.ticks(fit);
            if !self.x.words.is_empty() {
                // Words give way every other one.
                let every = 10 - fit;
                across = across.into_iter().step_by(every).collect();
            }
        }
        for (value, text) in across {
            let at = self.left + self.x.place(value) * (right - self.left);
            out.put(format_args!(
                "<path d=\"M{at:.1} {top:.1}V{:.1}\" stroke=\"#e6e6e6\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#333\">{}</text>\n",
                bottom + 4.0,
                bottom + 18.0,
                escape(&text)
            ));
        }
        for (value, text) in self.y.ticks(7) {
            let at = bottom - self.y.place(value) * (bottom - top);
            out.put(format_args!(
                "<path d=\"M{:.1} {at:.1}H{right:.1}\" stroke=\"#e6e6e6\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#333\">{}</text>\n",
                self.left - 4.0,
                self.left - 7.0,
                at + 4.0,
                escape(&text)
            ));
        }
    }

    fn key(&self, out: &mut Svg, mark: &Mark, left: f64, at: f64) {
        let c = mark.colour;
        let (from, to, middle) = (left, left + 20.0, left + 10.0);
        match &mark.shape {
            Shape::Line { dashed, .. } => out.put(format_args!(
                "<path d=\"M{from:.1} {at:.1}H{to:.1}\" stroke=\"{c}\" stroke-width=\"2\"{}/>",
                if *dashed { " stroke-dasharray=\"5 4\"" } else { "" }
            )),
            Shape::Steps(_) => out.put(format_args!(
                "<path d=\"M{from:.1} {at:.1}H{to:.1}\" stroke=\"{c}\" stroke-width=\"2\"/>"
            )),
            Shape::Points { hollow, .. } => out.put(format_args!(
                "<circle cx=\"{middle:.1}\" cy=\"{at:.1}\" r=\"4\" fill=\"{}\" stroke=\"{c}\" stroke-width=\"1.5\"/>",
                if *hollow { "white" } else { c }
            )),
            Shape::Bars(_) | Shape::Boxes(_) | Shape::Band(_) => out.put(format_args!(
                "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"20\" height=\"10\" fill=\"{c}\" opacity=\"{}\"/>",
                at - 5.0,
                if matches!(mark.shape, Shape::Band(_)) { 0.2 } else { 0.75 }
            )),
            Shape::Spans(_) => out.put(format_args!(
                "<path d=\"M{from:.1} {at:.1}H{to:.1}\" stroke=\"{c}\" stroke-width=\"1.5\"/>"
            )),
            Shape::Whiskers(_) => out.put(format_args!(
                "<path d=\"M{middle:.1} {:.1}V{:.1}\" stroke=\"{c}\" stroke-width=\"1.5\"/>",
                at - 6.0,
                at + 6.0
            )),
        }
        out.put(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            to + 6.0,
            at + 4.0,
            escape(&mark.name)
        ));
    }
}

fn draw(out: &mut Svg, mark: &Mark, x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64, bottom: f64) {
    let c = mark.colour;
    let path = |points: &[(f64, f64)], steps: bool| {
        let mut d = String::new();
        for (index, (px, py)) in points.iter().enumerate() {
            let (px, py) = (x(*px), y(*py));
            let _ = match (index, steps) {
                (0, _) => write!(d, "M{px:.1} {py:.1}"),
                (_, true) => write!(d, "H{px:.1}V{py:.1}"),
                (_, false) => write!(d, "L{px:.1} {py:.1}"),
            };
        }
        d
    };
    match &mark.shape {
        Shape::Line { points, dashed } => out.put(format_args!(
            "<path d=\"{}\" fill=\"none\" stroke=\"{c}\" stroke-width=\"1.8\"{}/>\n",
            path(points, false),
            if *dashed {
                " stroke-dasharray=\"5 4\""
            } else {
                ""
            }
        )),
        Shape::Steps(points) => out.put(format_args!(
            "<path d=\"{}\" fill=\"none\" stroke=\"{c}\" stroke-width=\"1.8\"/>\n",
            path(points, true)
        )),
        Shape::Points { points, hollow } => {
            for (px, py) in points {
                out.put(format_args!(
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.2\" fill=\"{}\" stroke=\"{c}\" stroke-width=\"1.4\"/>\n",
                    x(*px),
                    y(*py),
                    if *hollow { "white" } else { c }
                ));
            }
        }
        Shape::Bars(bars) => {
            for (from, to, high) in bars {
                let (left, right, top) = (x(*from), x(*to), y(*high));
                out.put(format_args!(
                    "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{c}\" opacity=\"0.75\"/>\n",
                    (right - left - 1.0).max(0.5),
                    (bottom - top).max(0.0)
                ));
            }
        }
        Shape::Boxes(boxes) => {
            for (from, to, low, high) in boxes {
                let (left, right, top, foot) = (x(*from), x(*to), y(*high), y(*low));
                out.put(format_args!(
                    "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{c}\" opacity=\"0.85\"/>\n",
                    (right - left - 1.0).max(0.5),
                    (foot - top).max(0.0)
                ));
            }
        }
        Shape::Band(range) => {
            let upper: Vec<_> = range.iter().map(|(px, _, high)| (*px, *high)).collect();
            let lower: Vec<_> = range.iter().rev().map(|(px, low, _)| (*px, *low)).collect();
            out.put(format_args!(
                "<path d=\"{}{}Z\" fill=\"{c}\" opacity=\"0.18\"/>\n",
                path(&upper, false),
                path(&lower, false).replacen('M', "L", 1)
            ));
        }
        Shape::Spans(spans) => {
            for (from, to, py) in spans {
                out.put(format_args!(
                    "<path d=\"M{:.1} {:.1}H{:.1}\" stroke=\"{c}\" stroke-width=\"1.5\"/>\n",
                    x(*from),
                    y(*py),
                    x(*to)
                ));
            }
        }
        Shape::Whiskers(range) => {
            for (px, low, high) in range {
                out.put(format_args!(
                    "<path d=\"M{:.1} {:.1}V{:.1}\" stroke=\"{c}\" stroke-width=\"1.5\"/>\n",
                    x(*px),
                    y(*low),
                    y(*high)
                ));
            }
        }
    }
}

/// The finite values' least and most.
fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .into_iter()
        .filter(|v| v.is_finite())
        .fold(None, |range, v| match range {
            None => Some((v, v)),
            Some((low, high)) => Some((v.min(low), v.max(high))),
        })
}

/// The next 1, 2 or 5 times a power of ten.
fn step(least: f64) -> f64 {
    let decade = 10f64.powf(least.max(1e-12).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|s| s * decade);
    steps
        .into_iter()
        .find(|s| *s >= least * 0.999)
        .unwrap_or(10.0 * decade)
}

/// A number as short as it can be told.
fn number(value: f64) -> String {
    let exact = (value * 1e6).round() / 1e6;
    if exact.abs() >= 1e7 {
        format!("{exact:e}")
    } else {
        format!("{}", exact + 0.0)
    }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coordinates(svg: &str, name: &str) -> Vec<f64> {
        let key = format!(" {name}=\"");
        svg.split(key.as_str())
            .skip(1)
            .filter_map(|rest| rest.split('"').next()?.parse().ok())
            .collect()
    }

    #[test]
    fn marks_stay_inside_the_frame_whatever_the_values() {
        let points = vec![
            (1.0, 2.0),
            (1e9, -5.0),
            (f64::NAN, f64::INFINITY),
            (0.0, 0.0),
        ];
        let mark = |shape| Mark::new("a <name>", COLOURS[0], shape);
        let marks = vec![
            mark(Shape::Points {
                points: points.clone(),
                hollow: false,
            }),
            mark(Shape::Steps(points)),
        ];
        for logarithmic in [false, true] {
            let axis = if logarithmic {
                Axis::logarithmic("x, s", [1.0, 100.0])
            } else {
                Axis::linear("x, s", [1.0, 100.0])
            };
            let panel = Panel::new("", axis.clone(), axis, marks.clone());
            let svg = Figure {
                title: "t".to_owned(),
                panels: vec![panel],
            }
            .svg();
            assert!(
                coordinates(&svg, "cx")
                    .iter()
                    .all(|x| (0.0..=460.0).contains(x))
            );
            assert!(!svg.contains("NaN") && !svg.contains("inf"));
            assert!(svg.contains("a &lt;name&gt;"));
        }
    }

    #[test]
    fn ticks_are_round_numbers_that_fit() {
        let words = |axis: &Axis, fit| -> Vec<String> {
            axis.ticks(fit).into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(
            words(&Axis::between("", 0.0, 0.5), 5),
            ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]
        );
        assert_eq!(
            words(&Axis::logarithmic("", [1.0, 2000.0]), 5),
            ["1", "10", "100", "1000"]
        );
        let empty = Axis::linear("", []);
        assert!(!empty.ticks(5).is_empty());
        let same = Axis::linear("", [7.0, 7.0]);
        assert!(same.low < 7.0 && same.high > 7.0);
    }
}
