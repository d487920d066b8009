//! Backbones for inference: batch-norm folded into the convolutions, activations and residual sums
//! fused into them, weights in the device's preferred layout, activations channels-last, in fp32 or
//! bf16.
//!
//! This module knows pixels and tensors; it knows neither functions nor batches of files.

pub(crate) mod graph;
mod lite0;
mod resnet50;
pub mod weights;

use crate::{ModelError, Place};
use graph::{Graph, Head};
use std::path::Path;
use std::str::FromStr;
use tch::{Device, Kind, Tensor};
use weights::Weights;

/// A net that this crate knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// EfficientNet-Lite0 as in TensorFlow: 4.65 M parameters, 1280 features.
    EfficientNetLite0,
    /// ResNet-50 as in torchvision: 25.6 M parameters, 2048 features.
    ResNet50,
}

impl Architecture {
    /// Length of a feature vector.
    #[must_use]
    pub fn features(self) -> i64 {
        match self {
            Self::EfficientNetLite0 => 1280,
            Self::ResNet50 => 2048,
        }
    }

    /// Side of the square image that the net was trained on, in pixels.
    #[must_use]
    pub fn side(self) -> i64 {
        224
    }

    /// The name by which it is asked for.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EfficientNetLite0 => "efficientnet-lite0",
            Self::ResNet50 => "resnet50",
        }
    }

    fn graph(self, weights: &Weights, place: &Place) -> Result<Graph, ModelError> {
        match self {
            Self::EfficientNetLite0 => lite0::build(weights, place),
            Self::ResNet50 => resnet50::build(weights, place),
        }
    }

    /// Names and shapes of everything the net loads.
    fn shapes(self) -> Vec<(String, Vec<i64>)> {
        match self {
            Self::EfficientNetLite0 => lite0::shapes(),
            Self::ResNet50 => resnet50::shapes(),
        }
    }

    /// The net whose weights these are, told by their names.
    fn of(weights: &Weights) -> Option<Self> {
        [Self::EfficientNetLite0, Self::ResNet50]
            .into_iter()
            .find(|architecture| {
                architecture
                    .shapes()
                    .first()
                    .is_some_and(|(name, _)| weights.contains(name))
            })
    }
}

impl FromStr for Architecture {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text {
            "efficientnet-lite0" => Ok(Self::EfficientNetLite0),
            "resnet50" => Ok(Self::ResNet50),
            _ => Err(ModelError::Invalid(format!(
                "{text:?} is no backbone; use efficientnet-lite0 or resnet50"
            ))),
        }
    }
}

/// A backbone at a place, ready to run. Not shared between threads: each takes its own by
/// [`share`](Self::share), which costs nothing, for the weights stay where they are.
#[derive(Debug)]
pub struct Backbone {
    architecture: Architecture,
    graph: Graph,
    device: Device,
    kind: Kind,
}

impl Backbone {
    /// Reads the weights from a safetensors file: EfficientNet-Lite0's as `images/setup.py` makes it, or
    /// ResNet-50's with torchvision's names.
    ///
    /// # Errors
    /// [`ModelError::File`], or [`ModelError::Invalid`] that names the first weight that is missing
    /// or has another shape.
    pub fn load(
        architecture: Architecture,
        path: &Path,
        place: &Place,
    ) -> Result<Self, ModelError> {
        Self::from_weights(architecture, &Weights::read(path)?, place)
    }

    /// As [`load`](Self::load), the architecture told by the names in the file.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_any(path: &Path, place: &Place) -> Result<Self, ModelError> {
        let weights = Weights::read(path)?;
        let architecture = Architecture::of(&weights).ok_or_else(|| {
            ModelError::Invalid(format!(
                "{} holds the weights of no known net (efficientnet-lite0, resnet50); serve other \
                 models as TorchScript",
                path.display()
            ))
        })?;
        Self::from_weights(architecture, &weights, place)
    }

    /// Random weights, the same for the same seed: for measurements.
    ///
    /// # Errors
    /// [`ModelError::Torch`] where memory is short.
    pub fn random(
        architecture: Architecture,
        seed: u64,
        place: &Place,
    ) -> Result<Self, ModelError> {
        let weights = Weights::random(&architecture.shapes(), seed)?;
        Self::from_weights(architecture, &weights, place)
    }

    /// Builds the net from weights at hand.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] where a weight is missing or has another shape.
    pub fn from_weights(
        architecture: Architecture,
        weights: &Weights,
        place: &Place,
    ) -> Result<Self, ModelError> {
        weights.check(&architecture.shapes())?;
        let graph = quietly(|| architecture.graph(weights, place))?;
        Ok(Self {
            architecture,
            graph,
            device: place.device,
            kind: place.kind,
        })
    }

    /// The same net for another thread; weights are shared.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            architecture: self.architecture,
            graph: self.graph.share(),
            device: self.device,
            kind: self.kind,
        }
    }

    /// Which net it is.
    #[must_use]
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// Type of its weights: `Float` or `BFloat16`.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Features of images, as fp32 `[N, D]` on the CPU, with D = [`Architecture::features`].
    ///
    /// `images` are RGB, either `u8` `[N, H, W, 3]`, or floats `[N, 3, H, W]` in 0 to 255; the net's
    /// own normalisation is applied inside. Any size from 32 to 4096 is taken; [`Architecture::side`]
    /// is what the net was trained on.
    ///
    /// # Errors
    /// [`ModelError::Input`] for another shape or type.
    pub fn features(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        self.run(images, Head::Features)
    }

    /// Scores of the 1000 ImageNet classes before softmax, as fp32 `[N, 1000]` on the CPU.
    ///
    /// # Errors
    /// [`ModelError::Input`] for another shape or type, as in [`features`](Self::features).
    pub fn logits(&self, images: &Tensor) -> Result<Tensor, ModelError> {
        self.run(images, Head::Classes)
    }

    fn run(&self, images: &Tensor, head: Head) -> Result<Tensor, ModelError> {
        quietly(|| self.graph.run(images, self.device, self.kind, head))
    }
}

/// Runs without recording gradients, on this thread.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let _guard = tch::no_grad_guard();
    work()
}
