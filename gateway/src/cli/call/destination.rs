//! Where a result goes: a file that appears whole or not at all, or standard output.

use crate::cli::failed::Failed;
use futures_util::TryStreamExt;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use tokio::io::AsyncWrite;
use tokio_util::io::StreamReader;

/// See the module.
#[derive(Debug)]
pub(in crate::cli) enum Destination {
    /// Standard output.
    Output,
    /// What is no plain file: a device, a pipe.
    Device(File),
    /// A file that takes the place of `path` when it is whole.
    File {
        /// Beside its place.
        temporary: NamedTempFile,
        /// Its place.
        path: PathBuf,
    },
}

impl Destination {
    /// Opens it, so that a place that cannot be written to is known before the work begins.
    pub(in crate::cli) fn open(path: Option<&Path>) -> Result<Self, Failed> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            return Ok(Self::Output);
        };
        let cannot = |e| Failed::Input(format!("cannot write {}: {e}", path.display()));
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(cannot(io::Error::other("it is a folder")));
            }
            Ok(metadata) if !metadata.is_file() => {
                return File::options()
                    .write(true)
                    .open(path)
                    .map(Self::Device)
                    .map_err(cannot);
            }
            Ok(_) | Err(_) => {}
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            let text = format!("there is no folder {}", folder.display());
            return Err(cannot(io::Error::other(text)));
        }
        let temporary = tempfile::Builder::new()
            .prefix(".stoic-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(cannot)?;
        Ok(Self::File {
            temporary,
            path: path.to_path_buf(),
        })
    }

    /// Writes the body of an answer; the file is on disk when this returns. Tells its bytes.
    pub(in crate::cli) async fn write(self, answer: Response<Incoming>) -> Result<u64, Failed> {
        let pieces = answer.into_body().into_data_stream();
        let mut body = StreamReader::new(pieces.map_err(io::Error::other));
        match self {
            Self::Output => copy(&mut body, tokio::io::stdout(), "the output").await,
            Self::Device(file) => {
                copy(&mut body, tokio::fs::File::from_std(file), "the result").await
            }
            Self::File { temporary, path } => {
                let shown = path.display();
                let cannot = |e: &io::Error| Failed::io(format_args!("cannot write {shown}"), e);
                let file = temporary.reopen().map_err(|e| cannot(&e))?;
                let file = tokio::fs::File::from_std(file);
                let bytes = copy(&mut body, file, &shown.to_string()).await?;
                temporary.as_file().sync_all().map_err(|e| cannot(&e))?;
                temporary.persist(&path).map_err(|e| cannot(&e.error))?;
                Ok(bytes)
            }
        }
    }
}

async fn copy<R>(body: &mut R, mut to: impl AsyncWrite + Unpin, what: &str) -> Result<u64, Failed>
where
    R: tokio::io::AsyncRead + Unpin,
{
    use tokio::io::AsyncWriteExt;
    let copied = async {
        let bytes = tokio::io::copy(body, &mut to).await?;
        to.flush().await?;
        Ok::<u64, io::Error>(bytes)
    };
    copied.await.map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Failed::OutputClosed,
        _ => Failed::io(format_args!("cannot write {what}"), &e),
    })
}
