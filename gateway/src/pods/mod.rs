//! Pods and their pools: one pool per function version and runtime.
//!
//! The pool owns every pod's life and hands out leases; it knows no backend beyond the
//! [`Site`](crate::sites::Site) trait, no prediction and no HTTP.

mod adopt;
mod demand;
mod deployment;
mod end;
mod failures;
mod inquire;
mod keeper;
mod lease;
mod load;
mod options;
mod pace;
mod pod;
mod pool;
mod probe;
mod queue;
mod rise;
mod settle;
mod standbys;
mod start;
mod state;
mod summary;
#[cfg(test)]
mod tests;
mod view;
mod warm;
mod watch;

pub use deployment::{Deployment, DeploymentSink};
pub use failures::StartFailures;
pub use lease::{Lease, Start};
pub use load::{Activity, Load};
pub use options::PoolOptions;
pub use pace::{Pace, Processors};
pub use pod::{Pod, PodState};
pub use pool::Pool;
pub use probe::Probed;
pub use queue::{AcquireError, Expected, GIVE_WAY_AFTER};
pub use rise::NotUp;
pub use settle::Sample;
pub use standbys::Standbys;
pub use summary::PoolSummary;
pub use view::PodView;
pub use warm::Warmer;
pub use watch::{LastDeployment, LastProbe, Standing};
