//! EfficientNet-Lite0, with the names of the `efficientnet_lite` checkpoints: no squeeze-and-excite,
//! ReLU6, TensorFlow's padding, input `(pixel - 127) / 128`.

use super::graph::{Activation, Builder, Graph, Padding, Spec, Step};
use super::weights::Weights;
use crate::{ModelError, Place};

const EPSILON: f64 = 1e-3;
const MEAN: [f32; 3] = [127.0; 3];
const SCALE: [f32; 3] = [1.0 / 128.0; 3];

struct Block {
    index: usize,
    expansion: i64,
    kernel: i64,
    stride: i64,
    inputs: i64,
    outputs: i64,
}

impl Block {
    fn name(&self, part: &str) -> String {
        format!("_blocks.{}.{part}", self.index)
    }
}

fn blocks() -> Vec<Block> {
    // Expansion, kernel, stride of the first, outputs, repeats.
    let stages = [
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ];
    let mut blocks = Vec::new();
    let mut inputs = 32;
    for (expansion, kernel, stride, outputs, repeats) in stages {
        for repeat in 0..repeats {
            blocks.push(Block {
                index: blocks.len(),
                expansion,
                kernel,
                stride: if repeat == 0 { stride } else { 1 },
                inputs,
                outputs,
            });
            inputs = outputs;
        }
    }
    blocks
}

fn spec<'a>(convolution: &'a str, norm: &'a str, stride: i64, activation: Activation) -> Spec<'a> {
    Spec {
        convolution,
        norm,
        stride,
        padding: Padding::Same,
        activation,
    }
}

pub(super) fn build(weights: &Weights, place: &Place) -> Result<Graph, ModelError> {
    let mut net = Builder::new(weights, place, EPSILON, MEAN);
    let stem = spec("_conv_stem", "_bn0", 2, Activation::Relu6);
    net.push(Step::Convolve(net.convolution(stem, Some(SCALE))?));
    for block in blocks() {
        let residual = block.stride == 1 && block.inputs == block.outputs;
        if residual {
            net.push(Step::Keep);
        }
        if block.expansion != 1 {
            let (name, norm) = (block.name("_expand_conv"), block.name("_bn0"));
            let expand = spec(&name, &norm, 1, Activation::Relu6);
            net.push(Step::Convolve(net.convolution(expand, None)?));
        }
        let (name, norm) = (block.name("_depthwise_conv"), block.name("_bn1"));
        let depthwise = spec(&name, &norm, block.stride, Activation::Relu6);
        net.push(Step::Convolve(net.convolution(depthwise, None)?));
        let (name, norm) = (block.name("_project_conv"), block.name("_bn2"));
        let project = net.convolution(spec(&name, &norm, 1, Activation::None), None)?;
        net.push(if residual {
            Step::AddKept(project)
        } else {
            Step::Convolve(project)
        });
    }
    let head = spec("_conv_head", "_bn1", 1, Activation::Relu6);
    net.push(Step::Convolve(net.convolution(head, None)?));
    net.finish("_fc")
}

pub(super) fn shapes() -> Vec<(String, Vec<i64>)> {
    let mut shapes = Vec::new();
    let mut add = |name: &str, norm: &str, shape: [i64; 4]| {
        shapes.push((format!("{name}.weight"), shape.to_vec()));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            shapes.push((format!("{norm}.{part}"), vec![shape[0]]));
        }
    };
    add("_conv_stem", "_bn0", [32, 3, 3, 3]);
    for block in blocks() {
        let wide = block.inputs * block.expansion;
        if block.expansion != 1 {
            let (name, norm) = (block.name("_expand_conv"), block.name("_bn0"));
            add(&name, &norm, [wide, block.inputs, 1, 1]);
        }
        let (name, norm) = (block.name("_depthwise_conv"), block.name("_bn1"));
        add(&name, &norm, [wide, 1, block.kernel, block.kernel]);
        let (name, norm) = (block.name("_project_conv"), block.name("_bn2"));
        add(&name, &norm, [block.outputs, wide, 1, 1]);
    }
    add("_conv_head", "_bn1", [1280, 320, 1, 1]);
    shapes.push(("_fc.weight".to_owned(), vec![1000, 1280]));
    shapes.push(("_fc.bias".to_owned(), vec![1000]));
    shapes
}
