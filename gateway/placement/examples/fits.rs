//! Fits that `tests/bench/scikit_learn.py` makes too, as JSON on one line each:
//! reads series from standard input, one a line, `ridge x,y x,y ...` or
//! `autoregression ORDER v v v ...`, and prints the coefficients and how long a
//! fit takes, in nanoseconds.

use std::hint::black_box;
use std::io::BufRead;
use std::time::Instant;

use nalgebra::SVector;
use stoic_placement::AutoRegression;
use stoic_placement::processing::Ridge;

const REPEATS: u32 = 200;

fn timed<T>(mut fit: impl FnMut() -> Option<T>) -> (Option<T>, f64) {
    let started = Instant::now();
    for _ in 1..REPEATS {
        black_box(fit());
    }
    let fitted = fit();
    (
        fitted,
        started.elapsed().as_nanos() as f64 / f64::from(REPEATS),
    )
}

fn ridge(fields: &[&str]) -> Option<serde_json::Value> {
    let points: Vec<(SVector<f64, 1>, f64)> = fields
        .iter()
        .filter_map(|field| {
            let (x, y) = field.split_once(',')?;
            Some((SVector::<f64, 1>::new(x.parse().ok()?), y.parse().ok()?))
        })
        .collect();
    let (fitted, ns) = timed(|| Ridge::fit(black_box(&points)));
    let fitted = fitted?;
    Some(serde_json::json!({
        "coefficients": [fitted.coefficients[0]], "intercept": fitted.intercept, "ns": ns,
    }))
}

fn autoregression(fields: &[&str]) -> Option<serde_json::Value> {
    let (order, values) = fields.split_first()?;
    let order: usize = order.parse().ok()?;
    let values: Vec<f64> = values.iter().filter_map(|v| v.parse().ok()).collect();
    let (fitted, ns) = timed(|| AutoRegression::fit(black_box(&values), order));
    let fitted = fitted?;
    Some(serde_json::json!({
        "coefficients": fitted.coefficients[..fitted.order], "intercept": fitted.intercept, "ns": ns,
    }))
}

fn main() {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let fitted = match fields.split_first() {
            Some((&"ridge", rest)) => ridge(rest),
            Some((&"autoregression", rest)) => autoregression(rest),
            _ => None,
        };
        println!("{}", fitted.unwrap_or(serde_json::Value::Null));
    }
}
