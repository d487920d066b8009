//! PNG, row by row: large images are averaged down as they are read, so that a picture of 100 million
//! pixels does not need 400 MB.

use super::{Frame, ImageError, Limits, Orientation};
use png::{ColorType, DecodingError, Transformations};
use std::io::{Cursor, ErrorKind};

/// What is transparent becomes grey, which is close to "nothing" for a network whose input is
/// centred at 127.
const BEHIND: u32 = 127;

/// Interlaced images cannot be read row by row; beyond this many pixels they are refused.
const INTERLACED_PIXELS: u64 = 40_000_000;

pub(super) fn decode(
    bytes: &[u8],
    width: usize,
    height: usize,
    limits: Limits,
) -> Result<Frame, ImageError> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    // The picture itself is bounded below; this bounds text, profiles and the like.
    decoder.set_limits(png::Limits { bytes: 64 << 20 });
    let mut reader = {
        let header = decoder.read_header_info().map_err(failed)?;
        limits.check(u64::from(header.width), u64::from(header.height))?;
        if header.interlaced {
            Limits {
                pixels: limits.pixels.min(INTERLACED_PIXELS),
            }
            .check(u64::from(header.width), u64::from(header.height))?;
        }
        decoder.read_info().map_err(failed)?
    };
    let info = reader.info();
    let (from_width, from_height, interlaced) =
        (info.width as usize, info.height as usize, info.interlaced);
    let orientation = info
        .exif_metadata
        .as_ref()
        .map(|e| Orientation::of_chunk(e))
        .unwrap_or_default();
    let (width, height) = if orientation.turns_sides() {
        (height, width)
    } else {
        (width, height)
    };
    let channels = match reader.output_color_type().0 {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
        ColorType::Indexed => {
            return Err(ImageError::Invalid("the palette was not expanded".into()));
        }
    };
    let factor = (from_width / width.max(1))
        .min(from_height / height.max(1))
        .max(1);
    let mut sink = Averager::new(from_width, from_height, factor, channels);
    if interlaced {
        let size = reader.output_buffer_size().ok_or_else(|| {
            ImageError::Invalid("the picture's size does not fit into memory".into())
        })?;
        let mut all = vec![0; size];
        reader.next_frame(&mut all).map_err(failed)?;
        all.chunks_exact(from_width * channels)
            .take(from_height)
            .for_each(|row| sink.row(row));
    } else {
        while let Some(row) = reader.next_row().map_err(failed)? {
            sink.row(row.data());
        }
        if sink.rows < from_height {
            return Err(ImageError::Truncated(format!(
                "{} of {from_height} rows are there",
                sink.rows
            )));
        }
    }
    Ok(sink.finish(orientation))
}

fn failed(error: DecodingError) -> ImageError {
    match error {
        DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            ImageError::Truncated(e.to_string())
        }
        DecodingError::LimitsExceeded => {
            ImageError::Invalid("its chunks are larger than 64 MiB".into())
        }
        other => ImageError::Invalid(other.to_string()),
    }
}

/// Averages blocks of `factor` x `factor` pixels; what is left over at the right and lower edge is
/// dropped.
struct Averager {
    factor: usize,
    channels: usize,
    width: usize,
    height: usize,
    /// Sums of one row of blocks.
    sums: Vec<u32>,
    rows: usize,
    rgb: Vec<u8>,
}

impl Averager {
    fn new(width: usize, height: usize, factor: usize, channels: usize) -> Self {
        let (width, height) = (width / factor, height / factor);
        Self {
            factor,
            channels,
            width,
            height,
            sums: vec![0; width * 3],
            rows: 0,
            rgb: Vec::with_capacity(width * height * 3),
        }
    }

    fn row(&mut self, row: &[u8]) {
        self.rows += 1;
        if self.rgb.len() >= self.width * self.height * 3 {
            return;
        }
        let over = |v: u8, alpha: u8| {
            (u32::from(v) * u32::from(alpha) + BEHIND * u32::from(255 - alpha)) / 255
        };
        for (block, sum) in row
            .chunks_exact(self.factor * self.channels)
            .zip(self.sums.chunks_exact_mut(3))
        {
            for pixel in block.chunks_exact(self.channels) {
                match *pixel {
                    [v] => sum.iter_mut().for_each(|s| *s += u32::from(v)),
                    [v, a] => sum.iter_mut().for_each(|s| *s += over(v, a)),
                    [r, g, b] => {
                        sum[0] += u32::from(r);
                        sum[1] += u32::from(g);
                        sum[2] += u32::from(b);
                    }
                    [r, g, b, a] => {
                        sum[0] += over(r, a);
                        sum[1] += over(g, a);
                        sum[2] += over(b, a);
                    }
                    _ => {}
                }
            }
        }
        if self.rows.is_multiple_of(self.factor) {
            let area = (self.factor * self.factor) as u32;
            self.rgb
                .extend(self.sums.iter().map(|s| ((s + area / 2) / area) as u8));
            self.sums.fill(0);
        }
    }

    fn finish(self, orientation: Orientation) -> Frame {
        Frame {
            width: self.width,
            height: self.height,
            rgb: self.rgb,
            orientation,
        }
    }
}
