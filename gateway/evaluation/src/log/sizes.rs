//! Batch sizes, the activity by hour of day, and timestamps of arrivals.

use std::path::Path;

use super::LogError;
use super::table::{Columns, Table};

/// Largest batch that is believed.
const LARGEST: f64 = 1e9;

/// Hourly batch sizes in the order of the file (column `images`). Hours without images may be in it as zeros.
///
/// # Errors
/// With file and line, as [`super::Runs::read`].
pub fn sizes(path: &Path) -> Result<Vec<u32>, LogError> {
    let columns = Columns {
        of: "batch sizes",
        required: &["images"],
        optional: &[],
    };
    let table = Table::read(path, columns)?;
    let mut sizes = Vec::with_capacity(table.rows().len());
    for row in table.rows() {
        let size = row.count("images")?;
        if size > LARGEST {
            return Err(row.wrong(format!("images is {size}, more than {LARGEST}")));
        }
        sizes.push(size as u32);
    }
    if sizes.iter().all(|size| *size == 0) {
        return Err(LogError::whole(path, "holds no batch with images in it"));
    }
    Ok(sizes)
}

/// Mean images in each hour of the day (columns `hour`, `mean_images`), index 0 for the hour after midnight.
///
/// # Errors
/// With file and line; every hour from 0 to 23 must be there once.
pub fn hourly_activity(path: &Path) -> Result<[f64; 24], LogError> {
    let columns = Columns {
        of: "hours",
        required: &["hour", "mean_images"],
        optional: &[],
    };
    let table = Table::read(path, columns)?;
    let mut hours = [None; 24];
    for row in table.rows() {
        let hour = row.count("hour")?;
        let Some(place) = hours.get_mut(hour as usize) else {
            return Err(row.wrong(format!("hour is {hour}; 0 to 23 are wanted")));
        };
        if place.is_some() {
            return Err(row.wrong(format!("hour {hour} comes twice")));
        }
        *place = Some(row.number("mean_images")?);
    }
    let mut activity = [0.0; 24];
    for (hour, mean) in hours.iter().enumerate() {
        activity[hour] =
            mean.ok_or_else(|| LogError::whole(path, format!("has no hour {hour}")))?;
    }
    if activity.iter().sum::<f64>() <= 0.0 {
        return Err(LogError::whole(path, "has no activity at any hour"));
    }
    Ok(activity)
}

/// Arrivals to replay: seconds since 1970 and images (columns `epoch`, `images`), in the order of time.
///
/// # Errors
/// With file and line; an epoch before the one above it is one.
pub fn timestamps(path: &Path) -> Result<Vec<(f64, u32)>, LogError> {
    let columns = Columns {
        of: "arrivals",
        required: &["epoch", "images"],
        optional: &[],
    };
    let table = Table::read(path, columns)?;
    let mut arrivals: Vec<(f64, u32)> = Vec::with_capacity(table.rows().len());
    for row in table.rows() {
        let (epoch, images) = (row.number("epoch")?, row.count("images")?);
        if images > LARGEST {
            return Err(row.wrong(format!("images is {images}, more than {LARGEST}")));
        }
        if let Some((before, _)) = arrivals.last()
            && epoch < *before
        {
            return Err(row.wrong(format!(
                "epoch {epoch} comes after {before}; rows must be in the order of time"
            )));
        }
        arrivals.push((epoch, images as u32));
    }
    Ok(arrivals)
}
