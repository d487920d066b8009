//! What a cheap camera makes of a scene: infrared flash at night, exposure, vignetting, sensor noise,
//! the strip with date and time at the lower edge, JPEG.

use super::Light;
use super::canvas::Canvas;
use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use turbojpeg::{Compressor, PixelFormat, Subsamp};

/// A picture could not be scaled or encoded.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// Scaling.
    #[error("cannot scale the scene: {0}")]
    Scale(String),
    /// Encoding.
    #[error("cannot encode the scene: {0}")]
    Encode(#[from] turbojpeg::Error),
}

/// Sensor noise shared by all pictures of a generator: a long run of approximately normal values.
#[derive(Debug)]
pub(super) struct Camera {
    grain: Vec<i16>,
}

/// Deviation of [`Camera::grain`].
const GRAIN_DEVIATION: f32 = 64.0;

impl Camera {
    const GRAINS: usize = 1 << 18;

    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        // The sum of four uniform bytes has deviation 148: near enough to a normal one.
        let grain = (0..Self::GRAINS)
            .map(|_| {
                let sum: i32 = rng
                    .random::<u32>()
                    .to_le_bytes()
                    .iter()
                    .map(|&b| i32::from(b))
                    .sum();
                ((sum - 510) as f32 * GRAIN_DEVIATION / 147.8) as i16
            })
            .collect();
        Self { grain }
    }

    /// Exposes the canvas at the final size and encodes it.
    pub(super) fn expose(
        &self,
        canvas: &mut Canvas,
        rng: &mut ChaCha8Rng,
        light: Light,
        width: usize,
        height: usize,
    ) -> Result<Vec<u8>, CameraError> {
        let night = light == Light::Night;
        develop(canvas, rng, light);
        let small: Vec<u8> = canvas
            .pixels
            .iter()
            .flat_map(|p| p.map(|v| (v * 255.0 + 0.5).clamp(0.0, 255.0) as u8))
            .collect();
        let from = Image::from_vec_u8(
            canvas.width as u32,
            canvas.height as u32,
            small,
            PixelType::U8x3,
        )
        .map_err(|e| CameraError::Scale(e.to_string()))?;
        let mut large = Image::new(width as u32, height as u32, PixelType::U8x3);
        let options =
            ResizeOptions::new().resize_alg(ResizeAlg::Interpolation(FilterType::Bilinear));
        Resizer::new()
            .resize(&from, &mut large, &options)
            .map_err(|e| CameraError::Scale(e.to_string()))?;
        let mut pixels = large.into_vec();
        let deviation = if night {
            rng.random_range(2.5..4.5f32)
        } else {
            rng.random_range(1.5..3.0f32)
        };
        self.add_grain(&mut pixels, width, rng, deviation, night);
        strip(&mut pixels, width, height, rng, light);
        let mut compressor = Compressor::new()?;
        compressor.set_quality(rng.random_range(72..=80))?;
        compressor.set_subsamp(Subsamp::Sub2x2)?;
        let image = turbojpeg::Image {
            pixels: pixels.as_slice(),
            width,
            pitch: width * 3,
            height,
            format: PixelFormat::RGB,
        };
        Ok(compressor.compress_to_vec(image)?)
    }

    fn add_grain(
        &self,
        pixels: &mut [u8],
        width: usize,
        rng: &mut ChaCha8Rng,
        deviation: f32,
        grey: bool,
    ) {
        let strength = (deviation / GRAIN_DEVIATION * 256.0) as i32;
        for row in pixels.chunks_exact_mut(width * 3) {
            let room = Self::GRAINS.saturating_sub(row.len()).max(1);
            let start = rng.random_range(0..room);
            let grain = &self.grain[start..];
            if grey {
                for (pixel, &g) in row.chunks_exact_mut(3).zip(grain) {
                    let v = i32::from(pixel[0]) + ((i32::from(g) * strength) >> 8);
                    pixel.fill(v.clamp(0, 255) as u8);
                }
            } else {
                for (v, &g) in row.iter_mut().zip(grain) {
                    *v = (i32::from(*v) + ((i32::from(g) * strength) >> 8)).clamp(0, 255) as u8;
                }
            }
        }
    }
}

/// Exposure, tint, vignetting; at night the look of an infrared flash.
fn develop(canvas: &mut Canvas, rng: &mut ChaCha8Rng, light: Light) {
    let (w, h) = (canvas.width as f32, canvas.height as f32);
    let exposure = rng.random_range(0.85..1.15f32);
    let contrast = rng.random_range(0.85..1.15f32);
    let warmth = match light {
        Light::Dawn | Light::Dusk => rng.random_range(0.04..0.16f32),
        Light::Day => rng.random_range(-0.05..0.06),
        Light::Overcast => rng.random_range(-0.08..0.02),
        Light::Night => 0.0,
    };
    let vignette = if light == Light::Night {
        rng.random_range(0.55..0.9f32)
    } else {
        rng.random_range(0.0..0.3)
    };
    let (cx, cy) = (
        w * rng.random_range(0.4..0.6),
        h * rng.random_range(0.45..0.65),
    );
    let reach = 1.0 / (w * w * 0.3);
    for y in 0..canvas.height {
        for x in 0..canvas.width {
            let (dx, dy) = (x as f32 - cx, y as f32 - cy);
            let fall = 1.0 - vignette * ((dx * dx + dy * dy) * reach).min(1.0);
            let p = &mut canvas.pixels[y * canvas.width + x];
            if light == Light::Night {
                // Foliage reflects infrared well; distance swallows the flash.
                let v = 0.40 * p[0] + 0.50 * p[1] + 0.10 * p[2];
                let v = ((v * 1.05 - 0.40) * contrast + 0.42) * exposure * fall;
                *p = [v.max(0.0); 3];
            } else {
                let k = exposure * fall;
                let tone = |v: f32, tint: f32| ((v - 0.45) * contrast + 0.45) * k * (1.0 + tint);
                *p = [
                    tone(p[0], warmth),
                    tone(p[1], warmth * 0.2),
                    tone(p[2], -warmth),
                ];
            }
        }
    }
}

/// Digits as rows of three bits.
const DIGITS: [[u8; 5]; 10] = [
    [7, 5, 5, 5, 7],
    [2, 6, 2, 2, 7],
    [7, 1, 7, 4, 7],
    [7, 1, 7, 1, 7],
    [5, 5, 7, 1, 1],
    [7, 4, 7, 1, 7],
    [7, 4, 7, 5, 7],
    [7, 1, 2, 2, 2],
    [7, 5, 7, 5, 7],
    [7, 5, 7, 1, 7],
];

/// The strip at the lower edge: date and time in white on black.
fn strip(pixels: &mut [u8], width: usize, height: usize, rng: &mut ChaCha8Rng, light: Light) {
    let hour = match light {
        Light::Dawn => rng.random_range(5..7),
        Light::Day | Light::Overcast => rng.random_range(8..17),
        Light::Dusk => rng.random_range(18..20),
        Light::Night => [21, 22, 23, 0, 1, 2, 3][rng.random_range(0..7)],
    };
    let text = format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        rng.random_range(2013..2018),
        rng.random_range(1..13),
        rng.random_range(1..29),
        hour,
        rng.random_range(0..60),
        rng.random_range(0..60)
    );
    let cell = (height / 180).max(1);
    let top = height - cell * 8;
    pixels[top * width * 3..].fill(0);
    for (place, letter) in text.bytes().enumerate() {
        let rows = match letter {
            b'0'..=b'9' => DIGITS[usize::from(letter - b'0')],
            b'-' => [0, 0, 7, 0, 0],
            b':' => [0, 2, 0, 2, 0],
            _ => continue,
        };
        let left = cell * (4 + place * 4);
        if left + cell * 3 > width {
            break;
        }
        for y in 0..cell * 5 {
            for x in 0..cell * 3 {
                if rows[y / cell] >> (2 - x / cell) & 1 == 1 {
                    let at = ((top + cell + y) * width + left + x) * 3;
                    pixels[at..at + 3].fill(235);
                }
            }
        }
    }
}
