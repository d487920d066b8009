//! The function as pods run it: load the backbone, serve `infer` with the head in force, `train` a new
//! one, swap heads while batches run.

use crate::answer::{Answer, ItemFault, ModelInfo, Verdict};
use crate::backbone::{Extractors, Source, Views, to_tensor, to_vec};
use crate::head::{Head, HeadError, Metadata, TrainingSummary};
use crate::pixels::{self, Limits};
use crate::scenes::{Class, PackageOptions, write_package};
use crate::train::{item_error, train};
use arc_swap::ArcSwapOption;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use stoic_runtime::Placement;
use stoic_sdk::protocol::ZIP_MEDIA_TYPE;
use stoic_sdk::{
    Batch, BatchOutcome, Call, Context, Function, ItemError, Merge, PodReport, Problem, Sample,
};

/// Pixels per side that the backbone is first run with.
const SIZE: usize = 224;

/// A head in force.
#[derive(Debug)]
struct Serving {
    version: String,
    /// Behind a lock, since libtorch's handles are not shared between threads; held for one matrix
    /// product a batch.
    head: Mutex<Head>,
    metadata: Metadata,
}

/// "Where's The Bear" (paper, section 4.1).
#[derive(Debug)]
pub struct Wildlife {
    placement: Placement,
    extractors: Extractors,
    serving: ArcSwapOption<Serving>,
    limits: Limits,
    scratch: PathBuf,
    name: String,
    first_run_s: f64,
}

impl Function for Wildlife {
    const ITEM_TYPES: &'static [&'static str] = &["image/jpeg", "image/jpg", "image/png"];

    fn load(context: &Context) -> Result<Self, Problem> {
        let get = |name: &str| std::env::var(name).ok();
        let limits = limits(get("STOIC_MAX_PIXELS").as_deref())?;
        let source = Source::find(get)?;
        let placement = Placement::from_context(context)?;
        let extractors = Extractors::load(&source, &placement)?;
        let began = Instant::now();
        extractors.warm(SIZE)?;
        let name = if context.function.is_empty() {
            "wildlife"
        } else {
            &context.function
        };
        let function = Self {
            placement,
            extractors,
            serving: ArcSwapOption::empty(),
            limits,
            scratch: context.scratch.clone(),
            name: name.to_owned(),
            first_run_s: began.elapsed().as_secs_f64(),
        };
        if let Some(model) = &context.model {
            function.use_model(&model.version, &model.path)?;
        }
        Ok(function)
    }

    fn forked(&mut self, _context: &Context, seed: u64) -> Result<(), Problem> {
        stoic_runtime::forked(&self.placement, seed);
        Ok(())
    }

    fn batch(&self, batch: &Batch, call: &Call) -> Result<BatchOutcome, Problem> {
        match batch.action() {
            "infer" => self.infer(batch, call),
            "train" if batch.is_part() => Err(Problem::new(
                501,
                "merge_unsupported",
                "a training is not divided",
            )),
            "train" => self.train(batch, call),
            other => Err(Problem::new(
                400,
                "action_unknown",
                format!("this function has no action {other:?}; it has infer and train"),
            )),
        }
    }

    fn merge(&self, merge: &Merge, call: &Call) -> Result<BatchOutcome, Problem> {
        let format = format_of(merge.parameter("format"))?;
        let mut parts = Vec::with_capacity(merge.parts().len());
        for result in merge.parts() {
            call.check()?;
            let invalid = |detail: String| Problem::new(400, "part_invalid", detail);
            let part: Answer =
                serde_json::from_slice(&result.bytes).map_err(|e| invalid(e.to_string()))?;
            let items = part.items.get(result.take.clone());
            let items =
                items.ok_or_else(|| invalid(format!("a part has no items {:?}", result.take)))?;
            parts.push(Answer {
                items: items.to_vec(),
                ..part
            });
        }
        let whole = Answer::merged(parts).ok_or_else(|| {
            Problem::new(
                409,
                "parts_disagree",
                "there are no parts, or they were worked with different models",
            )
        })?;
        outcome(whole, format)
    }

    fn sample(&self, items: usize) -> Option<Sample> {
        let options = PackageOptions {
            count: items.clamp(1, 10_000) as u64,
            threads: self.placement.threads(),
            ..PackageOptions::default()
        };
        let mut bytes = Cursor::new(Vec::new());
        match write_package(&mut bytes, &options, |_| {}) {
            Ok(_) => Some(Sample {
                content_type: ZIP_MEDIA_TYPE.to_owned(),
                bytes: bytes.into_inner(),
            }),
            Err(error) => {
                tracing::error!(%error, "no sample was made");
                None
            }
        }
    }

    fn use_model(&self, version: &str, path: &Path) -> Result<(), Problem> {
        let (head, metadata) = Head::load(path).map_err(|e| refused(&e))?;
        let backbone = self.extractors.architecture;
        if metadata.backbone != backbone.name() || head.features() != backbone.features() as usize {
            return Err(Problem::new(
                409,
                "model_backbone_mismatch",
                format!(
                    "model {version} takes {} features of {}, but this pod runs {}; train it anew, or set \
                     STOIC_BACKBONE to that network's weights",
                    head.features(),
                    metadata.backbone,
                    backbone.name()
                ),
            ));
        }
        let serving = Serving {
            version: version.to_owned(),
            head: Mutex::new(head),
            metadata,
        };
        self.extractors.warm(serving.metadata.size)?;
        serving.scores(&[&vec![0.0; backbone.features() as usize]])?;
        self.serving.store(Some(Arc::new(serving)));
        Ok(())
    }

    fn report(&self) -> PodReport {
        let model = self
            .serving
            .load()
            .as_ref()
            .map(|serving| serving.version.clone());
        let mut report = self.placement.report(model);
        report.start_s.insert("first".to_owned(), self.first_run_s);
        report
    }

    fn metrics(&self) -> String {
        self.placement.metrics()
    }
}

impl Wildlife {
    fn infer(&self, batch: &Batch, call: &Call) -> Result<BatchOutcome, Problem> {
        let format = format_of(batch.parameter("format"))?;
        let serving = match self.serving.load_full() {
            Some(serving) => serving,
            None if batch.parameter("bootstrap").is_some_and(|v| v != "false") => {
                Arc::new(self.untrained()?)
            }
            None => return Err(untrained()),
        };
        let size = serving.metadata.size;
        let items = batch.items();
        let decode = |position: usize| {
            // Another pod may have done the rest of a part meanwhile.
            if position >= batch.limit() {
                return Err(ItemError::new("item_given_up", "done elsewhere"));
            }
            let bytes = batch.read(position)?;
            let pixels = pixels::decode(&bytes, size, size, self.limits).map_err(item_error)?;
            Ok(Views {
                size,
                pixels: vec![pixels],
            })
        };
        let mut results = self.extractors.workers.run(items.len(), decode, call)?;
        let given_up = |r: &Result<_, ItemError>| matches!(r, Err(e) if e.code == "item_given_up");
        let worked = results.iter().position(given_up);
        results.truncate(worked.unwrap_or(items.len()));
        let seen: Vec<_> = results
            .iter()
            .filter_map(|r| r.as_ref().ok()?.first())
            .collect();
        let mut scores = serving.scores(&seen)?.into_iter();
        let mut verdicts = Vec::with_capacity(items.len());
        for (item, result) in items.iter().zip(&results) {
            let verdict = match result {
                Ok(_) => scores.next().map(Verdict::Scores).ok_or_else(lost)?,
                Err(error) => Verdict::Error(ItemFault {
                    code: error.code.clone(),
                    detail: error.detail.clone(),
                }),
            };
            verdicts.push((item.name.clone(), verdict));
        }
        let answer = Answer {
            items: verdicts,
            model: ModelInfo {
                name: self.name.clone(),
                version: serving.version.clone(),
                classes: serving.metadata.classes.clone(),
                backbone: serving.metadata.backbone.clone(),
                precision: self.placement.precision().to_owned(),
                size,
            },
            completed: now(),
        };
        if batch.is_part() {
            let body = serde_json::to_vec(&answer)
                .map_err(|e| Problem::new(500, "answer_failed", e.to_string()))?;
            return Ok(counted(answer, body));
        }
        outcome(answer, format)
    }

    /// Trains; the model goes where the request says. Where it names no place, this pod alone serves it
    /// from now on.
    fn train(&self, batch: &Batch, call: &Call) -> Result<BatchOutcome, Problem> {
        let began = Instant::now();
        let trained = train(batch, &self.extractors, self.limits, call)?;
        call.stage("train", began.elapsed());
        let io = |e: std::io::Error| {
            Problem::new(
                500,
                "scratch_unwritable",
                format!("{}: {e}; see STOIC_SCRATCH", self.scratch.display()),
            )
        };
        let folder = tempfile::Builder::new()
            .prefix("stoic-wildlife-")
            .tempdir_in(&self.scratch)
            .map_err(io)?;
        let path = folder.path().join("model.safetensors");
        trained
            .head
            .save(&path, &trained.metadata)
            .map_err(|e| refused(&e))?;
        let version = match batch.model_output() {
            Some(output) => {
                call.check()?;
                let began = Instant::now();
                batch.put_model(&path)?;
                call.stage("store", began.elapsed());
                output.version.clone()
            }
            None => {
                self.use_model("local", &path)?;
                "local".to_owned()
            }
        };
        let images: usize = trained.report.images.values().sum();
        let skipped = trained.report.skipped.files;
        let mut report = serde_json::to_value(&trained.report)
            .map_err(|e| Problem::new(500, "answer_failed", e.to_string()))?;
        report["model"] = serde_json::json!({
            "name": self.name,
            "version": version,
            "published": batch.model_output().is_some(),
            "classes": trained.metadata.classes,
            "backbone": trained.metadata.backbone,
            "precision": self.placement.precision(),
            "size": trained.metadata.size,
        });
        Ok(BatchOutcome {
            content_type: "application/json".to_owned(),
            body: serde_json::to_vec_pretty(&report)
                .map_err(|e| Problem::new(500, "answer_failed", e.to_string()))?,
            items: images as u64 + skipped,
            failed_items: skipped,
            model: Some(version),
        })
    }

    /// A head that knows nothing, so that a deployment can be timed before it was trained.
    fn untrained(&self) -> Result<Serving, Problem> {
        let classes: Vec<String> = Class::ALL
            .iter()
            .map(|class| class.label().to_owned())
            .collect();
        let backbone = self.extractors.architecture;
        let head = Head::random(backbone.features() as usize, classes.len(), 1)
            .map_err(|e| refused(&e.into()))?;
        let metadata = Metadata {
            format: 1,
            classes,
            backbone: backbone.name().to_owned(),
            size: SIZE,
            temperature: 1.0,
            training: TrainingSummary::default(),
        };
        Ok(Serving {
            version: "untrained".to_owned(),
            head: Mutex::new(head),
            metadata,
        })
    }
}

impl Serving {
    fn scores(&self, features: &[&Vec<f32>]) -> Result<Vec<Vec<f32>>, Problem> {
        if features.is_empty() {
            return Ok(Vec::new());
        }
        // Scoring changes nothing, so a panic elsewhere left the head whole.
        let head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let compute = || {
            to_vec(&head.scores(
                &to_tensor(features, head.features())?,
                self.metadata.temperature,
            )?)
        };
        let flat = compute().map_err(|e| refused(&e.into()))?;
        Ok(flat
            .chunks_exact(head.classes())
            .map(<[f32]>::to_vec)
            .collect())
    }
}

fn limits(pixels: Option<&str>) -> Result<Limits, Problem> {
    let Some(text) = pixels.filter(|text| !text.is_empty()) else {
        return Ok(Limits::default());
    };
    match text.parse() {
        Ok(pixels) if pixels > 0 => Ok(Limits { pixels }),
        _ => {
            let detail =
                format!("STOIC_MAX_PIXELS={text:?} is no number of pixels, such as 100000000");
            Err(Problem::new(500, "environment_invalid", detail))
        }
    }
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Stoic,
    Megadetector,
}

fn format_of(parameter: Option<&str>) -> Result<Format, Problem> {
    match parameter.unwrap_or("stoic") {
        "stoic" => Ok(Format::Stoic),
        "megadetector" => Ok(Format::Megadetector),
        other => {
            let detail = format!("format={other:?} is not stoic or megadetector");
            Err(Problem::new(400, "parameter_invalid", detail))
        }
    }
}

fn outcome(answer: Answer, format: Format) -> Result<BatchOutcome, Problem> {
    let body = match format {
        Format::Stoic => answer.json(),
        Format::Megadetector => answer.megadetector(),
    };
    let body = body.map_err(|e| Problem::new(500, "answer_failed", e.to_string()))?;
    Ok(counted(answer, body))
}

fn counted(answer: Answer, body: Vec<u8>) -> BatchOutcome {
    BatchOutcome {
        content_type: "application/json".to_owned(),
        body,
        items: answer.items.len() as u64,
        failed_items: answer.failed() as u64,
        model: Some(answer.model.version),
    }
}

fn untrained() -> Problem {
    Problem::new(
        409,
        "model_untrained",
        "this function has no model yet: train it with a zip of labelled images, one folder per class \
         (stoic function call NAME --action train --data labelled.zip; `stoic-wildlife scenes --labelled` makes \
         some), or pass bootstrap=true to run an untrained head for timing only",
    )
}

fn refused(error: &HeadError) -> Problem {
    match error {
        HeadError::Io { .. } => Problem::new(500, "model_unreadable", error.to_string()),
        HeadError::Invalid(_) => Problem::new(422, "model_invalid", error.to_string()),
        HeadError::Torch(_) => Problem::new(500, "model_failed", error.to_string()),
    }
}

fn lost() -> Problem {
    Problem::new(
        500,
        "model_failed",
        "the model gave fewer scores than there are images",
    )
}

/// The time as MegaDetector writes it, in UTC.
fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    let (date, time) = (now.date(), now.time());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    format!("{date} {hour:02}:{minute:02}:{second:02}")
}
