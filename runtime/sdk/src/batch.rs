//! A batch as a function sees it: its items, and the bytes of each.

use crate::call::Call;
use crate::input::{Input, RUN_BYTES};
use crate::transfer::Transfer;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use stoic_package::{Item, ItemError, Kind, Limits, Package};
use stoic_protocol::{BatchRequest, ItemRange, ModelRef, PackageRef, PartRef, Problem};

/// One batch of items, shared by all the threads that work it.
#[derive(Debug)]
pub struct Batch {
    action: String,
    parameters: BTreeMap<String, String>,
    input: Input,
    range: Range<usize>,
    /// Of a part, the items as the whole batch numbers them.
    part: Option<Vec<Item>>,
    limit: Arc<AtomicUsize>,
    model_output: Option<ModelRef>,
    /// With what a model is put; none where the batch is local.
    transfer: Option<Transfer>,
    call: Call,
}

/// What a batch came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Media type of `body`.
    pub content_type: String,
    /// The result.
    pub body: Vec<u8>,
    /// Items worked, with a label or with an error of their own.
    pub items: u64,
    /// Of these, items that carry an error.
    pub failed_items: u64,
    /// Version of the model that did the work, or that was made.
    pub model: Option<String>,
}

/// A package of representative items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Media type of `bytes`: `application/zip`, `application/x-tar`, or that of a single item.
    pub content_type: String,
    /// The package.
    pub bytes: Vec<u8>,
}

/// The refusal of an input that is neither a package nor an item.
fn unsupported(content_type: &str, item_types: &[&str]) -> Problem {
    Problem::new(
        415,
        "unsupported_media_type",
        format!(
            "a batch is application/zip, application/x-tar{}{}, not {content_type:?}",
            if item_types.is_empty() {
                ""
            } else {
                ", or one of "
            },
            item_types.join(", ")
        ),
    )
}

/// Whether a media type is one of those listed, parameters ignored.
pub(crate) fn is_item_type(content_type: &str, item_types: &[&str]) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    item_types
        .iter()
        .any(|item_type| item_type.eq_ignore_ascii_case(essence))
}

impl Batch {
    /// A batch of bytes at hand: a package, or one item of one of `item_types`.
    ///
    /// # Errors
    /// 415 `unsupported_media_type`, or 400 `package_*`.
    pub fn local(
        action: &str,
        parameters: BTreeMap<String, String>,
        content_type: &str,
        bytes: impl Into<Bytes>,
        item_types: &[&str],
    ) -> Result<Self, Problem> {
        let bytes = bytes.into();
        let input = if Kind::of(content_type).is_some() {
            Input::in_memory(bytes, content_type, Limits::default())?
        } else if is_item_type(content_type, item_types) {
            Input::single(bytes)
        } else {
            return Err(unsupported(content_type, item_types));
        };
        Ok(Self {
            action: action.to_owned(),
            parameters,
            range: 0..input.items().len(),
            part: None,
            limit: Arc::new(AtomicUsize::new(input.items().len())),
            input,
            model_output: None,
            transfer: None,
            call: Call::detached(),
        })
    }

    /// A batch whose package is at a URL: reads the index and begins to fetch. Blocking.
    pub(crate) fn remote(
        request: BatchRequest,
        transfer: Transfer,
        call: &Call,
        item_types: &[&str],
    ) -> Result<Self, Problem> {
        let PackageRef {
            url,
            bytes,
            content_type,
        } = &request.input;
        let input = if Kind::of(content_type).is_none() {
            if !is_item_type(content_type, item_types) {
                return Err(unsupported(content_type, item_types));
            }
            let limit = Limits::default().item;
            if *bytes > limit {
                return Err(Problem::new(
                    413,
                    "item_too_large",
                    format!("the item has {bytes} bytes; the limit is {limit}"),
                ));
            }
            let whole = transfer.fetch_blocking(url, 0..*bytes, *bytes, call)?;
            Input::single(whole)
        } else if request.range.is_none() && *bytes <= RUN_BYTES {
            // One request instead of one for the index and one for the items.
            let whole = transfer.fetch_blocking(url, 0..*bytes, *bytes, call)?;
            Input::in_memory(whole, content_type, Limits::default())?
        } else {
            Input::remote_package(url, *bytes, content_type, transfer.clone(), call)?
        };
        let range = valid_range(request.range, input.items().len())?;
        let part = request
            .part
            .map(|part| part_items(part, input.items().get(range.clone()).unwrap_or(&[])))
            .transpose()?;
        input.plan(range.clone());
        Ok(Self {
            action: request.action,
            parameters: request.parameters,
            input,
            limit: Arc::new(AtomicUsize::new(range.len())),
            range,
            part,
            model_output: request.model_output,
            transfer: Some(transfer),
            call: call.clone(),
        })
    }

    /// What to do: `infer`, `train`, or another action that the function knows.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Query parameters of the invocation.
    #[must_use]
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    /// One of them.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The items to work, in the package's order; a range is applied already. Of a part, `index` is
    /// the item's position in the whole batch.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        match &self.part {
            Some(items) => items,
            None => self.input.items().get(self.range.clone()).unwrap_or(&[]),
        }
    }

    /// Whether this is one part of a larger batch: the result is then in the function's own mergeable
    /// form, for [`Function::merge`](crate::Function::merge).
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.part.is_some()
    }

    /// How many of [`items`](Self::items) are still wanted. All of them, but for a part whose last
    /// items another pod has done meanwhile. It only ever shrinks; a function that works parts looks
    /// at it before each item, ends there, and answers with the items before it.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// The limit, to be lowered from outside.
    pub(crate) fn limiter(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.limit)
    }

    /// The bytes of the item at a position in [`items`](Self::items). Waits until they are there;
    /// from any number of threads. In order is fastest: what comes next is on its way meanwhile.
    ///
    /// # Errors
    /// An error of this item: `item_corrupt`, `item_unsupported`, `item_unreadable`. Where the input
    /// as a whole is gone, [`Call::check`] says so as well.
    pub fn read(&self, position: usize) -> Result<Bytes, ItemError> {
        if position >= self.range.len() {
            return Err(ItemError::new(
                "item_unreadable",
                format!("the batch has no item {position}"),
            ));
        }
        self.input.read(self.range.start + position)
    }

    /// Where a newly trained model goes.
    #[must_use]
    pub fn model_output(&self) -> Option<&ModelRef> {
        self.model_output.as_ref()
    }

    /// Puts a newly trained model to [`model_output`](Self::model_output), with a few retries.
    ///
    /// # Errors
    /// 400 `model_output_missing`, 500 `model_unreadable`, 502 `output_failed`.
    pub fn put_model(&self, path: &Path) -> Result<(), Problem> {
        let (Some(output), Some(transfer)) = (&self.model_output, &self.transfer) else {
            return Err(Problem::new(
                400,
                "model_output_missing",
                "the request names no place for a trained model",
            ));
        };
        let began = Instant::now();
        let done = transfer.put_file_blocking(&output.url, path, &self.call);
        self.call.stage("store", began.elapsed());
        done
    }
}

fn valid_range(range: Option<ItemRange>, items: usize) -> Result<Range<usize>, Problem> {
    let Some(ItemRange { start, end }) = range else {
        return Ok(0..items);
    };
    let ends = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    match ends {
        Some((start, end)) if start < end && end <= items => Ok(start..end),
        _ => Err(Problem::new(
            400,
            "range_invalid",
            format!("items {start} to {end} are not in a package of {items}"),
        )),
    }
}

/// The items of a part as the whole batch numbers them.
fn part_items(part: PartRef, items: &[Item]) -> Result<Vec<Item>, Problem> {
    let first = usize::try_from(part.first).ok();
    let total = usize::try_from(part.total).ok();
    match first.zip(total) {
        Some((first, total)) if first.saturating_add(items.len()) <= total => {
            let numbered = items.iter().enumerate().map(|(position, item)| Item {
                index: first + position,
                ..item.clone()
            });
            Ok(numbered.collect())
        }
        _ => Err(Problem::new(
            400,
            "part_invalid",
            format!(
                "{} items from {} on are not in a batch of {}",
                items.len(),
                part.first,
                part.total
            ),
        )),
    }
}

/// Shared bytes as a source of ranges.
pub(crate) struct Shared(pub(crate) Bytes);

impl stoic_package::ReadAt for Shared {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        stoic_package::ReadAt::read_at(self.0.as_ref(), offset, buf)
    }
}

/// Opens a package, errors as problems.
pub(crate) fn open_package(
    source: Arc<dyn stoic_package::ReadAt>,
    content_type: &str,
    limits: Limits,
) -> Result<Package, Problem> {
    Package::open(source, content_type, limits)
        .map_err(|error| Problem::new(400, error.code(), error.to_string()))
}
