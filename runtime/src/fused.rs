//! One oneDNN call for a convolution with what follows it: bias, activation, and a residual sum.
//!
//! libtorch exports these calls for its own compiled models as plain C functions
//! (`torch/csrc/inductor/aoti_torch/c/shim_cpu.h`), which return an error code and throw nothing; they
//! are part of `libtorch_cpu` itself. tch wraps every other operator, but not these.
#![allow(unsafe_code)]

use crate::ModelError;
use crate::nets::graph::Activation;
use std::ffi::c_char;
use std::ptr;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn aoti_torch_cpu_mkldnn__convolution_pointwise(
        input: *mut C_tensor,
        weight: *mut C_tensor,
        bias: *mut *mut C_tensor,
        padding: *const i64,
        padding_len: i64,
        stride: *const i64,
        stride_len: i64,
        dilation: *const i64,
        dilation_len: i64,
        groups: i64,
        activation: *const c_char,
        scalars: *const *const f64,
        scalars_len: i64,
        algorithm: *const *const c_char,
        result: *mut *mut C_tensor,
    ) -> i32;

    fn aoti_torch_cpu_mkldnn__convolution_pointwise_binary(
        input: *mut C_tensor,
        other: *mut C_tensor,
        weight: *mut C_tensor,
        bias: *mut *mut C_tensor,
        padding: *const i64,
        padding_len: i64,
        stride: *const i64,
        stride_len: i64,
        dilation: *const i64,
        dilation_len: i64,
        groups: i64,
        binary: *const c_char,
        alpha: *mut f64,
        activation: *const *const c_char,
        scalars: *const *const f64,
        scalars_len: i64,
        algorithm: *const *const c_char,
        result: *mut *mut C_tensor,
    ) -> i32;
}

/// Shape of a convolution; square in every respect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) stride: i64,
    pub(crate) padding: i64,
    pub(crate) groups: i64,
}

/// `activation(convolution(input) + bias [+ residual])` on the CPU. `weight` may be in oneDNN's own
/// layout; all tensors have one type, fp32 or bf16.
pub(crate) fn convolution(
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    geometry: Geometry,
    residual: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor, ModelError> {
    let Geometry {
        stride,
        padding,
        groups,
    } = geometry;
    let (padding, stride, dilation) = ([padding; 2], [stride; 2], [1i64; 2]);
    let (zero, six, mut one) = (0.0f64, 6.0f64, 1.0f64);
    let bounds: [*const f64; 2] = [&zero, &six];
    let (name, scalars) = match activation {
        Activation::None => (c"none", 0),
        Activation::Relu => (c"relu", 0),
        Activation::Relu6 => (c"hardtanh", 2),
    };
    let mut bias_handle = bias.as_ptr().cast_mut();
    let mut result: *mut C_tensor = ptr::null_mut();
    // SAFETY: a handle of these functions and a `C_tensor` are both a pointer to an `at::Tensor`, and
    // those given are borrowed for the call, which does not write to them. The arrays live as long
    // as the call and have the lengths that are said. On success `result` is a new `at::Tensor`
    // that is ours, to be freed by `delete`, which is what `Tensor` does.
    let code = unsafe {
        match residual {
            None => aoti_torch_cpu_mkldnn__convolution_pointwise(
                input.as_ptr().cast_mut(),
                weight.as_ptr().cast_mut(),
                &mut bias_handle,
                padding.as_ptr(),
                2,
                stride.as_ptr(),
                2,
                dilation.as_ptr(),
                2,
                groups,
                name.as_ptr(),
                bounds.as_ptr(),
                scalars,
                ptr::null(),
                &mut result,
            ),
            Some(other) => {
                let unary = name.as_ptr();
                let unary: *const *const c_char = match activation {
                    Activation::None => ptr::null(),
                    Activation::Relu | Activation::Relu6 => &unary,
                };
                aoti_torch_cpu_mkldnn__convolution_pointwise_binary(
                    input.as_ptr().cast_mut(),
                    other.as_ptr().cast_mut(),
                    weight.as_ptr().cast_mut(),
                    &mut bias_handle,
                    padding.as_ptr(),
                    2,
                    stride.as_ptr(),
                    2,
                    dilation.as_ptr(),
                    2,
                    groups,
                    c"add".as_ptr(),
                    &mut one,
                    unary,
                    bounds.as_ptr(),
                    scalars,
                    ptr::null(),
                    &mut result,
                )
            }
        }
    };
    if code != 0 || result.is_null() {
        return Err(ModelError::Input(
            "a fused convolution was refused; libtorch wrote the reason to standard error"
                .to_owned(),
        ));
    }
    // SAFETY: see above; nothing else owns it.
    Ok(unsafe { Tensor::from_ptr(result) })
}
