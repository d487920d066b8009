//! Taking a body in: to a temporary file, hashed on the way, and compared with everything that
//! the request promised about it before it may become an object.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use md5::{Digest, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3Result, StdError, TrailingHeaders, s3_error};
use tokio::task::JoinHandle;

use super::disk::Temporary;
use super::refuse::{blocking_failed, disk_error};

/// How much is gathered before it is hashed and written on a blocking thread, in bytes.
const BATCH: usize = 256 * 1024;

/// The checksum algorithms of S3, as in header names.
pub(super) const ALGORITHMS: [&str; 5] = ["crc32", "crc32c", "sha1", "sha256", "crc64nvme"];

/// What a request says its body is.
#[derive(Debug, Default)]
pub(super) struct Promise {
    pub(super) bytes: Option<u64>,
    /// Base64 of the MD5, from `Content-MD5`.
    pub(super) md5: Option<String>,
    /// Base64 by algorithm, from `x-amz-checksum-*`.
    pub(super) checksums: BTreeMap<String, String>,
    /// Algorithms whose checksum follows the body.
    pub(super) trailing: Vec<String>,
}

impl Promise {
    /// Reads the `x-amz-trailer` header: which checksums will follow the body.
    pub(super) fn expect_trailers(&mut self, headers: &http::HeaderMap) {
        self.trailing = headers
            .get_all("x-amz-trailer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| {
                let name = name.trim().to_ascii_lowercase();
                let name = name.strip_prefix("x-amz-checksum-")?;
                ALGORITHMS.contains(&name).then(|| name.to_owned())
            })
            .collect();
    }

    fn hasher(&self) -> ChecksumHasher {
        let wanted = |name: &str| {
            self.checksums.contains_key(name) || self.trailing.iter().any(|t| t == name)
        };
        ChecksumHasher {
            crc32: wanted("crc32").then(Crc32::new),
            crc32c: wanted("crc32c").then(Crc32c::new),
            sha1: wanted("sha1").then(Sha1::new),
            sha256: wanted("sha256").then(Sha256::new),
            crc64nvme: wanted("crc64nvme").then(Crc64Nvme::new),
        }
    }
}

/// A body that arrived whole and as promised.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) temporary: Temporary,
    pub(super) bytes: u64,
    pub(super) md5: [u8; 16],
    pub(super) checksums: BTreeMap<String, String>,
}

/// The blocking half: a file and what is computed of it.
struct Writer {
    temporary: Temporary,
    md5: Md5,
    hasher: ChecksumHasher,
}

impl Writer {
    fn write(&mut self, batch: &[Bytes]) -> std::io::Result<()> {
        for piece in batch {
            self.md5.update(piece);
            self.hasher.update(piece);
        }
        if let [piece] = batch {
            return self.temporary.file.write_all(piece);
        }
        self.temporary.file.write_all(&batch.concat())
    }
}

/// Receives a body of at most `limit` bytes that never pauses for longer than `idle`.
pub(super) async fn receive(
    temporary: Temporary,
    body: Option<StreamingBlob>,
    mut promise: Promise,
    trailers: Option<TrailingHeaders>,
    limit: u64,
    idle: Duration,
) -> S3Result<Received> {
    if promise.bytes.is_some_and(|bytes| bytes > limit) {
        return Err(too_large(limit));
    }
    let writer = Box::new(Writer {
        temporary,
        md5: Md5::new(),
        hasher: promise.hasher(),
    });
    let mut pen = Pen::Idle(writer);
    let mut bytes: u64 = 0;
    if let Some(mut body) = body {
        let mut batch = Vec::new();
        let mut batched = 0;
        loop {
            let piece = match tokio::time::timeout(idle, body.next()).await {
                Ok(Some(piece)) => piece.map_err(|e| broken(&e))?,
                Ok(None) => break,
                Err(_) => return Err(s3_error!(RequestTimeout, "the body stopped arriving")),
            };
            bytes += piece.len() as u64;
            if bytes > limit {
                return Err(too_large(limit));
            }
            batched += piece.len();
            batch.push(piece);
            if batched >= BATCH {
                pen = pen.write(std::mem::take(&mut batch)).await?;
                batched = 0;
            }
        }
        if !batch.is_empty() {
            pen = pen.write(batch).await?;
        }
    }
    let writer = *pen.rest().await?;
    if promise.bytes.is_some_and(|promised| promised != bytes) {
        return Err(s3_error!(
            IncompleteBody,
            "the body has another length than announced"
        ));
    }
    read_trailers(&mut promise, trailers)?;
    let md5: [u8; 16] = writer.md5.finalize().into();
    let computed = by_algorithm(writer.hasher.finalize());
    verify(&promise, &md5, &computed)?;
    Ok(Received {
        temporary: writer.temporary,
        bytes,
        md5,
        checksums: computed,
    })
}

/// The writer, here or on a blocking thread: one batch is written while the next arrives.
enum Pen {
    Idle(Box<Writer>),
    Writing(JoinHandle<std::io::Result<Box<Writer>>>),
}

impl Pen {
    async fn rest(self) -> S3Result<Box<Writer>> {
        match self {
            Self::Idle(writer) => Ok(writer),
            Self::Writing(task) => task
                .await
                .map_err(blocking_failed)?
                .map_err(|e| disk_error(&e)),
        }
    }

    async fn write(self, batch: Vec<Bytes>) -> S3Result<Self> {
        let mut writer = self.rest().await?;
        Ok(Self::Writing(tokio::task::spawn_blocking(move || {
            writer.write(&batch)?;
            Ok(writer)
        })))
    }
}

fn read_trailers(promise: &mut Promise, trailers: Option<TrailingHeaders>) -> S3Result {
    let headers = trailers.and_then(|t| t.take()).unwrap_or_default();
    for name in std::mem::take(&mut promise.trailing) {
        let value = headers
            .get(format!("x-amz-checksum-{name}"))
            .and_then(|v| v.to_str().ok())
            .ok_or_else(|| s3_error!(InvalidRequest, "the announced checksum did not follow"))?;
        promise.checksums.insert(name, value.to_owned());
    }
    Ok(())
}

fn verify(promise: &Promise, md5: &[u8], computed: &BTreeMap<String, String>) -> S3Result {
    if let Some(promised) = &promise.md5 {
        let digest = base64(md5);
        if digest != *promised {
            return Err(s3_error!(BadDigest, "Content-MD5 is not that of the body"));
        }
    }
    for (name, promised) in &promise.checksums {
        if computed.get(name) != Some(promised) {
            return Err(S3Error::with_message(
                s3s::S3ErrorCode::BadDigest,
                format!("the {name} checksum is not that of the body"),
            ));
        }
    }
    Ok(())
}

fn by_algorithm(sums: s3s::dto::Checksum) -> BTreeMap<String, String> {
    [
        ("crc32", sums.checksum_crc32),
        ("crc32c", sums.checksum_crc32c),
        ("sha1", sums.checksum_sha1),
        ("sha256", sums.checksum_sha256),
        ("crc64nvme", sums.checksum_crc64nvme),
    ]
    .into_iter()
    .filter_map(|(name, sum)| Some((name.to_owned(), sum?)))
    .collect()
}

fn base64(bytes: &[u8]) -> String {
    aws_smithy_types::base64::encode(bytes)
}

fn too_large(limit: u64) -> S3Error {
    S3Error::with_message(
        s3s::S3ErrorCode::EntityTooLarge,
        format!("the object is larger than {limit} bytes"),
    )
}

/// Why a body ended early. The service's stream errors are told apart by their names alone: their
/// types are private.
fn broken(error: &StdError) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        let mut error = S3Error::with_message(
            s3s::S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
            "x-amz-content-sha256 is not that of the body",
        );
        error.set_status_code(http::StatusCode::BAD_REQUEST);
        error
    } else if text.contains("SignatureMismatch") {
        s3_error!(SignatureDoesNotMatch, "a chunk's signature is wrong")
    } else {
        s3_error!(IncompleteBody, "the body broke off")
    }
}
