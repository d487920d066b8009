//! JPEG, by libjpeg-turbo: scaled down by the inverse DCT, which skips most of the work.

use super::{Frame, ImageError, Limits, Orientation};
use std::cell::RefCell;
use std::ops::Range;
use turbojpeg::{Colorspace, Decompressor, Error, PixelFormat, ScalingFactor};

/// Scales whose inverse DCT has SIMD code, smallest first.
const SCALES: [ScalingFactor; 4] = [
    ScalingFactor::ONE_EIGHTH,
    ScalingFactor::ONE_QUARTER,
    ScalingFactor::ONE_HALF,
    ScalingFactor::ONE,
];

/// Scans of a progressive image beyond which it is taken for an attack: each costs a pass over all
/// coefficients, and encoders write about ten.
const SCAN_LIMIT: u32 = 100;

thread_local! {
    static DECOMPRESSOR: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
}

pub(super) fn decode(
    bytes: &[u8],
    width: usize,
    height: usize,
    limits: Limits,
) -> Result<Frame, ImageError> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        // One per thread is reused. After an error a fresh one is made, whatever state it was left in.
        let mut decompressor = match kept.take() {
            Some(decompressor) => decompressor,
            None => fresh()?,
        };
        let frame = decode_with(&mut decompressor, bytes, width, height, limits)?;
        *kept = Some(decompressor);
        Ok(frame)
    })
}

fn fresh() -> Result<Decompressor, ImageError> {
    let make = || {
        let mut decompressor = Decompressor::new()?;
        decompressor.set_scan_limit(SCAN_LIMIT)?;
        Ok(decompressor)
    };
    make().map_err(|e: Error| ImageError::Invalid(format!("libjpeg-turbo does not start: {e}")))
}

fn decode_with(
    decompressor: &mut Decompressor,
    bytes: &[u8],
    width: usize,
    height: usize,
    limits: Limits,
) -> Result<Frame, ImageError> {
    // Read by hand first: libjpeg-turbo refuses absurd sizes with a text that does not say them, and
    // takes a damaged colour profile, which nobody here wants, for a damaged image.
    let markers = Markers::read(bytes);
    if let Some((width, height)) = markers.size {
        limits.check(width, height)?;
    }
    let stripped = (!markers.profiles.is_empty()).then(|| markers.without_profiles(bytes));
    let bytes = stripped.as_deref().unwrap_or(bytes);
    let header = decompressor
        .read_header(bytes)
        .map_err(|e| fatal(&e, bytes))?;
    limits.check(header.width as u64, header.height as u64)?;
    if header.is_lossless {
        return Err(ImageError::Unsupported(
            "this is a lossless JPEG; baseline and progressive are read".into(),
        ));
    }
    let orientation = Orientation::of_jpeg(bytes);
    let (width, height) = if orientation.turns_sides() {
        (height, width)
    } else {
        (width, height)
    };
    let scale = SCALES
        .into_iter()
        .find(|s| s.scale(header.width) >= width && s.scale(header.height) >= height)
        .unwrap_or(ScalingFactor::ONE);
    decompressor
        .set_scaling_factor(scale)
        .map_err(|e| fatal(&e, bytes))?;
    let (width, height) = (scale.scale(header.width), scale.scale(header.height));
    let inks = matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK);
    let format = if inks {
        PixelFormat::CMYK
    } else {
        PixelFormat::RGB
    };
    let mut pixels = vec![0; width * height * format.size()];
    let image = turbojpeg::Image {
        pixels: pixels.as_mut_slice(),
        width,
        pitch: width * format.size(),
        height,
        format,
    };
    if let Err(error) = decompressor.decompress(bytes, image) {
        judge(&error, bytes)?;
    }
    let rgb = if inks { from_inks(&pixels) } else { pixels };
    Ok(Frame {
        width,
        height,
        rgb,
        orientation,
    })
}

/// What the segments before the image data say.
#[derive(Debug, Default)]
struct Markers {
    /// Width and height of the frame.
    size: Option<(u64, u64)>,
    /// Where colour profiles (APP2) lie.
    profiles: Vec<Range<usize>>,
}

impl Markers {
    /// Walks the segments as far as they hang together.
    fn read(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        let mut at = 2;
        while let Some(&[0xff, marker, high, low]) = bytes.get(at..).and_then(|b| b.first_chunk()) {
            if marker == 0xff {
                at += 1;
                continue;
            }
            let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
            match marker {
                // Start of the image data.
                0xda => break,
                0xe2 if end <= bytes.len() => found.profiles.push(at..end),
                // Frames of all kinds; among their numbers are tables (c4, cc) and an extension (c8).
                0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => {
                    if let Some(&[h1, h0, w1, w0]) =
                        bytes.get(at + 5..).and_then(|b| b.first_chunk())
                    {
                        let side = |high, low| u64::from(u16::from_be_bytes([high, low]));
                        found.size = Some((side(w1, w0), side(h1, h0)));
                    }
                }
                _ => {}
            }
            at = end;
        }
        found
    }

    fn without_profiles(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut from = 0;
        for profile in &self.profiles {
            out.extend_from_slice(&bytes[from..profile.start]);
            from = profile.end;
        }
        out.extend_from_slice(&bytes[from..]);
        out
    }
}

/// libjpeg's messages for damage it steps over (`JWRN_*` in its `jerror.h`); any other error left the
/// picture undecoded.
const WARNINGS: [&str; 6] = [
    "Premature end of JPEG file",
    "Corrupt JPEG data",
    "Inconsistent progression sequence",
    "Invalid SOS parameters",
    "Unknown Adobe color transform code",
    "Warning: unknown JFIF revision number",
];

/// Tells damage that leaves a usable picture from an end that came early.
fn judge(error: &Error, bytes: &[u8]) -> Result<(), ImageError> {
    let text = message(error);
    if !WARNINGS.iter().any(|w| text.starts_with(w)) {
        return Err(fatal(error, bytes));
    }
    // Only the first warning is told, so damage before an early end would hide the end.
    if text.starts_with("Premature end") || !has_end(bytes) {
        return Err(ImageError::Truncated(text));
    }
    Ok(())
}

fn fatal(error: &Error, bytes: &[u8]) -> ImageError {
    let text = message(error);
    if text.contains("Premature end") || (text.contains("Input file read error") && !has_end(bytes))
    {
        ImageError::Truncated(text)
    } else if text.contains("Unsupported") || text.contains("not supported") {
        ImageError::Unsupported(format!("a JPEG of a kind that is not read: {text}"))
    } else {
        ImageError::Invalid(text)
    }
}

fn message(error: &Error) -> String {
    match error {
        Error::TurboJpegError(text) => text.rsplit(": ").next().map_or_else(String::new, |last| {
            // Prefixes name C functions ("tj3Decompress8(): ..."); keep what follows the last of them.
            text.rfind("(): ")
                .map_or(last.to_owned(), |at| text[at + 4..].to_owned())
        }),
        other => other.to_string(),
    }
}

/// Whether an end-of-image marker stands near the end; some cameras append data of their own.
fn has_end(bytes: &[u8]) -> bool {
    bytes[bytes.len().saturating_sub(64 * 1024)..]
        .windows(2)
        .any(|w| w == [0xff, 0xd9])
}

/// CMYK as Adobe stores it, inverted: 255 means no ink.
fn from_inks(cmyk: &[u8]) -> Vec<u8> {
    let over = |a: u8, k: u8| ((u16::from(a) * u16::from(k) + 127) / 255) as u8;
    cmyk.chunks_exact(4)
        .flat_map(|p| [over(p[0], p[3]), over(p[1], p[3]), over(p[2], p[3])])
        .collect()
}
