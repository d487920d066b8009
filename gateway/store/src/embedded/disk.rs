//! The directory: buckets, object files, temporary files, and what makes a write durable.
//!
//! ```text
//! lock                      held while a server runs
//! buckets/<bucket>/<sha256 of the key>
//! temporary/<number>        bodies on their way in; emptied at every start
//! ```
//!
//! An object appears by one rename of a file that is complete, verified and synced; the answer
//! goes out after the directory is synced too.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::object::{self, Metadata};
use crate::StoreError;

/// The store's directory, locked for this process.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    buckets: RwLock<HashMap<String, Arc<Bucket>>>,
    next_temporary: AtomicU64,
    _lock: File,
}

/// What a listing needs to know of an object.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) bytes: u64,
    pub(super) etag: String,
    pub(super) modified: u64,
}

pub(super) type Index = BTreeMap<String, Summary>;

/// What must hold for a write to take place.
#[derive(Clone, Debug, Default)]
pub(super) enum Precondition {
    #[default]
    None,
    Absent,
    Etag(String),
    Present,
}

/// Why a write did not take place.
#[derive(Debug)]
pub(super) enum WriteError {
    Precondition,
    Io(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Disk {
    /// Opens or makes the directory, locks it, and removes what was left unfinished.
    pub(super) fn open(root: &Path) -> Result<Self, StoreError> {
        let trouble = |e: &io::Error| StoreError::from_io(format!("{}", root.display()), e);
        fs::create_dir_all(root).map_err(|e| trouble(&e))?;
        let lock = root.join("lock");
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock)
            .map_err(|e| trouble(&e))?;
        let lock = File::open(lock).map_err(|e| trouble(&e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse {
                    directory: root.to_owned(),
                });
            }
            Err(TryLockError::Error(e)) => return Err(trouble(&e)),
        }
        let buckets = Self::prepare(root).map_err(|e| trouble(&e))?;
        Ok(Self {
            root: root.to_owned(),
            buckets: RwLock::new(buckets),
            next_temporary: AtomicU64::new(0),
            _lock: lock,
        })
    }

    fn prepare(root: &Path) -> io::Result<HashMap<String, Arc<Bucket>>> {
        let temporary = root.join("temporary");
        match fs::remove_dir_all(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::create_dir(&temporary)?;
        let directory = root.join("buckets");
        fs::create_dir_all(&directory)?;
        sync_directory(root)?;
        let mut buckets = HashMap::new();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            match entry.file_name().into_string() {
                Ok(name) if s3s::path::check_bucket_name(&name) && entry.file_type()?.is_dir() => {
                    buckets.insert(name, Arc::new(Bucket::new(entry.path())));
                }
                _ => tracing::warn!(path = %entry.path().display(), "not a bucket, ignored"),
            }
        }
        Ok(buckets)
    }

    pub(super) fn bucket(&self, name: &str) -> Option<Arc<Bucket>> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(name).cloned()
    }

    pub(super) fn bucket_names(&self) -> Vec<String> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = buckets.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Makes a bucket; `false` when it is there already. The name must have been checked.
    pub(super) fn create_bucket(&self, name: &str) -> io::Result<bool> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if buckets.contains_key(name) {
            return Ok(false);
        }
        let directory = self.root.join("buckets");
        let path = directory.join(name);
        match fs::create_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        sync_directory(&directory)?;
        buckets.insert(name.to_owned(), Arc::new(Bucket::new(path)));
        Ok(true)
    }

    /// Removes an empty bucket.
    pub(super) fn delete_bucket(&self, name: &str) -> io::Result<()> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        let directory = self.root.join("buckets");
        fs::remove_dir(directory.join(name))?;
        buckets.remove(name);
        sync_directory(&directory)
    }

    /// A new temporary file, removed when dropped.
    pub(super) fn temporary(&self) -> io::Result<Temporary> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join("temporary").join(number.to_string());
        let file = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)?;
        Ok(Temporary { path, file })
    }
}

/// A file that vanishes when dropped, unless it became an object.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    pub(super) file: File,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Renamed away, it is not there: nothing to do. Left over, the next start removes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// One bucket's directory.
#[derive(Debug)]
pub(super) struct Bucket {
    path: PathBuf,
    /// The keys in order, read from the files at the first listing. The lock also makes a
    /// precondition and its write one step.
    index: Mutex<Option<Index>>,
}

impl Bucket {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            index: Mutex::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Index>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, key: &str) -> PathBuf {
        self.path.join(object::file_name(key))
    }

    pub(super) fn open(&self, key: &str) -> io::Result<(File, Metadata)> {
        let (file, metadata) = object::open(&self.file(key))?;
        if metadata.key != key {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "object file of another key",
            ));
        }
        Ok((file, metadata))
    }

    /// Turns a temporary file that holds all data into the object `metadata` describes.
    pub(super) fn commit(
        &self,
        mut temporary: Temporary,
        metadata: &Metadata,
        precondition: &Precondition,
    ) -> Result<(), WriteError> {
        metadata.append_to(&mut temporary.file)?;
        temporary.file.sync_data()?;
        {
            let mut index = self.lock();
            let holds = match precondition {
                Precondition::None => true,
                Precondition::Absent => !self.file(&metadata.key).try_exists()?,
                Precondition::Present => self.file(&metadata.key).try_exists()?,
                Precondition::Etag(etag) => {
                    self.open(&metadata.key).is_ok_and(|(_, m)| m.etag == *etag)
                }
            };
            if !holds {
                return Err(WriteError::Precondition);
            }
            fs::rename(&temporary.path, self.file(&metadata.key))?;
            if let Some(index) = index.as_mut() {
                index.insert(metadata.key.clone(), summary(metadata));
            }
        }
        sync_directory(&self.path)?;
        Ok(())
    }

    /// Removes objects; those that are not there count as removed. Answers per key.
    pub(super) fn delete(&self, keys: &[String]) -> io::Result<Vec<io::Result<()>>> {
        let mut results = Vec::with_capacity(keys.len());
        {
            let mut index = self.lock();
            for key in keys {
                let result = match fs::remove_file(self.file(key)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                    _ => Ok(()),
                };
                if let (Ok(()), Some(index)) = (&result, index.as_mut()) {
                    index.remove(key);
                }
                results.push(result);
            }
        }
        sync_directory(&self.path)?;
        Ok(results)
    }

    /// Hands the keys in order to `look`. Blocks, and reads every file the first time.
    pub(super) fn with_index<T>(&self, look: impl FnOnce(&Index) -> T) -> io::Result<T> {
        let mut index = self.lock();
        if let Some(index) = index.as_ref() {
            return Ok(look(index));
        }
        let read = self.read_index()?;
        let result = look(&read);
        *index = Some(read);
        Ok(result)
    }

    fn read_index(&self) -> io::Result<Index> {
        let mut index = Index::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            match object::open(&path) {
                Ok((_, metadata)) => {
                    let summary = summary(&metadata);
                    index.insert(metadata.key, summary);
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "unreadable object, not listed");
                }
            }
        }
        Ok(index)
    }
}

fn summary(metadata: &Metadata) -> Summary {
    Summary {
        bytes: metadata.bytes,
        etag: metadata.etag.clone(),
        modified: metadata.modified,
    }
}

/// Makes renames and removals in a directory survive a power cut.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
