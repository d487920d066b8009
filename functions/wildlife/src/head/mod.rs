//! The head that is trained: two dense layers of 1024 with ReLU and dropout, then softmax over the
//! classes, on the pooled features of a frozen backbone (the authors' network; paper, section 4.1).
//!
//! Features are standardised first by the training set's mean and deviation, so that one learning rate
//! suits every backbone. Knows features and classes, not images.

mod file;
mod fit;

pub use file::{HeadError, Metadata, TrainingSummary};
pub use fit::{FitOptions, Fitted, Rows, fit};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stoic_runtime::tch::{Device, Kind, TchError, Tensor};

/// Width of both dense layers.
pub const WIDTH: usize = 1024;

/// A classifier on pooled features, on one device, in 32-bit floats.
#[derive(Debug)]
pub struct Head {
    /// Mean of each feature.
    mean: Tensor,
    /// One over the deviation of each feature.
    scale: Tensor,
    /// Weight `[out, in]` and bias `[out]` of each layer.
    layers: [(Tensor, Tensor); 3],
}

impl Head {
    /// A head with random weights (He's initialisation), the same for a seed on every machine.
    ///
    /// # Errors
    /// When libtorch runs out of memory.
    pub fn random(features: usize, classes: usize, seed: u64) -> Result<Self, TchError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut layer = |inputs: usize, outputs: usize, gain: f32| {
            let bound = gain * (3.0 / inputs as f32).sqrt();
            let weights: Vec<f32> = (0..inputs * outputs)
                .map(|_| rng.random_range(-bound..bound))
                .collect();
            let weight = Tensor::f_from_slice(&weights)?.f_view([outputs as i64, inputs as i64])?;
            let bias = Tensor::f_zeros([outputs as i64], (Kind::Float, Device::Cpu))?;
            Ok::<_, TchError>((weight, bias))
        };
        // The last layer starts small: all classes equally likely.
        let layers = [
            layer(features, WIDTH, std::f32::consts::SQRT_2)?,
            layer(WIDTH, WIDTH, std::f32::consts::SQRT_2)?,
            layer(WIDTH, classes, 0.2)?,
        ];
        let mean = Tensor::f_zeros([features as i64], (Kind::Float, Device::Cpu))?;
        let scale = Tensor::f_ones([features as i64], (Kind::Float, Device::Cpu))?;
        Ok(Self {
            mean,
            scale,
            layers,
        })
    }

    /// Number of features that go in.
    #[must_use]
    pub fn features(&self) -> usize {
        self.mean.numel()
    }

    /// Number of classes that come out.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.layers[2].1.numel()
    }

    /// A copy on a device.
    ///
    /// # Errors
    /// When the device is not there or out of memory.
    pub fn on(&self, device: Device) -> Result<Self, TchError> {
        let copy = |t: &Tensor| t.f_detach()?.f_to_device(device)?.f_to_kind(Kind::Float);
        let layer =
            |i: usize| Ok::<_, TchError>((copy(&self.layers[i].0)?, copy(&self.layers[i].1)?));
        Ok(Self {
            mean: copy(&self.mean)?,
            scale: copy(&self.scale)?,
            layers: [layer(0)?, layer(1)?, layer(2)?],
        })
    }

    /// Logits `[N, classes]` of features `[N, features]`.
    ///
    /// # Errors
    /// When the shape is wrong or memory runs out.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor, TchError> {
        self.forward(&self.standardised(features)?, Ok)
    }

    /// Probabilities of the classes, `[N, classes]`, softened by a temperature (1 = as trained).
    ///
    /// # Errors
    /// When the shape is wrong or memory runs out.
    pub fn scores(&self, features: &Tensor, temperature: f64) -> Result<Tensor, TchError> {
        self.logits(features)?
            .f_div_scalar(temperature)?
            .f_softmax(-1, Kind::Float)
    }

    fn standardised(&self, features: &Tensor) -> Result<Tensor, TchError> {
        features
            .f_to_kind(Kind::Float)?
            .f_sub(&self.mean)?
            .f_mul(&self.scale)
    }

    /// The layers on standardised features; `drop` is applied after each ReLU.
    fn forward(
        &self,
        x: &Tensor,
        mut drop: impl FnMut(Tensor) -> Result<Tensor, TchError>,
    ) -> Result<Tensor, TchError> {
        let dense = |x: &Tensor, i: usize| x.f_linear(&self.layers[i].0, Some(&self.layers[i].1));
        let x = drop(dense(x, 0)?.f_relu()?)?;
        let x = drop(dense(&x, 1)?.f_relu()?)?;
        dense(&x, 2)
    }
}
