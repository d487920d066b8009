//! Where a pod computes: devices, threads and precision, chosen once at start.
//!
//! The program is linked with the CPU half of libtorch only. Where a GPU is asked for, the CUDA half
//! is loaded then, so one binary serves both.
#![allow(unsafe_code)]

use crate::ModelError;
use std::sync::OnceLock;
use stoic_sdk::{Context, PodReport, Precision};
use tch::{Device, Kind};

/// Where one worker computes. One per GPU, or one per group of CPU threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The device.
    pub device: Device,
    /// Type of weights and activations: `Float` or `BFloat16`.
    pub kind: Kind,
    /// CPU threads of this worker.
    pub threads: usize,
}

impl Place {
    /// This machine's CPU in 32-bit floats, with so many threads.
    #[must_use]
    pub fn cpu(threads: usize) -> Self {
        Self {
            device: Device::Cpu,
            kind: Kind::Float,
            threads: threads.max(1),
        }
    }
}

/// All the places of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    places: Vec<Place>,
    threads: usize,
}

impl Placement {
    /// Chooses places as the site asked for them in the environment, and logs one line that says
    /// what was chosen.
    ///
    /// # Errors
    /// [`ModelError::Device`] where a device is misspelt or is not there; `STOIC_DEVICES=cpu` always
    /// is.
    pub fn from_context(context: &Context) -> Result<Self, ModelError> {
        if context.alone {
            crate::forked::compute_alone();
        }
        let devices = context
            .devices
            .iter()
            .map(|name| parse(name))
            .collect::<Result<Vec<_>, _>>()?;
        if devices.iter().any(|device| device.is_cuda()) {
            load_cuda()?;
            let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
            for device in &devices {
                if let Device::Cuda(index) = device
                    && *index >= count
                {
                    return Err(ModelError::Device(format!(
                        "cuda:{index} is asked for, but the machine has {count} usable GPUs; \
                         set STOIC_DEVICES to those, or to cpu"
                    )));
                }
            }
        }
        if context.precision == Precision::Bf16
            && devices.contains(&Device::Cpu)
            && !cpu_takes_bf16()
        {
            return Err(ModelError::Device(
                "bf16 is asked for, but this CPU has no AVX-512, without which libtorch refuses it; \
                 set the runtime's precision (STOIC_PRECISION) to auto or fp32"
                    .to_owned(),
            ));
        }
        let placement = Self::new(
            &devices,
            context.threads,
            context.workers,
            context.precision,
        );
        tracing::info!(
            devices = placement.names().join(","),
            precision = placement.precision(),
            threads = placement.threads,
            workers = placement.places.len(),
            allocator = if crate::allocator::is_prepared() {
                "kept"
            } else {
                "system"
            },
            "computing"
        );
        Ok(placement)
    }

    /// One place per GPU; the CPU's threads are divided into `workers` groups.
    fn new(devices: &[Device], threads: usize, workers: usize, precision: Precision) -> Self {
        let threads = threads.max(1);
        let workers = workers.clamp(1, threads);
        let mut places = Vec::new();
        for &device in devices {
            let kind = kind_for(device, precision);
            let groups = if device.is_cuda() { 1 } else { workers };
            for group in 0..groups {
                let share = threads / groups + usize::from(group < threads % groups);
                places.push(Place {
                    device,
                    kind,
                    threads: share,
                });
            }
        }
        Self { places, threads }
    }

    /// The places, one per worker.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The first place, for work that is done once (training, loading).
    #[must_use]
    pub fn first(&self) -> Place {
        self.places
            .first()
            .copied()
            .unwrap_or_else(|| Place::cpu(self.threads))
    }

    /// CPU threads in all.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// `fp32` or `bf16`.
    #[must_use]
    pub fn precision(&self) -> &'static str {
        match self.first().kind {
            Kind::BFloat16 => "bf16",
            _ => "fp32",
        }
    }

    /// Names of the devices, each once: `cpu`, `cuda:0`.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for place in &self.places {
            let name = match place.device {
                Device::Cuda(index) => format!("cuda:{index}"),
                _ => "cpu".to_owned(),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// What the pod says of itself.
    #[must_use]
    pub fn report(&self, model: Option<String>) -> PodReport {
        PodReport {
            devices: self.names(),
            precision: self.precision().to_owned(),
            threads: u32::try_from(self.threads).unwrap_or(u32::MAX),
            model,
            ..PodReport::default()
        }
    }

    /// A line for `/metrics`: which device and precision run.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut text = String::from(
            "# HELP stoic_pod_compute Where the pod computes.\n# TYPE stoic_pod_compute gauge\n",
        );
        for name in self.names() {
            text += &format!(
                "stoic_pod_compute{{device=\"{name}\",precision=\"{}\",threads=\"{}\"}} 1\n",
                self.precision(),
                self.threads
            );
        }
        text
    }
}

fn parse(name: &str) -> Result<Device, ModelError> {
    let wrong = || {
        ModelError::Device(format!(
            "{name:?} in STOIC_DEVICES is no device; write cpu, cuda:0, or cuda:0,cuda:1"
        ))
    };
    match name {
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda(0)),
        _ => name
            .strip_prefix("cuda:")
            .and_then(|index| index.parse().ok())
            .filter(|index| *index < 128)
            .map(Device::Cuda)
            .ok_or_else(wrong),
    }
}

fn kind_for(device: Device, precision: Precision) -> Kind {
    match precision {
        Precision::Fp32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
        Precision::Auto if native_bf16(device) => Kind::BFloat16,
        Precision::Auto => Kind::Float,
    }
}

/// Whether the device multiplies bfloat16 itself; emulated, it is slower than fp32.
fn native_bf16(device: Device) -> bool {
    // Every GPU that this libtorch's CUDA supports well computes bf16 (Ampere and newer).
    device.is_cuda() || cpu_has(&["avx512_bf16"]) || cpu_has(&["amx_bf16"])
}

/// Whether libtorch's convolutions take bfloat16 on this CPU at all: oneDNN emulates it from AVX-512
/// (or AVX-NE-CONVERT) on, and refuses it below.
#[must_use]
pub fn cpu_takes_bf16() -> bool {
    cfg!(not(target_arch = "x86_64"))
        || cpu_has(&["avx512bw", "avx512vl", "avx512dq"])
        || cpu_has(&["avx_ne_convert"])
}

/// Whether this CPU has all of these features. The newest are not in std's macros on this compiler.
fn cpu_has(features: &[&str]) -> bool {
    static FLAGS: OnceLock<Vec<String>> = OnceLock::new();
    let flags = FLAGS.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("flags"));
        let flags = line.unwrap_or_default().split_whitespace();
        flags.map(str::to_owned).collect()
    });
    let has = |feature: &&str| flags.iter().any(|flag| flag == feature);
    features.iter().all(has)
}

/// Loads the CUDA half of libtorch into this process.
fn load_cuda() -> Result<(), ModelError> {
    if tch::Cuda::is_available() {
        return Ok(());
    }
    // SAFETY: loading a library runs its initialisers; libtorch_cuda's register kernels and are
    // made to be loaded this way, after libtorch_cpu and before any CUDA call.
    let handle = unsafe {
        libc::dlopen(
            c"libtorch_cuda.so".as_ptr(),
            libc::RTLD_NOW | libc::RTLD_GLOBAL,
        )
    };
    if handle.is_null() {
        // SAFETY: dlerror returns null or a string that stays valid until the next dl call here.
        let reason = unsafe {
            let text = libc::dlerror();
            if text.is_null() {
                "unknown reason".into()
            } else {
                std::ffi::CStr::from_ptr(text)
                    .to_string_lossy()
                    .into_owned()
            }
        };
        return Err(ModelError::Device(format!(
            "a GPU is asked for, but the CUDA half of libtorch cannot be loaded: {reason}; put torch's \
             lib folder and the nvidia/*/lib folders into LD_LIBRARY_PATH, or set STOIC_DEVICES=cpu"
        )));
    }
    if tch::Cuda::is_available() {
        Ok(())
    } else {
        Err(ModelError::Device(
            "a GPU is asked for and CUDA was loaded, but it sees no GPU; check the driver \
             (nvidia-smi), or set STOIC_DEVICES=cpu"
                .to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_divided_among_workers() {
        let placement = Placement::new(&[Device::Cpu], 5, 2, Precision::Fp32);
        let threads: Vec<usize> = placement
            .places()
            .iter()
            .map(|place| place.threads)
            .collect();
        assert_eq!(threads, [3, 2]);
        assert_eq!(placement.names(), ["cpu"]);
        assert_eq!(placement.precision(), "fp32");
        let crowded = Placement::new(&[Device::Cpu], 1, 8, Precision::Bf16);
        assert_eq!(crowded.places().len(), 1);
        assert_eq!(crowded.precision(), "bf16");
    }

    #[test]
    fn each_gpu_is_one_worker() {
        let devices = [Device::Cuda(0), Device::Cuda(1)];
        let placement = Placement::new(&devices, 8, 4, Precision::Auto);
        assert_eq!(placement.places().len(), 2);
        assert_eq!(placement.names(), ["cuda:0", "cuda:1"]);
        assert!(
            placement
                .metrics()
                .contains("device=\"cuda:1\",precision=\"bf16\"")
        );
    }

    #[test]
    fn bf16_on_a_cpu_that_cannot_is_refused_with_the_way_out() {
        let of = |precision: &'static str| {
            let value = move |name: &str| (name == "STOIC_PRECISION").then(|| precision.to_owned());
            Placement::from_context(&Context::parse(value, Vec::new()).unwrap())
        };
        match of("bf16") {
            Ok(placement) => assert!(cpu_takes_bf16() && placement.precision() == "bf16"),
            Err(error) => {
                assert!(!cpu_takes_bf16());
                assert!(error.to_string().contains("auto or fp32"), "{error}");
            }
        }
        let auto = of("auto").unwrap().precision();
        assert!(auto == "fp32" || cpu_takes_bf16());
    }

    #[test]
    fn a_device_that_is_none_or_missing_is_refused_with_the_way_out() {
        for name in ["gpu", "cuda:", "cuda:-1", "cuda:999", ""] {
            let text = parse(name).unwrap_err().to_string();
            assert!(text.contains("STOIC_DEVICES"), "{text}");
        }
        let context = Context::parse(
            |name| (name == "STOIC_DEVICES").then(|| "cuda:7".to_owned()),
            Vec::new(),
        )
        .unwrap();
        // True on a machine without a GPU and on one with fewer than eight.
        let error = Placement::from_context(&context).unwrap_err();
        assert!(matches!(error, ModelError::Device(_)), "{error}");
    }
}
