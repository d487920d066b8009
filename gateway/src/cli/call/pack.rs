//! A folder as a package: a zip of stored items, in the order of their names.

use crate::cli::failed::Failed;
use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use walkdir::{DirEntry, WalkDir};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// What tells that a file was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Stamp {
    /// Size in bytes.
    pub(in crate::cli) bytes: u64,
    /// Last write, or last change of its attributes if that was later.
    pub(in crate::cli) touched: SystemTime,
    inode: u64,
}

impl Stamp {
    /// From what the file system says.
    pub(in crate::cli) fn of(metadata: &Metadata) -> Self {
        let changed = u64::try_from(metadata.ctime()).map_or(UNIX_EPOCH, |seconds| {
            UNIX_EPOCH
                + Duration::new(
                    seconds,
                    u32::try_from(metadata.ctime_nsec()).unwrap_or_default(),
                )
        });
        Self {
            bytes: metadata.len(),
            touched: metadata.modified().unwrap_or(UNIX_EPOCH).max(changed),
            inode: metadata.ino(),
        }
    }
}

/// A file to be packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Entry {
    /// Below the folder.
    pub(in crate::cli) path: PathBuf,
    /// How it was when it was listed.
    pub(in crate::cli) stamp: Stamp,
}

/// A package on disk; the file has no name and goes with its handle.
#[derive(Debug)]
pub(in crate::cli) struct Packed {
    /// At its beginning.
    pub(in crate::cli) file: File,
    /// Its size.
    pub(in crate::cli) bytes: u64,
    /// What is in it.
    pub(in crate::cli) items: Vec<Entry>,
    /// What was left out, and why.
    pub(in crate::cli) left_out: Vec<(PathBuf, String)>,
}

/// Files of a folder in the order of their names, with subfolders if wanted. Hidden ones are left out,
/// and so are links to folders, which could go in circles. The second list names what cannot be read.
pub(in crate::cli) fn list(
    folder: &Path,
    recursive: bool,
    wanted: impl Fn(&Path, &DirEntry) -> bool,
) -> io::Result<(Vec<Entry>, Vec<String>)> {
    // Told apart from what cannot be read inside of it.
    std::fs::read_dir(folder)?;
    let depth = if recursive { usize::MAX } else { 1 };
    let below = |entry: &DirEntry| {
        let path = entry.path().strip_prefix(folder).map(Path::to_path_buf);
        path.unwrap_or_default()
    };
    let shown = |entry: &DirEntry| {
        entry.depth() == 0
            || (!entry.file_name().as_bytes().starts_with(b".") && wanted(&below(entry), entry))
    };
    let (mut files, mut unreadable) = (Vec::new(), Vec::new());
    let walk = WalkDir::new(folder).min_depth(1).max_depth(depth);
    for entry in walk.into_iter().filter_entry(shown) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                unreadable.push(error.to_string());
                continue;
            }
        };
        // Follows a link to a file; a file that has gone meanwhile is none.
        match std::fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_file() => files.push(Entry {
                path: below(&entry),
                stamp: Stamp::of(&metadata),
            }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => unreadable.push(format!("{}: {error}", entry.path().display())),
        }
    }
    files.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
    Ok((files, unreadable))
}

/// Packs files of a folder. Blocking. A file that is being written, has gone or cannot be read is left
/// out.
pub(in crate::cli) fn pack(folder: &Path, entries: Vec<Entry>) -> Result<Packed, Failed> {
    let trouble = |error: &dyn std::fmt::Display| {
        Failed::Machine(format!(
            "cannot pack {} in {}: {error}",
            folder.display(),
            std::env::temp_dir().display()
        ))
    };
    let file = tempfile::tempfile().map_err(|e| trouble(&e))?;
    let mut zip = ZipWriter::new(io::BufWriter::with_capacity(1 << 20, file));
    let (mut items, mut left_out) = (Vec::with_capacity(entries.len()), Vec::new());
    for entry in entries {
        let path = folder.join(&entry.path);
        let mut source = match File::open(&path) {
            Ok(source) => source,
            Err(error) => {
                left_out.push((entry.path, error.to_string()));
                continue;
            }
        };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(entry.stamp.bytes >= u64::from(u32::MAX));
        zip.start_file(item_name(&entry.path), options)
            .map_err(|e| trouble(&e))?;
        // At most what was listed and one byte: a file that grows without end must end.
        let mut limited = io::Read::take(&mut source, entry.stamp.bytes.saturating_add(1));
        let copied = io::copy(&mut limited, &mut zip);
        let after = source.metadata().map(|metadata| Stamp::of(&metadata));
        let reason = match (copied, after) {
            (Ok(copied), Ok(after)) if copied == entry.stamp.bytes && after == entry.stamp => None,
            (Ok(_), Ok(_)) => Some("it is being written".to_owned()),
            (Err(error), _) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(trouble(&error));
            }
            (Err(error), _) | (_, Err(error)) => Some(error.to_string()),
        };
        match reason {
            None => items.push(entry),
            Some(reason) => {
                zip.abort_file().map_err(|e| trouble(&e))?;
                left_out.push((entry.path, reason));
            }
        }
    }
    let written = zip.finish().map_err(|e| trouble(&e))?;
    let mut file = written.into_inner().map_err(|e| trouble(&e.into_error()))?;
    let bytes = file
        .seek(SeekFrom::End(0))
        .and_then(|bytes| file.rewind().map(|()| bytes))
        .map_err(|e| trouble(&e))?;
    Ok(Packed {
        file,
        bytes,
        items,
        left_out,
    })
}

/// A path as the name of an item: with `/`, in UTF-8, and nothing in it that leads elsewhere on another
/// system. What cannot stand in a name is written as `%` and its byte.
fn item_name(path: &Path) -> String {
    let mut name = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => name.push_str("%5C"),
                ':' if name.len() == 1 => name.push_str("%3A"),
                c => name.push(c),
            }
        }
        for byte in chunk.invalid() {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::io::{Read, Write};
    use stoic_package::{Limits, Package};

    fn write(folder: &Path, name: impl AsRef<OsStr>, bytes: &[u8]) {
        let path = folder.join(Path::new(name.as_ref()));
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
        std::fs::write(path, bytes).expect("file");
    }

    #[test]
    fn a_folder_becomes_a_package_in_the_order_of_names() {
        let folder = tempfile::tempdir().expect("folder");
        write(folder.path(), "b.jpg", b"bb");
        write(folder.path(), "a/z.jpg", b"zzz");
        write(folder.path(), "a.jpg", b"a");
        write(folder.path(), ".hidden.jpg", b"no");
        write(folder.path(), ".cache/x.jpg", b"no");
        write(folder.path(), "odd \\ n\u{e4}me\n.jpg", b"odd");
        write(folder.path(), OsStr::from_bytes(b"caf\xe9.jpg"), b"latin");
        write(folder.path(), "c:x.jpg", b"drive");
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).expect("link");
        let (entries, unreadable) = list(folder.path(), true, |_, _| true).expect("listed");
        assert!(unreadable.is_empty());
        let packed = pack(folder.path(), entries).expect("packed");
        assert!(packed.left_out.is_empty());
        let mut bytes = Vec::new();
        (&packed.file).read_to_end(&mut bytes).expect("read");
        assert_eq!(bytes.len() as u64, packed.bytes);
        let package = Package::open(
            std::sync::Arc::new(bytes),
            "application/zip",
            Limits::default(),
        )
        .expect("the gateway takes it");
        let names: Vec<&str> = package
            .items()
            .iter()
            .map(|item| item.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "a.jpg",
                "a/z.jpg",
                "b.jpg",
                "c%3Ax.jpg",
                "caf%E9.jpg",
                "odd %5C n\u{e4}me\n.jpg"
            ]
        );
    }

    #[test]
    fn subfolders_are_left_alone_unless_wanted() {
        let folder = tempfile::tempdir().expect("folder");
        write(folder.path(), "a.jpg", b"a");
        write(folder.path(), "deep/b.jpg", b"b");
        let (flat, _) = list(folder.path(), false, |_, _| true).expect("listed");
        assert_eq!(flat.len(), 1);
        let (some, _) =
            list(folder.path(), true, |path, _| path != Path::new("deep")).expect("listed");
        assert_eq!(some, flat);
        assert!(list(&folder.path().join("none"), true, |_, _| true).is_err());
    }

    #[test]
    fn a_file_that_was_written_to_since_it_was_listed_is_left_out() {
        let folder = tempfile::tempdir().expect("folder");
        for name in ["a.jpg", "b.jpg", "c.jpg", "d.jpg"] {
            write(folder.path(), name, b"whole");
        }
        let (entries, _) = list(folder.path(), false, |_, _| true).expect("listed");
        let mut grown = File::options()
            .append(true)
            .open(folder.path().join("b.jpg"))
            .expect("open");
        grown.write_all(b" and more").expect("append");
        std::fs::remove_file(folder.path().join("c.jpg")).expect("removed");
        let packed = pack(folder.path(), entries).expect("packed");
        let names = |paths: Vec<&PathBuf>| -> Vec<String> {
            paths
                .iter()
                .map(|path| path.display().to_string())
                .collect()
        };
        assert_eq!(
            names(packed.items.iter().map(|entry| &entry.path).collect()),
            ["a.jpg", "d.jpg"]
        );
        assert_eq!(
            names(packed.left_out.iter().map(|(path, _)| path).collect()),
            ["b.jpg", "c.jpg"]
        );
        let mut archive = zip::ZipArchive::new(packed.file).expect("a zip");
        assert_eq!(archive.len(), 2);
        let mut text = String::new();
        archive
            .by_name("d.jpg")
            .expect("there")
            .read_to_string(&mut text)
            .expect("text");
        assert_eq!(text, "whole");
    }
}
