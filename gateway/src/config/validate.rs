//! What the types of the configuration cannot say.

use super::{Config, InvalidConfig, nearest};
use crate::mode::Mode;

impl Config {
    /// Checks the whole configuration.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let refuse = |text: String| Err(InvalidConfig(text));
        if self.runtimes.is_empty() {
            return refuse("runtimes: at least one is needed".to_owned());
        }
        for (name, runtime) in &self.runtimes {
            if !is_label(name) {
                return refuse(format!(
                    "runtimes.{name}: a name has lower-case letters, digits and `-` only"
                ));
            }
            if !self.sites.contains_key(&runtime.site) {
                let known: Vec<&str> = self.sites.keys().map(String::as_str).collect();
                let hint = nearest::nearest(&runtime.site, known.iter().copied()).map_or_else(
                    || format!("known sites: {}", known.join(", ")),
                    |best| format!("did you mean `{best}`?"),
                );
                return refuse(format!(
                    "runtimes.{name}.site: there is no site `{}` ({hint})",
                    runtime.site
                ));
            }
            if runtime.threads == 0 {
                return refuse(format!("runtimes.{name}.threads: must be at least 1"));
            }
            if !["fp32", "bf16", "auto"].contains(&runtime.precision.as_str()) {
                return refuse(format!(
                    "runtimes.{name}.precision: `{}` is not one of fp32, bf16, auto",
                    runtime.precision
                ));
            }
        }
        for (name, site) in &self.sites {
            if !is_label(name) {
                return refuse(format!(
                    "sites.{name}: a name has lower-case letters, digits and `-` only"
                ));
            }
            if let Some(deployment) = &site.emulated_deployment
                && !(deployment.scale.is_finite() && deployment.scale >= 0.0)
            {
                return refuse(format!(
                    "sites.{name}.emulated_deployment.scale: must be zero or more"
                ));
            }
            if site
                .emulated_link
                .as_ref()
                .is_some_and(|link| link.rtt.as_secs() > 60)
            {
                return refuse(format!(
                    "sites.{name}.emulated_link.rtt: more than a minute"
                ));
            }
        }
        if self.placement.processing_points < 2
            || self.placement.calibration_period == 0
            || self.placement.calibration_window < 2
        {
            return refuse("placement: processing_points and calibration_window need at least 2, calibration_period at least 1".to_owned());
        }
        if self.placement.mode == Mode::Pinned {
            return refuse(
                "placement.mode: `pinned` needs a runtime for each invocation; name another mode"
                    .to_owned(),
            );
        }
        let hedge = &self.placement.hedge;
        let sane = |value: f64| value.is_finite() && value >= 0.0;
        if !sane(hedge.seconds) || !sane(hedge.worth) || hedge.most == 0 {
            return refuse(
                "placement.hedge: seconds and worth must be zero or more, most at least 1"
                    .to_owned(),
            );
        }
        if self.deployment.attempts == 0 {
            return refuse("deployment.attempts: must be at least 1".to_owned());
        }
        if self.body_limit.as_u64() == 0 {
            return refuse("body_limit: must be more than zero".to_owned());
        }
        Ok(())
    }
}

fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
