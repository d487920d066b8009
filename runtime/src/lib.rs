//! Models on libtorch inside a pod: where they compute, how nets run fast, and how the items of a
//! batch are spread over workers. A function that wants a model builds on this crate; the gateway
//! knows nothing of it.
//!
//! - [`allocator`] sets the process up; call [`prepare`] first in `main`.
//! - [`device`] turns the pod's environment into a [`Placement`]: devices, threads, precision.
//! - [`nets`] holds the backbones as fused inference graphs.
//! - [`forked`] is for pods that were forked from a process in which the model was loaded.
//! - [`workers`] spreads items over places, one shared queue for all.
//!
//! libtorch is met in its fallible forms only (`f_*`, `forward_ts`): whatever comes in, the pod
//! answers and lives.

pub mod allocator;
pub mod device;
mod error;
mod forked;
mod fused;
pub mod nets;
pub mod workers;

pub use allocator::prepare;
pub use device::{Place, Placement};
pub use error::ModelError;
pub use forked::forked;
pub use nets::{Architecture, Backbone};
pub use workers::{Model, Workers};

/// The bindings this crate stands on, so that functions use the same.
pub use tch;
