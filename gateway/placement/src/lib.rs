//! Placement: how long an invocation would take on each runtime, and which
//! runtime takes it. Pure: no clock, no I/O, no async, no logging; time and
//! randomness come in as arguments, so the gateway, the simulator and the
//! property tests run the very same code.
//!
//! # The model in a page
//!
//! The response time of an invocation on a runtime is a sum of four parts,
//! `T_s = T_q + T_t + T_d + T_p` (the paper's section 3.4, with queueing added):
//!
//! | part | what | predicted from | room |
//! |---|---|---|---|
//! | T_q queueing | waiting for a slot | what runs and waits, first come first served | [`queueing`](mod@queueing) |
//! | T_t transfer | bytes to the site | bandwidth of the moment and round trips | [`transfer`] |
//! | T_d deployment | starting a pod; zero when one is warm | medians of measured deployments that forget at six speeds, unless sliding windows or autoregression did better lately | [`deployment`] |
//! | T_p processing | running the function | robust lines over batch size that forget at several speeds, and the paper's Algorithm 1, mixed by their recent errors; boosted trees where these err less | [`processing`] |
//!
//! The paper's own method alone, the baseline, is [`paper`].
//!
//! Each [`Part`] has a mean and two nested intervals, of 50 % and 90 %, which
//! come from how far recent predictions, made in advance, were off ([`band`]),
//! stretched by how often they were missed (adaptive conformal inference).
//! Whole response times pass one [`ResponseCalibrator`] per function, which
//! pins their coverage. It is checked by [`accuracy`].
//!
//! Every model comes in two pieces. A **history** ([`DeploymentHistory`],
//! [`ProcessingHistory`], [`Bandwidth`]) is mutable, takes in measurements and
//! belongs to one background task. What it fits, a **model**
//! ([`DeploymentModel`], [`ProcessingModel`], [`LinkModel`]), is a small
//! immutable `Copy` value to be published to the request path. There,
//! [`place`](fn@place) turns features, models and the pools' loads into one
//! [`Estimate`] per runtime and a [`Choice`] in about a microsecond
//! ([`decide`](fn@decide) is the same without loads).
//!
//! ```
//! use stoic_placement::*;
//!
//! let mut edge = ProcessingHistory::new(ProcessingConfig::default(), 7);
//! let mut gpu = ProcessingHistory::new(ProcessingConfig::default(), 7);
//! for items in [33.0, 10.0] {
//!     edge.push(items, 1.45 * items + 13.6);
//!     gpu.push(items, 0.2 * items + 28.2);
//! }
//! let mut starts = DeploymentHistory::default();
//! starts.push(24.4);
//! let link = Bandwidth::new(LinkConfig::default()).fit(0.0);
//!
//! let (edge, gpu, starts) = (edge.fit(), gpu.fit(), starts.fit());
//! let candidates = [
//!     CandidateInput {
//!         runtime: "edge", available: true, queueing: Part::ZERO,
//!         link: &LinkModel::LOCAL, deployment: None, processing: &edge,
//!     },
//!     CandidateInput {
//!         runtime: "gpu1", available: true, queueing: Part::ZERO,
//!         link: &link, deployment: Some(&starts), processing: &gpu,
//!     },
//! ];
//! let few = decide(&candidates, &Features::new(5.0, 1e6), Mode::selector())?;
//! let many = decide(&candidates, &Features::new(500.0, 1e8), Mode::selector())?;
//! assert_eq!((few.choice.index, many.choice.index), (0, 1));
//! println!("{}: {}", candidates[1].runtime, many.choice.reason);
//! # Ok::<(), ChoiceError>(())
//! ```
//!
//! # The modes
//!
//! | mode | decides | room |
//! |---|---|---|
//! | pinned, selector | which runtime: by expected time, deadline or price | [`choose`](mod@choose) |
//! | hedged | which cloud runtimes to deploy together, and which to keep | [`hedge`] |
//! | duplicator | edge alone or both, once the cloud is up | [`duplicator`], [`account`] |
//! | cooperative | who works which items now | [`cooperative`] |
//!
//! The inquisitor's state machine is in [`availability`]; [`chance`] reads a
//! part as a distribution.
//!
//! Whatever comes in, numbers that are no measurements are refused (`push`
//! returns false), and estimates are finite and not negative. Nothing panics.
//!
//! # What must hold
//!
//! The properties, each with its test in `tests/properties.rs`: never an
//! unavailable runtime; same input, same answer; a larger batch never goes back
//! to a runtime whose line lies above another's; intervals nest; output is
//! finite for any history; windows equal a brute-force reference; the choice
//! does not flap within the margin.

pub mod account;
pub mod accuracy;
pub mod availability;
pub mod band;
pub mod bootstrap;
pub mod calibrator;
pub mod chance;
pub mod choose;
mod conformal;
pub mod cooperative;
pub mod decide;
pub mod deployment;
pub mod duplicator;
pub mod estimate;
pub mod goal;
pub mod hedge;
pub mod load;
mod mixture;
pub mod modes;
pub mod paper;
pub mod processing;
mod quantile;
pub mod queueing;
pub mod transfer;

pub use account::Account;
pub use accuracy::Accuracy;
pub use band::Band;
pub use bootstrap::{BootstrapConfig, BootstrapTask, Measured, bootstrap};
pub use calibrator::ResponseCalibrator;
pub use choose::{Candidate, Choice, ChoiceError, Margin, Mode, Reason, choose};
pub use decide::{CandidateInput, Decision, decide, estimate_all};
pub use deployment::{
    AutoRegression, DeploymentConfig, DeploymentHistory, DeploymentModel, DeploymentSample, Method,
    Regime, Window,
};
pub use estimate::{Basis, Estimate, Features, Interval, Part, sum};
pub use goal::Goal;
pub use load::{Load, PoolEstimate, PoolInput, Wait, overlapped, place, wait};
pub use processing::{
    Measure, ProcessingConfig, ProcessingHistory, ProcessingModel, RansacConfig, Run, RunFeatures,
};
pub use queueing::{Running, queueing};
pub use transfer::{Bandwidth, LinkConfig, LinkModel};
