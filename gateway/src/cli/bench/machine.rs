//! The machine that measures: what it is, and whether it is quiet enough to tell.

use serde::Serialize;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};
use stoic_evaluation::score;

/// A machine is too noisy to tell where the middle 80 % of the calibration loop's times span more than this share of
/// their median.
pub(super) const NOISY: f64 = 0.15;
/// About how long the loop takes on a quiet machine: long enough to be interrupted as a short call is.
const LOOP: Duration = Duration::from_millis(3);

/// What is known of the machine. What a kernel does not say is absent.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    /// Model of the CPU.
    pub(super) cpu: Option<String>,
    /// CPUs that this process may run on.
    pub(super) cores: usize,
    /// What a control group allows of them, where one does: CPUs' worth of time.
    pub(super) cpu_quota: Option<f64>,
    /// How frequencies are governed.
    pub(super) governor: Option<String>,
    /// Whether a hypervisor is under it.
    pub(super) virtual_machine: bool,
    /// Kernel.
    pub(super) kernel: Option<String>,
    /// Distribution.
    pub(super) system: Option<String>,
    /// Memory, bytes.
    pub(super) memory_bytes: Option<u64>,
    /// Load average of a minute before the first measurement.
    pub(super) load_before: Option<f64>,
    /// And after the last.
    pub(super) load_after: Option<f64>,
    /// Version of this binary.
    pub(super) stoic: &'static str,
    /// Whether the gateway was the bench's own.
    pub(super) own_gateway: bool,
    /// Version of the gateway that was measured.
    pub(super) gateway: Option<String>,
    /// Container engine: version, API and storage driver.
    pub(super) engine: Option<String>,
    /// When the run began, UTC.
    pub(super) began: String,
}

fn line(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The value of a line `key : value`.
fn field(path: &str, key: &str, separator: char) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

/// CPUs' worth of time that a control group allows.
fn quota() -> Option<f64> {
    let ratio = |quota: &str, period: &str| {
        let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
        Some(quota / period).filter(|share| *share > 0.0)
    };
    if let Some(text) = line("/sys/fs/cgroup/cpu.max") {
        let (quota, period) = text.split_once(' ')?;
        return ratio(quota, period);
    }
    ratio(
        &line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")?,
        &line("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?,
    )
}

/// The load average of the last minute.
pub(super) fn load_average() -> Option<f64> {
    line("/proc/loadavg")?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

impl Machine {
    /// What can be read of it now.
    pub(super) fn read(began: String) -> Self {
        let memory = field("/proc/meminfo", "MemTotal", ':')
            .and_then(|text| text.strip_suffix("kB")?.trim().parse::<u64>().ok());
        let flags = field("/proc/cpuinfo", "flags", ':').unwrap_or_default();
        Self {
            cpu: field("/proc/cpuinfo", "model name", ':'),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cpu_quota: quota(),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            virtual_machine: flags.split_whitespace().any(|flag| flag == "hypervisor")
                || Path::new("/proc/xen").exists(),
            kernel: line("/proc/sys/kernel/osrelease"),
            system: field("/etc/os-release", "PRETTY_NAME", '='),
            memory_bytes: memory.map(|kib| kib * 1024),
            load_before: load_average(),
            load_after: None,
            stoic: env!("CARGO_PKG_VERSION"),
            own_gateway: false,
            gateway: None,
            engine: None,
            began,
        }
    }

    /// The facts as name and value, for people.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let unknown = || "not told".to_owned();
        let load = |load: Option<f64>| load.map_or_else(unknown, |load| format!("{load:.2}"));
        let cores = match self.cpu_quota {
            Some(quota) => format!("{}, of which a control group allows {quota:.2}", self.cores),
            None => self.cores.to_string(),
        };
        vec![
            ("CPU", self.cpu.clone().unwrap_or_else(unknown)),
            ("cores", cores),
            ("governor", self.governor.clone().unwrap_or_else(unknown)),
            (
                "virtual",
                if self.virtual_machine { "yes" } else { "no" }.to_owned(),
            ),
            ("kernel", self.kernel.clone().unwrap_or_else(unknown)),
            ("system", self.system.clone().unwrap_or_else(unknown)),
            (
                "memory",
                self.memory_bytes.map_or_else(unknown, |bytes| {
                    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
                }),
            ),
            (
                "load average",
                format!(
                    "{} before, {} after",
                    load(self.load_before),
                    load(self.load_after)
                ),
            ),
            ("stoic", self.stoic.to_owned()),
            ("gateway", self.gateway.clone().unwrap_or_else(unknown)),
            (
                "container engine",
                self.engine.clone().unwrap_or_else(|| "none".to_owned()),
            ),
            ("began", format!("{} UTC", self.began)),
        ]
    }
}

/// A fixed piece of arithmetic, timed again and again.
#[derive(Debug)]
pub(super) struct Calibration {
    turns: u64,
    seconds: Vec<f64>,
}

fn spin(turns: u64) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..turns {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    state
}

impl Calibration {
    /// Finds how many turns take about as long as the loop is to take.
    pub(super) fn new() -> Self {
        let mut turns = 10_000;
        loop {
            let best = (0..5).map(|_| time(turns)).fold(f64::INFINITY, f64::min);
            if best >= LOOP.as_secs_f64() || turns > 1 << 40 {
                return Self {
                    turns,
                    seconds: Vec::new(),
                };
            }
            let factor = (LOOP.as_secs_f64() / best.max(1e-9)).clamp(1.1, 20.0);
            turns = (turns as f64 * factor) as u64 + 1;
        }
    }

    /// Times the loop once; keeps and returns the seconds.
    pub(super) fn run(&mut self) -> f64 {
        let seconds = time(self.turns);
        self.seconds.push(seconds);
        seconds
    }

    /// What it says of the machine.
    pub(super) fn verdict(&self) -> Noise {
        let spread = score::spread(&self.seconds);
        Noise {
            loops: self.seconds.len(),
            median_s: score::plain_quantile(&self.seconds, 0.5),
            spread,
            threshold: NOISY,
            noisy: spread.is_none_or(|spread| spread > NOISY),
        }
    }
}

fn time(turns: u64) -> f64 {
    let begun = Instant::now();
    black_box(spin(black_box(turns)));
    begun.elapsed().as_secs_f64()
}

/// Whether the machine was quiet enough to tell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Noise {
    /// Times that the loop was timed.
    pub(super) loops: usize,
    /// Its median, seconds.
    pub(super) median_s: Option<f64>,
    /// The span of the middle 80 % of its times, as a share of the median.
    pub(super) spread: Option<f64>,
    /// The spread above which a machine is too noisy.
    pub(super) threshold: f64,
    /// Whether it is; also where too little is known.
    pub(super) noisy: bool,
}

impl Noise {
    /// In a sentence.
    pub(super) fn sentence(&self) -> String {
        let Some(spread) = self.spread else {
            return format!(
                "Too few measurements to tell how noisy the machine is ({} calibration loops; 5 are needed).",
                self.loops
            );
        };
        let said = format!(
            "The middle 80 % of {} timings of one fixed piece of arithmetic ({:.1} ms) span {:.1} % of their median",
            self.loops,
            self.median_s.unwrap_or(0.0) * 1000.0,
            spread * 100.0
        );
        if self.noisy {
            format!(
                "WARNING: the machine is too noisy to tell small differences. {said}, more than {:.0} %: do not trust \
                 differences below that, and run it again on a quiet machine.",
                self.threshold * 100.0
            )
        } else {
            format!(
                "{said}: quiet enough (the limit is {:.0} %).",
                self.threshold * 100.0
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_told_by_the_spread_and_too_little_is_never_quiet() {
        let of = |seconds: &[f64]| {
            let calibration = Calibration {
                turns: 1,
                seconds: seconds.to_vec(),
            };
            calibration.verdict()
        };
        assert!(of(&[0.003; 4]).noisy);
        assert!(of(&[0.003; 4]).sentence().contains("Too few"));
        assert!(!of(&[0.003; 20]).noisy);
        let wild: Vec<f64> = (0..20).map(|i| 0.003 + 0.0001 * f64::from(i)).collect();
        let noise = of(&wild);
        assert!(noise.noisy && noise.sentence().starts_with("WARNING"));
    }

    #[test]
    fn the_loop_takes_about_its_time_and_longer_where_there_is_more_of_it() {
        let mut calibration = Calibration::new();
        assert!(calibration.run() > 0.001);
        let least = |turns| (0..9).map(|_| time(turns)).fold(f64::INFINITY, f64::min);
        assert!(least(calibration.turns * 4) > 2.0 * least(calibration.turns));
    }

    #[test]
    fn this_machine_says_what_it_is() {
        let machine = Machine::read("now".to_owned());
        assert!(machine.cores >= 1 && machine.memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(machine.kernel.is_some());
        assert_eq!(machine.facts().len(), 12);
    }
}
