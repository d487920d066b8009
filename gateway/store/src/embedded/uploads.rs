//! Multipart uploads under way. They live in memory and in temporary files, and end with the
//! process: a part needs no sync, because a power cut ends its upload too. Only the completed
//! object is durable.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Seek, SeekFrom};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use md5::{Digest, Md5};
use s3s::{S3Result, s3_error};

use super::disk::Temporary;
use super::object::{Metadata, hex};
use super::receive::Received;

/// The most uploads at a time; beyond it clients are told to slow down.
const MOST_UPLOADS: usize = 1000;
/// The highest part number of S3.
pub(super) const MOST_PARTS: i32 = 10_000;
/// The least length of a part that is not the last, in bytes.
const SMALLEST_PART: u64 = 5 * 1024 * 1024;

/// A part that arrived.
#[derive(Debug)]
pub(super) struct Part {
    temporary: Mutex<Temporary>,
    pub(super) bytes: u64,
    pub(super) md5: [u8; 16],
    pub(super) checksums: BTreeMap<String, String>,
    pub(super) modified: SystemTime,
}

impl Part {
    pub(super) fn etag(&self) -> String {
        hex(&self.md5)
    }

    /// Appends the part's bytes to the file that becomes the object, inside the kernel.
    fn append_to(&self, target: &mut Temporary) -> io::Result<()> {
        let mut part = self
            .temporary
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        part.file.seek(SeekFrom::Start(0))?;
        let copied = io::copy(&mut part.file, &mut target.file)?;
        if copied == self.bytes {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

#[derive(Debug)]
struct Upload {
    bucket: String,
    metadata: Metadata,
    begun: SystemTime,
    parts: BTreeMap<i32, Arc<Part>>,
}

/// One part as the completing request names it.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) number: i32,
    pub(super) etag: String,
    pub(super) checksums: BTreeMap<String, String>,
}

/// All uploads under way.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    by_id: Mutex<HashMap<String, Upload>>,
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Upload>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, bucket: String, metadata: Metadata) -> S3Result<String> {
        let mut uploads = self.lock();
        if uploads.len() >= MOST_UPLOADS {
            return Err(s3_error!(SlowDown, "too many uploads at once"));
        }
        let id = hex(&rand::random::<[u8; 16]>());
        let upload = Upload {
            bucket,
            metadata,
            begun: SystemTime::now(),
            parts: BTreeMap::new(),
        };
        uploads.insert(id.clone(), upload);
        Ok(id)
    }

    fn with<T>(
        &self,
        id: &str,
        bucket: &str,
        key: &str,
        look: impl FnOnce(&mut Upload) -> S3Result<T>,
    ) -> S3Result<T> {
        match self.lock().get_mut(id) {
            Some(upload) if upload.bucket == bucket && upload.metadata.key == key => look(upload),
            _ => Err(s3_error!(
                NoSuchUpload,
                "no such upload: it ended, or the store restarted"
            )),
        }
    }

    /// How many bytes part `number` may have, for the object to stay within `limit`.
    pub(super) fn room(
        &self,
        id: &str,
        bucket: &str,
        key: &str,
        number: i32,
        limit: u64,
    ) -> S3Result<u64> {
        self.with(id, bucket, key, |upload| {
            let others: u64 = upload
                .parts
                .iter()
                .filter(|(n, _)| **n != number)
                .map(|(_, part)| part.bytes)
                .sum();
            Ok(limit.saturating_sub(others))
        })
    }

    pub(super) fn add(
        &self,
        id: &str,
        bucket: &str,
        key: &str,
        number: i32,
        received: Received,
    ) -> S3Result<Arc<Part>> {
        let part = Arc::new(Part {
            temporary: Mutex::new(received.temporary),
            bytes: received.bytes,
            md5: received.md5,
            checksums: received.checksums,
            modified: SystemTime::now(),
        });
        self.with(id, bucket, key, |upload| {
            upload.parts.insert(number, Arc::clone(&part));
            Ok(part)
        })
    }

    pub(super) fn parts(
        &self,
        id: &str,
        bucket: &str,
        key: &str,
    ) -> S3Result<Vec<(i32, Arc<Part>)>> {
        self.with(id, bucket, key, |upload| {
            Ok(upload
                .parts
                .iter()
                .map(|(number, part)| (*number, Arc::clone(part)))
                .collect())
        })
    }

    /// The parts that make the object, checked against what the request names.
    pub(super) fn chosen(
        &self,
        id: &str,
        bucket: &str,
        key: &str,
        named: &[Named],
    ) -> S3Result<(Metadata, Vec<Arc<Part>>)> {
        if named.is_empty() {
            return Err(s3_error!(MalformedXML, "no parts named"));
        }
        if !named.is_sorted_by(|a, b| a.number < b.number) {
            return Err(s3_error!(
                InvalidPartOrder,
                "parts must be named in ascending order"
            ));
        }
        self.with(id, bucket, key, |upload| {
            let mut chosen = Vec::with_capacity(named.len());
            for name in named {
                let part = upload
                    .parts
                    .get(&name.number)
                    .filter(|part| part.etag() == name.etag)
                    .filter(|part| {
                        let known = |(algorithm, sum)| part.checksums.get(algorithm) == Some(sum);
                        name.checksums.iter().all(known)
                    })
                    .ok_or_else(|| s3_error!(InvalidPart, "a named part was not uploaded so"))?;
                chosen.push(Arc::clone(part));
            }
            let (_, but_last) = chosen.split_last().unzip();
            if but_last.is_some_and(|p: &[Arc<Part>]| p.iter().any(|p| p.bytes < SMALLEST_PART)) {
                return Err(s3_error!(
                    EntityTooSmall,
                    "only the last part may be below 5 MiB"
                ));
            }
            Ok((upload.metadata.clone(), chosen))
        })
    }

    /// Forgets an upload; its parts go with the last that uses them.
    pub(super) fn end(&self, id: &str, bucket: &str, key: &str) -> S3Result {
        self.with(id, bucket, key, |_| Ok(()))?;
        self.lock().remove(id);
        Ok(())
    }

    /// Forgets uploads begun longer than `age` ago, and says how many they were.
    pub(super) fn forget_older(&self, age: Duration) -> usize {
        let now = SystemTime::now();
        let mut uploads = self.lock();
        let before = uploads.len();
        uploads.retain(|_, u| !now.duration_since(u.begun).is_ok_and(|old| old > age));
        before - uploads.len()
    }
}

/// Joins parts into one file, and gives the object's length and its ETag. Blocks.
pub(super) fn join(
    parts: &[Arc<Part>],
    mut target: Temporary,
) -> io::Result<(Temporary, u64, String)> {
    let mut bytes = 0;
    let mut md5 = Md5::new();
    for part in parts {
        part.append_to(&mut target)?;
        bytes += part.bytes;
        md5.update(part.md5);
    }
    let etag = format!("{}-{}", hex(&md5.finalize()), parts.len());
    Ok((target, bytes, etag))
}
