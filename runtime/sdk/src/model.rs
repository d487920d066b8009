//! Published models: fetched to a file, loaded by the function, in force only when that worked.

use crate::context::{Model, file_name};
use crate::invocation::{guarded, on_thread};
use crate::pod_state::Pod;
use crate::transfer::{Transfer, redacted};
use crate::{Context, Function};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use stoic_protocol::{ModelRef, Problem};
use tempfile::TempPath;

/// A model's file; a downloaded one is removed with this.
pub(crate) struct ModelFile {
    path: PathBuf,
    _downloaded: Option<TempPath>,
}

/// The file behind a URL or path.
async fn file_of(
    place: &str,
    context: &Context,
    transfer: &Transfer,
) -> Result<ModelFile, Problem> {
    if !is_url(place) {
        return Ok(ModelFile {
            path: local_path(place),
            _downloaded: None,
        });
    }
    let downloaded = empty_file(place, context)?;
    transfer
        .download(place, &downloaded, "model_unavailable")
        .await?;
    Ok(ModelFile {
        path: downloaded.to_path_buf(),
        _downloaded: Some(downloaded),
    })
}

/// Whether a model's place is a URL to be fetched.
pub(crate) fn is_url(place: &str) -> bool {
    place.starts_with("http://") || place.starts_with("https://")
}

/// The path in a place that is no URL to be fetched.
pub(crate) fn local_path(place: &str) -> PathBuf {
    PathBuf::from(place.strip_prefix("file://").unwrap_or(place))
}

/// A file that a model can be fetched into.
pub(crate) fn empty_file(place: &str, context: &Context) -> Result<TempPath, Problem> {
    // Loaders go by the name's ending.
    let name = file_name(place).to_owned();
    let unwritable = |error: std::io::Error| {
        Problem::new(
            500,
            "scratch_unwritable",
            format!(
                "no temporary file in {}: {error}",
                context.scratch.display()
            ),
        )
    };
    let file = tempfile::Builder::new()
        .prefix("stoic-model-")
        .suffix(&format!("-{name}"))
        .tempfile_in(&context.scratch)
        .map_err(unwritable)?;
    Ok(file.into_temp_path())
}

/// Makes the model of a starting pod a local file. The file lives as long as what is returned.
pub(crate) async fn localise(
    context: &mut Context,
    transfer: &Transfer,
) -> Result<Option<ModelFile>, Problem> {
    let Some(model) = &context.model else {
        return Ok(None);
    };
    let place = model.path.to_string_lossy().into_owned();
    let file = file_of(&place, context, transfer).await?;
    context.model = Some(Model {
        version: model.version.clone(),
        path: file.path.clone(),
    });
    Ok(Some(file))
}

/// Takes a model into use; on failure the former one stays.
pub(crate) async fn change<F: Function>(pod: &Arc<Pod<F>>, body: &[u8]) -> Result<(), Problem> {
    pod.serving()?;
    let ModelRef { version, url } = serde_json::from_slice(body).map_err(|error| {
        let detail = format!("the body names no model: {error}");
        Problem::new(400, "model_invalid", detail)
    })?;
    let _one_at_a_time = pod.model_change.lock().await;
    let began = Instant::now();
    let file = file_of(&url, &pod.context, &pod.transfer).await?;
    if let Some(front) = &pod.front {
        front.use_model(&version, &file.path).await?;
    }
    let (worker, theirs) = (Arc::clone(pod), version.clone());
    on_thread(move || guarded(|| worker.loaded()?.use_model(&theirs, &file.path))).await?;
    tracing::info!(
        version,
        from = redacted(&url),
        seconds = began.elapsed().as_secs_f64(),
        "model in force"
    );
    Ok(())
}
