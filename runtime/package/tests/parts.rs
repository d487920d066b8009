//! Parts of packages as packages of their own.

#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Write};
use std::ops::Range;
use std::sync::Arc;
use stoic_package::{Divider, Limits, Package, Piece, ReadAt};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const ZIP: &str = "application/zip";
const TAR: &str = "application/x-tar";

/// Names and contents: long, short, empty, in folders, and some that are no items.
fn entries() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = (0..17)
        .map(|n| {
            let bytes = format!("item {n} ").repeat(n * n * 7).into_bytes();
            (format!("folder {}/ä-{n:03}.txt", n % 3), bytes)
        })
        .collect();
    all.insert(3, ("__MACOSX/x".to_owned(), b"no item".to_vec()));
    all.insert(9, ("a/.DS_Store".to_owned(), b"neither".to_vec()));
    all.push((format!("{}/long.bin", "x".repeat(150)), vec![7; 513]));
    all
}

fn items() -> Vec<(String, Vec<u8>)> {
    let all = entries().into_iter();
    all.filter(|(name, _)| !name.starts_with("__") && !name.ends_with(".DS_Store"))
        .collect()
}

fn zip_of(method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    zip.add_directory("folder 1/", options).unwrap();
    for (name, bytes) in entries() {
        zip.start_file(name, options).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.set_comment("a comment").unwrap();
    zip.finish().unwrap().into_inner()
}

/// Written to a stream that cannot seek: sizes follow the entries.
fn streamed_zip() -> Vec<u8> {
    let mut zip = ZipWriter::new_stream(Vec::new());
    for (name, bytes) in entries() {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// With something in front, as archives that extract themselves have it.
fn prefixed_zip() -> Vec<u8> {
    let mut bytes = b"#!/bin/sh\nexit 0\n".to_vec();
    bytes.extend(zip_of(CompressionMethod::Deflated));
    bytes
}

fn tar_of() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in entries() {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

fn opened(bytes: Vec<u8>, media: &str) -> Package {
    Package::open(Arc::new(bytes), media, Limits::default()).unwrap()
}

fn written(source: &[u8], divider: &Divider, range: Range<usize>) -> Vec<u8> {
    let part = divider.part(range).unwrap();
    let mut bytes = Vec::new();
    for piece in &part.pieces {
        match piece {
            Piece::New(new) => bytes.extend_from_slice(new),
            Piece::Source(range) => {
                let mut buffer = vec![0; (range.end - range.start) as usize];
                source.read_at(range.start, &mut buffer).unwrap();
                bytes.extend_from_slice(&buffer);
            }
        }
    }
    assert_eq!(bytes.len() as u64, part.bytes);
    bytes
}

#[test]
fn every_part_holds_its_items_and_no_other() {
    let expected = items();
    for (bytes, media) in [
        (zip_of(CompressionMethod::Stored), ZIP),
        (zip_of(CompressionMethod::Deflated), ZIP),
        (streamed_zip(), ZIP),
        (prefixed_zip(), ZIP),
        (tar_of(), TAR),
    ] {
        let whole = opened(bytes.clone(), media);
        let divider = whole.divider().unwrap();
        assert_eq!(divider.items(), expected.len());
        for start in 0..expected.len() {
            for end in start + 1..=expected.len() {
                let part = written(&bytes, &divider, start..end);
                let part = opened(part, media);
                assert_eq!(part.items().len(), end - start);
                for (at, (name, content)) in expected[start..end].iter().enumerate() {
                    assert_eq!(part.items()[at].name, *name, "{media} {start}..{end}");
                    assert_eq!(part.read(at).unwrap(), *content, "{media} {name}");
                }
            }
        }
        for range in [0..0, 5..5, 0..expected.len() + 1] {
            assert_eq!(divider.part(range).unwrap_err().code(), "package_invalid");
        }
    }
}

#[test]
fn a_part_is_read_in_few_pieces_and_holds_little_beside_its_items() {
    let bytes = zip_of(CompressionMethod::Stored);
    let divider = opened(bytes, ZIP).divider().unwrap();
    let part = divider.part(10..17).unwrap();
    let sources = part.pieces.iter().filter(|p| matches!(p, Piece::Source(_)));
    assert!(sources.count() <= 2, "{:?}", part.pieces.len());
    let packed = divider.packed(10..17);
    assert!(part.bytes > packed && part.bytes < packed + 7 * 200 + 22);
}

/// Other readers take them as well.
#[test]
fn the_zip_library_reads_a_part() {
    let bytes = zip_of(CompressionMethod::Deflated);
    let divider = opened(bytes.clone(), ZIP).divider().unwrap();
    let part = written(&bytes, &divider, 4..9);
    let mut archive = zip::ZipArchive::new(Cursor::new(part)).unwrap();
    assert_eq!(archive.len(), 5);
    for at in 0..5 {
        let mut content = Vec::new();
        let mut file = archive.by_index(at).unwrap();
        std::io::copy(&mut file, &mut content).unwrap();
        assert_eq!(content, items()[4 + at].1);
    }
}
