//! From the bytes of one image to the pixels a model takes: JPEG by libjpeg-turbo, scaled while it is
//! decoded (DCT scaling), PNG row by row, then a SIMD resize to the exact size, turned upright as EXIF
//! says.
//!
//! Whatever the bytes are, the answer is pixels or an [`ImageError`] with a stable code. Knows nothing
//! of models, packages or labels.

mod jpeg;
mod orientation;
mod png;

pub use orientation::Orientation;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use std::cell::RefCell;

/// Why an image gives no pixels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// `image_empty`: there are no bytes.
    #[error("the file is empty")]
    Empty,
    /// `image_unsupported`: not a kind of image that is read here.
    #[error("{0}")]
    Unsupported(String),
    /// `image_too_large`: the header announces more pixels than allowed; nothing was decoded.
    #[error("{width}x{height} pixels are more than the {limit} allowed (STOIC_MAX_PIXELS)")]
    TooLarge {
        /// Pixels per row.
        width: u64,
        /// Rows.
        height: u64,
        /// Pixels allowed.
        limit: u64,
    },
    /// `image_truncated`: the data ends early. Whoever sent it should send it again: a label for half
    /// a picture would look like any other.
    #[error("the image data ends early: {0}")]
    Truncated(String),
    /// `image_invalid`: the data contradicts its format.
    #[error("the image cannot be decoded: {0}")]
    Invalid(String),
}

impl ImageError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "image_empty",
            Self::Unsupported(_) => "image_unsupported",
            Self::TooLarge { .. } => "image_too_large",
            Self::Truncated(_) => "image_truncated",
            Self::Invalid(_) => "image_invalid",
        }
    }
}

/// What an image may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pixels that a header may announce (default 100 million).
    pub pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pixels: 100_000_000,
        }
    }
}

impl Limits {
    fn check(self, width: u64, height: u64) -> Result<(), ImageError> {
        if width.saturating_mul(height) > self.pixels {
            return Err(ImageError::TooLarge {
                width,
                height,
                limit: self.pixels,
            });
        }
        if width == 0 || height == 0 {
            return Err(ImageError::Invalid(format!(
                "the header says {width}x{height} pixels"
            )));
        }
        Ok(())
    }
}

/// A part of a frame, in shares of its upright width and height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    /// Left edge, 0..1.
    pub left: f32,
    /// Upper edge, 0..1.
    pub top: f32,
    /// Width, 0..1.
    pub width: f32,
    /// Height, 0..1.
    pub height: f32,
}

impl Crop {
    /// The whole frame.
    pub const WHOLE: Self = Self {
        left: 0.0,
        top: 0.0,
        width: 1.0,
        height: 1.0,
    };
}

/// A decoded image, at full size or scaled down while it was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Pixels per row, as stored (before it is turned upright).
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// RGB, row by row.
    pub rgb: Vec<u8>,
    /// How it must be turned.
    pub orientation: Orientation,
}

impl Frame {
    /// Decodes an image to at least `width` x `height` pixels (upright), or to its own size where that
    /// is less.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn decode(
        bytes: &[u8],
        width: usize,
        height: usize,
        limits: Limits,
    ) -> Result<Self, ImageError> {
        match Format::of(bytes)? {
            Format::Jpeg => jpeg::decode(bytes, width, height, limits),
            Format::Png => png::decode(bytes, width, height, limits),
        }
    }

    /// Resizes a part of the frame to exactly `width` x `height`, upright; the shape is not kept, as
    /// the network was fed whole frames.
    ///
    /// # Errors
    /// `image_invalid` when the part is smaller than a pixel.
    pub fn fit(&self, crop: Crop, width: usize, height: usize) -> Result<Vec<u8>, ImageError> {
        thread_local! {
            static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
        }
        let invalid = |e: &dyn std::fmt::Display| ImageError::Invalid(e.to_string());
        let (stored_width, stored_height) = if self.orientation.turns_sides() {
            (height, width)
        } else {
            (width, height)
        };
        let crop = self.orientation.crop_as_stored(crop);
        let from = ImageRef::new(
            self.width as u32,
            self.height as u32,
            &self.rgb,
            PixelType::U8x3,
        )
        .map_err(|e| invalid(&e))?;
        let (w, h) = (self.width as f64, self.height as f64);
        let left = (f64::from(crop.left) * w).clamp(0.0, w - 1.0);
        let top = (f64::from(crop.top) * h).clamp(0.0, h - 1.0);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
            .crop(
                left,
                top,
                (f64::from(crop.width) * w).clamp(1.0, w - left),
                (f64::from(crop.height) * h).clamp(1.0, h - top),
            );
        let mut to = Image::new(stored_width as u32, stored_height as u32, PixelType::U8x3);
        RESIZER
            .with_borrow_mut(|resizer| resizer.resize(&from, &mut to, &options))
            .map_err(|e| invalid(&e))?;
        Ok(self
            .orientation
            .upright(to.into_vec(), stored_width, stored_height))
    }
}

/// Decodes the whole image to exactly `width` x `height` RGB pixels, row by row.
///
/// # Errors
/// See [`ImageError`].
pub fn decode(
    bytes: &[u8],
    width: usize,
    height: usize,
    limits: Limits,
) -> Result<Vec<u8>, ImageError> {
    Frame::decode(bytes, width, height, limits)?.fit(Crop::WHOLE, width, height)
}

/// Formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Jpeg,
    Png,
}

impl Format {
    /// Tells the format by the first bytes; names and content types lie too often.
    fn of(bytes: &[u8]) -> Result<Self, ImageError> {
        let other = match bytes {
            [] => return Err(ImageError::Empty),
            [0xff, 0xd8, ..] => return Ok(Self::Jpeg),
            [0x89, b'P', b'N', b'G', ..] => return Ok(Self::Png),
            [b'B', b'M', ..] => "a BMP image",
            [b'G', b'I', b'F', b'8', ..] => "a GIF image",
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => "a WebP image",
            [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', ..] => "an AVI video",
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "a TIFF or raw image",
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => "a HEIF, AVIF, MP4 or MOV file",
            [b'P', b'K', ..] => "a zip archive inside the package",
            _ => {
                return Err(ImageError::Unsupported(
                    "this is no image; JPEG and PNG are read".into(),
                ));
            }
        };
        Err(ImageError::Unsupported(format!(
            "this is {other}; JPEG and PNG are read"
        )))
    }
}
