//! One object as one file: its bytes, then what is known about it, then where that begins.
//!
//! ```text
//! [data][metadata: JSON][length of the metadata: u32, little endian]["STOICOB1"]
//! ```
//!
//! The metadata is at the end because the checksums in it are known only then, and in the same
//! file so that no half of an object can exist. It repeats the key, whose hash is the file's name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use s3s::dto::ETag;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"STOICOB1";
/// The length of the fixed part at the end of a file, in bytes.
const FOOT: usize = 12;
/// The most metadata a file may claim, in bytes: far above what requests can bring.
const MOST_METADATA: usize = 1 << 20;
/// How much of a file's end is read at first, in bytes; it nearly always holds all metadata.
const FIRST_READ: usize = 4096;

/// What is known about a stored object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Metadata {
    pub(super) key: String,
    pub(super) bytes: u64,
    /// Without quotes: an MD5, or `md5-of-md5s` with the number of parts.
    pub(super) etag: String,
    /// Milliseconds since the Unix epoch.
    pub(super) modified: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_encoding: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_disposition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_language: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) user: BTreeMap<String, String>,
    /// Checksums of the whole object, by algorithm, as they came with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) checksums: BTreeMap<String, String>,
}

impl Metadata {
    pub(super) fn etag(&self) -> ETag {
        ETag::Strong(self.etag.clone())
    }

    pub(super) fn modified(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.modified)
    }

    /// Appends the metadata to a file that holds the data.
    pub(super) fn append_to(&self, file: &mut File) -> io::Result<()> {
        let mut tail = serde_json::to_vec(self)?;
        let length = u32::try_from(tail.len())
            .ok()
            .filter(|l| *l as usize <= MOST_METADATA)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "too much metadata"))?;
        tail.extend_from_slice(&length.to_le_bytes());
        tail.extend_from_slice(MAGIC);
        file.write_all(&tail)
    }
}

/// Opens a stored object and reads what is known about it.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = File::open(path)?;
    let metadata = read_metadata(&file)?;
    Ok((file, metadata))
}

fn read_metadata(file: &File) -> io::Result<Metadata> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "damaged object file");
    let size = file.metadata()?.len();
    let read_end = |length: usize| -> io::Result<Vec<u8>> {
        let mut end = vec![0; length];
        file.read_exact_at(&mut end, size - length as u64)?;
        Ok(end)
    };
    let mut end = read_end(FIRST_READ.min(usize::try_from(size).unwrap_or(FIRST_READ)))?;
    let foot = end.last_chunk::<FOOT>().ok_or_else(damaged)?;
    let (length, magic) = foot.split_first_chunk::<4>().ok_or_else(damaged)?;
    if magic != MAGIC {
        return Err(damaged());
    }
    let length = u32::from_le_bytes(*length) as usize;
    let whole = length + FOOT;
    if length > MOST_METADATA || whole as u64 > size {
        return Err(damaged());
    }
    if whole > end.len() {
        end = read_end(whole)?;
    }
    let json = &end[end.len() - whole..end.len() - FOOT];
    let metadata: Metadata = serde_json::from_slice(json)?;
    if metadata.bytes != size - whole as u64 {
        return Err(damaged());
    }
    Ok(metadata)
}

/// The name of a key's file: no key can name anything but this.
pub(super) fn file_name(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_survives_and_damage_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("object");
        let mut metadata = Metadata {
            key: "a/b".into(),
            bytes: 5,
            ..Metadata::default()
        };
        // More than the first read holds.
        metadata.user.insert("note".into(), "x".repeat(10_000));
        let mut file = File::create(&path).unwrap();
        file.write_all(b"hello").unwrap();
        metadata.append_to(&mut file).unwrap();
        assert_eq!(open(&path).unwrap().1, metadata);

        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 3, 11, 12, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(open(&path).is_err(), "cut at {cut}");
        }
        std::fs::write(&path, &whole[1..]).unwrap();
        assert!(open(&path).is_err());
    }

    #[test]
    fn hex_goes_both_ways() {
        assert_eq!(unhex(&hex(b"\x00\xffa")).unwrap(), b"\x00\xffa");
        for bad in ["0", "zz", "äb", "+1"] {
            assert!(unhex(bad).is_none_or(|b| hex(&b) != bad), "{bad}");
        }
        assert_eq!(file_name("../x").len(), 64);
    }
}
