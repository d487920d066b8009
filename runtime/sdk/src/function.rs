//! The one trait that a function implements.

use crate::{Batch, BatchOutcome, Call, Context, Merge, Request, Response, Sample};
use std::path::Path;
use stoic_protocol::{PodReport, Problem};

/// A function: loaded once per pod, then called from many threads at once.
///
/// Everything here but [`inline`](Self::inline) runs on a blocking thread and may take its time. A panic becomes a 500 `function_panicked`; the pod lives on.
pub trait Function: Send + Sync + Sized + 'static {
    /// Media types of which one body is a batch of one item, such as `["image/jpeg"]`. A function
    /// that names any gets such bodies, and zip and tar bodies, in [`batch`](Self::batch). Where it
    /// names none, every body goes to [`invoke`](Self::invoke), and batches come by URL only.
    const ITEM_TYPES: &'static [&'static str] = &[];

    /// Loads everything and runs once; the pod is ready when this returns.
    ///
    /// # Errors
    /// A problem that is logged; the pod then exits with status 1.
    fn load(context: &Context) -> Result<Self, Problem>;

    /// Called once in a process that was forked with the function loaded, on another thread and before it
    /// takes any work: whatever processes may not share is renewed here. `seed` is random and this
    /// process's own: random generators that were seeded while loading take it. Threads, connections and
    /// devices do not survive a fork, so a function that has none after `load` need do nothing.
    ///
    /// # Errors
    /// A problem that is logged; the process then exits with status 1.
    fn forked(&mut self, context: &Context, seed: u64) -> Result<(), Problem> {
        let _ = (context, seed);
        Ok(())
    }

    /// One request whose input is not a batch. Without an implementation: 415.
    ///
    /// # Errors
    /// A problem, which becomes the answer.
    fn invoke(&self, request: Request, call: &Call) -> Result<Response, Problem> {
        let _ = call;
        let mut accepted = vec![
            stoic_protocol::ZIP_MEDIA_TYPE,
            stoic_protocol::TAR_MEDIA_TYPE,
            stoic_protocol::BATCH_MEDIA_TYPE,
        ];
        accepted.extend(Self::ITEM_TYPES);
        Err(Problem::new(
            415,
            "unsupported_media_type",
            format!(
                "content type {:?} is not taken here; send one of {}",
                request.content_type(),
                accepted.join(", ")
            ),
        ))
    }

    /// Whether [`invoke`](Self::invoke) is so quick for this request, microseconds without any
    /// waiting, that it runs on the thread that reads requests and spares two thread switches. Such
    /// a call cannot be cancelled and does not count against the limit of invocations at once.
    fn inline(&self, head: &http::request::Parts) -> bool {
        let _ = head;
        false
    }

    /// One batch: by presigned URL, or a zip, tar or single item in the body.
    ///
    /// An item that cannot be read or worked is an error of that item in the answer, not of the
    /// batch. Ask [`Call::check`] between two items.
    ///
    /// # Errors
    /// A problem, which becomes the answer.
    fn batch(&self, batch: &Batch, call: &Call) -> Result<BatchOutcome, Problem> {
        let _ = (batch, call);
        Err(Problem::new(
            501,
            "batch_unsupported",
            "this function works no batches",
        ))
    }

    /// Puts the results of the parts of one batch together, to what [`batch`](Self::batch) makes of the
    /// whole of it. A function whose batches several pods may share answers a batch that
    /// [is a part](Batch::is_part) in a form of its own that it can merge, and declares
    /// `spec.divisible: true`. Parameters such as a format apply here.
    ///
    /// # Errors
    /// A problem, which becomes the answer; 409 `parts_disagree` where the parts are of different
    /// models.
    fn merge(&self, merge: &Merge, call: &Call) -> Result<BatchOutcome, Problem> {
        let _ = (merge, call);
        Err(Problem::new(
            501,
            "merge_unsupported",
            "the batches of this function cannot be divided",
        ))
    }

    /// A package of so many representative items, for bootstrap (paper, section 3.7).
    fn sample(&self, items: usize) -> Option<Sample> {
        let _ = items;
        None
    }

    /// Loads a published model from a local file, runs it once, and serves it from now on. The file
    /// is removed afterwards where it was downloaded. What runs meanwhile ends on the former model.
    ///
    /// # Errors
    /// A problem, which becomes the answer; the former model stays in force.
    fn use_model(&self, version: &str, path: &Path) -> Result<(), Problem> {
        let _ = (version, path);
        Err(Problem::new(
            404,
            "model_unsupported",
            "this function takes no models",
        ))
    }

    /// What the pod says of itself. The SDK fills in the stages of the start; a function that runs once
    /// while it loads says under `first` how long that took.
    fn report(&self) -> PodReport;

    /// Further lines for `/metrics`, in the Prometheus text format, each ended by a newline.
    fn metrics(&self) -> String {
        String::new()
    }
}
