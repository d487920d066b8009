//! Altered copies of a training image: what the same scene might have looked like. Stands in for the
//! authors' Keras `ImageDataGenerator` (paper, section 4.1).

use crate::pixels::{Crop, Frame, ImageError};
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;

/// One copy at `size` x `size` pixels. Crops keep most of the frame, since the animal may stand
/// anywhere in it.
///
/// # Errors
/// `image_invalid` when the frame cannot be resized.
pub fn copy(frame: &Frame, size: usize, rng: &mut ChaCha8Rng) -> Result<Vec<u8>, ImageError> {
    let keep = rng.random_range(0.72..1.0f32);
    let stretch = rng.random_range(0.88..1.0f32);
    let (width, height) = if rng.random_bool(0.5) {
        (keep, keep * stretch)
    } else {
        (keep * stretch, keep)
    };
    let crop = Crop {
        left: rng.random_range(0.0..=1.0 - width),
        top: rng.random_range(0.0..=1.0 - height),
        width,
        height,
    };
    let mut rgb = frame.fit(crop, size, size)?;
    if rng.random_bool(0.5) {
        mirror(&mut rgb, size);
    }
    tone(&mut rgb, rng);
    if rng.random_bool(0.25) {
        grey(&mut rgb);
    }
    if rng.random_bool(0.2) {
        rgb = blurred(&rgb, size);
    }
    if rng.random_bool(0.35) {
        grain(&mut rgb, rng);
    }
    Ok(rgb)
}

fn mirror(rgb: &mut [u8], size: usize) {
    for row in rgb.chunks_exact_mut(size * 3) {
        for x in 0..size / 2 {
            for c in 0..3 {
                row.swap(x * 3 + c, (size - 1 - x) * 3 + c);
            }
        }
    }
}

/// Brightness, contrast and white balance.
fn tone(rgb: &mut [u8], rng: &mut ChaCha8Rng) {
    let contrast = rng.random_range(0.75..1.3f32);
    let light = rng.random_range(-28.0..28.0f32);
    let tables: [[u8; 256]; 3] = std::array::from_fn(|_| {
        let tint = rng.random_range(0.94..1.06f32);
        std::array::from_fn(|v| {
            (((v as f32 - 110.0) * contrast + 110.0) * tint + light).clamp(0.0, 255.0) as u8
        })
    });
    for pixel in rgb.chunks_exact_mut(3) {
        for (v, table) in pixel.iter_mut().zip(&tables) {
            *v = table[usize::from(*v)];
        }
    }
}

/// As an infrared night shows it: no colour.
fn grey(rgb: &mut [u8]) {
    for pixel in rgb.chunks_exact_mut(3) {
        let v =
            (77 * u32::from(pixel[0]) + 150 * u32::from(pixel[1]) + 29 * u32::from(pixel[2])) >> 8;
        pixel.fill(v as u8);
    }
}

/// Each pixel becomes the mean of itself (twice) and its four neighbours.
fn blurred(rgb: &[u8], size: usize) -> Vec<u8> {
    let at = |x: usize, y: usize, c: usize| u32::from(rgb[(y * size + x) * 3 + c]);
    let mut out = Vec::with_capacity(rgb.len());
    for y in 0..size {
        let (up, down) = (y.saturating_sub(1), (y + 1).min(size - 1));
        for x in 0..size {
            let (left, right) = (x.saturating_sub(1), (x + 1).min(size - 1));
            for c in 0..3 {
                let sum = 2 * at(x, y, c)
                    + at(left, y, c)
                    + at(right, y, c)
                    + at(x, up, c)
                    + at(x, down, c);
                out.push((sum / 6) as u8);
            }
        }
    }
    out
}

/// Sensor noise.
fn grain(rgb: &mut [u8], rng: &mut ChaCha8Rng) {
    let strength = rng.random_range(2..10i32);
    let mut bytes = vec![0u8; rgb.len()];
    rng.fill_bytes(&mut bytes);
    for (v, b) in rgb.iter_mut().zip(bytes) {
        let noise = (i32::from(b) - 128) * strength / 64;
        *v = (i32::from(*v) + noise).clamp(0, 255) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::Orientation;
    use rand::SeedableRng;

    #[test]
    fn copies_differ_and_are_the_same_for_a_seed() {
        let rgb: Vec<u8> = (0..48 * 32 * 3).map(|i| (i * 7 % 251) as u8).collect();
        let frame = Frame {
            width: 48,
            height: 32,
            rgb,
            orientation: Orientation::default(),
        };
        let copies = |seed| -> Vec<Vec<u8>> {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            (0..20)
                .map(|_| copy(&frame, 24, &mut rng).unwrap())
                .collect()
        };
        let first = copies(1);
        assert!(first.iter().all(|c| c.len() == 24 * 24 * 3));
        assert!((1..20).all(|i| first[i] != first[0]));
        assert_eq!(first, copies(1));
        assert_ne!(first, copies(2));
    }

    #[test]
    fn mirroring_twice_changes_nothing() {
        let rgb: Vec<u8> = (0..5 * 5 * 3).collect();
        let mut twice = rgb.clone();
        mirror(&mut twice, 5);
        assert_ne!(twice, rgb);
        mirror(&mut twice, 5);
        assert_eq!(twice, rgb);
    }
}
