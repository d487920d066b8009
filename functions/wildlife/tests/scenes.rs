//! The generator: the same seed gives the same bytes; images are what they claim to be.
#![allow(clippy::unwrap_used)] // In a test, to panic is to fail.

use std::io::{Cursor, Read};
use stoic_wildlife::pixels::{self, Limits};
use stoic_wildlife::scenes::{Class, Generator, PackageOptions, Summary, write_package};

fn package(options: &PackageOptions) -> (Vec<u8>, Summary) {
    let mut bytes = Cursor::new(Vec::new());
    let mut told = Vec::new();
    let summary = write_package(&mut bytes, options, |done| told.push(done)).unwrap();
    assert_eq!(told, (1..=options.count).collect::<Vec<_>>());
    (bytes.into_inner(), summary)
}

#[test]
fn a_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let options = PackageOptions {
        count: 6,
        size: (480, 270),
        ..PackageOptions::default()
    };
    let (one, summary) = package(&options);
    let (three, _) = package(&PackageOptions {
        threads: 3,
        ..options.clone()
    });
    assert!(one == three);
    let (other, _) = package(&PackageOptions { seed: 2, ..options });
    assert!(one != other);
    assert_eq!(summary.images.len(), 6);
    assert_eq!(summary.images[5].file, "scene_00005.jpg");
}

#[test]
fn labelled_packages_have_one_folder_per_class() {
    let options = PackageOptions {
        count: 7,
        size: (240, 135),
        labelled: true,
        classes: vec![Class::Fox, Class::Human, Class::Empty],
        ..PackageOptions::default()
    };
    let (bytes, summary) = package(&options);
    assert_eq!(
        summary.classes.into_iter().collect::<Vec<_>>(),
        [("empty", 2), ("fox", 3), ("human", 2)]
    );
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    for (i, truth) in summary.images.iter().enumerate() {
        let mut file = zip.by_index(i).unwrap();
        assert_eq!(file.name().unwrap(), truth.file);
        assert!(truth.file.starts_with(&format!("{}/", truth.label.label())));
        assert_eq!(file.compression(), zip::CompressionMethod::Stored);
        let mut jpeg = Vec::new();
        file.read_to_end(&mut jpeg).unwrap();
        pixels::decode(&jpeg, 32, 32, Limits::default()).unwrap();
        // Only a creature has a box, and the box lies in the image.
        assert_eq!(truth.bbox.is_none(), truth.label == Class::Empty);
        if let Some([x, y, w, h]) = truth.bbox {
            assert!(x >= 0.0 && y >= 0.0 && x + w <= 1.001 && y + h <= 1.001 && w * h > 0.0005);
        }
    }
}

#[test]
fn full_size_scenes_are_as_large_as_the_papers() {
    let generator = Generator::new(3);
    let mut bytes = 0;
    for (i, class) in Class::ALL.into_iter().enumerate() {
        let (jpeg, truth) = generator
            .scene(i as u64, class, "x.jpg".to_owned())
            .unwrap();
        let header = turbojpeg::read_header(&jpeg).unwrap();
        assert_eq!((header.width, header.height), (1920, 1080));
        assert_eq!(truth.label, class);
        bytes += jpeg.len();
    }
    // 0.212 MB each in the paper.
    assert!((100_000..350_000).contains(&(bytes / 5)), "{}", bytes / 5);
}
