//! A trained head as one safetensors file: the tensors, and what they mean as JSON in its metadata.
//! Whatever the file holds, loading answers with a head that fits together or with an error.

use super::{Head, WIDTH};
use crate::metrics::Metrics;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use stoic_runtime::tch::{Kind, TchError, Tensor};

/// Key of the JSON in the file's metadata.
const KEY: &str = "stoic.wildlife";
/// A head is some 10 MB; more than this is none.
const LARGEST: u64 = 256 << 20;

/// What a head was trained for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Version of this layout: 1.
    pub format: u32,
    /// Labels, in the order of the outputs.
    pub classes: Vec<String>,
    /// Backbone whose features it takes: `efficientnet-lite0` or `resnet50`.
    pub backbone: String,
    /// Pixels per side of the backbone's input.
    pub size: usize,
    /// Divides the logits before softmax, so that scores mean probabilities.
    pub temperature: f64,
    /// How it was trained.
    pub training: TrainingSummary,
}

/// How a head was trained, kept with it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TrainingSummary {
    /// Images.
    pub images: usize,
    /// Epochs until the loss on the validation images was least.
    pub epochs: usize,
    /// Seed.
    pub seed: u64,
    /// Metrics on images that were not trained on, where some were set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Metrics>,
}

/// A head's file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no head, or one that does not fit together.
    #[error("this is no model of the wildlife function: {0}")]
    Invalid(String),
    /// libtorch refused.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

const NAMES: [&str; 8] = [
    "features.mean",
    "features.scale",
    "dense1.weight",
    "dense1.bias",
    "dense2.weight",
    "dense2.bias",
    "classes.weight",
    "classes.bias",
];

impl Head {
    fn tensors(&self) -> [&Tensor; 8] {
        let [a, b, c] = &self.layers;
        [&self.mean, &self.scale, &a.0, &a.1, &b.0, &b.1, &c.0, &c.1]
    }

    /// Writes the head; an older file of the name is replaced whole.
    ///
    /// # Errors
    /// [`HeadError::Io`] and [`HeadError::Torch`].
    pub fn save(&self, path: &Path, metadata: &Metadata) -> Result<(), HeadError> {
        let mut raw = Vec::new();
        for tensor in self.tensors() {
            let tensor = tensor
                .f_detach()?
                .f_to_device(stoic_runtime::tch::Device::Cpu)?
                .f_contiguous()?;
            let mut bytes = vec![0u8; tensor.numel() * 4];
            tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
            let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
            raw.push((shape, bytes));
        }
        let invalid = |e: &dyn std::fmt::Display| HeadError::Invalid(e.to_string());
        let mut views = Vec::new();
        for (name, (shape, bytes)) in NAMES.iter().zip(&raw) {
            views.push((
                *name,
                TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|e| invalid(&e))?,
            ));
        }
        let json = serde_json::to_string(metadata).map_err(|e| invalid(&e))?;
        let info = HashMap::from([
            (KEY.to_owned(), json),
            ("format".to_owned(), "pt".to_owned()),
        ]);
        let bytes = safetensors::serialize(views, Some(info)).map_err(|e| invalid(&e))?;
        let io = |source| HeadError::Io {
            path: path.display().to_string(),
            source,
        };
        let partial = path.with_extension("partial");
        std::fs::write(&partial, bytes)
            .and_then(|()| std::fs::rename(&partial, path))
            .map_err(io)
    }

    /// Reads a head and checks that classes, shapes and values fit together.
    ///
    /// # Errors
    /// [`HeadError::Invalid`] says what does not fit.
    pub fn load(path: &Path) -> Result<(Self, Metadata), HeadError> {
        let io = |source| HeadError::Io {
            path: path.display().to_string(),
            source,
        };
        let length = std::fs::metadata(path).map_err(io)?.len();
        if length > LARGEST {
            return Err(HeadError::Invalid(format!(
                "{length} bytes are too many for a head"
            )));
        }
        let bytes = std::fs::read(path).map_err(io)?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Result<(Self, Metadata), HeadError> {
        let invalid = |e: &dyn std::fmt::Display| HeadError::Invalid(e.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| invalid(&e))?;
        let json = header.metadata().as_ref().and_then(|m| m.get(KEY));
        let json =
            json.ok_or_else(|| HeadError::Invalid(format!("its metadata has no {KEY:?}")))?;
        let metadata: Metadata = serde_json::from_str(json).map_err(|e| invalid(&e))?;
        metadata.check()?;
        let file = SafeTensors::deserialize(bytes).map_err(|e| invalid(&e))?;
        let features = file
            .tensor(NAMES[0])
            .map_err(|e| invalid(&e))?
            .shape()
            .iter()
            .product::<usize>();
        let classes = metadata.classes.len();
        let shapes: [&[usize]; 8] = [
            &[features],
            &[features],
            &[WIDTH, features],
            &[WIDTH],
            &[WIDTH, WIDTH],
            &[WIDTH],
            &[classes, WIDTH],
            &[classes],
        ];
        let mut tensors = Vec::with_capacity(NAMES.len());
        for (name, shape) in NAMES.iter().zip(shapes) {
            let view = file
                .tensor(name)
                .map_err(|e| HeadError::Invalid(format!("{name}: {e}")))?;
            if view.dtype() != Dtype::F32 || view.shape() != shape {
                return Err(HeadError::Invalid(format!(
                    "{name} is {:?} {:?}, expected F32 {shape:?}",
                    view.dtype(),
                    view.shape()
                )));
            }
            let size: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
            let tensor = Tensor::f_from_data_size(view.data(), &size, Kind::Float)?;
            if tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                return Err(HeadError::Invalid(format!(
                    "{name} holds values that are not finite"
                )));
            }
            tensors.push(tensor);
        }
        let mut next = tensors.into_iter();
        let mut take = || {
            next.next()
                .ok_or_else(|| HeadError::Invalid("tensors are missing".into()))
        };
        let head = Self {
            mean: take()?,
            scale: take()?,
            layers: [(take()?, take()?), (take()?, take()?), (take()?, take()?)],
        };
        Ok((head, metadata))
    }
}

impl Metadata {
    fn check(&self) -> Result<(), HeadError> {
        let wrong = |what: String| Err(HeadError::Invalid(what));
        if self.format != 1 {
            return wrong(format!(
                "it has format {}, this program reads 1",
                self.format
            ));
        }
        if self.classes.len() < 2 || self.classes.len() > 10_000 {
            return wrong(format!("it names {} classes", self.classes.len()));
        }
        if !(32..=1024).contains(&self.size) {
            return wrong(format!("its input is {0}x{0} pixels", self.size));
        }
        if !self.temperature.is_finite() || self.temperature <= 0.0 {
            return wrong(format!("its temperature is {}", self.temperature));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        Metadata {
            format: 1,
            classes: ["bird", "fox", "empty"].map(str::to_owned).to_vec(),
            backbone: "efficientnet-lite0".into(),
            size: 224,
            temperature: 1.0,
            training: TrainingSummary::default(),
        }
    }

    #[test]
    fn what_is_saved_loads_and_computes_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.safetensors");
        let head = Head::random(40, 3, 7).unwrap();
        head.save(&path, &metadata()).unwrap();
        let (loaded, read) = Head::load(&path).unwrap();
        assert_eq!(read, metadata());
        let x = Tensor::from_slice(&[0.5f32; 80]).view([2, 40]);
        let (a, b) = (
            head.scores(&x, 1.0).unwrap(),
            loaded.scores(&x, 1.0).unwrap(),
        );
        assert_eq!(
            Vec::<f32>::try_from(a.flatten(0, 1)).unwrap(),
            Vec::<f32>::try_from(b.flatten(0, 1)).unwrap()
        );
    }

    #[test]
    fn garbage_and_heads_that_do_not_fit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.safetensors");
        let head = Head::random(40, 3, 7).unwrap();
        let refused = |metadata: &Metadata| {
            head.save(&path, metadata).unwrap();
            assert!(
                matches!(Head::load(&path), Err(HeadError::Invalid(_))),
                "{metadata:?}"
            );
        };
        refused(&Metadata {
            classes: vec!["a".into(), "b".into()],
            ..metadata()
        });
        refused(&Metadata {
            format: 2,
            ..metadata()
        });
        refused(&Metadata {
            size: 0,
            ..metadata()
        });
        refused(&Metadata {
            temperature: -1.0,
            ..metadata()
        });
        head.save(&path, &metadata()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
            assert!(
                matches!(Head::parse(&whole[..length]), Err(HeadError::Invalid(_))),
                "{length}"
            );
        }
        let mut nan = whole.clone();
        let end = nan.len();
        nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(matches!(Head::parse(&nan), Err(HeadError::Invalid(_))));
        assert!(matches!(
            Head::load(&folder.path().join("absent")),
            Err(HeadError::Io { .. })
        ));
    }
}
