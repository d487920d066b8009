//! Bytes of an image to pixels of the size a model takes, upright.

use fast_image_resize::images::Image;
use fast_image_resize::{PixelType, Resizer};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use std::io::Cursor;
use stoic_sdk::ItemError;

/// More than any camera makes, less than what could exhaust a pod.
const SIDE: u32 = 20_000;
const MEMORY: u64 = 1 << 30;

/// RGB pixels, rows from the top, of a JPEG or PNG.
pub(crate) fn decode(bytes: &[u8], [width, height]: [u32; 2]) -> Result<Vec<u8>, ItemError> {
    let corrupt = |error: image::ImageError| match error {
        image::ImageError::Unsupported(_) => ItemError::new("item_unsupported", error.to_string()),
        image::ImageError::Limits(_) => ItemError::new("image_too_large", error.to_string()),
        _ => ItemError::new("item_corrupt", error.to_string()),
    };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| ItemError::new("item_corrupt", error.to_string()))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE);
    limits.max_image_height = Some(SIDE);
    limits.max_alloc = Some(MEMORY);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(corrupt)?;
    let orientation = decoder.orientation().map_err(corrupt)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(corrupt)?;
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    let failed = |error: &dyn std::fmt::Display| ItemError::new("item_corrupt", error.to_string());
    let (from_width, from_height) = picture.dimensions();
    let source = Image::from_vec_u8(from_width, from_height, picture.into_raw(), PixelType::U8x3)
        .map_err(|error| failed(&error))?;
    let mut target = Image::new(width, height, PixelType::U8x3);
    Resizer::new()
        .resize(&source, &mut target, None)
        .map_err(|error| failed(&error))?;
    Ok(target.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_and_truncated_images_are_errors_of_the_item() {
        let mut png = Vec::new();
        DynamicImage::new_rgba16(40, 30)
            .write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png)
            .unwrap();
        assert_eq!(decode(&png, [8, 6]).unwrap().len(), 8 * 6 * 3);
        for bytes in [
            &b""[..],
            b"GIF89a",
            &png[..png.len() / 2],
            &[0xff, 0xd8, 0xff],
        ] {
            assert!(decode(bytes, [8, 8]).is_err());
        }
    }
}
