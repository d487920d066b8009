//! ResNet-50 v1.5 with torchvision's names, ImageNet's mean and deviation.

use super::graph::{Activation, Builder, Graph, Padding, Spec, Step};
use super::weights::Weights;
use crate::{ModelError, Place};

const EPSILON: f64 = 1e-5;
const MEAN: [f32; 3] = [0.485 * 255.0, 0.456 * 255.0, 0.406 * 255.0];
const SCALE: [f32; 3] = [
    1.0 / (0.229 * 255.0),
    1.0 / (0.224 * 255.0),
    1.0 / (0.225 * 255.0),
];

/// Layer, index of the block in it, inputs, width, stride.
fn blocks() -> Vec<(usize, usize, i64, i64, i64)> {
    let mut blocks = Vec::new();
    let mut inputs = 64;
    for (layer, width, count, stride) in [
        (1, 64, 3, 1),
        (2, 128, 4, 2),
        (3, 256, 6, 2),
        (4, 512, 3, 2),
    ] {
        for index in 0..count {
            let stride = if index == 0 { stride } else { 1 };
            blocks.push((layer, index, inputs, width, stride));
            inputs = width * 4;
        }
    }
    blocks
}

fn spec<'a>(
    convolution: &'a str,
    norm: &'a str,
    stride: i64,
    padding: i64,
    activation: Activation,
) -> Spec<'a> {
    Spec {
        convolution,
        norm,
        stride,
        padding: Padding::Even(padding),
        activation,
    }
}

pub(super) fn build(weights: &Weights, place: &Place) -> Result<Graph, ModelError> {
    let mut net = Builder::new(weights, place, EPSILON, MEAN);
    let stem = spec("conv1", "bn1", 2, 3, Activation::Relu);
    net.push(Step::Convolve(net.convolution(stem, Some(SCALE))?));
    net.push(Step::MaxPool);
    for (layer, index, _, _, stride) in blocks() {
        let name = |part: &str| format!("layer{layer}.{index}.{part}");
        if index == 0 {
            let (convolution, norm) = (name("downsample.0"), name("downsample.1"));
            let shortcut = spec(&convolution, &norm, stride, 0, Activation::None);
            net.push(Step::KeepConvolved(net.convolution(shortcut, None)?));
        } else {
            net.push(Step::Keep);
        }
        for (part, stride, padding) in [(1, 1, 0), (2, stride, 1)] {
            let (convolution, norm) = (name(&format!("conv{part}")), name(&format!("bn{part}")));
            let inner = spec(&convolution, &norm, stride, padding, Activation::Relu);
            net.push(Step::Convolve(net.convolution(inner, None)?));
        }
        let (convolution, norm) = (name("conv3"), name("bn3"));
        let last = spec(&convolution, &norm, 1, 0, Activation::Relu);
        net.push(Step::AddKept(net.convolution(last, None)?));
    }
    net.finish("fc")
}

pub(super) fn shapes() -> Vec<(String, Vec<i64>)> {
    let mut shapes = Vec::new();
    let mut add = |name: &str, norm: &str, shape: [i64; 4]| {
        shapes.push((format!("{name}.weight"), shape.to_vec()));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            shapes.push((format!("{norm}.{part}"), vec![shape[0]]));
        }
    };
    add("conv1", "bn1", [64, 3, 7, 7]);
    for (layer, index, inputs, width, _) in blocks() {
        let name = |part: &str| format!("layer{layer}.{index}.{part}");
        add(&name("conv1"), &name("bn1"), [width, inputs, 1, 1]);
        add(&name("conv2"), &name("bn2"), [width, width, 3, 3]);
        add(&name("conv3"), &name("bn3"), [width * 4, width, 1, 1]);
        if index == 0 {
            let (convolution, norm) = (name("downsample.0"), name("downsample.1"));
            add(&convolution, &norm, [width * 4, inputs, 1, 1]);
        }
    }
    shapes.push(("fc.weight".to_owned(), vec![1000, 2048]));
    shapes.push(("fc.bias".to_owned(), vec![1000]));
    shapes
}
