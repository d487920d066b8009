//! Answers with what it was sent: for paths, overheads, and tests of what can go wrong with a pod.
//!
//! A request's body comes back with its content type, and so do headers that begin with `x-echo-`.
//! Query parameters change that: `status=503` answers with that status, `delay=250ms` waits first,
//! `die=exit` or `die=abort` ends the whole process as a crashing function would, and `die=panic`
//! panics. `process` answers what tells this process from others: its id, how many calls of this kind it
//! had, and random numbers of its own.
//!
//! A batch answers the name, size and CRC-32 of each item. `delay=100ms` waits that long per item,
//! `die_at=3` ends the process at that item. The action `train` writes that list as its "model", so
//! that the ways a model takes can be walked without any learning. Batches can be divided: the result of
//! a part is its items, and merging puts them one after the other.
//!
//! Environment: `ECHO_START_DELAY=500ms` makes the start slow; `ECHO_FAIL=exit` fails it, and
//! `ECHO_FAIL=never-ready` never ends it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};
use stoic_sdk::http::StatusCode;
use stoic_sdk::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use stoic_sdk::http::request::Parts;
use stoic_sdk::{
    Batch, BatchOutcome, Call, Context, Function, Merge, PodReport, Problem, Request, Response,
    Sample,
};
use zip::write::SimpleFileOptions;

/// How long a wait goes on after it was cancelled, at most.
const STEP: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    stoic_sdk::serve::<Echo>()
}

/// The result of a part of a batch.
#[derive(Serialize, Deserialize)]
struct Part {
    items: Vec<Value>,
    model: Option<String>,
}

struct Echo {
    /// Version of the model in force.
    model: RwLock<Option<String>>,
    /// The seed of a pod that was forked; else 0.
    seed: u64,
    /// How often `process` was asked.
    calls: AtomicU64,
}

fn start_slowly() -> Result<(), Problem> {
    let delay = std::env::var("ECHO_START_DELAY").unwrap_or_default();
    if !delay.is_empty() {
        std::thread::sleep(duration("ECHO_START_DELAY", &delay)?);
    }
    Ok(())
}

fn duration(name: &str, text: &str) -> Result<Duration, Problem> {
    humantime::parse_duration(text).map_err(|error| {
        Problem::new(
            400,
            "parameter_invalid",
            format!("{name}={text:?} is no duration such as 250ms: {error}"),
        )
    })
}

/// Waits, but not for a caller who is gone.
fn wait(time: Duration, call: &Call) -> Result<(), Problem> {
    let end = Instant::now() + time;
    loop {
        call.check()?;
        match end.checked_duration_since(Instant::now()) {
            None | Some(Duration::ZERO) => return Ok(()),
            Some(left) => std::thread::sleep(left.min(STEP)),
        }
    }
}

/// Ends the process, as a function that crashes does.
fn die(how: &str) -> Problem {
    match how {
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        "panic" => panic!("asked to"),
        _ => Problem::new(
            400,
            "parameter_invalid",
            format!("die={how:?} is none of exit, abort, panic"),
        ),
    }
}

/// The headers that come back. The common answer has one, so that is all that is made room for.
fn echoed(request: &Request) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    let content_type = request.headers.get(CONTENT_TYPE).cloned();
    headers.insert(
        CONTENT_TYPE,
        content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")),
    );
    for (name, value) in &request.headers {
        if name.as_str().starts_with("x-echo-") {
            headers.append(name, value.clone());
        }
    }
    headers
}

impl Echo {
    /// Tells this process from others, and this call from those before it.
    fn process(&self) -> Result<Response, Problem> {
        Response::json(&json!({
            "pid": std::process::id(),
            "calls": self.calls.fetch_add(1, Ordering::Relaxed) + 1,
            "seed": format!("{:016x}", self.seed),
            "hash": format!("{:016x}", RandomState::new().hash_one(0)),
        }))
    }

    fn model(&self) -> Option<String> {
        self.model
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The answer to a whole batch.
fn answer(action: &str, items: &[Value]) -> String {
    json!({"action": action, "items": items}).to_string()
}

fn unanswerable(error: serde_json::Error) -> Problem {
    Problem::new(500, "answer_failed", error.to_string())
}

impl Function for Echo {
    fn load(context: &Context) -> Result<Self, Problem> {
        let env = |name| std::env::var(name).unwrap_or_default();
        match env("ECHO_FAIL").as_str() {
            "" => {}
            "never-ready" => loop {
                std::thread::park();
            },
            _ => {
                return Err(Problem::new(500, "echo_failed", "ECHO_FAIL asks for it"));
            }
        }
        if !context.alone {
            start_slowly()?;
        }
        Ok(Self {
            model: RwLock::new(context.model.as_ref().map(|model| model.version.clone())),
            seed: 0,
            calls: AtomicU64::new(0),
        })
    }

    /// A slow start is slow for every pod.
    fn forked(&mut self, _context: &Context, seed: u64) -> Result<(), Problem> {
        self.seed = seed;
        start_slowly()
    }

    fn inline(&self, head: &Parts) -> bool {
        head.uri.query().is_none()
    }

    fn invoke(&self, request: Request, call: &Call) -> Result<Response, Problem> {
        let mut status = StatusCode::OK;
        if request.uri.query().is_some() {
            for (name, value) in request.query_pairs() {
                match name.as_str() {
                    "delay" => wait(duration(&name, &value)?, call)?,
                    "die" => return Err(die(&value)),
                    "process" => return self.process(),
                    "status" => {
                        status = value
                            .parse()
                            .ok()
                            .filter(|status: &StatusCode| !status.is_informational())
                            .ok_or_else(|| {
                                Problem::new(
                                    400,
                                    "parameter_invalid",
                                    format!("status={value:?} is no status from 200 to 999"),
                                )
                            })?;
                    }
                    _ => {}
                }
            }
        }
        Ok(Response {
            status,
            headers: echoed(&request),
            body: request.body,
        })
    }

    fn batch(&self, batch: &Batch, call: &Call) -> Result<BatchOutcome, Problem> {
        let delay = match batch.parameter("delay") {
            Some(text) => duration("delay", text)?,
            None => Duration::ZERO,
        };
        let die_at: Option<usize> = batch.parameter("die_at").and_then(|at| at.parse().ok());
        let total = batch.items().len();
        let mut items = Vec::with_capacity(total);
        let mut failed_items = 0;
        for (position, item) in batch.items().iter().enumerate() {
            // Another pod may have done the rest of a part meanwhile.
            if position >= batch.limit() {
                break;
            }
            wait(delay, call)?;
            if die_at == Some(position) {
                return Err(die("exit"));
            }
            let read = batch.read(position);
            call.check()?;
            items.push(match read {
                Ok(bytes) => json!({
                    "name": item.name,
                    "index": item.index,
                    "bytes": bytes.len(),
                    "crc32": format!("{:08x}", crc32fast::hash(&bytes)),
                }),
                Err(error) => {
                    failed_items += 1;
                    json!({"name": item.name, "index": item.index,
                           "error": {"code": error.code, "detail": error.detail}})
                }
            });
            call.progress(position as u64 + 1, total as u64, None);
        }
        let mut model = self.model();
        if batch.is_part() {
            if batch.action() == "train" {
                return Err(Problem::new(
                    501,
                    "merge_unsupported",
                    "a training is not divided",
                ));
            }
            let worked = items.len() as u64;
            let part = Part {
                items,
                model: model.clone(),
            };
            return Ok(BatchOutcome {
                content_type: "application/json".to_owned(),
                body: serde_json::to_vec(&part).map_err(unanswerable)?,
                items: worked,
                failed_items,
                model,
            });
        }
        let body = answer(batch.action(), &items);
        if batch.action() == "train"
            && let Some(output) = batch.model_output()
        {
            let unwritable =
                |error: std::io::Error| Problem::new(500, "model_unwritable", error.to_string());
            let mut file = tempfile::NamedTempFile::new().map_err(unwritable)?;
            file.write_all(body.as_bytes()).map_err(unwritable)?;
            batch.put_model(file.path())?;
            model = Some(output.version.clone());
        }
        Ok(BatchOutcome {
            content_type: "application/json".to_owned(),
            body: body.into_bytes(),
            items: total as u64,
            failed_items,
            model,
        })
    }

    fn merge(&self, merge: &Merge, _call: &Call) -> Result<BatchOutcome, Problem> {
        let mut all = Part {
            items: Vec::new(),
            model: None,
        };
        let mut failed_items = 0;
        for (number, result) in merge.parts().iter().enumerate() {
            let invalid = |detail: String| Problem::new(400, "part_invalid", detail);
            let part: Part = serde_json::from_slice(&result.bytes)
                .map_err(|error| invalid(error.to_string()))?;
            let taken = part
                .items
                .get(result.take.clone())
                .ok_or_else(|| invalid(format!("a part has no items {:?}", result.take)))?;
            if number > 0 && part.model != all.model {
                return Err(Problem::new(
                    409,
                    "parts_disagree",
                    format!("parts of models {:?} and {:?}", all.model, part.model),
                ));
            }
            let failed = taken.iter().filter(|item| item.get("error").is_some());
            failed_items += failed.count() as u64;
            all.items.extend_from_slice(taken);
            all.model = part.model;
        }
        Ok(BatchOutcome {
            content_type: "application/json".to_owned(),
            body: answer(merge.action(), &all.items).into_bytes(),
            items: all.items.len() as u64,
            failed_items,
            model: all.model,
        })
    }

    fn sample(&self, items: usize) -> Option<Sample> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let stored =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for item in 0..items {
            zip.start_file(format!("item-{item:05}.txt"), stored).ok()?;
            zip.write_all(format!("item {item}\n").repeat(64).as_bytes())
                .ok()?;
        }
        Some(Sample {
            content_type: "application/zip".to_owned(),
            bytes: zip.finish().ok()?.into_inner(),
        })
    }

    fn use_model(&self, version: &str, path: &Path) -> Result<(), Problem> {
        let unusable = |detail: String| Problem::new(422, "model_unusable", detail);
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        serde_json::from_str::<Value>(&text)
            .map_err(|error| unusable(format!("an echo model is JSON: {error}")))?;
        *self.model.write().unwrap_or_else(PoisonError::into_inner) = Some(version.to_owned());
        Ok(())
    }

    fn report(&self) -> PodReport {
        PodReport {
            devices: vec!["cpu".to_owned()],
            precision: "none".to_owned(),
            threads: 1,
            model: self.model(),
            ..PodReport::default()
        }
    }
}
