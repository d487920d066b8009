//! "Where's The Bear", the application of the paper (section 4.1): camera-trap images to labels.
//!
//! - [`pixels`]: bytes of an image to pixels; every odd file has its error.
//! - [`backbone`]: the frozen network, pixels to features, on the workers of the pod.
//! - [`head`]: the part that is trained, features to scores; its file.
//! - [`dataset`], [`options`], [`augment`], [`train`], [`metrics`]: from a labelled package to a head.
//! - [`answer`]: scores to JSON, ours or MegaDetector's.
//! - [`scenes`]: synthetic images with ground truth.
//! - [`function`]: all of it behind the function contract.
//!
//! No weights are shipped: set-up fetches the backbone's, and the head is trained by the user. Until
//! then `infer` answers 409 `model_untrained`, or runs an untrained head for timing where the
//! parameter `bootstrap=true` asks for it.

pub mod answer;
pub mod augment;
pub mod backbone;
mod command;
pub mod dataset;
pub mod function;
pub mod head;
pub mod metrics;
pub mod options;
pub mod pixels;
pub mod scenes;
pub mod train;

pub use command::ScenesCommand;
pub use function::Wildlife;
