//! Tensors as they travel: JSON (`{"shape": [1, 4], "data": [...]}`), or raw little-endian fp32 with the
//! shape in the query.

use serde::{Deserialize, Serialize};
use stoic_protocol::Problem;
use stoic_runtime::tch::{Device, Kind, TchError, Tensor};

/// Most values in one tensor: 1 GiB of fp32.
const MOST: i64 = 1 << 28;

/// A tensor in JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Numbers {
    pub(crate) shape: Vec<i64>,
    pub(crate) data: Vec<f32>,
}

/// How many values a shape has, or why it is none.
pub(crate) fn elements(shape: &[i64]) -> Result<usize, String> {
    let bad = || {
        format!(
            "{shape:?} is no shape; it is 1 to 8 lengths of at least 1, of {MOST} values at most"
        )
    };
    if shape.is_empty() || shape.len() > 8 || shape.iter().any(|&length| length < 1) {
        return Err(bad());
    }
    let product = shape
        .iter()
        .try_fold(1i64, |product, &length| product.checked_mul(length))
        .filter(|&product| product <= MOST);
    product
        .and_then(|product| usize::try_from(product).ok())
        .ok_or_else(bad)
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(400, "input_invalid", detail)
}

fn tensor(shape: &[i64], data: &[f32]) -> Result<Tensor, Problem> {
    let count = elements(shape).map_err(invalid)?;
    if count != data.len() {
        return Err(invalid(format!(
            "shape {shape:?} has {count} values; the body holds {}",
            data.len()
        )));
    }
    let flat = Tensor::f_from_slice(data).map_err(stoic_runtime::ModelError::from)?;
    Ok(flat
        .f_reshape(shape)
        .map_err(stoic_runtime::ModelError::from)?)
}

/// From a JSON body.
pub(crate) fn from_json(body: &[u8]) -> Result<Tensor, Problem> {
    let numbers: Numbers = serde_json::from_slice(body).map_err(|error| {
        invalid(format!(
            "send {{\"shape\": [...], \"data\": [...]}}: {error}"
        ))
    })?;
    tensor(&numbers.shape, &numbers.data)
}

/// From raw values; `shape` is the text of the query parameter.
pub(crate) fn from_raw(body: &[u8], shape: Option<&str>) -> Result<Tensor, Problem> {
    let shape = shape
        .unwrap_or_default()
        .split(',')
        .map(|length| length.trim().parse().ok())
        .collect::<Option<Vec<i64>>>()
        .ok_or_else(|| invalid("raw fp32 needs its shape in the query: ?shape=1,3,224,224"))?;
    let values = body.chunks_exact(4);
    if !values.remainder().is_empty() {
        return Err(invalid("the body is no whole number of fp32 values"));
    }
    let data: Vec<f32> = values
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    tensor(&shape, &data)
}

/// To JSON; values that JSON lacks (not a number, infinity) become null.
pub(crate) fn to_json(tensor: &Tensor) -> Result<serde_json::Value, Problem> {
    let shape = tensor.size();
    let data = values(tensor)?;
    Ok(serde_json::json!({ "shape": shape, "data": data }))
}

/// All values in row order.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f32>, Problem> {
    let read = || {
        let flat = tensor
            .f_to_device(Device::Cpu)?
            .f_to_kind(Kind::Float)?
            .f_contiguous()?;
        let mut data = vec![0f32; flat.numel()];
        let count = data.len();
        flat.f_copy_data(&mut data, count)?;
        Ok(data)
    };
    read().map_err(|error: TchError| stoic_runtime::ModelError::from(error).problem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_lie_are_refused() {
        let raw = [0u8; 16];
        assert!(from_raw(&raw, Some("2,2")).is_ok());
        for shape in [
            None,
            Some(""),
            Some("2,3"),
            Some("-2,-2"),
            Some("0"),
            Some("x"),
            Some("9223372036854775807,2"),
            Some("1,1,1,1,1,1,1,1,4"),
        ] {
            assert_eq!(from_raw(&raw, shape).unwrap_err().status, 400, "{shape:?}");
        }
        assert!(from_raw(&raw[..15], Some("4")).is_err());
        assert!(from_json(br#"{"shape":[1],"data":[1],"x":1}"#).is_err());
        assert!(from_json(b"[1,2").is_err());
    }
}
