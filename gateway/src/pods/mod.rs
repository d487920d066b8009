//! Pods and their pools: one pool per function version and runtime.
//!
//! The pool owns every pod's life and hands out leases; it knows no backend beyond the
//! [`Site`](crate::sites::Site) trait, no prediction and no HTTP.

mod failures;
mod keeper;
mod pod;
mod pool;
mod probe;
mod view;
mod watch;

pub use failures::StartFailures;
pub use keeper::Warmer;
pub use pod::{Pod, PodState};
pub use pool::{
    AcquireError, Activity, Deployment, DeploymentSink, Expected, GIVE_WAY_AFTER, Lease, Load,
    Pool, PoolOptions, Start,
};
pub use probe::Probed;
pub use view::PodView;
pub use watch::{LastDeployment, LastProbe, Standing};
