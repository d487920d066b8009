//! What is known of an executable without running it.

use object::LittleEndian;
use object::elf::FileHeader64;
use object::read::ReadCache;
use object::read::elf::FileHeader;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use stoic_protocol::zygote::NOTE_SECTION;

/// One state of an executable's file: another after it was built anew.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Executable {
    pub(super) path: PathBuf,
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Executable {
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        Ok(Self {
            path: path.to_path_buf(),
            device: metadata.dev(),
            inode: metadata.ino(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }

    /// Whether it was built on the SDK, and says so: then it understands the variables that make it a
    /// zygote, or isolate its invocations. Scripts and whatever else is no ELF file do not.
    pub(super) fn is_of_the_sdk(&self) -> bool {
        let noted = || -> Option<bool> {
            let cache = ReadCache::new(File::open(&self.path).ok()?);
            let header = FileHeader64::<LittleEndian>::parse(&cache).ok()?;
            let endian = header.endian().ok()?;
            let sections = header.sections(endian, &cache).ok()?;
            let note = sections.section_by_name(endian, NOTE_SECTION.as_bytes());
            Some(note.is_some())
        };
        noted().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_function_is_not_taken_for_one() {
        // This very test is an ELF file without the note.
        let own = std::env::current_exe().unwrap();
        assert!(!Executable::at(&own).unwrap().is_of_the_sdk());
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        for content in ["", "#!/bin/sh\n", "\u{7f}ELF"] {
            std::fs::write(&script, content).unwrap();
            assert!(!Executable::at(&script).unwrap().is_of_the_sdk());
        }
    }
}
