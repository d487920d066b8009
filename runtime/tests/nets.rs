//! The nets against independent computations: PyTorch's figures for the pretrained backbone, and a
//! plain, unfused net of libtorch operators for random weights.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::path::PathBuf;
use stoic_runtime::device::cpu_takes_bf16;
use stoic_runtime::nets::weights::Weights;
use stoic_runtime::tch::{self, Device, Kind, Tensor, nn, nn::ModuleT, vision};
use stoic_runtime::{Architecture, Backbone, Place};

/// The pretrained weights, where set-up has fetched them.
fn pretrained() -> Option<PathBuf> {
    let path = std::env::var_os("STOIC_BACKBONE")
        .map(PathBuf::from)
        .or_else(|| {
            let cache = std::env::var_os("STOIC_CACHE")
                .map(PathBuf::from)
                .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/stoic")))?;
            Some(cache.join("efficientnet-lite0.safetensors"))
        })?;
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is absent; run images/setup.py", path.display());
    None
}

/// Pixels that any language computes alike.
fn pattern(images: i64, side: i64) -> Tensor {
    let mut pixels = Vec::new();
    for n in 0..images {
        for y in 0..side {
            for x in 0..side {
                for c in 0..3 {
                    let value = x * 3 + y * 5 + c * 40 + n * 17 + (x * y) / 7;
                    pixels.push((value % 256) as u8);
                }
            }
        }
    }
    Tensor::from_slice(&pixels).reshape([images, side, side, 3])
}

fn row(tensor: &Tensor, index: i64) -> Vec<f32> {
    Vec::try_from(tensor.get(index).to_kind(Kind::Float)).unwrap()
}

fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        .sqrt()
}

fn argmax(values: &[f32]) -> usize {
    (0..values.len())
        .max_by(|&a, &b| values[a].total_cmp(&values[b]))
        .unwrap()
}

/// Relative distance of two tensors.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    ((&a - &b).norm() / b.norm()).double_value(&[])
}

/// PyTorch 2.11 in double precision on these weights and this pattern, unfused, batch-norm unfolded.
/// fp32 differs from it by 5e-6; the tolerance of 1e-3 leaves room for other CPUs' kernels.
#[test]
fn lite0_gives_the_logits_and_features_of_pytorch() {
    let Some(path) = pretrained() else { return };
    let net = Backbone::load(Architecture::EfficientNetLite0, &path, &Place::cpu(2)).unwrap();
    let images = pattern(2, 224);
    let logits = net.logits(&images).unwrap();
    let expected: [[f64; 6]; 2] = [
        [
            0.89127027,
            -2.28550245,
            -1.11855961,
            -1.48271494,
            -1.43674574,
            -1.01774904,
        ],
        [
            1.00757031,
            -2.20147961,
            -1.04447984,
            -1.41935369,
            -1.39996790,
            -1.00553571,
        ],
    ];
    let norms = [50.55755985, 49.90806566];
    for image in 0..2 {
        let row = row(&logits, image as i64);
        for (found, expected) in row.iter().zip(expected[image]) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-3,
                "{:?}",
                &row[..6]
            );
        }
        assert!((norm(&row) - norms[image]).abs() < 1e-3);
        assert_eq!(argmax(&row), 506);
    }
    let features = net.features(&images).unwrap();
    assert_eq!(features.size(), [2, 1280]);
    let first = row(&features, 0);
    assert!((norm(&first) - 21.76624368).abs() < 1e-3);
    assert!((first[0] - 1.804_471_4).abs() < 1e-3);

    if !cpu_takes_bf16() {
        println!("skipped: this CPU computes no bf16, with which libtorch refuses such weights");
        return;
    }
    let bf16 = Place {
        kind: Kind::BFloat16,
        ..Place::cpu(2)
    };
    let narrow = Backbone::load_any(&path, &bf16).unwrap();
    assert_eq!(narrow.architecture(), Architecture::EfficientNetLite0);
    let narrow = narrow.logits(&images).unwrap();
    assert_eq!(argmax(&row(&narrow, 0)), 506);
    assert!(distance(&narrow, &logits) < 0.05);
}

/// Batches larger than a part, other sizes and both forms of input give what single images give.
#[test]
fn parts_sizes_and_forms_of_input_agree() {
    let net = Backbone::random(Architecture::EfficientNetLite0, 7, &Place::cpu(2)).unwrap();
    for side in [64, 97] {
        let images = pattern(11, side);
        let whole = net.features(&images).unwrap();
        let last = net.share().features(&images.narrow(0, 10, 1)).unwrap();
        assert!(distance(&whole.narrow(0, 10, 1), &last) < 1e-4);
        let floats = images
            .permute([0, 3, 1, 2])
            .to_kind(Kind::Float)
            .contiguous();
        assert!(distance(&net.features(&floats).unwrap(), &whole) < 1e-5);
    }
}

#[test]
fn resnet50_gives_what_the_plain_net_gives() {
    let vars = nn::VarStore::new(Device::Cpu);
    let plain = vision::resnet::resnet50(&vars.root(), 1000);
    let weights = Weights::from_named(vars.variables()).unwrap();
    let net = Backbone::from_weights(Architecture::ResNet50, &weights, &Place::cpu(2)).unwrap();
    let images = pattern(3, 96);
    let planes = images.permute([0, 3, 1, 2]).to_kind(Kind::Float) / 255.0;
    let mean = Tensor::from_slice(&[0.485f32, 0.456, 0.406]).reshape([1, 3, 1, 1]);
    let deviation = Tensor::from_slice(&[0.229f32, 0.224, 0.225]).reshape([1, 3, 1, 1]);
    let normal = (planes - mean) / deviation;
    let expected = tch::no_grad(|| plain.forward_t(&normal, false));
    let found = distance(&net.logits(&images).unwrap(), &expected);
    assert!(found < 1e-4, "{found}");
}

#[test]
fn wrong_input_and_wrong_weights_are_errors() {
    let place = Place::cpu(1);
    let net = Backbone::random(Architecture::EfficientNetLite0, 1, &place).unwrap();
    for shape in [
        vec![0, 64, 64, 3],
        vec![1, 64, 64, 4],
        vec![1, 8, 8, 3],
        vec![1, 3, 64, 64],
        vec![64, 64, 3],
        vec![],
    ] {
        let input = Tensor::zeros(shape.as_slice(), (Kind::Uint8, Device::Cpu));
        assert!(net.features(&input).is_err(), "{shape:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    assert!(Backbone::load_any(&file, &place).is_err());
    for bytes in [&b""[..], b"garbage", &[0xff; 64], b"\x02\0\0\0\0\0\0\0{}"] {
        std::fs::write(&file, bytes).unwrap();
        let error = Backbone::load_any(&file, &place).unwrap_err();
        assert!(error.to_string().contains("weights.safetensors"), "{error}");
    }
    let bias = Tensor::zeros([1], (Kind::Float, Device::Cpu));
    let other = Weights::from_named([("_fc.bias".to_owned(), bias)]).unwrap();
    let error =
        Backbone::from_weights(Architecture::EfficientNetLite0, &other, &place).unwrap_err();
    assert!(error.to_string().contains("_conv_stem.weight"), "{error}");
}
