//! Pods and their pools: one pool per function version and runtime.
//!
//! The pool owns every pod's life and hands out leases; it knows no backend beyond the
//! [`Site`](crate::sites::Site) trait, no prediction and no HTTP.

mod keeper;
mod pod;
mod pool;
mod view;

pub use keeper::Warmer;
pub use pod::{Pod, PodState};
pub use pool::{
    AcquireError, Deployment, DeploymentSink, Expected, Lease, Load, Pool, PoolOptions, Start,
};
pub use view::PodView;
