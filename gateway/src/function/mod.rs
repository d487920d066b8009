//! The function object: what a user declares in `function.yaml`, in the shape of a Kubernetes object.
//!
//! Parsed and validated whole; inside the gateway a [`Function`] is always valid. Knows no site, no
//! pool and no HTTP.

pub mod amounts;
mod files;
mod object;
mod registry;
pub mod schema;

pub use files::{FileSpec, LARGEST_FILES, MOST_FILES, check_files};
pub use object::{
    API_VERSION, BootstrapSpec, FunctionObject, FunctionSpec, Input, Isolation, MOST_REPLICAS,
    Metadata, Pull, QueueSpec, Resources, Standby, Warmup, check_name,
};
pub use registry::{Function, PublishedModel, RESOURCE, Registry, Runnable};

/// Why a function object was refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidFunction(pub String);
