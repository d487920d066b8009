//! Fitting a head to features: Adam on the cross entropy, with dropout, early stopping by the loss on
//! validation rows. The same rows, options and seed give the same head.

use super::Head;
use rand::seq::SliceRandom;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use stoic_runtime::tch::{self, Kind, Reduction, TchError, Tensor};
use stoic_sdk::Problem;

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FitOptions {
    /// Passes over the training rows at most.
    pub epochs: usize,
    /// Epochs without a lower validation loss after which to stop.
    pub patience: usize,
    /// Rows per step.
    pub batch: usize,
    /// Adam's step. The authors used 1e-5, which suits many epochs on many images.
    pub learning_rate: f64,
    /// Decay of the weights, apart from Adam's moments (AdamW).
    pub weight_decay: f64,
    /// Share of activations dropped after each dense layer (the authors: 0.5).
    pub dropout: f64,
    /// Share of the target spread over all classes.
    pub smoothing: f64,
    /// Seed of weights, order and dropout.
    pub seed: u64,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            epochs: 24,
            patience: 8,
            batch: 64,
            learning_rate: 5e-4,
            weight_decay: 1e-2,
            dropout: 0.5,
            smoothing: 0.05,
            seed: 1,
        }
    }
}

/// Features `[N, features]` on the CPU and the class of each row.
#[derive(Debug)]
pub struct Rows {
    /// Features.
    pub features: Tensor,
    /// Classes.
    pub classes: Vec<i64>,
}

impl Rows {
    /// Some of the rows.
    ///
    /// # Errors
    /// When an index is out of range.
    pub fn select(&self, rows: &[usize]) -> Result<Self, TchError> {
        let index: Vec<i64> = rows.iter().map(|&r| r as i64).collect();
        let features = self
            .features
            .f_index_select(0, &Tensor::f_from_slice(&index)?)?;
        Ok(Self {
            features,
            classes: rows.iter().map(|&r| self.classes[r]).collect(),
        })
    }
}

/// A fitted head.
#[derive(Debug)]
pub struct Fitted {
    /// The head of the best epoch.
    pub head: Head,
    /// Epochs it was trained for.
    pub epochs: usize,
    /// Mean cross entropy on the training rows in its last epoch, with dropout and smoothing.
    pub training_loss: f64,
    /// Mean cross entropy on the validation rows, where there are any.
    pub validation_loss: Option<f64>,
}

/// Fits a head; `each_epoch` is told the number of epochs done and may stop the work with a problem.
///
/// # Errors
/// `training_failed` when libtorch refuses or values overflow; the problem of `each_epoch`.
pub fn fit(
    train: &Rows,
    validation: Option<&Rows>,
    classes: usize,
    options: &FitOptions,
    mut each_epoch: impl FnMut(usize) -> Result<(), Problem>,
) -> Result<Fitted, Problem> {
    let mut state = Fit::new(train, classes, options).map_err(|e| failed(&e))?;
    let mut best: Option<Fitted> = None;
    for epoch in 1..=options.epochs.max(1) {
        let training_loss = state.epoch(train, options, epoch).map_err(|e| failed(&e))?;
        if !training_loss.is_finite() {
            let detail = "the loss is not finite any more; lower learning_rate".to_owned();
            return Err(Problem::new(422, "training_failed", detail));
        }
        each_epoch(epoch)?;
        let Some(validation) = validation else {
            if epoch == options.epochs.max(1) {
                let head = state.snapshot().map_err(|e| failed(&e))?;
                best = Some(Fitted {
                    head,
                    epochs: epoch,
                    training_loss,
                    validation_loss: None,
                });
            }
            continue;
        };
        let loss = state.loss(validation).map_err(|e| failed(&e))?;
        let record = best.as_ref().and_then(|b| b.validation_loss);
        if record.is_none_or(|record| loss < record) {
            let head = state.snapshot().map_err(|e| failed(&e))?;
            best = Some(Fitted {
                head,
                epochs: epoch,
                training_loss,
                validation_loss: Some(loss),
            });
        } else if best
            .as_ref()
            .is_some_and(|b| epoch >= b.epochs + options.patience.max(1))
        {
            break;
        }
    }
    best.ok_or_else(|| Problem::new(500, "training_failed", "no epoch gave a usable loss"))
}

fn failed(error: &TchError) -> Problem {
    let text = error.to_string();
    Problem::new(
        500,
        "training_failed",
        text.lines().next().unwrap_or("libtorch refused").to_owned(),
    )
}

/// A head in training with Adam's moments.
struct Fit {
    head: Head,
    moments: Vec<(Tensor, Tensor)>,
    /// Weight of each class in the loss: rare classes count for more, within bounds.
    class_weights: Tensor,
    steps: i32,
    rng: ChaCha8Rng,
}

impl Fit {
    fn new(train: &Rows, classes: usize, options: &FitOptions) -> Result<Self, TchError> {
        let width = train.features.size().get(1).copied().unwrap_or(0) as usize;
        let mut head = Head::random(width, classes, options.seed)?;
        head.mean = train.features.f_mean_dim(0, false, Kind::Float)?;
        let deviation = train.features.f_std_dim(0, false, false)?;
        // Features that hardly vary would be blown up into noise.
        let floor = deviation
            .f_mean(Kind::Float)?
            .f_mul_scalar(0.1)?
            .f_add_scalar(1e-6)?;
        head.scale = deviation.f_maximum(&floor)?.f_reciprocal()?;
        let mut moments = Vec::new();
        for tensor in head.layers.iter().flat_map(|(w, b)| [w, b]) {
            moments.push((tensor.f_zeros_like()?, tensor.f_zeros_like()?));
            let _ = tensor.f_set_requires_grad(true)?;
        }
        let mut counts = vec![0f32; classes];
        for &class in &train.classes {
            if let Some(count) = counts.get_mut(class as usize) {
                *count += 1.0;
            }
        }
        let even = train.classes.len() as f32 / classes as f32;
        let weights: Vec<f32> = counts
            .iter()
            .map(|&n| (even / n.max(1.0)).clamp(0.25, 4.0))
            .collect();
        let class_weights = Tensor::f_from_slice(&weights)?;
        let rng = ChaCha8Rng::seed_from_u64(options.seed ^ 0x000d_20f0);
        Ok(Self {
            head,
            moments,
            class_weights,
            steps: 0,
            rng,
        })
    }

    fn epoch(&mut self, train: &Rows, options: &FitOptions, epoch: usize) -> Result<f64, TchError> {
        let mut order: Vec<usize> = (0..train.classes.len()).collect();
        order.shuffle(&mut self.rng);
        // The step shrinks along half a cosine to a tenth.
        let part = (epoch - 1) as f64 / options.epochs.max(1) as f64;
        let rate = options.learning_rate * (0.55 + 0.45 * (std::f64::consts::PI * part).cos());
        let mut total = 0.0;
        for rows in order.chunks(options.batch.max(1)) {
            let batch = train.select(rows)?;
            let loss = self.step(&batch, options, rate)?;
            total += loss * rows.len() as f64;
        }
        Ok(total / train.classes.len().max(1) as f64)
    }

    fn step(&mut self, batch: &Rows, options: &FitOptions, rate: f64) -> Result<f64, TchError> {
        let x = self.head.standardised(&batch.features)?;
        let rng = &mut self.rng;
        let logits = self
            .head
            .forward(&x, |x| dropped(x, options.dropout, rng))?;
        let targets = Tensor::f_from_slice(&batch.classes)?;
        let loss = logits.f_cross_entropy_loss(
            &targets,
            Some(&self.class_weights),
            Reduction::Mean,
            -100,
            options.smoothing,
        )?;
        let parameters: Vec<&Tensor> = self.head.layers.iter().flat_map(|(w, b)| [w, b]).collect();
        let gradients = Tensor::f_run_backward(&[&loss], &parameters, false, false)?;
        self.steps += 1;
        let _guard = tch::no_grad_guard();
        for ((parameter, gradient), (first, second)) in
            parameters.iter().zip(&gradients).zip(&mut self.moments)
        {
            let decay = if parameter.dim() > 1 {
                options.weight_decay
            } else {
                0.0
            };
            adam(parameter, gradient, first, second, self.steps, rate, decay)?;
        }
        loss.f_double_value(&[])
    }

    /// Mean cross entropy without dropout.
    fn loss(&self, rows: &Rows) -> Result<f64, TchError> {
        let _guard = tch::no_grad_guard();
        let targets = Tensor::f_from_slice(&rows.classes)?;
        let logits = self.head.logits(&rows.features)?;
        let loss =
            logits.f_cross_entropy_loss::<&Tensor>(&targets, None, Reduction::Mean, -100, 0.0)?;
        loss.f_double_value(&[])
    }

    fn snapshot(&self) -> Result<Head, TchError> {
        let _guard = tch::no_grad_guard();
        let copy = |t: &Tensor| t.f_detach_copy();
        let layer = |i: usize| {
            Ok::<_, TchError>((copy(&self.head.layers[i].0)?, copy(&self.head.layers[i].1)?))
        };
        Ok(Head {
            mean: copy(&self.head.mean)?,
            scale: copy(&self.head.scale)?,
            layers: [layer(0)?, layer(1)?, layer(2)?],
        })
    }
}

/// One step of Adam with decoupled weight decay.
fn adam(
    parameter: &Tensor,
    gradient: &Tensor,
    first: &mut Tensor,
    second: &mut Tensor,
    step: i32,
    rate: f64,
    decay: f64,
) -> Result<(), TchError> {
    const BETA1: f64 = 0.9;
    const BETA2: f64 = 0.999;
    let _ = first.f_lerp_(gradient, 1.0 - BETA1)?;
    let _ = second.f_lerp_(&gradient.f_square()?, 1.0 - BETA2)?;
    let correction = (1.0 - BETA2.powi(step)).sqrt();
    let mut change = second.f_sqrt()?;
    let _ = change
        .f_div_scalar_(correction)?
        .f_add_scalar_(1e-8)?
        .f_reciprocal_()?;
    let _ = change
        .f_mul_(first)?
        .f_mul_scalar_(rate / (1.0 - BETA1.powi(step)))?;
    let mut parameter = parameter.f_detach()?;
    let _ = parameter
        .f_mul_scalar_(1.0 - rate * decay)?
        .f_sub_(&change)?;
    Ok(())
}

/// Dropout from our own generator: libtorch's is global, and others may draw from it at the same time.
fn dropped(x: Tensor, share: f64, rng: &mut ChaCha8Rng) -> Result<Tensor, TchError> {
    let limit = (share.clamp(0.0, 0.99) * 256.0).round() as u8;
    if limit == 0 {
        return Ok(x);
    }
    let mut bytes = vec![0u8; x.numel()];
    rng.fill_bytes(&mut bytes);
    let kept = 256.0 / (256.0 - f32::from(limit));
    let mask: Vec<f32> = bytes
        .iter()
        .map(|&b| if b < limit { 0.0 } else { kept })
        .collect();
    x.f_mul(&Tensor::f_from_slice(&mask)?.f_view(x.size().as_slice())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    /// Three clusters in 20 dimensions.
    fn rows(count: usize, seed: u64) -> Rows {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut data = Vec::new();
        let mut classes = Vec::new();
        for i in 0..count {
            let class = i % 3;
            classes.push(class as i64);
            data.extend(
                (0..20).map(
                    |d| if d % 3 == class { 1.5 } else { 0.0 } + rng.random_range(-1.0..1.0f32),
                ),
            );
        }
        let features = Tensor::from_slice(&data).view([count as i64, 20]);
        Rows { features, classes }
    }

    fn accuracy(head: &Head, rows: &Rows) -> f64 {
        let labels = head.logits(&rows.features).unwrap().argmax(-1, false);
        let labels = Vec::<i64>::try_from(labels).unwrap();
        let right = labels
            .iter()
            .zip(&rows.classes)
            .filter(|(a, b)| a == b)
            .count();
        right as f64 / labels.len() as f64
    }

    #[test]
    fn learns_clusters_and_is_the_same_for_a_seed() {
        let (train, validation) = (rows(60, 1), rows(30, 2));
        let options = FitOptions {
            epochs: 12,
            ..FitOptions::default()
        };
        let run = || fit(&train, Some(&validation), 3, &options, |_| Ok(())).unwrap();
        let fitted = run();
        assert!(accuracy(&fitted.head, &validation) > 0.9);
        assert!(
            fitted.validation_loss.unwrap() < 0.6,
            "{:?}",
            fitted.validation_loss
        );
        assert_eq!(fitted.validation_loss, run().validation_loss);
        let other = FitOptions { seed: 9, ..options };
        let other = fit(&train, Some(&validation), 3, &other, |_| Ok(())).unwrap();
        assert_ne!(fitted.validation_loss, other.validation_loss);
    }

    #[test]
    fn stops_when_told_and_when_values_overflow() {
        let train = rows(12, 1);
        let options = FitOptions::default();
        let stop = |_| Err(Problem::new(499, "cancelled", "gone"));
        assert_eq!(
            fit(&train, None, 3, &options, stop).unwrap_err().code,
            "cancelled"
        );
        let wild = FitOptions {
            learning_rate: 1e30,
            ..options
        };
        assert_eq!(
            fit(&train, None, 3, &wild, |_| Ok(())).unwrap_err().code,
            "training_failed"
        );
    }
}
