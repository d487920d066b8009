//! The function that serves a model: requests to tensors or images, and back to JSON.

use crate::model::{Classifier, Net};
use crate::settings::Settings;
use crate::{Arguments, images, numbers};
use clap::Parser;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use stoic_protocol::{PodReport, Problem};
use stoic_runtime::{Placement, Workers};
use stoic_sdk::{Batch, BatchOutcome, Call, Context, Function, Precision, Request, Response};

/// One model in force.
#[derive(Debug)]
struct Loaded {
    version: String,
    settings: Arc<Settings>,
    workers: Workers<Classifier>,
    numbers: Mutex<Net>,
}

/// The pod's state.
#[derive(Debug)]
pub(crate) struct Served {
    placement: Placement,
    settings_file: Option<PathBuf>,
    classes_file: Option<PathBuf>,
    loaded: Mutex<Arc<Loaded>>,
}

impl Loaded {
    fn load(
        path: &Path,
        version: &str,
        placement: &Placement,
        settings: Settings,
    ) -> Result<Self, Problem> {
        let settings = Arc::new(settings);
        let mut nets: Vec<(_, Net)> = Vec::new();
        let workers = Workers::new(placement, |place| {
            let known = nets.iter().find(|(device, _)| *device == place.device);
            let net = match known {
                Some((_, net)) => net.share(),
                None => {
                    let net = Net::load(path, place, &settings)?;
                    nets.push((place.device, net.share()));
                    net
                }
            };
            Ok(Classifier {
                net,
                size: settings.size,
                softmax: settings.softmax,
            })
        })?;
        let (_, net) = nets
            .pop()
            .ok_or_else(|| Problem::new(500, "worker_lost", "the pod has no worker"))?;
        if settings.shape.is_none() && matches!(net, Net::Known(_)) {
            let [width, height] = settings.size.map(|side| side as usize);
            workers.once(vec![vec![0; width * height * 3]])?;
        }
        Ok(Self {
            version: version.to_owned(),
            settings,
            workers,
            numbers: Mutex::new(net),
        })
    }

    /// The best classes of one item.
    fn top(&self, scores: &[f32]) -> Vec<Value> {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        order
            .into_iter()
            .take(self.settings.top)
            .map(|class| {
                let label = self.settings.classes.get(class);
                json!({ "class": class, "label": label, "score": scores[class] })
            })
            .collect()
    }
}

impl Served {
    fn loaded(&self) -> Arc<Loaded> {
        self.loaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Function for Served {
    const ITEM_TYPES: &'static [&'static str] = &["image/jpeg", "image/png"];

    fn load(context: &Context) -> Result<Self, Problem> {
        let arguments = Arguments::parse();
        let named = arguments.model.map(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            (path, name)
        });
        let published = context
            .model
            .as_ref()
            .map(|model| (model.path.clone(), model.version.clone()));
        let (path, version) = published.or(named).ok_or_else(|| {
            Problem::new(
                500,
                "model_missing",
                "name a model: stoic-runtime MODEL.pt, or STOIC_MODEL=PATH-OR-URL",
            )
        })?;
        let settings = Settings::read(
            &path,
            arguments.settings.as_deref(),
            arguments.classes.as_deref(),
        )?;
        let mut context = context.clone();
        if is_script(&path) {
            // TorchScript computes in the types it was exported in.
            context.precision = Precision::Fp32;
        }
        let placement = Placement::from_context(&context)?;
        let loaded = Loaded::load(&path, &version, &placement, settings)?;
        Ok(Self {
            placement,
            settings_file: arguments.settings,
            classes_file: arguments.classes,
            loaded: Mutex::new(Arc::new(loaded)),
        })
    }

    fn forked(&mut self, _context: &Context, seed: u64) -> Result<(), Problem> {
        stoic_runtime::forked(&self.placement, seed);
        Ok(())
    }

    fn invoke(&self, request: Request, _call: &Call) -> Result<Response, Problem> {
        let essence = request.content_type().split(';').next().unwrap_or_default();
        let input = match essence.trim() {
            "application/json" => numbers::from_json(&request.body)?,
            "application/octet-stream" => {
                numbers::from_raw(&request.body, request.query("shape").as_deref())?
            }
            other => {
                return Err(Problem::new(
                    415,
                    "unsupported_media_type",
                    format!(
                        "{other:?} is not taken; send image/jpeg, image/png, application/zip, \
                         application/json or application/octet-stream"
                    ),
                ));
            }
        };
        let loaded = self.loaded();
        let net = loaded
            .numbers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let outputs = net.forward(&input)?;
        drop(net);
        let outputs = outputs
            .iter()
            .map(numbers::to_json)
            .collect::<Result<Vec<_>, _>>()?;
        Response::json(&json!({ "outputs": outputs, "model": loaded.version }))
    }

    fn batch(&self, batch: &Batch, call: &Call) -> Result<BatchOutcome, Problem> {
        if batch.action() != "infer" {
            return Err(Problem::new(
                400,
                "action_unknown",
                format!("{:?} is not done here; this pod infers", batch.action()),
            ));
        }
        let loaded = self.loaded();
        let size = loaded.settings.size;
        let items = batch.items();
        let decode = |position: usize| images::decode(&batch.read(position)?, size);
        let results = loaded.workers.run(items.len(), decode, call)?;
        let failed = results.iter().filter(|result| result.is_err()).count();
        let answers: Vec<Value> = items
            .iter()
            .zip(results)
            .map(|(item, result)| match result {
                Ok(scores) => json!({ "name": item.name, "classes": loaded.top(&scores) }),
                Err(error) => json!({
                    "name": item.name,
                    "error": { "code": error.code, "detail": error.detail },
                }),
            })
            .collect();
        let body = json!({ "items": answers, "model": loaded.version });
        Ok(BatchOutcome {
            content_type: "application/json".to_owned(),
            items: items.len() as u64,
            failed_items: failed as u64,
            model: Some(loaded.version.clone()),
            body: body.to_string().into_bytes(),
        })
    }

    fn use_model(&self, version: &str, path: &Path) -> Result<(), Problem> {
        let settings = if self.settings_file.is_some() || self.classes_file.is_some() {
            Settings::read(
                path,
                self.settings_file.as_deref(),
                self.classes_file.as_deref(),
            )?
        } else {
            (*self.loaded().settings).clone()
        };
        let loaded = Loaded::load(path, version, &self.placement, settings)?;
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(())
    }

    fn report(&self) -> PodReport {
        self.placement.report(Some(self.loaded().version.clone()))
    }

    fn metrics(&self) -> String {
        self.placement.metrics()
    }
}

fn is_script(path: &Path) -> bool {
    use std::io::Read;
    let mut start = [0u8; 2];
    std::fs::File::open(path)
        .is_ok_and(|mut file| file.read_exact(&mut start).is_ok() && &start == b"PK")
}
