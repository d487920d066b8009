//! Where the binaries under test are.

use std::path::{Path, PathBuf};

/// Folders that are searched: those in `$STOIC_BIN_DIR`, else the one that the test was built into.
#[must_use]
pub fn folders() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os("STOIC_BIN_DIR").filter(|value| !value.is_empty()) {
        return std::env::split_paths(&named).collect();
    }
    let test = std::env::current_exe().expect("a process knows its executable");
    // target/debug/deps/NAME-HASH
    let profile = test.parent().and_then(Path::parent).map(Path::to_path_buf);
    profile.into_iter().collect()
}

/// A binary that has to be there.
///
/// # Panics
/// It is not; says how to build it.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    optional_binary(name).unwrap_or_else(|| {
        panic!(
            "there is no `{name}` in {:?}: build it (cargo build -p stoic-gateway -p stoic-echo), \
             or name the folders of the binaries in STOIC_BIN_DIR, separated by `:`",
            folders()
        )
    })
}

/// A binary that some machines do not build.
#[must_use]
pub fn optional_binary(name: &str) -> Option<PathBuf> {
    let mut all = folders().into_iter().map(|folder| folder.join(name));
    all.find(|path| path.is_file())
}

/// A folder of the shared data set beside the repository, where this machine has one.
#[must_use]
pub fn shared_data(name: &str) -> Option<PathBuf> {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    above.find_map(|folder| {
        Some(folder.join("shared/data").join(name)).filter(|found| found.is_dir())
    })
}
