//! Functions of kubeless, as functions of ours: what their objects say is carried over where it means
//! something here, and what does not is told. Pure: knows no cluster.
//!
//! As with kubeless itself, code that stands in an object is not put into an image that is named: such an
//! image holds its function. An object that names no image needs kubeless' build step, which nobody does.

mod carry;
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
