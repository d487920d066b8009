//! The two methods that a log is replayed with: the paper's own, and ours. Both see the same rows in the same order.

use stoic_placement::{
    Bandwidth, DeploymentHistory, DeploymentModel, Estimate, LinkConfig, LinkModel, Part,
    ProcessingConfig, ProcessingHistory, ProcessingModel, ResponseCalibrator, paper,
};

use crate::log::Parts;

/// Bytes of an image (the authors': 0.212 MB), since logs count images and no bytes.
pub const IMAGE_BYTES: f64 = 212_000.0;

/// Learns from rows and predicts the next.
pub trait Method {
    /// The response time of a batch of `items` images on a runtime, as it is seen now.
    fn predict(&self, runtime: usize, items: f64) -> Estimate;

    /// Takes in what a batch took, logged at `epoch`.
    fn learn(&mut self, runtime: usize, items: f64, epoch: f64, actual: &Parts);
}

/// What is known of a runtime besides its models: whether work has to go anywhere at all.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// A deployment took time.
    remote: bool,
    /// A row was seen.
    seen: bool,
    /// Seconds per image of its last transfer.
    last_pace: f64,
}

impl Place {
    fn learn(&mut self, items: f64, actual: &Parts) {
        self.seen = true;
        self.remote |= actual.deployment > 0.0;
        if items > 0.0 {
            self.last_pace = actual.transfer / items;
        }
    }

    /// Whether so far nothing had to be deployed (the paper's edge, section 3.4.2).
    fn local(&self) -> bool {
        !self.remote
    }

    /// T_t within the site: nothing, unless the last row says otherwise.
    fn within(&self, items: f64) -> Part {
        if self.last_pace > 0.0 {
            Part::exact(self.last_pace * items)
        } else {
            Part::ZERO
        }
    }
}

/// The entry of a runtime in a growing list.
fn entry<T>(list: &mut Vec<T>, index: usize, mut new: impl FnMut(usize) -> T) -> &mut T {
    while list.len() <= index {
        list.push(new(list.len()));
    }
    &mut list[index]
}

/// Where T_t comes from while no batch has travelled: 0.212 MB images over 70.79 Mbit/s (PROVENANCE).
fn link() -> LinkConfig {
    LinkConfig {
        // Logged transfers are bytes by the bandwidth that a monitor had just read, with no round trips in them: the
        // newest reading holds.
        half_life_s: 20.0,
        round_trips: 0.0,
        rtt_s: 0.0,
        ..LinkConfig::default()
    }
}

/// The paper's method (section 3.4), with nothing added: [`paper`].
#[derive(Debug, Clone)]
pub struct Paper {
    seed: u64,
    runtimes: Vec<PaperRuntime>,
    /// B_c, bytes per second: the bandwidth of the moment, as the last transfer to any runtime had it.
    bandwidth: f64,
}

#[derive(Debug, Clone)]
struct PaperRuntime {
    place: Place,
    deployment: paper::Deployment,
    processing: paper::Processing,
}

impl Paper {
    /// Nothing learnt yet. Equal seeds and rows give equal predictions.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            runtimes: Vec::new(),
            bandwidth: LinkConfig::default().bandwidth_bytes_per_s,
        }
    }
}

impl Method for Paper {
    fn predict(&self, runtime: usize, items: f64) -> Estimate {
        let Some(model) = self.runtimes.get(runtime).filter(|m| m.place.seen) else {
            return Estimate::of(Part::ZERO, Part::UNKNOWN, Part::UNKNOWN, Part::UNKNOWN);
        };
        let (transfer, deployment) = if model.place.local() {
            (model.place.within(items), Part::ZERO)
        } else {
            (
                Part::exact(items * IMAGE_BYTES / self.bandwidth),
                model.deployment.predict(),
            )
        };
        Estimate::of(
            Part::ZERO,
            transfer,
            deployment,
            model.processing.predict(items),
        )
    }

    fn learn(&mut self, runtime: usize, items: f64, _epoch: f64, actual: &Parts) {
        let seed = self.seed;
        let model = entry(&mut self.runtimes, runtime, |index| PaperRuntime {
            place: Place::default(),
            deployment: paper::Deployment::new(),
            processing: paper::Processing::new(seed.wrapping_add(index as u64)),
        });
        model.place.learn(items, actual);
        if model.place.remote {
            model.deployment.push(actual.deployment);
        }
        model.processing.push(items, actual.processing);
        if model.place.remote && actual.transfer > 0.0 && items > 0.0 {
            self.bandwidth = items * IMAGE_BYTES / actual.transfer;
        }
    }
}

/// Our method: the models that the gateway places with.
#[derive(Debug, Clone)]
pub struct Ours {
    seed: u64,
    runtimes: Vec<OurRuntime>,
    bandwidth: Bandwidth,
    link: LinkModel,
    calibrator: ResponseCalibrator,
}

#[derive(Debug, Clone)]
struct OurRuntime {
    place: Place,
    deployments: DeploymentHistory,
    processings: ProcessingHistory,
    deployment: DeploymentModel,
    processing: ProcessingModel,
}

impl Ours {
    /// Nothing learnt yet. Equal seeds and rows give equal predictions.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let bandwidth = Bandwidth::new(link());
        Self {
            seed,
            runtimes: Vec::new(),
            link: bandwidth.fit(0.0),
            bandwidth,
            calibrator: ResponseCalibrator::new(),
        }
    }
}

impl Method for Ours {
    fn predict(&self, runtime: usize, items: f64) -> Estimate {
        let Some(model) = self.runtimes.get(runtime).filter(|m| m.place.seen) else {
            return Estimate::of(Part::ZERO, Part::UNKNOWN, Part::UNKNOWN, Part::UNKNOWN);
        };
        let (transfer, deployment) = if model.place.local() {
            (model.place.within(items), Part::ZERO)
        } else {
            (
                self.link.predict(items * IMAGE_BYTES),
                model.deployment.predict(),
            )
        };
        self.calibrator.adjust(&Estimate::of(
            Part::ZERO,
            transfer,
            deployment,
            model.processing.predict(items),
        ))
    }

    fn learn(&mut self, runtime: usize, items: f64, epoch: f64, actual: &Parts) {
        let given = self.predict(runtime, items);
        self.calibrator.observe(&given, actual.total());
        let seed = self.seed;
        let model = entry(&mut self.runtimes, runtime, |index| OurRuntime {
            place: Place::default(),
            deployments: DeploymentHistory::default(),
            processings: ProcessingHistory::new(
                ProcessingConfig::default(),
                seed.wrapping_add(index as u64),
            ),
            deployment: DeploymentModel::unknown(),
            processing: ProcessingModel::unknown(),
        });
        model.place.learn(items, actual);
        if model.place.remote {
            model.deployments.push(actual.deployment);
            model.deployment = model.deployments.fit();
        }
        model.processings.push(items, actual.processing);
        model.processing = model.processings.fit();
        if model.place.remote && actual.transfer > 0.0 {
            self.bandwidth
                .observe(items * IMAGE_BYTES, actual.transfer, epoch);
            self.link = self.bandwidth.fit(epoch);
        }
    }
}
