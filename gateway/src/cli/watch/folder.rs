//! The watched folder: images that arrived, `labels/` with results, `done/` with what was worked. It is
//! all the state there is, so that a watch can be ended and begun again at any time.

use crate::cli::call::{Entry, Stamp, list};
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::macros::format_description;

/// Results.
const LABELS: &str = "labels";
/// Images that were worked.
const DONE: &str = "done";
/// Extensions of images.
const IMAGES: [&str; 9] = [
    "jpg", "jpeg", "png", "tif", "tiff", "webp", "bmp", "gif", "avif",
];

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    recursive: bool,
}

impl Folder {
    /// A folder, with or without those inside of it.
    pub(super) fn new(path: PathBuf, recursive: bool) -> Self {
        Self { path, recursive }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The images that wait there, in the order of their names, and what could not be read.
    pub(super) fn images(&self) -> io::Result<(Vec<Entry>, Vec<String>)> {
        let own = |path: &Path| path == Path::new(LABELS) || path == Path::new(DONE);
        let (mut files, unreadable) = list(&self.path, self.recursive, |path, entry| {
            !(entry.file_type().is_dir() && own(path))
        })?;
        files.retain(|file| is_image(&self.path.join(&file.path)));
        Ok((files, unreadable))
    }

    /// Where the result of an invocation goes.
    pub(super) fn result(
        &self,
        stamp: &str,
        invocation: &str,
        extension: &str,
    ) -> io::Result<PathBuf> {
        let folder = self.path.join(LABELS);
        fs::create_dir_all(&folder)?;
        Ok(folder.join(format!("{stamp}-{invocation}.{extension}")))
    }

    /// Makes a new name in `labels/` last.
    pub(super) fn sync(&self) -> io::Result<()> {
        fs::File::open(self.path.join(LABELS))?.sync_all()
    }

    /// Moves images that were worked to `done/STAMP/`. One that was written to since it was packed is
    /// left to be worked again. Tells how many were moved, and what went wrong with others.
    pub(super) fn put_away(
        &self,
        stamp: &str,
        images: &[Entry],
    ) -> io::Result<(usize, Vec<String>)> {
        let target = self.new_done(stamp)?;
        let (mut moved, mut trouble) = (0, Vec::new());
        for image in images {
            let from = self.path.join(&image.path);
            let to = target.join(&image.path);
            let put = || -> io::Result<bool> {
                if Stamp::of(&fs::metadata(&from)?) != image.stamp {
                    return Ok(false);
                }
                if let Some(parent) = to.parent() {
                    fs::create_dir_all(parent)?;
                }
                rename(&from, &to)?;
                Ok(true)
            };
            match put() {
                Ok(true) => moved += 1,
                Ok(false) => trouble.push(format!(
                    "{} was written to meanwhile: it will be worked again",
                    from.display()
                )),
                // Somebody else took it away.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => trouble.push(format!("cannot move {}: {error}", from.display())),
            }
        }
        Ok((moved, trouble))
    }

    fn new_done(&self, stamp: &str) -> io::Result<PathBuf> {
        let parent = self.path.join(DONE);
        fs::create_dir_all(&parent)?;
        for number in 1.. {
            let path = if number == 1 {
                parent.join(stamp)
            } else {
                parent.join(format!("{stamp}-{number}"))
            };
            match fs::create_dir(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => return made.map(|()| path),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }
}

/// Renames; where `done/` is on another disk, copies and removes.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            fs::copy(from, to)?;
            fs::File::open(to)?.sync_all()?;
            fs::remove_file(from)
        }
        renamed => renamed,
    }
}

/// By its extension, or by its first bytes where it has none.
fn is_image(path: &Path) -> bool {
    match path.extension() {
        Some(extension) => {
            let extension = extension.to_string_lossy().to_ascii_lowercase();
            IMAGES.contains(&extension.as_str())
        }
        None => {
            let mut first = Vec::new();
            fs::File::open(path)
                .and_then(|file| file.take(64).read_to_end(&mut first))
                .is_ok_and(|_| infer::is_image(&first))
        }
    }
}

/// Now, in UTC, as it stands in names: `20260921T141320Z`.
pub(super) fn stamp_now() -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    OffsetDateTime::now_utc()
        .format(&format)
        .unwrap_or_else(|_| "undated".to_owned())
}

/// Whether a path still is the folder that it was: one that vanished and came back is another.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[Entry]) -> Vec<String> {
        files
            .iter()
            .map(|file| file.path.display().to_string())
            .collect()
    }

    fn folder_with(files: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("folder");
        for name in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
            fs::write(path, name.as_bytes()).expect("file");
        }
        let path = folder.path().to_path_buf();
        (folder, path)
    }

    #[test]
    fn only_images_that_arrived_are_seen() {
        let (_held, path) = folder_with(&[
            "b.JPG",
            "a.png",
            "notes.txt",
            ".a.jpg.part",
            "a.jpg.tmp",
            "labels/x.png",
            "done/1/y.jpg",
            "cam1/done/z.jpg",
        ]);
        fs::write(path.join("bare"), b"\xff\xd8\xff\xe0").expect("a JPEG without a name");
        fs::write(path.join("README"), b"text").expect("a text");
        let (flat, _) = Folder::new(path.clone(), false).images().expect("read");
        assert_eq!(names(&flat), ["a.png", "b.JPG", "bare"]);
        let (deep, _) = Folder::new(path, true).images().expect("read");
        assert_eq!(names(&deep), ["a.png", "b.JPG", "bare", "cam1/done/z.jpg"]);
    }

    #[test]
    fn what_was_worked_is_moved_and_what_was_written_since_stays() {
        let (_held, path) = folder_with(&["a.jpg", "b.jpg", "c.jpg", "cam1/d.jpg"]);
        let folder = Folder::new(path.clone(), true);
        let (images, _) = folder.images().expect("read");
        fs::write(path.join("b.jpg"), b"a longer one").expect("written");
        fs::remove_file(path.join("c.jpg")).expect("removed");
        let (moved, trouble) = folder.put_away("T", &images).expect("moved");
        assert_eq!((moved, trouble.len()), (2, 1));
        assert!(path.join("done/T/a.jpg").exists() && path.join("done/T/cam1/d.jpg").exists());
        assert_eq!(names(&folder.images().expect("read").0), ["b.jpg"]);
        let (images, _) = folder.images().expect("read");
        folder.put_away("T", &images).expect("moved");
        assert!(
            path.join("done/T-2/b.jpg").exists(),
            "a batch of the same second"
        );
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error() {
        let folder = Folder::new(PathBuf::from("/nonexistent/watched"), false);
        assert!(folder.images().is_err());
        assert_eq!(identity(folder.path()), None);
    }
}
