//! What `--data` names: a file, a folder, or standard input, as a reader that is never in memory as a
//! whole.

use super::content_type::{PEEK, by_bytes, by_name};
use super::progress::Progress;
use super::{list, pack};
use crate::cli::failed::Failed;
use std::io::Cursor;
use std::path::Path;
use std::pin::Pin;
use stoic_protocol::ZIP_MEDIA_TYPE;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Input of a call.
pub(super) struct Source {
    /// Its bytes.
    pub(super) reader: Pin<Box<dyn AsyncRead + Send>>,
    /// How many, where that is known.
    pub(super) length: Option<u64>,
    /// What they are.
    pub(super) content_type: String,
}

impl Source {
    /// Opens what `--data` names; a folder is packed.
    pub(super) async fn open(
        data: &Path,
        content_type: Option<&str>,
        progress: &Progress,
    ) -> Result<Self, Failed> {
        let given = content_type.map(str::to_owned);
        if data.as_os_str() == "-" {
            return Self::peek(tokio::io::stdin(), None, given, "standard input").await;
        }
        let shown = data.display().to_string();
        let unreadable = |e| Failed::Input(format!("cannot read {shown}: {e}"));
        let metadata = tokio::fs::metadata(data).await.map_err(unreadable)?;
        if metadata.is_dir() {
            progress.phase(&format!("packing {shown}"));
            return Self::folder(data, given).await;
        }
        let file = tokio::fs::File::open(data).await.map_err(unreadable)?;
        let length = metadata.is_file().then_some(metadata.len());
        match given.or_else(|| by_name(data)) {
            Some(content_type) => Ok(Self {
                reader: Box::pin(file),
                length,
                content_type,
            }),
            None => Self::peek(file, length, None, &shown).await,
        }
    }

    async fn peek(
        mut reader: impl AsyncRead + Send + Unpin + 'static,
        length: Option<u64>,
        given: Option<String>,
        shown: &str,
    ) -> Result<Self, Failed> {
        let mut first = Vec::new();
        (&mut reader)
            .take(PEEK as u64)
            .read_to_end(&mut first)
            .await
            .map_err(|e| Failed::Input(format!("cannot read {shown}: {e}")))?;
        Ok(Self {
            content_type: given.unwrap_or_else(|| by_bytes(&first).to_owned()),
            reader: Box::pin(Cursor::new(first).chain(reader)),
            length,
        })
    }

    async fn folder(data: &Path, given: Option<String>) -> Result<Self, Failed> {
        let folder = data.to_path_buf();
        let packing = tokio::task::spawn_blocking(move || {
            let shown = folder.display();
            let (entries, unreadable) = list(&folder, true, |_, _| true)
                .map_err(|e| Failed::Input(format!("cannot read {shown}: {e}")))?;
            if let Some(first) = unreadable.first() {
                return Err(Failed::Input(format!("cannot read {shown}: {first}")));
            }
            if entries.is_empty() {
                return Err(Failed::Input(format!("{shown} holds no files")));
            }
            let packed = pack(&folder, entries)?;
            match packed.left_out.first() {
                Some((path, why)) => Err(Failed::Input(format!(
                    "cannot pack {}: {why}",
                    folder.join(path).display()
                ))),
                None => Ok(packed),
            }
        });
        let packed = packing
            .await
            .map_err(|e| Failed::Machine(format!("packing ended: {e}")))??;
        Ok(Self {
            reader: Box::pin(tokio::fs::File::from_std(packed.file)),
            length: Some(packed.bytes),
            content_type: given.unwrap_or_else(|| ZIP_MEDIA_TYPE.to_owned()),
        })
    }
}
