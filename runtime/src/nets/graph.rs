//! An inference graph as a list of steps over at most two live tensors, and its execution: by fused
//! oneDNN convolutions on the CPU, by cuDNN's elsewhere.

use crate::fused::{self, Geometry};
use crate::nets::weights::Weights;
use crate::{ModelError, Place};
use tch::{Device, Kind, Tensor};

/// Activations of a block at 112 x 112 in fp32 exceed the caches of a server CPU from about this many
/// images on: a batch is worked in parts of this size, which is 5 % faster than the whole at once.
/// Larger images go in fewer at a time: at 384 x 384 eight at once take bf16 seven times as long as at
/// 224 x 224, for three times the pixels.
const PART_PIXELS: i64 = 8 * 224 * 224;

/// What follows a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    None,
    Relu,
    Relu6,
}

/// How the border is filled with zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    /// As many on every side.
    Even(i64),
    /// TensorFlow's "same": so that the output is the input divided by the stride, rounded up; the odd
    /// one goes below and to the right.
    Same,
}

impl Padding {
    /// Zeros (before, after) for one side of so many pixels.
    fn amounts(self, side: i64, kernel: i64, stride: i64) -> (i64, i64) {
        match self {
            Self::Even(amount) => (amount, amount),
            Self::Same => {
                let out = (side + stride - 1) / stride;
                let total = ((out - 1) * stride + kernel - side).max(0);
                (total / 2, total - total / 2)
            }
        }
    }
}

/// A convolution with everything folded into it.
#[derive(Debug)]
pub(crate) struct Convolution {
    weight: Tensor,
    bias: Tensor,
    kernel: i64,
    stride: i64,
    padding: Padding,
    groups: i64,
    activation: Activation,
    fused: bool,
}

/// One step on the running tensor `x` and the kept tensor `k`.
#[derive(Debug)]
pub(crate) enum Step {
    /// `x = c(x)`
    Convolve(Convolution),
    /// `k = x`
    Keep,
    /// `k = c(x)`
    KeepConvolved(Convolution),
    /// `x = activation(c(x) + k)`
    AddKept(Convolution),
    /// `x = max over 3 x 3, stride 2`
    MaxPool,
}

/// `x = (pixel - mean) * scale`, per channel; the scale is folded into the first convolution.
#[derive(Debug)]
pub(crate) struct Normalisation {
    mean: Tensor,
}

/// A whole net.
#[derive(Debug)]
pub(crate) struct Graph {
    normalisation: Normalisation,
    steps: Vec<Step>,
    class_weight: Tensor,
    class_bias: Tensor,
}

/// What is asked of a net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    Features,
    Classes,
}

/// Builds steps from named weights.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    weights: &'a Weights,
    place: Place,
    epsilon: f64,
    mean: [f32; 3],
    steps: Vec<Step>,
}

/// What a convolution is called and how it is shaped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec<'a> {
    pub(crate) convolution: &'a str,
    pub(crate) norm: &'a str,
    pub(crate) stride: i64,
    pub(crate) padding: Padding,
    pub(crate) activation: Activation,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(weights: &'a Weights, place: &Place, epsilon: f64, mean: [f32; 3]) -> Self {
        Self {
            weights,
            place: *place,
            epsilon,
            mean,
            steps: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// The convolution with its batch-norm folded in; `scale` per input channel, where there is one,
    /// is what its input was not yet multiplied by.
    pub(crate) fn convolution(
        &self,
        spec: Spec<'_>,
        scale: Option<[f32; 3]>,
    ) -> Result<Convolution, ModelError> {
        let named = |suffix: &str| self.weights.get(&format!("{}.{suffix}", spec.norm));
        let raw = self.weights.get(&format!("{}.weight", spec.convolution))?;
        let size = raw.size();
        let [outputs, inputs_per_group, kernel, _] = size[..] else {
            return Err(ModelError::Invalid(format!(
                "{} is no convolution",
                spec.convolution
            )));
        };
        // One input per group is a depthwise convolution; all others here have one group.
        let groups = if inputs_per_group == 1 { outputs } else { 1 };
        let deviation = (named("running_var")?.f_to_kind(Kind::Double)? + self.epsilon).f_sqrt()?;
        let factor = named("weight")?
            .f_to_kind(Kind::Double)?
            .f_div(&deviation)?;
        let mut weight = raw
            .f_to_kind(Kind::Double)?
            .f_mul(&factor.f_reshape([-1, 1, 1, 1])?)?;
        if let Some(scale) = scale {
            weight = weight.f_mul(&Tensor::f_from_slice(&scale)?.f_reshape([1, 3, 1, 1])?)?;
        }
        let shift = named("running_mean")?
            .f_to_kind(Kind::Double)?
            .f_mul(&factor)?;
        let bias = named("bias")?.f_to_kind(Kind::Double)?.f_sub(&shift)?;

        let Place { device, kind, .. } = self.place;
        let fused = device == Device::Cpu && tch::utils::has_mkldnn();
        let bias = bias.f_to_kind(kind)?.f_to_device(device)?;
        let weight = weight.f_to_kind(kind)?;
        let weight = if fused {
            let padding = match spec.padding {
                Padding::Even(amount) => amount,
                Padding::Same if spec.stride == 1 => (kernel - 1) / 2,
                Padding::Same => 0,
            };
            weight.f_to_mkldnn(kind)?.f_mkldnn_reorder_conv2d_weight(
                [padding; 2],
                [spec.stride; 2],
                [1, 1],
                groups,
                None::<&[i64]>,
            )?
        } else {
            let mut last = weight.f_to_device(device)?;
            last = last.f_contiguous()?;
            channels_last(&last)?
        };
        Ok(Convolution {
            weight,
            bias,
            kernel,
            stride: spec.stride,
            padding: spec.padding,
            groups,
            activation: spec.activation,
            fused,
        })
    }

    pub(crate) fn finish(self, classes: &str) -> Result<Graph, ModelError> {
        let device = self.place.device;
        let named = |suffix: &str| -> Result<Tensor, ModelError> {
            let tensor = self.weights.get(&format!("{classes}.{suffix}"))?;
            Ok(tensor.f_to_device(device)?)
        };
        Ok(Graph {
            normalisation: Normalisation {
                mean: Tensor::f_from_slice(&self.mean)?
                    .f_reshape([1, 3, 1, 1])?
                    .f_to_device(device)?,
            },
            class_weight: named("weight")?,
            class_bias: named("bias")?,
            steps: self.steps,
        })
    }
}

/// The same values, stored with the channels of a pixel side by side.
fn channels_last(tensor: &Tensor) -> Result<Tensor, ModelError> {
    Ok(tensor
        .f_permute([0, 2, 3, 1])?
        .f_contiguous()?
        .f_permute([0, 3, 1, 2])?)
}

impl Convolution {
    fn run(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor, ModelError> {
        let size = x.size();
        let [_, _, height, width] = size[..] else {
            return Err(ModelError::Input(format!("a convolution of {size:?}")));
        };
        let (top, bottom) = self.padding.amounts(height, self.kernel, self.stride);
        let (left, right) = self.padding.amounts(width, self.kernel, self.stride);
        let padded;
        let (x, padding) = if top == bottom && left == right && top == left {
            (x, top)
        } else {
            padded = x.f_constant_pad_nd([left, right, top, bottom])?;
            (&padded, 0)
        };
        if self.fused {
            let geometry = Geometry {
                stride: self.stride,
                padding,
                groups: self.groups,
            };
            return fused::convolution(
                x,
                &self.weight,
                &self.bias,
                geometry,
                residual,
                self.activation,
            );
        }
        let mut y = x.f_conv2d(
            &self.weight,
            Some(&self.bias),
            [self.stride; 2],
            [padding; 2],
            [1, 1],
            self.groups,
        )?;
        if let Some(residual) = residual {
            y = y.f_add(residual)?;
        }
        Ok(match self.activation {
            Activation::None => y,
            Activation::Relu => y.f_relu_()?,
            Activation::Relu6 => y.f_clamp_(0.0, 6.0)?,
        })
    }

    fn share(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
            ..*self
        }
    }
}

impl Graph {
    /// Runs images through the net, in parts on the CPU.
    pub(crate) fn run(
        &self,
        images: &Tensor,
        device: Device,
        kind: Kind,
        head: Head,
    ) -> Result<Tensor, ModelError> {
        let planes = planes(images)?;
        let count = planes.size()[0];
        let size = planes.size();
        let pixels = size[2].saturating_mul(size[3]).max(1);
        let part = match device {
            Device::Cpu => (PART_PIXELS / pixels).max(1),
            _ => count,
        };
        let mut outputs = Vec::new();
        let mut start = 0;
        while start < count {
            let length = part.min(count - start);
            let images = planes.f_narrow(0, start, length)?.f_to_device(device)?;
            outputs.push(self.part(&images, kind, head)?);
            start += length;
        }
        let output = match &outputs[..] {
            [only] => only.shallow_clone(),
            _ => Tensor::f_cat(&outputs, 0)?,
        };
        Ok(output.f_to_device(Device::Cpu)?)
    }

    fn part(&self, planes: &Tensor, kind: Kind, head: Head) -> Result<Tensor, ModelError> {
        // The mean is subtracted in fp32, where it is exact enough, before the type narrows.
        let pixels = planes.f_to_kind(Kind::Float)?;
        let mut x = channels_last(&pixels.f_sub(&self.normalisation.mean)?.f_to_kind(kind)?)?;
        let mut kept = None;
        for step in &self.steps {
            match step {
                Step::Convolve(convolution) => x = convolution.run(&x, None)?,
                Step::Keep => kept = Some(x.shallow_clone()),
                Step::KeepConvolved(convolution) => kept = Some(convolution.run(&x, None)?),
                Step::AddKept(convolution) => x = convolution.run(&x, kept.take().as_ref())?,
                Step::MaxPool => x = x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?,
            }
        }
        let features = x.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?;
        match head {
            Head::Features => Ok(features),
            Head::Classes => Ok(features.f_linear(&self.class_weight, Some(&self.class_bias))?),
        }
    }

    pub(crate) fn share(&self) -> Self {
        Self {
            normalisation: Normalisation {
                mean: self.normalisation.mean.shallow_clone(),
            },
            steps: self.steps.iter().map(Step::share).collect(),
            class_weight: self.class_weight.shallow_clone(),
            class_bias: self.class_bias.shallow_clone(),
        }
    }
}

impl Step {
    fn share(&self) -> Self {
        match self {
            Self::Convolve(convolution) => Self::Convolve(convolution.share()),
            Self::Keep => Self::Keep,
            Self::KeepConvolved(convolution) => Self::KeepConvolved(convolution.share()),
            Self::AddKept(convolution) => Self::AddKept(convolution.share()),
            Self::MaxPool => Self::MaxPool,
        }
    }
}

/// A view of images as `[N, 3, H, W]`, after every check of shape and type.
fn planes(images: &Tensor) -> Result<Tensor, ModelError> {
    let (size, kind) = (images.size(), images.f_kind()?);
    let (planes, height, width) = match (kind, &size[..]) {
        (Kind::Uint8, &[_, height, width, 3]) => (images.f_permute([0, 3, 1, 2])?, height, width),
        (Kind::Float, &[_, 3, height, width]) => (images.shallow_clone(), height, width),
        _ => {
            return Err(ModelError::Input(format!(
                "images are u8 [N, H, W, 3] or f32 [N, 3, H, W], not {kind:?} {size:?}"
            )));
        }
    };
    let range = 32..=4096;
    if size[0] < 1 || !range.contains(&height) || !range.contains(&width) {
        return Err(ModelError::Input(format!(
            "images of {width} x {height}, {} of them; sides from 32 to 4096 are taken",
            size[0]
        )));
    }
    Ok(planes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_is_tensorflows() {
        // (side, kernel, stride) -> (before, after), as tf.nn.conv2d pads.
        for ((side, kernel, stride), expected) in [
            ((224, 3, 2), (0, 1)),
            ((225, 3, 2), (1, 1)),
            ((56, 5, 2), (1, 2)),
            ((14, 5, 1), (2, 2)),
            ((7, 1, 1), (0, 0)),
        ] {
            assert_eq!(Padding::Same.amounts(side, kernel, stride), expected);
        }
    }
}
