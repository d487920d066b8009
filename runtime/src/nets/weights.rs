//! Named tensors of a net: read from safetensors, checked against what the net expects, or random.

use crate::ModelError;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// Named fp32 tensors on the CPU.
#[derive(Debug, Default)]
pub struct Weights {
    tensors: HashMap<String, Tensor>,
}

impl Weights {
    /// Reads a safetensors file; integers (counters of batch-norm) are passed over.
    ///
    /// # Errors
    /// [`ModelError::File`] or [`ModelError::Invalid`].
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::File {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(&bytes)
            .map_err(|error| ModelError::Invalid(format!("{}: {error}", path.display())))
    }

    /// As [`read`](Self::read), from bytes.
    ///
    /// # Errors
    /// [`ModelError::Invalid`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ModelError> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| ModelError::Invalid(format!("no safetensors file: {error}")))?;
        let mut tensors = HashMap::new();
        for (name, view) in file.iter() {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::F16 => Kind::Half,
                Dtype::BF16 => Kind::BFloat16,
                Dtype::F64 => Kind::Double,
                _ => continue,
            };
            let shape = view
                .shape()
                .iter()
                .map(|&length| i64::try_from(length))
                .collect::<Result<Vec<i64>, _>>()
                .map_err(|_| ModelError::Invalid(format!("{name} is too large")))?;
            let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)?;
            tensors.insert(name.to_owned(), tensor.f_to_kind(Kind::Float)?);
        }
        Ok(Self { tensors })
    }

    /// Takes named tensors as they are.
    ///
    /// # Errors
    /// [`ModelError::Torch`] where one cannot be brought to fp32 on the CPU.
    pub fn from_named(
        named: impl IntoIterator<Item = (String, Tensor)>,
    ) -> Result<Self, ModelError> {
        let mut tensors = HashMap::new();
        for (name, tensor) in named {
            let tensor = tensor
                .f_detach()?
                .f_to_device(tch::Device::Cpu)?
                .f_to_kind(Kind::Float)?;
            tensors.insert(name, tensor);
        }
        Ok(Self { tensors })
    }

    /// Random weights of such names and shapes that keep activations in range through any depth:
    /// convolutions scaled by their fan-in, batch-norm near the identity.
    pub(crate) fn random(shapes: &[(String, Vec<i64>)], seed: u64) -> Result<Self, ModelError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = HashMap::new();
        for (name, shape) in shapes {
            let count: i64 = shape.iter().product();
            let fan_in: i64 = shape.iter().skip(1).product();
            let (middle, spread) = match shape.len() {
                // Of a uniform distribution with the variance 2 / fan-in (He) or 1 / fan-in.
                4 => (0.0, (6.0 / fan_in as f32).sqrt()),
                2 => (0.0, (3.0 / fan_in as f32).sqrt()),
                _ if name.ends_with("running_var") => (1.0, 0.0),
                // A small last factor keeps the sum of residuals from growing.
                _ if name.ends_with("bn3.weight") => (0.2, 0.0),
                _ if name.ends_with("weight") => (1.0, 0.0),
                _ => (0.0, 0.0),
            };
            let values: Vec<f32> = (0..count)
                .map(|_| middle + spread * (rng.random::<f32>() * 2.0 - 1.0))
                .collect();
            let tensor = Tensor::f_from_slice(&values)?.f_reshape(shape.as_slice())?;
            tensors.insert(name.clone(), tensor);
        }
        Ok(Self { tensors })
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Tensor, ModelError> {
        self.tensors
            .get(name)
            .ok_or_else(|| ModelError::Invalid(format!("the weights have no {name:?}")))
    }

    pub(crate) fn check(&self, shapes: &[(String, Vec<i64>)]) -> Result<(), ModelError> {
        for (name, shape) in shapes {
            let found = self.get(name)?.size();
            if &found != shape {
                return Err(ModelError::Invalid(format!(
                    "{name:?} has shape {found:?}; the net needs {shape:?}"
                )));
            }
        }
        Ok(())
    }
}
