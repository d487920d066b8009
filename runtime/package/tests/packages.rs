//! Packages that are fine, and every way that one is not.

#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Write};
use std::sync::Arc;
use std::time::Instant;
use stoic_package::{Kind, Limits, Package, PackageError, ReadAt};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const ZIP: &str = "application/zip";
const TAR: &str = "application/x-tar";

fn options(method: CompressionMethod) -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(method)
}

fn zip_with(entries: &[(&str, &[u8])], options: SimpleFileOptions) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn stored(entries: &[(&str, &[u8])]) -> Vec<u8> {
    zip_with(entries, options(CompressionMethod::Stored))
}

fn deflated(entries: &[(&str, &[u8])]) -> Vec<u8> {
    zip_with(entries, options(CompressionMethod::Deflated))
}

/// A tar by hand, since the library refuses to write bad names.
fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn open(bytes: Vec<u8>, content_type: &str) -> Result<Package, PackageError> {
    Package::open(Arc::new(bytes), content_type, Limits::default())
}

fn code(bytes: Vec<u8>, content_type: &str) -> &'static str {
    open(bytes, content_type).unwrap_err().code()
}

fn replace_all(bytes: &mut [u8], from: &[u8], to: &[u8]) -> usize {
    assert_eq!(from.len(), to.len());
    let mut count = 0;
    for at in 0..=bytes.len() - from.len() {
        if &bytes[at..at + from.len()] == from {
            bytes[at..at + to.len()].copy_from_slice(to);
            count += 1;
        }
    }
    count
}

/// A source that remembers which bytes were asked for.
struct Watched {
    bytes: Vec<u8>,
    asked: std::sync::Mutex<Vec<std::ops::Range<u64>>>,
}

impl ReadAt for Watched {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        let span = offset..offset + buf.len() as u64;
        self.asked.lock().unwrap().push(span);
        self.bytes.read_at(offset, buf)
    }
}

#[test]
fn items_come_in_order_and_unpack() {
    let text = b"some text that deflate can make smaller ".repeat(50);
    let entries: [(&str, &[u8]); 3] = [("b/2.txt", &text), ("a.txt", b"a"), ("empty", b"")];
    for bytes in [stored(&entries), deflated(&entries)] {
        let package = open(bytes, ZIP).unwrap();
        let names: Vec<&str> = package.items().iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["b/2.txt", "a.txt", "empty"]);
        for (index, (_, content)) in entries.iter().enumerate() {
            assert_eq!(package.items()[index].index, index);
            assert_eq!(package.items()[index].size, content.len() as u64);
            assert_eq!(package.read(index).unwrap(), *content);
        }
        assert_eq!(package.read(3).unwrap_err().code, "item_unreadable");
    }
}

#[test]
fn what_desktops_leave_behind_is_no_item() {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let plain = options(CompressionMethod::Stored);
    zip.add_directory("photos/", plain).unwrap();
    for name in [
        "photos/.DS_Store",
        "__MACOSX/photos/._1.jpg",
        "photos/Thumbs.db",
        "photos/1.jpg",
    ] {
        zip.start_file(name, plain).unwrap();
        zip.write_all(name.as_bytes()).unwrap();
    }
    let package = open(zip.finish().unwrap().into_inner(), ZIP).unwrap();
    assert_eq!(package.items().len(), 1);
    assert_eq!(package.items()[0].index, 0);
    assert_eq!(package.read(0).unwrap(), b"photos/1.jpg");
}

#[test]
fn the_index_is_read_without_the_contents_and_a_span_is_enough_for_an_item() {
    let content = vec![7u8; 300_000];
    let names: Vec<String> = (0..20).map(|n| format!("{n}.bin")).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &content[..])).collect();
    let bytes = stored(&entries);
    let source = Arc::new(Watched {
        bytes: bytes.clone(),
        asked: std::sync::Mutex::default(),
    });
    let package = Package::open(
        Arc::clone(&source) as Arc<dyn ReadAt>,
        ZIP,
        Limits::default(),
    )
    .unwrap();
    let read: u64 = source
        .asked
        .lock()
        .unwrap()
        .iter()
        .map(|s| s.end - s.start)
        .sum();
    assert!(
        read < 400_000,
        "{read} bytes read for the index of {}",
        bytes.len()
    );
    // Spans follow each other, so that a run of items is one range.
    for pair in package.items().windows(2) {
        assert_eq!(pair[0].span.end, pair[1].span.start);
    }
    let span = package.items()[4].span.clone();
    let mut part = vec![0u8; bytes.len()];
    let inside = span.start as usize..span.end as usize;
    part[inside.clone()].copy_from_slice(&bytes[inside]);
    assert_eq!(package.read_from(4, &part).unwrap(), content);
    assert_eq!(
        package.read_from(5, &part).unwrap_err().code,
        "item_corrupt"
    );
}

#[test]
fn truncated_and_foreign_bytes_are_no_package() {
    let whole = deflated(&[("a.txt", &[1; 5000]), ("b.txt", &[2; 5000])]);
    for cut in [1, 21, 22, whole.len() / 2, whole.len() - 1] {
        assert_eq!(
            code(whole[..cut].to_vec(), ZIP),
            "package_invalid",
            "cut at {cut}"
        );
    }
    assert_eq!(code(Vec::new(), ZIP), "package_invalid");
    assert_eq!(
        code(b"\xff\xd8\xff\xe0 not a zip".repeat(100), ZIP),
        "package_invalid"
    );
    assert_eq!(code(whole, "image/jpeg"), "package_unsupported");
}

#[test]
fn a_large_file_that_is_no_zip_is_refused_by_its_end_alone() {
    let source = Arc::new(Watched {
        bytes: vec![b'P'; 8 << 20],
        asked: std::sync::Mutex::default(),
    });
    let opened = Package::open(
        Arc::clone(&source) as Arc<dyn ReadAt>,
        ZIP,
        Limits::default(),
    );
    assert_eq!(opened.unwrap_err().code(), "package_invalid");
    let read: u64 = source
        .asked
        .lock()
        .unwrap()
        .iter()
        .map(|s| s.end - s.start)
        .sum();
    assert!(read < 200_000, "{read} bytes read");
}

#[test]
fn a_package_without_items_is_empty() {
    assert_eq!(code(stored(&[]), ZIP), "package_empty");
    assert_eq!(code(stored(&[(".DS_Store", b"x")]), ZIP), "package_empty");
    assert_eq!(code(tar_of(&[]), TAR), "package_empty");
}

#[test]
fn an_encrypted_entry_refuses_the_package() {
    let mut bytes = stored(&[("open.txt", b"open"), ("secret.txt", b"secret")]);
    // Bit 0 of the flags, in the second directory entry.
    let at = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    bytes[at + 8] |= 1;
    let error = open(bytes, ZIP).unwrap_err();
    assert_eq!(error.code(), "package_encrypted");
    assert!(error.to_string().contains("secret.txt"));
}

#[test]
fn bombs_are_refused_by_their_index() {
    let zeros = vec![0u8; 4 << 20];
    assert_eq!(code(deflated(&[("zeros", &zeros)]), ZIP), "package_bomb");
    let limits = Limits {
        total: 5000,
        item: 4000,
        ..Limits::default()
    };
    for (entries, refused) in [
        (vec![("a", 3000usize), ("b", 1000)], false),
        (vec![("a", 3000), ("b", 3000)], true),
        (vec![("a", 4001)], true),
    ] {
        let contents: Vec<Vec<u8>> = entries.iter().map(|(_, size)| vec![9; *size]).collect();
        let named: Vec<(&str, &[u8])> = entries
            .iter()
            .zip(&contents)
            .map(|((n, _), c)| (*n, &c[..]))
            .collect();
        let opened = Package::open(Arc::new(stored(&named)), ZIP, limits);
        match opened {
            Ok(_) => assert!(!refused, "{entries:?}"),
            Err(error) => {
                assert!(refused, "{entries:?}: {error}");
                assert_eq!(error.code(), "package_bomb");
            }
        }
    }
}

#[test]
fn an_entry_that_holds_more_than_its_index_states_is_corrupt() {
    let mut bytes = deflated(&[("a.txt", &[5; 60_000])]);
    // Uncompressed size, in the directory: 60000 becomes 600.
    let at = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    bytes[at + 24..at + 28].copy_from_slice(&600u32.to_le_bytes());
    let package = open(bytes, ZIP).unwrap();
    assert_eq!(package.read(0).unwrap_err().code, "item_corrupt");
}

#[test]
fn names_that_lead_outside_are_refused() {
    for name in [
        "../x.jpg",
        "a/../../x.jpg",
        "a/..",
        "/etc/passwd",
        "..\\x.jpg",
        "C:/x.jpg",
        "a\0b",
    ] {
        let safe = "n".repeat(name.len());
        let mut bytes = stored(&[(&safe, b"x")]);
        assert_eq!(replace_all(&mut bytes, safe.as_bytes(), name.as_bytes()), 2);
        assert_eq!(code(bytes, ZIP), "package_unsafe_name", "{name:?}");
        if !name.contains('\0') {
            assert_eq!(
                code(tar_of(&[(name, b"x")]), TAR),
                "package_unsafe_name",
                "{name:?}"
            );
        }
    }
    for name in ["a..b/c.jpg", "..a", "./x.jpg", "ünïcode/日本.jpg"] {
        assert_eq!(
            open(stored(&[(name, b"x")]), ZIP).unwrap().items().len(),
            1,
            "{name:?}"
        );
    }
}

#[test]
fn two_entries_of_one_name_refuse_the_package() {
    let mut bytes = stored(&[("one.jpg", b"1"), ("two.jpg", b"2")]);
    assert_eq!(replace_all(&mut bytes, b"two.jpg", b"one.jpg"), 2);
    assert_eq!(code(bytes, ZIP), "package_duplicate_name");
    assert_eq!(
        code(tar_of(&[("a", b"1"), ("a", b"2")]), TAR),
        "package_duplicate_name"
    );
}

#[test]
fn a_wrong_checksum_is_an_error_of_that_item_alone() {
    let mut bytes = stored(&[("good.txt", b"good content"), ("bad.txt", b"bad content")]);
    assert_eq!(replace_all(&mut bytes, b"bad content", b"BAD content"), 1);
    let package = open(bytes, ZIP).unwrap();
    assert_eq!(package.read(0).unwrap(), b"good content");
    assert_eq!(package.read(1).unwrap_err().code, "item_corrupt");
}

#[test]
fn zip64_is_read() {
    let wide = options(CompressionMethod::Stored).large_file(true);
    let package = open(
        zip_with(&[("a.txt", b"wide"), ("b.txt", b"wider")], wide),
        ZIP,
    )
    .unwrap();
    assert_eq!(package.read(1).unwrap(), b"wider");
    // Over 65,535 entries need the zip64 end record.
    let names: Vec<String> = (0..70_000).map(|n| n.to_string()).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b"x"[..])).collect();
    let package = open(stored(&entries), ZIP).unwrap();
    assert_eq!(package.items().len(), 70_000);
    assert_eq!(package.read(69_999).unwrap(), b"x");
}

#[test]
fn ten_thousand_entries_open_quickly_and_the_limit_holds() {
    let names: Vec<String> = (0..10_000).map(|n| format!("camera/{n:05}.jpg")).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b"x"[..])).collect();
    let bytes = Arc::new(stored(&entries));
    let began = Instant::now();
    let package = Package::open(bytes.clone(), ZIP, Limits::default()).unwrap();
    let took = began.elapsed();
    assert_eq!(package.items().len(), 10_000);
    assert!(took.as_millis() < 1000, "{took:?}");
    let limits = Limits {
        items: 9_999,
        ..Limits::default()
    };
    let error = Package::open(bytes, ZIP, limits).unwrap_err();
    assert_eq!(error.code(), "package_too_many_items");
}

#[test]
fn other_compressions_are_an_error_of_the_item() {
    let mut bytes = stored(&[("a.txt", b"a"), ("b.txt", b"b")]);
    // Method 14 (LZMA), in the first directory entry and its local header.
    let at = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    bytes[at + 10] = 14;
    bytes[8] = 14;
    let package = open(bytes, ZIP).unwrap();
    assert_eq!(package.read(0).unwrap_err().code, "item_unsupported");
    assert_eq!(package.read(1).unwrap(), b"b");
}

#[test]
fn entries_that_lie_on_each_other_are_refused() {
    let mut bytes = stored(&[("a.txt", &[1; 100]), ("b.txt", &[2; 100])]);
    // The second entry's offset is moved into the first.
    let at = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    bytes[at + 42..at + 46].copy_from_slice(&10u32.to_le_bytes());
    assert_eq!(code(bytes, ZIP), "package_invalid");
}

#[test]
fn tars_are_read_and_truncated_ones_refused() {
    let bytes = tar_of(&[
        ("./a/1.jpg", &[1; 700]),
        ("b.jpg", &[2; 512]),
        (".DS_Store", b"x"),
    ]);
    let package = open(bytes.clone(), TAR).unwrap();
    let names: Vec<&str> = package.items().iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["a/1.jpg", "b.jpg"]);
    assert_eq!(package.read(0).unwrap(), [1; 700]);
    assert_eq!(package.read(1).unwrap(), [2; 512]);
    for cut in [100, 600, 512 + 1024 + 600] {
        assert_eq!(
            code(bytes[..cut].to_vec(), TAR),
            "package_invalid",
            "cut at {cut}"
        );
    }
    assert_eq!(
        code(b"not a tar at all ".repeat(100), TAR),
        "package_invalid"
    );
}

#[test]
fn a_file_is_a_source() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&deflated(&[("a.txt", b"from disk")]))
        .unwrap();
    let package = Package::open(Arc::new(file), ZIP, Limits::default()).unwrap();
    assert_eq!(package.read(0).unwrap(), b"from disk");
}

#[test]
fn kinds_go_by_media_type() {
    assert_eq!(Kind::of("Application/Zip; charset=x"), Some(Kind::Zip));
    assert_eq!(Kind::of("application/x-tar"), Some(Kind::Tar));
    assert_eq!(Kind::of("image/png"), None);
}
