//! Secrets of functions: named files under the data folder that pods read, and nothing else shows.
//!
//! May not log or format what a secret holds. A pod gets copies of those that its function names, in a
//! folder of its own, so that it never sees another's.

use crate::function::FileSpec;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where containers find them, as OpenFaaS has it.
pub const IN_CONTAINERS: &str = "/var/openfaas/secrets";
/// Largest secret.
pub const LARGEST: usize = 1 << 20;
/// Longest name.
const LONGEST_NAME: usize = 253;

/// Why a secret was refused.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The name cannot be that of a file that a pod reads.
    #[error(
        "`{0}` is no name of a secret: letters, digits, `.`, `_` and `-`, at most 253, not beginning with `.`"
    )]
    Name(String),
    /// It is larger than [`LARGEST`].
    #[error("the secret has {0} bytes; the most is {LARGEST}")]
    TooLarge(usize),
    /// The disk says no.
    #[error("the folder of secrets: {0}")]
    Disk(#[from] io::Error),
}

/// See the module.
#[derive(Debug)]
pub struct Secrets {
    folder: PathBuf,
    pods: PathBuf,
    next: AtomicU64,
}

impl Secrets {
    /// The secrets under this data folder.
    ///
    /// # Errors
    /// The folders cannot be made.
    pub fn open(data: &Path) -> io::Result<Self> {
        let (folder, pods) = (data.join("secrets"), data.join("pods"));
        for folder in [&folder, &pods] {
            private_folder(folder)?;
        }
        Ok(Self {
            folder,
            pods,
            next: AtomicU64::new(0),
        })
    }

    /// Keeps a secret, in place of one of the same name; says whether there was one. Written whole or
    /// not at all. Pods that run keep what they have.
    ///
    /// # Errors
    /// The name or size cannot be, or the disk says no.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<bool, SecretError> {
        check_name(name)?;
        if bytes.len() > LARGEST {
            return Err(SecretError::TooLarge(bytes.len()));
        }
        let path = self.folder.join(name);
        let existed = path.exists();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        // Names begin with no dot, so that this is none.
        let half = self.folder.join(format!(".{turn}-{}", std::process::id()));
        let _ = fs::remove_file(&half);
        let written = write_private(&half, bytes, 0o600)
            .and_then(|()| fs::rename(&half, &path))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        if written.is_err() {
            let _ = fs::remove_file(&half);
        }
        written?;
        Ok(existed)
    }

    /// The names, in order.
    ///
    /// # Errors
    /// The disk says no.
    pub fn list(&self) -> Result<Vec<String>, SecretError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            if let Ok(name) = entry?.file_name().into_string()
                && check_name(&name).is_ok()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Forgets a secret; says whether there was one.
    ///
    /// # Errors
    /// The name cannot be, or the disk says no.
    pub fn remove(&self, name: &str) -> Result<bool, SecretError> {
        check_name(name)?;
        match fs::remove_file(self.folder.join(name)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// The first of these that there is not.
    #[must_use]
    pub fn missing<'a>(&self, names: &'a [String]) -> Option<&'a str> {
        names
            .iter()
            .map(String::as_str)
            .find(|name| check_name(name).is_err() || !self.folder.join(name).is_file())
    }

    /// What these hold, by name, for a site that lays them out itself.
    ///
    /// # Errors
    /// One of them is gone, or the disk says no.
    pub fn read(&self, names: &[String]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let read = |name: &String| {
            check_name(name).map_err(|e| io::Error::other(e.to_string()))?;
            let bytes = fs::read(self.folder.join(name))
                .map_err(|e| io::Error::new(e.kind(), format!("secret `{name}`: {e}")))?;
            Ok((name.clone(), bytes))
        };
        names.iter().map(read).collect()
    }

    /// Copies these into a folder of the pod's own at this site, and gives it. `readable`: whether users other than
    /// the gateway's may read the files once they are inside the folder, as those of a container have
    /// to; on the host nobody but the gateway's user gets into the folder above.
    ///
    /// # Errors
    /// One of them is gone, or the disk says no.
    pub fn lay_out(
        &self,
        site: &str,
        pod: &str,
        names: &[String],
        readable: bool,
    ) -> io::Result<PathBuf> {
        let folder = self.of_pod(site, pod)?.join("secrets");
        let _ = fs::remove_dir_all(&folder);
        let (folder_mode, file_mode) = if readable {
            (0o755, 0o444)
        } else {
            (0o700, 0o400)
        };
        DirBuilder::new().mode(folder_mode).create(&folder)?;
        let mode: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(folder_mode);
        fs::set_permissions(&folder, mode)?;
        for name in names {
            let bytes = fs::read(self.folder.join(name))
                .map_err(|e| io::Error::new(e.kind(), format!("secret `{name}`: {e}")))?;
            write_private(&folder.join(name), &bytes, file_mode)?;
        }
        Ok(folder)
    }

    /// Writes files into a folder of the pod's own at this site, beside its secrets, and gives where each
    /// is. Everybody may read them who gets there.
    ///
    /// # Errors
    /// One of them holds nothing that can be written, or the disk says no.
    pub fn lay_out_files(
        &self,
        site: &str,
        pod: &str,
        files: &[FileSpec],
    ) -> io::Result<Vec<PathBuf>> {
        let folder = self.of_pod(site, pod)?.join("files");
        let _ = fs::remove_dir_all(&folder);
        private_folder(&folder)?;
        let write = |(n, file): (usize, &FileSpec)| {
            let bytes = file.bytes().map_err(|e| io::Error::other(e.to_string()))?;
            // Each is mounted by itself: its name here does not matter.
            let path = folder.join(n.to_string());
            write_private(&path, &bytes, 0o444)?;
            Ok(path)
        };
        files.iter().enumerate().map(write).collect()
    }

    /// The folder of a pod, in which nothing is mounted but parts.
    fn of_pod(&self, site: &str, pod: &str) -> io::Result<PathBuf> {
        let of_site = self.pods.join(site);
        private_folder(&of_site)?;
        let folder = of_site.join(pod);
        private_folder(&folder)?;
        Ok(folder)
    }

    /// Removes a pod's copies.
    pub fn clear(&self, site: &str, pod: &str) {
        let _ = fs::remove_dir_all(self.pods.join(site).join(pod));
    }

    /// Removes the copies of a site's pods that are no more: all but these.
    pub fn clear_all_but(&self, site: &str, pods: &[String]) {
        let Ok(entries) = fs::read_dir(self.pods.join(site)) else {
            return;
        };
        for entry in entries.flatten() {
            let keep = |name: &str| pods.iter().any(|pod| pod == name);
            if !entry.file_name().to_str().is_some_and(keep) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
}

/// A new file of exactly this mode.
fn write_private(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.sync_all()
}

fn check_name(name: &str) -> Result<(), SecretError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let good = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && !name.starts_with('.')
        && name.bytes().all(allowed);
    if good {
        Ok(())
    } else {
        Err(SecretError::Name(name.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        let metadata = fs::metadata(path).expect("is there");
        metadata.permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_files_that_nobody_else_reads() {
        let data = tempfile::tempdir().expect("folder");
        let secrets = Secrets::open(data.path()).expect("opens");
        assert!(!secrets.put("b", b"old").expect("kept"));
        assert!(secrets.put("b", b"new").expect("kept"));
        assert!(!secrets.put("a.key_1-x", b"").expect("kept"));
        assert_eq!(secrets.list().expect("listed"), ["a.key_1-x", "b"]);
        assert_eq!(mode(&data.path().join("secrets/b")), 0o600);
        assert_eq!(mode(&data.path().join("secrets")), 0o700);

        let names = ["b".to_owned()];
        let folder = secrets
            .lay_out("edge", "pod", &names, true)
            .expect("laid out");
        assert_eq!(fs::read(folder.join("b")).expect("reads"), b"new");
        assert_eq!((mode(&folder), mode(&folder.join("b"))), (0o755, 0o444));
        assert!(!folder.join("a.key_1-x").exists());
        let file = FileSpec {
            path: "/kubeless/a.py".to_owned(),
            text: Some("code".to_owned()),
            base64: None,
        };
        let laid = secrets.lay_out_files("edge", "pod", &[file]);
        let laid = laid.expect("laid out");
        assert_eq!(fs::read(&laid[0]).expect("reads"), b"code");
        assert_eq!(mode(&laid[0]), 0o444);
        assert!(!laid[0].starts_with(&folder), "apart from the secrets");
        secrets.clear("edge", "pod");
        assert!(!laid[0].exists());
        assert!(!folder.exists());

        assert!(secrets.remove("b").expect("removed"));
        assert!(!secrets.remove("b").expect("none"));
        assert_eq!(secrets.missing(&names), Some("b"));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let data = tempfile::tempdir().expect("folder");
        let secrets = Secrets::open(data.path()).expect("opens");
        for name in ["", ".", "..", "../x", "a/b", ".hidden", "a b", "ä", "a\0"] {
            assert!(secrets.put(name, b"x").is_err(), "{name:?}");
            assert!(secrets.remove(name).is_err(), "{name:?}");
            assert!(secrets.missing(&[name.to_owned()]).is_some(), "{name:?}");
        }
        assert!(secrets.put("large", &vec![0; LARGEST + 1]).is_err());
        assert!(!format!("{secrets:?}").contains("large"));
    }
}
