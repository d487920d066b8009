//! Scenes in a zip, as many cameras would deliver them: `scene_00000.jpg` ..., or one folder per class
//! when the package is meant for training. Images are stored, not deflated: JPEG does not shrink.

use super::{CameraError, Class, Generator, Truth};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// What to put into a package.
#[derive(Debug, Clone)]
pub struct PackageOptions {
    /// Number of scenes.
    pub count: u64,
    /// Seed of everything.
    pub seed: u64,
    /// One folder per class, and classes of equal size; otherwise names tell nothing.
    pub labelled: bool,
    /// The classes to draw from; none means all five.
    pub classes: Vec<Class>,
    /// Size of the images in pixels.
    pub size: (usize, usize),
    /// Threads that paint.
    pub threads: usize,
}

impl Default for PackageOptions {
    fn default() -> Self {
        Self {
            count: 100,
            seed: 1,
            labelled: false,
            classes: Vec::new(),
            size: (1920, 1080),
            threads: 1,
        }
    }
}

/// What a package came to hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// Scenes per class.
    pub classes: BTreeMap<&'static str, u64>,
    /// Bytes of all images.
    pub bytes: u64,
    /// Truth of each scene, in the package's order.
    pub images: Vec<Truth>,
}

/// A package could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A scene failed.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// Writing failed.
    #[error("cannot write the package: {0}")]
    Write(#[from] zip::result::ZipError),
    /// Writing failed.
    #[error("cannot write the package: {0}")]
    Io(#[from] std::io::Error),
}

/// Makes scenes on several threads and writes them in order; `progress` is told after each.
///
/// # Errors
/// When a scene cannot be encoded or the writer fails.
pub fn write_package<W: Write + Seek>(
    writer: W,
    options: &PackageOptions,
    mut progress: impl FnMut(u64),
) -> Result<Summary, PackageError> {
    let plan = plan(options);
    let generator = Generator::with_size(options.seed, options.size.0, options.size.1);
    let mut zip = zip::ZipWriter::new(writer);
    let stored = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    let mut summary = Summary {
        seed: options.seed,
        classes: BTreeMap::new(),
        bytes: 0,
        images: Vec::new(),
    };
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let threads = options.threads.clamp(1, 64);
        // A few scenes may wait for the writer; no more, lest memory fills.
        let (send, receive) = mpsc::sync_channel(threads * 2);
        for _ in 0..threads {
            let send = send.clone();
            let (plan, next, generator) = (&plan, &next, &generator);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((class, name)) = plan.get(index as usize) else {
                        return;
                    };
                    let scene = generator.scene(index, *class, name.clone());
                    if send.send((index, scene)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut early = BTreeMap::new();
        let mut written = 0;
        while let Ok((index, scene)) = receive.recv() {
            early.insert(index, scene);
            while let Some(scene) = early.remove(&written) {
                let (jpeg, truth) = scene?;
                zip.start_file(&truth.file, stored)?;
                zip.write_all(&jpeg)?;
                summary.bytes += jpeg.len() as u64;
                *summary.classes.entry(truth.label.label()).or_default() += 1;
                summary.images.push(truth);
                written += 1;
                progress(written);
            }
        }
        Ok::<(), PackageError>(())
    })?;
    zip.finish()?;
    Ok(summary)
}

/// Class and name of each scene.
fn plan(options: &PackageOptions) -> Vec<(Class, String)> {
    let classes: &[Class] = if options.classes.is_empty() {
        &Class::ALL
    } else {
        &options.classes
    };
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed ^ 0x5ce0_e5ce_0e5c_e0e5);
    (0..options.count)
        .map(|i| {
            if options.labelled {
                let class = classes[i as usize % classes.len()];
                (class, format!("{}/scene_{i:05}.jpg", class.label()))
            } else {
                (
                    classes[rng.random_range(0..classes.len())],
                    format!("scene_{i:05}.jpg"),
                )
            }
        })
        .collect()
}
