//! Turning images upright as their EXIF data says. Done on the small resized picture, where it costs
//! next to nothing.

use super::Crop;
use exif::{In, Tag};

/// The eight orientations of EXIF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Orientation {
    /// The stored rows are columns of the upright picture.
    transposed: bool,
    /// After transposing: mirror left and right.
    mirrored: bool,
    /// After transposing: mirror top and bottom.
    flipped: bool,
}

impl Orientation {
    /// From the value of the EXIF tag; unknown values leave the picture as it is.
    #[must_use]
    pub fn from_exif(value: u32) -> Self {
        let (transposed, mirrored, flipped) = match value {
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, true, false),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => (false, false, false),
        };
        Self {
            transposed,
            mirrored,
            flipped,
        }
    }

    /// Reads it from a JPEG; files without (readable) EXIF are upright.
    pub(super) fn of_jpeg(bytes: &[u8]) -> Self {
        let exif = exif::Reader::new().read_from_container(&mut std::io::Cursor::new(bytes));
        exif.as_ref().map(Self::of).unwrap_or_default()
    }

    /// Reads it from a PNG's `eXIf` chunk.
    pub(super) fn of_chunk(chunk: &[u8]) -> Self {
        exif::Reader::new()
            .read_raw(chunk.to_vec())
            .as_ref()
            .map(Self::of)
            .unwrap_or_default()
    }

    fn of(exif: &exif::Exif) -> Self {
        let field = exif.get_field(Tag::Orientation, In::PRIMARY);
        Self::from_exif(field.and_then(|f| f.value.get_uint(0)).unwrap_or(1))
    }

    /// Whether width and height change places.
    #[must_use]
    pub fn turns_sides(self) -> bool {
        self.transposed
    }

    /// Where a part of the upright picture lies in the stored one.
    pub(super) fn crop_as_stored(self, crop: Crop) -> Crop {
        let left = if self.mirrored {
            1.0 - crop.left - crop.width
        } else {
            crop.left
        };
        let top = if self.flipped {
            1.0 - crop.top - crop.height
        } else {
            crop.top
        };
        if self.transposed {
            Crop {
                left: top,
                top: left,
                width: crop.height,
                height: crop.width,
            }
        } else {
            Crop { left, top, ..crop }
        }
    }

    /// Turns stored RGB pixels upright.
    pub(super) fn upright(self, rgb: Vec<u8>, width: usize, height: usize) -> Vec<u8> {
        if self == Self::default() {
            return rgb;
        }
        let (out_width, out_height) = if self.transposed {
            (height, width)
        } else {
            (width, height)
        };
        let mut out = Vec::with_capacity(rgb.len());
        for y in 0..out_height {
            let v = if self.flipped { out_height - 1 - y } else { y };
            for x in 0..out_width {
                let u = if self.mirrored { out_width - 1 - x } else { x };
                let at = if self.transposed {
                    u * width + v
                } else {
                    v * width + u
                };
                out.extend_from_slice(&rgb[at * 3..at * 3 + 3]);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 3x2 picture with its six pixels numbered as stored.
    fn turned(value: u32) -> Vec<u8> {
        let rgb = (0..6).flat_map(|i| [i; 3]).collect();
        let out = Orientation::from_exif(value).upright(rgb, 3, 2);
        out.chunks_exact(3).map(|p| p[0]).collect()
    }

    #[test]
    fn turns_all_eight_upright() {
        assert_eq!(turned(1), [0, 1, 2, 3, 4, 5]);
        assert_eq!(turned(2), [2, 1, 0, 5, 4, 3]);
        assert_eq!(turned(3), [5, 4, 3, 2, 1, 0]);
        assert_eq!(turned(4), [3, 4, 5, 0, 1, 2]);
        assert_eq!(turned(5), [0, 3, 1, 4, 2, 5]);
        // 6: the stored picture must be turned clockwise.
        assert_eq!(turned(6), [3, 0, 4, 1, 5, 2]);
        assert_eq!(turned(7), [5, 2, 4, 1, 3, 0]);
        assert_eq!(turned(8), [2, 5, 1, 4, 0, 3]);
        assert_eq!(turned(99), turned(1));
    }

    #[test]
    fn finds_a_part_in_the_stored_picture() {
        let crop = Crop {
            left: 0.0,
            top: 0.0,
            width: 0.5,
            height: 0.25,
        };
        // Upright top left is the stored bottom left when the picture must be turned clockwise.
        let stored = Orientation::from_exif(6).crop_as_stored(crop);
        assert_eq!(
            stored,
            Crop {
                left: 0.0,
                top: 0.5,
                width: 0.25,
                height: 0.5
            }
        );
    }
}
