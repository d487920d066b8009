//! Emulated deployment delays, drawn from a trace.

use crate::config::{EmulatedDeploymentConfig, InvalidConfig};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

/// Deployment times by runtime, from which delays are drawn. Always an emulation, and labelled so.
#[derive(Debug)]
pub struct DelayTrace {
    /// Sorted seconds by runtime; the empty name holds rows of any runtime.
    quantiles: BTreeMap<String, Vec<f64>>,
    scale: f64,
    rng: Mutex<StdRng>,
}

/// Quantiles of the deployment times of the paper's cloud, February 2020, 76 per runtime, in steps of
/// 10 % from the minimum; source: the authors' repository (Heronalps/STOIC, Apache-2.0), published log of
/// deployments. The last step is the 97.5 % quantile: the maximum (606 s) is a single run.
const NAUTILUS: [(&str, [f64; 11]); 3] = include!("nautilus.in");

impl DelayTrace {
    /// The trace that the configuration names.
    ///
    /// # Errors
    /// The file is absent or holds something else than seconds; names the line.
    pub fn load(config: &EmulatedDeploymentConfig, seed: u64) -> Result<Self, InvalidConfig> {
        let quantiles = if config.trace == "nautilus" {
            NAUTILUS
                .iter()
                .map(|(runtime, q)| ((*runtime).to_owned(), q.to_vec()))
                .collect()
        } else {
            let text = std::fs::read_to_string(&config.trace).map_err(|e| {
                InvalidConfig(format!(
                    "emulated_deployment.trace: {}: {e}; name a file or `nautilus`",
                    config.trace
                ))
            })?;
            parse(&text).map_err(|e| {
                InvalidConfig(format!("emulated_deployment.trace: {}: {e}", config.trace))
            })?
        };
        Ok(Self {
            quantiles,
            scale: config.scale,
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
        })
    }

    /// A delay for a pod of this runtime: a uniform draw along the quantiles.
    #[must_use]
    pub fn draw(&self, runtime: &str) -> Duration {
        let Some(quantiles) = self
            .quantiles
            .get(runtime)
            .or_else(|| self.quantiles.get(""))
            .or_else(|| self.quantiles.values().next())
        else {
            return Duration::ZERO;
        };
        let at = self.rng.lock().random::<f64>() * (quantiles.len() - 1) as f64;
        let (low, share) = (at.floor() as usize, at.fract());
        let seconds = quantiles[low]
            + share * (quantiles[(low + 1).min(quantiles.len() - 1)] - quantiles[low]);
        Duration::from_secs_f64((seconds * self.scale).clamp(0.0, 3600.0))
    }
}

/// One number of seconds a line, or CSV with a column `act_deploy` and perhaps `runtime`.
fn parse(text: &str) -> Result<BTreeMap<String, Vec<f64>>, String> {
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(n, line)| (n + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty())
        .peekable();
    let mut columns = (0, None);
    if let Some((_, first)) = lines.peek()
        && first.parse::<f64>().is_err()
    {
        let names: Vec<&str> = first.split(',').map(str::trim).collect();
        let seconds = names
            .iter()
            .position(|name| ["act_deploy", "seconds"].contains(name));
        columns = (
            seconds.ok_or("line 1: no column `act_deploy` or `seconds`")?,
            names.iter().position(|name| *name == "runtime"),
        );
        lines.next();
    }
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (number, line) in lines {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let seconds: f64 = cells
            .get(columns.0)
            .and_then(|cell| cell.parse().ok())
            .ok_or_else(|| format!("line {number}: `{line}` holds no seconds"))?;
        if !(seconds.is_finite() && seconds >= 0.0) {
            return Err(format!("line {number}: {seconds} is no deployment time"));
        }
        let runtime = columns
            .1
            .and_then(|column| cells.get(column))
            .copied()
            .unwrap_or_default();
        found.entry(runtime.to_owned()).or_default().push(seconds);
    }
    found
        .values_mut()
        .for_each(|seconds| seconds.sort_by(f64::total_cmp));
    if found.is_empty() {
        Err("holds no rows".to_owned())
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_within_the_trace_and_are_scaled() {
        let config = EmulatedDeploymentConfig {
            trace: "nautilus".to_owned(),
            scale: 0.5,
        };
        let trace = DelayTrace::load(&config, 1).expect("built in");
        let quantiles = &trace.quantiles["gpu1"];
        for _ in 0..1000 {
            let delay = trace.draw("gpu1").as_secs_f64();
            assert!(
                delay >= 0.5 * quantiles[0] - 1e-6 && delay <= 0.5 * quantiles[10] + 1e-6,
                "{delay}"
            );
        }
    }

    #[test]
    fn files_are_read_in_both_forms_or_refused_with_their_line() {
        assert_eq!(parse("2\n1\n").expect("plain")[""], [1.0, 2.0]);
        assert_eq!(
            parse("runtime,act_deploy\ncpu,3\n").expect("csv")["cpu"],
            [3.0]
        );
        assert!(parse("1\n-2\n").expect_err("negative").contains("line 2"));
        assert!(parse("a,b\n1,2\n").is_err() && parse("").is_err());
    }
}
