//! Images per second on ResNet-50 and EfficientNet-Lite0 at batch 32: plain tch, as a user of tch
//! writes it (eager, planes, batch-norm as it is, the C library's own allocator settings), against this
//! crate in fp32 and bf16.
//!
//! Each way is a process of its own, for the allocator is set before a process starts. All are kept
//! waiting and take turns, batch by batch, so that whatever else the machine does touches all alike;
//! what counts is the ratio of medians.
//!
//!     cargo bench -p stoic-runtime --bench inference            # THREADS=1,2 ROUNDS=8 to change

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;
use stoic_runtime::device::cpu_takes_bf16;
use stoic_runtime::tch::nn::{self, ConvConfig, ModuleT};
use stoic_runtime::tch::{self, Device, Kind, Tensor, vision};
use stoic_runtime::{Architecture, Backbone, Model, Placement, Workers};
use stoic_sdk::{Call, Context, Problem};

const BATCH: usize = 32;
const SIDE: usize = 224;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some("way") = arguments.first().map(String::as_str) {
        stoic_runtime::prepare();
        return way(&arguments);
    }
    let rounds: usize = std::env::var("ROUNDS").map_or(Ok(8), |text| text.parse())?;
    let threads = std::env::var("THREADS").unwrap_or_else(|_| "1,2".to_owned());
    let folder = tempfile::tempdir()?;
    println!(
        "batch {BATCH}, {SIDE} x {SIDE}, {rounds} interleaved rounds; ratio of medians to plain tch"
    );
    println!(
        "| net | threads | way | img/s | times faster | by processor time | same top-1 |\n|---|---|---|---|---|---|---|"
    );
    if !cpu_takes_bf16() {
        println!("skipped: bf16, which libtorch refuses on this CPU (no AVX-512)");
    }
    for architecture in [Architecture::ResNet50, Architecture::EfficientNetLite0] {
        let Some(weights) = weights(architecture, folder.path())? else {
            continue;
        };
        for threads in threads.split(',') {
            compare(architecture, &weights, threads, rounds)?;
        }
    }
    Ok(())
}

/// The pretrained weights, or random ones whose batch-norm statistics fit them.
fn weights(architecture: Architecture, folder: &Path) -> Result<Option<PathBuf>, Failure> {
    if architecture == Architecture::EfficientNetLite0 {
        let path = std::env::var_os("STOIC_BACKBONE").map(PathBuf::from);
        if path.is_none() {
            println!("skipped: efficientnet-lite0; eval \"$(images/setup.py env)\" first");
        }
        return Ok(path);
    }
    tch::manual_seed(1);
    let vars = nn::VarStore::new(Device::Cpu);
    let net = vision::resnet::resnet50(&vars.root(), 1000);
    let images = normal(&images(), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    tch::no_grad(|| {
        for _ in 0..20 {
            drop(net.forward_t(&images.narrow(0, 0, 8), true));
        }
    });
    let path = folder.join("resnet50.safetensors");
    vars.save(&path)?;
    Ok(Some(path))
}

struct Way {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    seconds: Vec<f64>,
    processor: Vec<f64>,
    classes: String,
}

impl Way {
    fn start(
        name: &'static str,
        architecture: Architecture,
        weights: &Path,
        threads: &str,
    ) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["way", name, architecture.name(), threads])
            .arg(weights)
            .env_remove("GLIBC_TUNABLES")
            .env("OMP_NUM_THREADS", threads)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if name == "plain" {
            command.env("STOIC_ALLOCATOR", "system");
        }
        let mut child = command.spawn()?;
        let input = child.stdin.take().ok_or("no stdin")?;
        let output = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut way = Self {
            name,
            child,
            input,
            output,
            seconds: Vec::new(),
            processor: Vec::new(),
            classes: String::new(),
        };
        way.classes = way.line()?;
        Ok(way)
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(format!("{} ended: {}", self.name, self.child.wait()?).into());
        }
        Ok(line.trim().to_owned())
    }

    fn round(&mut self) -> Result<(), Failure> {
        self.input.write_all(b"go\n")?;
        let line = self.line()?;
        let (seconds, processor) = line.split_once(' ').ok_or("two figures expected")?;
        self.seconds.push(seconds.parse()?);
        self.processor.push(processor.parse()?);
        Ok(())
    }

    /// Medians of a batch: seconds of the clock, seconds of processors.
    fn medians(&mut self) -> (f64, f64) {
        let median = |values: &mut Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        (median(&mut self.seconds), median(&mut self.processor))
    }
}

fn compare(
    architecture: Architecture,
    weights: &Path,
    threads: &str,
    rounds: usize,
) -> Result<(), Failure> {
    let mut ways = ["plain", "fp32", "bf16"]
        .into_iter()
        .filter(|name| *name != "bf16" || cpu_takes_bf16())
        .map(|name| Way::start(name, architecture, weights, threads))
        .collect::<Result<Vec<_>, _>>()?;
    for _ in 0..rounds {
        for way in &mut ways {
            way.round()?;
        }
    }
    let base = ways[0].medians();
    let truth = ways[0].classes.clone();
    for way in &mut ways {
        let (wall, processor) = way.medians();
        let pairs = truth.split(' ').zip(way.classes.split(' '));
        let same = pairs.filter(|(a, b)| a == b).count();
        println!(
            "| {} | {threads} | {} | {:.1} | {:.2} | {:.2} | {same}/{BATCH} |",
            architecture.name(),
            way.name,
            BATCH as f64 / wall,
            base.0 / wall,
            base.1 / processor,
        );
    }
    for way in ways {
        drop(way.input);
        let mut child = way.child;
        child.wait()?;
    }
    Ok(())
}

/// The child: says its classes, then the seconds of a batch for every line it is given.
fn way(arguments: &[String]) -> Result<(), Failure> {
    let [_, name, architecture, threads, weights] = arguments else {
        return Err("way NAME NET THREADS WEIGHTS".into());
    };
    let architecture: Architecture = architecture.parse()?;
    let mut run: Box<dyn FnMut() -> Result<Tensor, Failure>> = if name == "plain" {
        plain(architecture, threads.parse()?, Path::new(weights))?
    } else {
        ours(architecture, threads, name, Path::new(weights))?
    };
    let classes: Vec<i64> = run()?.argmax(1, false).try_into()?;
    let classes: Vec<String> = classes.iter().map(i64::to_string).collect();
    drop(run()?);
    println!("{}", classes.join(" "));
    for line in std::io::stdin().lines() {
        line?;
        let (began, used) = (Instant::now(), processor_seconds()?);
        drop(run()?);
        let wall = began.elapsed().as_secs_f64();
        println!("{wall} {}", processor_seconds()? - used);
    }
    Ok(())
}

/// Processor time of this process so far, user and system; it hardly varies when others use the machine.
fn processor_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    // USER_HZ is 100 on every Linux of today.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

/// 32 pictures of shaded rectangles, all different: u8 `[32, 224, 224, 3]`.
fn images() -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut pixels = vec![0u8; BATCH * SIDE * SIDE * 3];
    for image in pixels.chunks_exact_mut(SIDE * SIDE * 3) {
        for _ in 0..40 {
            let (left, top) = (rng.random_range(0..SIDE), rng.random_range(0..SIDE));
            let (width, height) = (rng.random_range(4..120), rng.random_range(4..120));
            let colour: [u8; 3] = rng.random();
            let slope = rng.random_range(0..4);
            for y in top..(top + height).min(SIDE) {
                for x in left..(left + width).min(SIDE) {
                    for c in 0..3 {
                        image[(y * SIDE + x) * 3 + c] =
                            colour[c].wrapping_add(((x + y) * slope) as u8);
                    }
                }
            }
        }
    }
    let side = SIDE as i64;
    Tensor::from_slice(&pixels).reshape([BATCH as i64, side, side, 3])
}

fn normal(images: &Tensor, mean: [f32; 3], deviation: [f32; 3]) -> Tensor {
    let planes = images
        .permute([0, 3, 1, 2])
        .to_kind(Kind::Float)
        .contiguous()
        / 255.0;
    let channel = |values: [f32; 3]| Tensor::from_slice(&values).reshape([1, 3, 1, 1]);
    (planes - channel(mean)) / channel(deviation)
}

fn plain(
    architecture: Architecture,
    threads: i32,
    weights: &Path,
) -> Result<Box<dyn FnMut() -> Result<Tensor, Failure>>, Failure> {
    tch::set_num_threads(threads);
    let mut vars = nn::VarStore::new(Device::Cpu);
    let (net, mean, deviation): (Box<dyn ModuleT>, _, _) = match architecture {
        Architecture::ResNet50 => (
            Box::new(vision::resnet::resnet50(&vars.root(), 1000)),
            [0.485, 0.456, 0.406],
            [0.229, 0.224, 0.225],
        ),
        Architecture::EfficientNetLite0 => (
            Box::new(plain_lite0(&vars.root())),
            [127.0 / 255.0; 3],
            [128.0 / 255.0; 3],
        ),
    };
    vars.load(weights)?;
    let images = images();
    Ok(Box::new(move || {
        Ok(tch::no_grad(|| {
            net.forward_t(&normal(&images, mean, deviation), false)
        }))
    }))
}

/// EfficientNet-Lite0 in plain tch, with the names of its weights.
fn plain_lite0(root: &nn::Path) -> nn::FuncT<'static> {
    fn unit(
        root: &nn::Path,
        (name, norm): (&str, &str),
        (inputs, outputs): (i64, i64),
        (kernel, stride, groups): (i64, i64, i64),
        relu: bool,
    ) -> nn::FuncT<'static> {
        let config = ConvConfig {
            stride,
            groups,
            bias: false,
            ..ConvConfig::default()
        };
        let convolution = nn::conv2d(root / name, inputs, outputs, kernel, config);
        let norm_config = nn::BatchNormConfig {
            eps: 1e-3,
            ..nn::BatchNormConfig::default()
        };
        let norm = nn::batch_norm2d(root / norm, outputs, norm_config);
        nn::func_t(move |x, train| {
            let side = x.size()[2];
            let out = (side + stride - 1) / stride;
            let total = ((out - 1) * stride + kernel - side).max(0);
            let (before, after) = (total / 2, total - total / 2);
            let y = x
                .constant_pad_nd([before, after, before, after])
                .apply(&convolution)
                .apply_t(&norm, train);
            if relu { y.clamp(0.0, 6.0) } else { y }
        })
    }
    let mut net = nn::seq_t().add(unit(root, ("_conv_stem", "_bn0"), (3, 32), (3, 2, 1), true));
    let stages = [
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ];
    let (mut inputs, mut index) = (32, 0);
    for (expansion, kernel, stride, outputs, repeats) in stages {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { stride } else { 1 };
            let path = root / "_blocks" / index;
            let wide = inputs * expansion;
            let mut block = nn::seq_t();
            if expansion != 1 {
                block = block.add(unit(
                    &path,
                    ("_expand_conv", "_bn0"),
                    (inputs, wide),
                    (1, 1, 1),
                    true,
                ));
            }
            block = block
                .add(unit(
                    &path,
                    ("_depthwise_conv", "_bn1"),
                    (wide, wide),
                    (kernel, stride, wide),
                    true,
                ))
                .add(unit(
                    &path,
                    ("_project_conv", "_bn2"),
                    (wide, outputs),
                    (1, 1, 1),
                    false,
                ));
            let residual = stride == 1 && inputs == outputs;
            net = net.add(nn::func_t(move |x, train| {
                let y = x.apply_t(&block, train);
                if residual { x + y } else { y }
            }));
            (inputs, index) = (outputs, index + 1);
        }
    }
    let net = net.add(unit(
        root,
        ("_conv_head", "_bn1"),
        (320, 1280),
        (1, 1, 1),
        true,
    ));
    let classes = nn::linear(root / "_fc", 1280, 1000, nn::LinearConfig::default());
    nn::func_t(move |x, train| {
        let features = x.apply_t(&net, train);
        features
            .mean_dim([2i64, 3].as_slice(), false, Kind::Float)
            .apply(&classes)
    })
}

struct Classifier(Backbone);

impl Model for Classifier {
    type Input = Tensor;
    type Output = Tensor;

    fn infer(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, Problem> {
        let images = Tensor::stack(&inputs, 0);
        let logits = self.0.logits(&images)?;
        Ok((0..inputs.len())
            .map(|item| logits.get(item as i64))
            .collect())
    }
}

/// The path a function takes: items from the shared queue, over all threads.
fn ours(
    architecture: Architecture,
    threads: &str,
    precision: &str,
    weights: &Path,
) -> Result<Box<dyn FnMut() -> Result<Tensor, Failure>>, Failure> {
    let context = Context::parse(
        |name| match name {
            "STOIC_THREADS" => Some(threads.to_owned()),
            "STOIC_PRECISION" => Some(precision.to_owned()),
            _ => None,
        },
        Vec::new(),
    )?;
    let placement = Placement::from_context(&context)?;
    let net = Backbone::load(architecture, weights, &placement.first())?;
    let workers = Workers::new(&placement, |_| Ok(Classifier(net.share())))?;
    let images = images();
    let items: Vec<std::sync::Mutex<Tensor>> = (0..BATCH)
        .map(|item| images.get(item as i64).into())
        .collect();
    Ok(Box::new(move || {
        let decode = |item: usize| Ok(items[item].lock().expect("no panic").shallow_clone());
        let outputs = workers.run(BATCH, decode, &Call::detached())?;
        let outputs: Vec<Tensor> = outputs
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{error:?}"))?;
        Ok(Tensor::stack(&outputs, 0))
    }))
}
