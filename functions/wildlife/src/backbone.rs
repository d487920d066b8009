//! The frozen network that turns pixels into features, and the workers that run it.
//!
//! Weights come from the file that `STOIC_BACKBONE` names, by default the pretrained
//! EfficientNet-Lite0 that set-up puts into the cache. Any file of weights that `stoic-runtime` knows
//! will do: ResNet-50's, with torchvision's names, by the user. `random:resnet50` or
//! `random:efficientnet-lite0` runs random weights, for measurements.

use std::path::PathBuf;
use std::str::FromStr;
use stoic_runtime::tch::{Kind, Tensor};
use stoic_runtime::workers::Model;
use stoic_runtime::{Architecture, Backbone, ModelError, Place, Placement, Workers};
use stoic_sdk::Problem;

/// RGB pixels of a square picture, row by row.
pub type Pixels = Vec<u8>;
/// Features of one picture.
pub type Features = Vec<f32>;

/// Where a backbone's weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A safetensors file.
    File(PathBuf),
    /// Random weights.
    Random(Architecture),
}

impl Source {
    /// Reads `STOIC_BACKBONE`, else looks into the cache
    /// (`${STOIC_CACHE:-${XDG_CACHE_HOME:-~/.cache}/stoic}/efficientnet-lite0.safetensors`). `get` gives
    /// environment variables.
    ///
    /// # Errors
    /// `backbone_missing` with the way out, `backbone_invalid` for an unknown random backbone.
    pub fn find(get: impl Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        if let Some(named) = get("STOIC_BACKBONE") {
            if let Some(name) = named.strip_prefix("random:") {
                let architecture = Architecture::from_str(name).map_err(|e| {
                    Problem::new(
                        500,
                        "backbone_invalid",
                        format!("STOIC_BACKBONE={named:?}: {e}"),
                    )
                })?;
                return Ok(Self::Random(architecture));
            }
            return Self::existing(named.into(), "STOIC_BACKBONE names it");
        }
        let cache = get("STOIC_CACHE").map(PathBuf::from).or_else(|| {
            get("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| get("HOME").map(|home| PathBuf::from(home).join(".cache")))
                .map(|base| base.join("stoic"))
        });
        let cache = cache.unwrap_or_else(|| PathBuf::from("/var/cache/stoic"));
        Self::existing(cache.join("efficientnet-lite0.safetensors"), "the default")
    }

    fn existing(path: PathBuf, why: &str) -> Result<Self, Problem> {
        if path.is_file() {
            return Ok(Self::File(path));
        }
        Err(Problem::new(
            500,
            "backbone_missing",
            format!(
                "no weights at {} ({why}): `make setup` fetches them; STOIC_BACKBONE names another safetensors file",
                path.display()
            ),
        ))
    }

    fn load(&self, place: &Place) -> Result<Backbone, ModelError> {
        match self {
            Self::File(path) => Backbone::load_any(path, place),
            Self::Random(architecture) => Backbone::random(*architecture, 1, place),
        }
    }
}

/// One worker's share of the backbone. Its input is an item's views (one for inference, several for
/// training), all of one size; its output the features of each.
#[derive(Debug)]
pub struct Extractor {
    backbone: Backbone,
}

/// Views of one item.
#[derive(Debug)]
pub struct Views {
    /// Pixels per side.
    pub size: usize,
    /// Each of `size` x `size` RGB pixels.
    pub pixels: Vec<Pixels>,
}

/// The workers of a pod, and which network they run.
#[derive(Debug)]
pub struct Extractors {
    /// One per device or group of CPU threads.
    pub workers: Workers<Extractor>,
    /// The network.
    pub architecture: Architecture,
}

impl Extractors {
    /// Loads the weights once per device and spreads them over the places.
    ///
    /// # Errors
    /// `backbone_missing`, `model_invalid` and the like when the weights cannot be used.
    pub fn load(source: &Source, placement: &Placement) -> Result<Self, Problem> {
        let mut loaded: Vec<(Place, Backbone)> = Vec::new();
        let workers = Workers::new(placement, |place| {
            let same = loaded
                .iter()
                .find(|(p, _)| p.device == place.device && p.kind == place.kind);
            if let Some((_, backbone)) = same {
                return Ok(Extractor {
                    backbone: backbone.share(),
                });
            }
            let backbone = source.load(place)?;
            let extractor = Extractor {
                backbone: backbone.share(),
            };
            loaded.push((*place, backbone));
            Ok(extractor)
        })?;
        let architecture = loaded.first().map(|(_, b)| b.architecture());
        let architecture = architecture
            .ok_or_else(|| Problem::new(500, "worker_lost", "the pod has no place to compute"))?;
        Ok(Self {
            workers,
            architecture,
        })
    }

    /// Runs the network once, so that the first item does not pay for what happens once.
    ///
    /// # Errors
    /// When the network cannot run.
    pub fn warm(&self, size: usize) -> Result<(), Problem> {
        let views = Views {
            size,
            pixels: vec![vec![127; size * size * 3]; 2],
        };
        self.workers.once(vec![views]).map(drop)
    }
}

impl Model for Extractor {
    type Input = Views;
    type Output = Vec<Features>;

    fn infer(&mut self, inputs: Vec<Views>) -> Result<Vec<Vec<Features>>, Problem> {
        let size = inputs.first().map_or(0, |views| views.size);
        let counts: Vec<usize> = inputs.iter().map(|views| views.pixels.len()).collect();
        let mut bytes = Vec::with_capacity(counts.iter().sum::<usize>() * size * size * 3);
        for view in inputs.iter().flat_map(|views| &views.pixels) {
            bytes.extend_from_slice(view);
        }
        drop(inputs);
        let shape = [
            counts.iter().sum::<usize>() as i64,
            size as i64,
            size as i64,
            3,
        ];
        let images =
            Tensor::f_from_data_size(&bytes, &shape, Kind::Uint8).map_err(ModelError::from)?;
        let features = self.backbone.features(&images)?;
        let width = self.backbone.architecture().features() as usize;
        let flat = to_vec(&features).map_err(ModelError::from)?;
        let mut rows = flat.chunks_exact(width).map(<[f32]>::to_vec);
        Ok(counts
            .into_iter()
            .map(|n| rows.by_ref().take(n).collect())
            .collect())
    }
}

/// The values of a tensor of floats, row by row.
///
/// # Errors
/// When libtorch cannot copy them.
pub(crate) fn to_vec(tensor: &Tensor) -> Result<Vec<f32>, stoic_runtime::tch::TchError> {
    let tensor = tensor
        .f_to_device(stoic_runtime::tch::Device::Cpu)?
        .f_to_kind(Kind::Float)?
        .f_contiguous()?;
    let count = tensor.numel();
    let mut values = vec![0f32; count];
    tensor.f_copy_data(&mut values, count)?;
    Ok(values)
}

/// Rows of equal length as a tensor `[rows, width]`.
///
/// # Errors
/// When memory runs out.
pub(crate) fn to_tensor(
    rows: &[&Features],
    width: usize,
) -> Result<Tensor, stoic_runtime::tch::TchError> {
    let flat: Vec<f32> = rows.iter().flat_map(|row| row.iter().copied()).collect();
    Tensor::f_from_slice(&flat)?.f_view([rows.len() as i64, width as i64])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_backbone_says_what_to_do() {
        let none = |_: &str| None;
        let problem = Source::find(none).unwrap_err();
        assert_eq!(problem.code, "backbone_missing");
        let get =
            |name: &str| (name == "STOIC_BACKBONE").then(|| "/nowhere/x.safetensors".to_owned());
        let problem = Source::find(get).unwrap_err();
        let detail = problem.detail.unwrap();
        assert!(
            detail.contains("/nowhere/x.safetensors") && detail.contains("make setup"),
            "{detail}"
        );
        let get = |name: &str| (name == "STOIC_BACKBONE").then(|| "random:vgg".to_owned());
        assert_eq!(Source::find(get).unwrap_err().code, "backbone_invalid");
    }

    #[test]
    fn the_cache_follows_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("efficientnet-lite0.safetensors");
        std::fs::write(&file, b"x").unwrap();
        let cache = folder.path().display().to_string();
        let get = |name: &str| (name == "STOIC_CACHE").then(|| cache.clone());
        assert_eq!(Source::find(get).unwrap(), Source::File(file));
    }
}
