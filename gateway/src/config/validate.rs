//! What the types of the configuration cannot say.

use super::{BackendKind, Config, InvalidConfig, nearest};
use crate::mode::Mode;
use bytesize::ByteSize;
use std::time::Duration;

/// Shortest and longest period or time-out in the background.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Largest probe of a link: it is made in memory.
const LARGEST_PROBE: ByteSize = ByteSize::mib(16);
/// Smallest audit log: any line fits.
const SMALLEST_LOG: ByteSize = ByteSize::kib(4);

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
            // Those of another gateway have its site's name before a dot.
            if !name.split('.').all(is_label) || name.len() > 63 {
                return refuse(format!(
                    "runtimes.{name}: a name has lower-case letters, digits, `-` and `.` only"
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
            if runtime.price.is_some_and(|price| !is_amount(price)) {
                return refuse(format!("runtimes.{name}.price: must be zero or more"));
            }
            if !["fp32", "bf16", "auto"].contains(&runtime.precision.as_str()) {
                return refuse(format!(
                    "runtimes.{name}.precision: `{}` is not one of fp32, bf16, auto",
                    runtime.precision
                ));
            }
        }
        if let Some((key, why)) = self.controller.fault() {
            return refuse(format!("controller.{key}: {why}"));
        }
        for (name, site) in &self.sites {
            if !is_label(name) {
                return refuse(format!(
                    "sites.{name}: a name has lower-case letters, digits and `-` only"
                ));
            }
            if let Some(docker) = &site.docker {
                if site.backend != BackendKind::Docker {
                    return refuse(format!(
                        "sites.{name}.docker: is for sites with backend = \"docker\""
                    ));
                }
                if docker.pids == 0 {
                    return refuse(format!("sites.{name}.docker.pids: must be at least 1"));
                }
                if docker.tmp.as_u64() < 4096 {
                    return refuse(format!("sites.{name}.docker.tmp: must be at least 4 KiB"));
                }
            }
            if let Some(kubernetes) = &site.kubernetes {
                if site.backend != BackendKind::Kubernetes {
                    return refuse(format!(
                        "sites.{name}.kubernetes: is for sites with backend = \"kubernetes\""
                    ));
                }
                let here = self.runtimes.iter().filter(|(_, of)| of.site == *name);
                let known: Vec<&str> = here.map(|(runtime, _)| runtime.as_str()).collect();
                kubernetes.validate(name, &known)?;
            }
            if (site.backend == BackendKind::Gateway) != site.gateway.is_some() {
                return refuse(format!(
                    "sites.{name}.gateway: a table with its `url` is for sites with backend = \"gateway\", and needed there"
                ));
            }
            if let Some(gateway) = &site.gateway {
                if let Some((key, why)) = gateway.fault() {
                    return refuse(format!("sites.{name}.gateway.{key}: {why}"));
                }
                if name == self.home_site() {
                    return refuse(format!(
                        "sites.{name}: packages arrive at the site of the first runtime, which cannot be another gateway"
                    ));
                }
                if site.emulated_link.is_some()
                    || site.emulated_deployment.is_some()
                    || site.store.is_some()
                {
                    return refuse(format!(
                        "sites.{name}: a gateway's link, deployments and store are its own: leave emulated_link, emulated_deployment and store out"
                    ));
                }
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
        let placement = &self.placement;
        for (key, value) in [
            ("margin", placement.margin),
            ("price_weight", placement.price_weight),
        ] {
            if !is_amount(value) {
                return refuse(format!("placement.{key}: must be zero or more"));
            }
        }
        if placement
            .min_chance
            .is_some_and(|chance| !(0.0..=1.0).contains(&chance))
        {
            return refuse("placement.min_chance: must be from 0 to 1".to_owned());
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
        if self.deployment.attempts > 20 || self.deployment.backoff > Duration::from_secs(60) {
            return refuse(
                "deployment: at most 20 attempts and a backoff of at most a minute: it doubles"
                    .to_owned(),
            );
        }
        let calls = &self.calls;
        for (key, count) in [
            ("attempts", calls.attempts),
            ("concurrency", calls.concurrency),
            ("max_queued", calls.max_queued),
            ("callback_attempts", calls.callback_attempts),
        ] {
            if count == 0 {
                return refuse(format!("calls.{key}: must be at least 1"));
            }
        }
        for (key, length) in [
            ("expire", calls.expire),
            ("callback_timeout", calls.callback_timeout),
        ] {
            if length < SHORTEST {
                return refuse(format!("calls.{key}: must be at least 100 ms"));
            }
        }
        if calls.backoff > calls.backoff_max || calls.backoff_max > LONGEST {
            return refuse("calls: backoff must be at most backoff_max, and that a day".to_owned());
        }
        if self.standbys.memory.is_some_and(|size| size.as_u64() == 0) {
            return refuse("standbys.memory: must be more than zero".to_owned());
        }
        let inquisitor = &self.inquisitor;
        let lengths = [
            ("http.head_timeout", self.http.head_timeout),
            ("http.body_timeout", self.http.body_timeout),
            ("inquisitor.every", inquisitor.every),
            ("inquisitor.timeout", inquisitor.timeout),
            ("link.every", self.link.every),
        ];
        for (key, length) in lengths {
            if !(SHORTEST..=LONGEST).contains(&length) {
                return refuse(format!("{key}: must be from 100 ms to a day"));
            }
        }
        if self.linger > LONGEST {
            return refuse("linger: more than a day".to_owned());
        }
        if inquisitor.quiet > LONGEST {
            return refuse("inquisitor.quiet: more than a day".to_owned());
        }
        let size = self.link.size.map(|size| size.as_u64());
        if size.is_some_and(|size| size == 0 || size > LARGEST_PROBE.as_u64()) {
            return refuse(format!("link.size: must be from 1 B to {LARGEST_PROBE}"));
        }
        if self.auth.audit_size < SMALLEST_LOG {
            return refuse(format!("auth.audit_size: must be at least {SMALLEST_LOG}"));
        }
        if self.body_limit.as_u64() == 0 {
            return refuse("body_limit: must be more than zero".to_owned());
        }
        Ok(())
    }
}

fn is_amount(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
