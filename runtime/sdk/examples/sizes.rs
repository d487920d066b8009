//! A function that takes packages and single text files in the body, and answers how long each is:
//! the least that a batch function has to do.

use std::process::ExitCode;
use stoic_sdk::{Batch, BatchOutcome, Call, Context, Function, PodReport, Problem};

fn main() -> ExitCode {
    stoic_sdk::serve::<Sizes>()
}

struct Sizes;

impl Function for Sizes {
    const ITEM_TYPES: &'static [&'static str] = &["text/plain"];

    fn load(_: &Context) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn batch(&self, batch: &Batch, call: &Call) -> Result<BatchOutcome, Problem> {
        let total = batch.items().len() as u64;
        let mut lines = format!("action {}\n", batch.action());
        let mut failed_items = 0;
        for (position, item) in batch.items().iter().enumerate() {
            call.check()?;
            match batch.read(position) {
                Ok(bytes) => lines.push_str(&format!("{} {}\n", item.name, bytes.len())),
                Err(error) => {
                    failed_items += 1;
                    lines.push_str(&format!("{} {}\n", item.name, error.code));
                }
            }
            call.progress(position as u64 + 1, total, None);
        }
        Ok(BatchOutcome {
            content_type: "text/plain".to_owned(),
            body: lines.into_bytes(),
            items: total,
            failed_items,
            model: None,
        })
    }

    fn report(&self) -> PodReport {
        PodReport::default()
    }
}
