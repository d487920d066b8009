//! A model file, whatever its kind, as something that turns a tensor into tensors.

use crate::settings::Settings;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use stoic_protocol::Problem;
use stoic_runtime::tch::{CModule, Device, IValue, Kind, TchError, Tensor, jit, no_grad_guard};
use stoic_runtime::{Backbone, Model, ModelError, Place};

/// One lane's model.
#[derive(Debug)]
pub(crate) enum Net {
    /// A net that the crate knows; it normalises pixels itself.
    Known(Backbone),
    /// TorchScript, shared by all lanes.
    Script {
        module: Arc<CModule>,
        place: Place,
        /// Whether it gives one tensor, or a tuple or list of them.
        single: bool,
        settings: Arc<Settings>,
    },
}

impl Net {
    /// Reads the file; its kind is told by its first bytes.
    pub(crate) fn load(
        path: &Path,
        place: &Place,
        settings: &Arc<Settings>,
    ) -> Result<Self, Problem> {
        let mut start = [0u8; 2];
        std::fs::File::open(path)
            .and_then(|mut file| file.read_exact(&mut start))
            .map_err(|error| {
                Problem::new(
                    500,
                    "model_unreadable",
                    format!("the model {}: {error}", path.display()),
                )
            })?;
        if &start != b"PK" {
            return Ok(Self::Known(Backbone::load_any(path, place)?));
        }
        let load = || -> Result<CModule, TchError> {
            // Without it every new shape of input is compiled anew.
            jit::f_set_profiling_mode(false)?;
            let mut module = CModule::load_on_device(path, place.device)?;
            module.f_set_eval()?;
            Ok(module)
        };
        let module = load().map_err(|error| {
            let error = ModelError::from(error);
            Problem::new(
                500,
                "model_invalid",
                format!(
                    "{} is no TorchScript that can be run: {error}",
                    path.display()
                ),
            )
        })?;
        let mut net = Self::Script {
            module: Arc::new(module),
            place: *place,
            single: true,
            settings: settings.clone(),
        };
        net.first_run()?;
        Ok(net)
    }

    /// Runs once, and learns by it what the model gives.
    fn first_run(&mut self) -> Result<(), Problem> {
        let Self::Script { settings, .. } = self else {
            return Ok(());
        };
        let [width, height] = settings.size.map(i64::from);
        let shape = settings
            .shape
            .clone()
            .unwrap_or_else(|| vec![1, 3, height, width]);
        let input = Tensor::f_zeros(shape.as_slice(), (Kind::Float, Device::Cpu))
            .map_err(ModelError::from)?;
        let first = self.forward(&input);
        let Err(problem) = first else { return Ok(()) };
        if let Self::Script { single, .. } = self {
            *single = false;
        }
        self.forward(&input).map(|_| ()).map_err(|_| {
            Problem::new(
                500,
                "model_invalid",
                format!(
                    "its first run, on zeros of shape {shape:?}, failed: {problem}; say in a JSON file of \
                     the model's name what it takes: {{\"size\": [224, 224]}} or {{\"shape\": [1, 4]}}"
                ),
            )
        })
    }

    /// The same for another thread.
    pub(crate) fn share(&self) -> Self {
        match self {
            Self::Known(net) => Self::Known(net.share()),
            Self::Script {
                module,
                place,
                single,
                settings,
            } => Self::Script {
                module: module.clone(),
                place: *place,
                single: *single,
                settings: settings.clone(),
            },
        }
    }

    /// Numbers in, numbers out.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Vec<Tensor>, Problem> {
        match self {
            Self::Known(net) => Ok(vec![net.logits(input)?]),
            Self::Script {
                module,
                place,
                single,
                ..
            } => {
                let _guard = no_grad_guard();
                let run = || {
                    let input = input.f_to_device(place.device)?;
                    if *single {
                        return Ok(vec![module.forward_ts(&[input])?]);
                    }
                    let mut tensors = Vec::new();
                    flatten(module.forward_is(&[IValue::Tensor(input)])?, &mut tensors);
                    Ok(tensors)
                };
                // Whatever the model refuses, its input is to blame: it ran once at load.
                let outputs = run().map_err(|error: TchError| {
                    let text = ModelError::from(error).to_string();
                    Problem::new(
                        400,
                        "input_refused",
                        format!("the model refused its input: {text}"),
                    )
                })?;
                if outputs.is_empty() {
                    return Err(Problem::new(
                        500,
                        "model_failed",
                        "the model gave no tensor",
                    ));
                }
                Ok(outputs)
            }
        }
    }

    fn pixels(&self, items: &[Vec<u8>], [width, height]: [i64; 2]) -> Result<Tensor, Problem> {
        let stack = || -> Result<Tensor, TchError> {
            let count = items.len() as i64;
            let flat = Tensor::f_from_slice(&items.concat())?;
            let images = flat.f_reshape([count, height, width, 3])?;
            let Self::Script { settings, .. } = self else {
                return Ok(images);
            };
            let channel = |values: &[f32; 3]| Tensor::f_from_slice(values)?.f_reshape([1, 3, 1, 1]);
            images
                .f_permute([0, 3, 1, 2])?
                .f_to_kind(Kind::Float)?
                .f_contiguous()?
                .f_sub(&channel(&settings.mean)?)?
                .f_mul(&channel(&settings.scale)?)
        };
        Ok(stack().map_err(ModelError::from)?)
    }
}

fn flatten(value: IValue, tensors: &mut Vec<Tensor>) {
    match value {
        IValue::Tensor(tensor) => tensors.push(tensor),
        IValue::TensorList(list) => tensors.extend(list),
        IValue::Tuple(values) | IValue::GenericList(values) => {
            for value in values {
                flatten(value, tensors);
            }
        }
        _ => {}
    }
}

/// A net that classifies images of one size.
#[derive(Debug)]
pub(crate) struct Classifier {
    pub(crate) net: Net,
    pub(crate) size: [u32; 2],
    pub(crate) softmax: bool,
}

impl Model for Classifier {
    type Input = Vec<u8>;
    type Output = Vec<f32>;

    fn infer(&mut self, inputs: Vec<Vec<u8>>) -> Result<Vec<Vec<f32>>, Problem> {
        let images = self.net.pixels(&inputs, self.size.map(i64::from))?;
        let outputs = self.net.forward(&images)?;
        let scores = &outputs[0];
        let count = inputs.len() as i64;
        if scores.size().len() != 2 || scores.size()[0] != count {
            return Err(Problem::new(
                400,
                "model_no_classifier",
                format!(
                    "for {count} images the model gives {:?}, not one row of scores for each; send it \
                     numbers (application/json) instead of images",
                    scores.size()
                ),
            ));
        }
        let scores = if self.softmax {
            scores.f_softmax(1, Kind::Float).map_err(ModelError::from)?
        } else {
            scores.shallow_clone()
        };
        let row = usize::try_from(scores.size()[1]).unwrap_or(0).max(1);
        let all = crate::numbers::values(&scores)?;
        Ok(all.chunks_exact(row).map(<[f32]>::to_vec).collect())
    }
}
