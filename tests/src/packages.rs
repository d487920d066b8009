//! Packages, good ones and ones that are bad on purpose.

use std::io::{Cursor, Write};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// A zip of these entries, deflated.
#[must_use]
pub fn zip_of<N: AsRef<str>, B: AsRef<[u8]>>(entries: &[(N, B)]) -> Vec<u8> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(name.as_ref(), options)
            .expect("a valid entry");
        zip.write_all(bytes.as_ref()).expect("memory takes it");
    }
    zip.finish().expect("memory takes it").into_inner()
}

/// A tar of these entries.
#[must_use]
pub fn tar_of<N: AsRef<str>, B: AsRef<[u8]>>(entries: &[(N, B)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let bytes = bytes.as_ref();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name.as_ref(), bytes)
            .expect("memory takes it");
    }
    tar.into_inner().expect("memory takes it")
}

/// So many small entries, `0.txt` and on, each with a text of its own.
#[must_use]
pub fn texts(count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|n| (format!("{n}.txt"), format!("item {n}\n").repeat(40)))
        .collect()
}

/// The same zip with every entry marked as encrypted, in its own header and in the directory.
#[must_use]
pub fn encrypted(zip: &[u8]) -> Vec<u8> {
    let mut zip = zip.to_vec();
    // General purpose flags: at 6 in a local header, at 8 in a directory entry.
    for (signature, flags) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        let mut at = 0;
        while let Some(found) = zip[at..].windows(4).position(|bytes| bytes == signature) {
            zip[at + found + flags] |= 1;
            at += found + 4;
        }
    }
    zip
}

/// The same package with one run of bytes replaced by another of its length, wherever it stands.
#[must_use]
pub fn damaged(package: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "offsets must not move");
    let mut package = package.to_vec();
    let mut at = 0;
    while let Some(found) = package[at..]
        .windows(from.len())
        .position(|bytes| bytes == from)
    {
        package[at + found..][..to.len()].copy_from_slice(to);
        at += found + to.len();
    }
    package
}
