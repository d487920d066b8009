//! Functions of kubeless, as functions of ours: what their objects say is carried over where it means
//! something here, and what does not is told. Pure: knows no cluster.
//!
//! Code that stands in an object beside an image is a file in its containers, where kubeless' own runtimes
//! look for it; kubeless itself ignored it there, and its images held their functions. An object that names no
//! image needs kubeless' build step, which nobody does.

mod carry;
mod code;
mod triggers;

pub use carry::{Carried, NotCarried, function};
pub use triggers::trigger;

use kube::api::ApiResource;
use kube::core::GroupVersionKind;

/// The group of kubeless' resources.
pub const GROUP: &str = "kubeless.io";
/// Its version.
pub const VERSION: &str = "v1beta1";

/// A kind of kubeless' in the API.
#[must_use]
pub fn resource(kind: &str, plural: &str) -> ApiResource {
    let kind = GroupVersionKind::gvk(GROUP, VERSION, kind);
    ApiResource::from_gvk_with_plural(&kind, plural)
}
