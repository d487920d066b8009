//! Files as they come from the field: whatever the bytes are, pixels or an error with a code.
#![allow(clippy::unwrap_used)] // In a test, to panic is to fail.

use std::path::{Path, PathBuf};
use stoic_wildlife::pixels::{self, Frame, Limits};

const CODES: [&str; 5] = [
    "image_empty",
    "image_unsupported",
    "image_too_large",
    "image_truncated",
    "image_invalid",
];

/// A folder of `../shared/data`, which a user's clone does not have.
fn data(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(folder);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: {} is absent", path.display());
    None
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    found.sort();
    found
}

fn code(bytes: &[u8]) -> &'static str {
    match pixels::decode(bytes, 224, 224, Limits::default()) {
        Ok(rgb) => {
            assert_eq!(rgb.len(), 224 * 224 * 3);
            "ok"
        }
        Err(error) => {
            assert!(CODES.contains(&error.code()), "{error:?}");
            assert!(!error.to_string().is_empty());
            error.code()
        }
    }
}

#[test]
fn every_odd_image_has_pixels_or_a_code() {
    let Some(folder) = data("odd_images") else {
        return;
    };
    let expected = [
        ("exiforient_Landscape_6.jpg", "ok"),
        ("exiforient_Portrait_5.jpg", "ok"),
        ("imagers_16bpc_basn2c16.png", "ok"),
        ("imagers_Bad_reallybig.bmp", "image_unsupported"),
        ("imagers_exif_orientation_portrait_2.jpg", "ok"),
        ("jpegdecoder_cmyk2.jpg", "ok"),
        ("jpegdecoder_empty.jpg", "image_empty"),
        ("jpegdecoder_icc_missing_chunk.jpeg", "ok"),
        ("jpegdecoder_max_size.jpg", "image_too_large"),
        ("jpegdecoder_missing-sof.jpg", "image_invalid"),
        ("jpegdecoder_multiple-0xff-before-eoi.jpg", "ok"),
        ("speciesnet_african_elephants_bw.jpg", "ok"),
        (
            "speciesnet_african_elephants_truncated_file.jpg",
            "image_truncated",
        ),
        ("zune_down_sampled_grayscale_prog.jpg", "ok"),
        ("zune_large_vertical_samp_7680_4320.jpg", "ok"),
    ];
    let mut seen = 0;
    for file in files(&folder) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let found = code(&std::fs::read(&file).unwrap());
        println!("{name}: {found}");
        if let Some((_, wanted)) = expected.iter().find(|(n, _)| *n == name) {
            assert_eq!(found, *wanted, "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, expected.len());
}

#[test]
fn every_real_image_has_pixels() {
    let Some(folder) = data("images") else { return };
    let mut count = 0;
    for file in files(&folder).iter().flat_map(|class| files(class)) {
        assert_eq!(
            code(&std::fs::read(&file).unwrap()),
            "ok",
            "{}",
            file.display()
        );
        count += 1;
    }
    assert!(count >= 32, "{count}");
}

#[test]
fn an_image_cut_or_damaged_anywhere_has_pixels_or_a_code() {
    let mut whole = vec![small_jpeg(), small_png()];
    if let Some(folder) = data("odd_images") {
        whole.push(std::fs::read(folder.join("jpegdecoder_cmyk2.jpg")).unwrap());
        whole.push(std::fs::read(folder.join("imagers_16bpc_basn2c16.png")).unwrap());
    }
    for bytes in whole {
        assert_eq!(code(&bytes), "ok");
        let step = (bytes.len() / 60).max(1);
        for at in (0..bytes.len()).step_by(step) {
            let cut = code(&bytes[..at]);
            // The last bytes may be an end marker alone, or a checksum of nothing.
            assert!(
                cut != "ok" || at + 16 > bytes.len(),
                "cut at {at} of {}",
                bytes.len()
            );
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                code(&damaged);
            }
        }
    }
}

#[test]
fn a_header_that_announces_too_much_costs_nothing() {
    let mut jpeg = small_jpeg();
    let sof = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[sof + 5..sof + 9].copy_from_slice(&[0xfd, 0xe8, 0xfd, 0xe8]);
    assert_eq!(code(&jpeg), "image_too_large");
    let mut png = small_png();
    png[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    assert!(["image_too_large", "image_invalid"].contains(&code(&png)));
    let limits = Limits { pixels: 1000 };
    assert_eq!(
        pixels::decode(&small_jpeg(), 224, 224, limits)
            .unwrap_err()
            .code(),
        "image_too_large"
    );
}

#[test]
fn exif_turns_the_picture_upright() {
    let upright = small_jpeg();
    // The same bytes with EXIF that says: turn clockwise.
    let tiff = [
        b"Exif\0\0II*\0\x08\0\0\0\x01\0".as_slice(),
        &[0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let mut turned = vec![0xff, 0xd8, 0xff, 0xe1];
    turned.extend(((tiff.len() + 2) as u16).to_be_bytes());
    turned.extend(&tiff);
    turned.extend(&upright[2..]);
    let a = Frame::decode(&upright, 40, 40, Limits::default()).unwrap();
    let a = a.fit(pixels::Crop::WHOLE, 40, 40).unwrap();
    let b = pixels::decode(&turned, 40, 40, Limits::default()).unwrap();
    for y in 0..40 {
        for x in 0..40 {
            let (was, is) = (((39 - x) * 40 + y) * 3, (y * 40 + x) * 3);
            assert_eq!(a[was..was + 3], b[is..is + 3], "{x} {y}");
        }
    }
}

#[test]
fn transparent_and_grey_pngs_become_rgb() {
    let png = |color: png::ColorType, data: &[u8]| {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 2);
        encoder.set_color(color);
        encoder
            .write_header()
            .unwrap()
            .write_image_data(data)
            .unwrap();
        pixels::decode(&bytes, 2, 2, Limits::default()).unwrap()
    };
    let clear = png(
        png::ColorType::Rgba,
        &[255, 0, 0, 255, 9, 9, 9, 0, 255, 0, 0, 255, 9, 9, 9, 0],
    );
    assert_eq!(clear, [255, 0, 0, 127, 127, 127, 255, 0, 0, 127, 127, 127]);
    assert_eq!(
        png(png::ColorType::Grayscale, &[1, 2, 3, 4]),
        [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    );
    assert_eq!(
        png(
            png::ColorType::GrayscaleAlpha,
            &[200, 255, 0, 0, 7, 255, 0, 0]
        )[3..6],
        [127; 3]
    );
}

/// A picture of 64 x 48 pixels in which every corner differs.
fn picture() -> Vec<u8> {
    let pixel = |x: usize, y: usize| [x as u8 * 4, y as u8 * 5, (x * y) as u8];
    (0..48)
        .flat_map(|y| (0..64).flat_map(move |x| pixel(x, y)))
        .collect()
}

fn small_jpeg() -> Vec<u8> {
    let pixels = picture();
    let image = turbojpeg::Image {
        pixels: pixels.as_slice(),
        width: 64,
        pitch: 192,
        height: 48,
        format: turbojpeg::PixelFormat::RGB,
    };
    turbojpeg::compress(image, 90, turbojpeg::Subsamp::Sub2x2)
        .unwrap()
        .to_vec()
}

fn small_png() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 64, 48);
    encoder.set_color(png::ColorType::Rgb);
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&picture())
        .unwrap();
    bytes
}
