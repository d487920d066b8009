//! Predicted against actual response times, as an SVG.

use std::fmt::Write;

/// One batch.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) runtime: String,
    pub(super) predicted_s: f64,
    pub(super) interval_90: (f64, f64),
    pub(super) actual_s: f64,
    pub(super) cold: bool,
    pub(super) label: String,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
/// Colours that people with colour blindness tell apart (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"];

/// The plot; logarithmic on both axes, since batches span orders of magnitude.
pub(super) fn svg(title: &str, points: &[Point]) -> String {
    let values = points
        .iter()
        .flat_map(|p| [p.predicted_s, p.actual_s, p.interval_90.1]);
    let positive: Vec<f64> = values.filter(|v| v.is_finite() && *v > 0.0).collect();
    let low = positive
        .iter()
        .copied()
        .fold(f64::INFINITY, f64::min)
        .clamp(1e-3, 1e3)
        / 1.5;
    let high = positive.iter().copied().fold(low * 10.0, f64::max) * 1.5;
    let place = |v: f64| (v.clamp(low, high) / low).ln() / (high / low).ln();
    let x = |v: f64| LEFT + place(v) * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| HEIGHT - BOTTOM - place(v) * (HEIGHT - TOP - BOTTOM);
    let mut runtimes: Vec<&str> = points.iter().map(|p| p.runtime.as_str()).collect();
    runtimes.sort_unstable();
    runtimes.dedup();
    let colour = |runtime: &str| {
        let at = runtimes.iter().position(|r| *r == runtime).unwrap_or(0);
        COLOURS[at % COLOURS.len()]
    };

    let mut out = String::new();
    // Writing to a String cannot fail.
    let mut put = |text: std::fmt::Arguments<'_>| {
        let _ = out.write_fmt(text);
    };
    put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"16\" font-weight=\"600\">{}</text>\n",
        escape(title)
    ));
    for tick in ticks(low, high) {
        let (tx, ty) = (x(tick), y(tick));
        put(format_args!(
            "<path d=\"M{tx:.1} {TOP}V{:.1}M{LEFT} {ty:.1}H{:.1}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{tx:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#444\">{tick}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#444\">{tick}</text>\n",
            HEIGHT - BOTTOM,
            WIDTH - RIGHT,
            HEIGHT - BOTTOM + 18.0,
            LEFT - 8.0,
            ty + 4.0,
        ));
    }
    put(format_args!(
        "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"#999\" stroke-dasharray=\"5 4\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">actual response time, s</text>\n\
         <text transform=\"translate(20 {:.1}) rotate(-90)\" text-anchor=\"middle\">predicted, s (bars: 90 % interval)</text>\n",
        x(low),
        y(low),
        x(high),
        y(high),
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 16.0,
        (TOP + HEIGHT - BOTTOM) / 2.0,
    ));
    for point in points {
        let (px, py, c) = (
            x(point.actual_s),
            y(point.predicted_s),
            colour(&point.runtime),
        );
        let (bottom, top) = (y(point.interval_90.0.max(low)), y(point.interval_90.1));
        let fill = if point.cold { "white" } else { c };
        put(format_args!(
            "<g><title>{}</title><path d=\"M{px:.1} {bottom:.1}V{top:.1}\" stroke=\"{c}\" stroke-width=\"1.5\" opacity=\"0.6\"/>\
             <circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"5\" fill=\"{fill}\" stroke=\"{c}\" stroke-width=\"2\"/></g>\n",
            escape(&point.label)
        ));
    }
    for (row, runtime) in runtimes.iter().enumerate() {
        let ly = TOP + 18.0 + 20.0 * row as f64;
        put(format_args!(
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" fill=\"{}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            LEFT + 16.0,
            ly - 4.0,
            colour(runtime),
            LEFT + 28.0,
            ly,
            escape(runtime)
        ));
    }
    let ly = TOP + 18.0 + 20.0 * runtimes.len() as f64;
    put(format_args!(
        "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" fill=\"white\" stroke=\"#444\" stroke-width=\"2\"/>\
         <text x=\"{:.1}\" y=\"{ly:.1}\">hollow: cold start</text>\n</svg>\n",
        LEFT + 16.0,
        ly - 4.0,
        LEFT + 28.0
    ));
    out
}

/// 1, 2 and 5 times the powers of ten between the two.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(decade)));
    // Powers of ten below one are not exact: cut what binary adds.
    let exact = all.map(|tick| (tick * 1e6).round() / 1e6);
    exact.filter(|tick| *tick >= low && *tick <= high).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_batch_is_drawn_inside_the_frame() {
        let point = |predicted_s, actual_s| Point {
            runtime: "edge".to_owned(),
            predicted_s,
            interval_90: (predicted_s * 0.5, predicted_s * 2.0),
            actual_s,
            cold: false,
            label: "a <b>".to_owned(),
        };
        let text = svg("t", &[point(0.5, 0.4), point(30.0, 45.0)]);
        assert_eq!(text.matches("<g>").count(), 2);
        assert!(text.contains("a &lt;b&gt;"));
        let xs = text
            .split("cx=\"")
            .skip(1)
            .filter_map(|t| t.split('"').next()?.parse::<f64>().ok());
        assert!(xs.into_iter().all(|x| (LEFT..=WIDTH).contains(&x)));
    }

    #[test]
    fn no_points_make_an_empty_plot() {
        assert!(svg("t", &[]).ends_with("</svg>\n"));
    }
}
