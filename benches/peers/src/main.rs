//! Burn and Lacuna on the same adapter, and a CPU library, compute the same products in turns within
//! one process, so that whatever else the machine does affects all of them.

mod subject;

use burn::tensor::{
    DType, Device, DeviceKind,
    wgpu::{WgpuBackend, WgpuSetup},
};
use cpu_time::ProcessTime;
use lacuna::{
    Gpu,
    compress::compress,
    format::{Dense, Dtype, Matrix, Values},
    gpu::{Options, Selector},
    reference::{Comparison, Sampled},
    verify::Random,
    wgpu,
};
use serde_json::{Value, json};
use std::{error::Error, process::ExitCode, time::Instant};
use subject::{Burn, Cpu, Form, INPUTS, Lacuna, Product, Subject};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: lacuna-peers [--rounds N] [--copies N] [--products N] [--only TEXT] [--adapter A] [--json]

  --rounds N    timed samples of each subject (15)
  --copies N    weight copies that successive products go round (1: hot)
  --products N  products of one sample (1 on a software adapter, else 32)
  --only TEXT   only the cases whose name contains TEXT, such as \"gemv f32\"
  --adapter A   number or part of a name (the best one)
  --json        JSON instead of the tables";

/// One product: dense in `dtype` for all libraries, and in `sparse` formats for Lacuna only.
struct Case {
    op: &'static str,
    rows: usize,
    cols: usize,
    batch: usize,
    dtype: Dtype,
    sparse: [&'static str; 2],
}

const CASES: &[Case] = &[
    Case {
        op: "gemv",
        rows: 4096,
        cols: 4096,
        batch: 1,
        dtype: Dtype::F32,
        sparse: ["2:4x8", "1:8"],
    },
    Case {
        op: "gemm",
        rows: 2048,
        cols: 2048,
        batch: 512,
        dtype: Dtype::F32,
        sparse: ["2:4x8", "1:8"],
    },
    Case {
        op: "gemv",
        rows: 4096,
        cols: 4096,
        batch: 1,
        dtype: Dtype::F16,
        sparse: ["2:4x8@f16", "1:8@f16"],
    },
];

struct Args {
    rounds: usize,
    copies: usize,
    products: Option<usize>,
    only: String,
    adapter: Selector,
    json: bool,
}

impl Args {
    fn parse() -> Result<Self> {
        let mut args = Self {
            rounds: 15,
            copies: 1,
            products: None,
            only: String::new(),
            adapter: Selector::Best,
            json: false,
        };
        let mut given = std::env::args().skip(1);
        while let Some(flag) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--rounds" => args.rounds = value()?.parse::<usize>()?.max(1),
                "--copies" => args.copies = value()?.parse::<usize>()?.max(1),
                "--products" => args.products = Some(value()?.parse::<usize>()?.max(1)),
                "--only" => args.only = value()?,
                "--adapter" => args.adapter = value()?.as_str().into(),
                "--json" => args.json = true,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(args)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Library {
    Burn,
    Lacuna,
    Cpu,
}

/// A subject and its measurements.
struct Line {
    library: Library,
    /// Storage type or format of the weight.
    format: String,
    /// How the product is written or which kernel runs.
    how: String,
    subject: Box<dyn Subject>,
    /// Index of its reference result among the case's.
    truth: usize,
    /// Largest normalised mean square error allowed.
    most_nmse: f64,
    samples: usize,
    products: usize,
    /// Seconds of the very first sample, in which Burn tunes.
    first: f64,
    /// Seconds per product in each sample: wall clock, and CPU time of all threads of the process.
    wall: Vec<f64>,
    cpu: Vec<f64>,
    error_over_bound: f64,
    nmse: f64,
}

impl Line {
    fn new(
        library: Library,
        format: String,
        truth: usize,
        how: String,
        subject: Box<dyn Subject>,
    ) -> Self {
        Self {
            library,
            format,
            how,
            subject,
            truth,
            most_nmse: Comparison::MAX_NMSE,
            samples: 0,
            products: 0,
            first: 0.0,
            wall: vec![],
            cpu: vec![],
            error_over_bound: 0.0,
            nmse: 0.0,
        }
    }

    /// Runs one sample, checks its result outside the timed span, and returns wall and CPU seconds per
    /// product.
    fn sample(&mut self, products: usize, truths: &[[Sampled; INPUTS]]) -> Result<(f64, f64)> {
        let input = self.samples % INPUTS;
        let (begin, cpu) = (Instant::now(), ProcessTime::now());
        self.subject.run(input, self.products, products)?;
        let (wall, cpu) = (begin.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64());
        self.samples += 1;
        self.products += products;
        let found = truths[self.truth][input].compare(&self.subject.read()?)?;
        self.error_over_bound = self.error_over_bound.max(found.error_over_bound);
        self.nmse = self.nmse.max(found.nmse);
        Ok((wall / products as f64, cpu / products as f64))
    }

    /// Runs until three samples in a row are near the fastest, as Burn compiles and tunes in its first
    /// calls.
    fn warm_up(&mut self, products: usize, truths: &[[Sampled; INPUTS]]) -> Result<()> {
        const MOST: usize = 30;
        let (mut fastest, mut near) = (f64::INFINITY, 0);
        while near < 3 && self.samples < MOST {
            let (wall, _) = self.sample(products, truths)?;
            if self.samples == 1 {
                self.first = wall * products as f64;
                continue;
            }
            fastest = fastest.min(wall);
            near = if wall < 1.5 * fastest { near + 1 } else { 0 };
        }
        Ok(())
    }

    fn passes(&self) -> bool {
        let within = self.error_over_bound <= 1.0;
        // A result stored in f16 is judged by its mean square error: its rounding exceeds the bound.
        self.nmse <= self.most_nmse && (within || self.most_nmse > Comparison::MAX_NMSE)
    }

    fn ms(&self) -> f64 {
        1e3 * median(&self.wall)
    }

    fn cpu_ms(&self) -> f64 {
        1e3 * median(&self.cpu)
    }

    fn json(&self) -> Value {
        json!({
            "library": match self.library {
                Library::Burn => "burn",
                Library::Lacuna => "lacuna",
                Library::Cpu => "gemm",
            },
            "format": self.format,
            "how": self.how,
            "first_s": self.first,
            "wall_ms": self.ms(),
            "cpu_ms": self.cpu_ms(),
            "wall_ms_samples": self.wall.iter().map(|s| 1e3 * s).collect::<Vec<_>>(),
            "error_over_bound": self.error_over_bound,
            "nmse": self.nmse,
            "passes": self.passes(),
        })
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

/// Opens Burn's own device on the adapter that `info` describes.
fn open_burn(info: &wgpu::AdapterInfo) -> Result<(Device, WgpuSetup)> {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(0),
        wgpu::DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(0),
        wgpu::DeviceType::VirtualGpu => DeviceKind::VirtualGpu(0),
        wgpu::DeviceType::Cpu => DeviceKind::Cpu,
        wgpu::DeviceType::Other => DeviceKind::DefaultDevice,
    };
    let api = match info.backend {
        wgpu::Backend::Vulkan => WgpuBackend::Vulkan,
        wgpu::Backend::Metal => WgpuBackend::Metal,
        wgpu::Backend::Dx12 => WgpuBackend::Dx12,
        wgpu::Backend::Gl => WgpuBackend::Gl,
        _ => WgpuBackend::Auto,
    };
    let options = Device::wgpu_options().device_kind(kind).graphics_api(api);
    let opened = options.init_with_setup();
    opened.map_err(|e| format!("Burn finds no device: {e:?}").into())
}

fn describe(info: &wgpu::AdapterInfo) -> String {
    format!(
        "{} ({:?}, {:?}, {} {})",
        info.name, info.device_type, info.backend, info.driver, info.driver_info
    )
}

/// The 1, 5 and 15 minute load averages, if the system reports them.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let words: Vec<_> = text.split_whitespace().take(3).collect();
    words.join(" ")
}

impl Case {
    fn name(&self) -> String {
        format!("{} {}", self.op, self.dtype)
    }

    /// Measures every subject of the case, in turns.
    fn run(&self, args: &Args, products: usize, gpu: &Gpu, device: &Device) -> Result<Vec<Line>> {
        let &Self {
            rows, cols, batch, ..
        } = self;
        // Values are rounded to the storage type, so that a library that multiplies in it has the same x.
        let rounded = |random: &mut Random, len| -> Result<Vec<f32>> {
            Ok(Values::round(self.dtype, &random.vector(len))?.to_f32())
        };
        let mut random = Random(rows as u64);
        let dense = Dense::from_f32(rows, cols, rounded(&mut random, rows * cols)?)?;
        let inputs = [
            rounded(&mut random, batch * cols)?,
            rounded(&mut random, batch * cols)?,
        ];
        let mut matrices: Vec<Matrix> = vec![dense.to_dtype(self.dtype)?.into()];
        for format in self.sparse {
            matrices.push(compress(&dense, format.parse()?)?);
        }
        let mut truths = vec![];
        for matrix in &matrices {
            let [a, b] = inputs.each_ref().map(|x| Sampled::new(matrix, x, batch));
            truths.push([a?, b?]);
        }

        let product = |i: usize| Product {
            weight: &matrices[i],
            inputs: &inputs,
            batch,
            copies: args.copies,
        };
        let line = |library, truth: usize, how: String, subject: Box<dyn Subject>| {
            let format = matrices[truth].format().to_string();
            Line::new(library, format, truth, how, subject)
        };
        let dtype = match self.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::Bf16 => DType::BF16,
        };
        let mut burn = vec![];
        if device.supports_dtype(dtype) {
            for form in Form::ALL {
                if form == Form::Column && batch != 1 {
                    continue;
                }
                let subject = Box::new(Burn::new(device, dtype, form, product(0)));
                let mut line = line(Library::Burn, 0, form.name().into(), subject);
                if self.dtype != Dtype::F32 {
                    // Burn then takes x and gives y in the type of W.
                    line.how += ", x and y too";
                    line.most_nmse = 1e-5;
                }
                burn.push(line);
            }
        }
        let mut ours = vec![];
        for i in 0..matrices.len() {
            let subject = Lacuna::new(gpu, product(i))?;
            ours.push(line(
                Library::Lacuna,
                i,
                subject.kernel(),
                Box::new(subject),
            ));
        }
        let (mut burn, mut ours) = (burn.into_iter(), ours.into_iter());
        let mut lines = vec![];
        for _ in 0..Form::ALL.len().max(matrices.len()) {
            lines.extend(burn.next());
            lines.extend(ours.next());
        }
        if self.dtype == Dtype::F32 {
            let how = "all cores".to_owned();
            lines.push(line(Library::Cpu, 0, how, Box::new(Cpu::new(product(0)))));
        }

        for line in &mut lines {
            line.warm_up(products, &truths)?;
            eprintln!(
                "{}: {} {} warm after {} samples, first {:.2} s",
                self.name(),
                line.format,
                line.how,
                line.samples,
                line.first
            );
        }
        for _ in 0..args.rounds {
            for line in &mut lines {
                let (wall, cpu) = line.sample(products, &truths)?;
                line.wall.push(wall);
                line.cpu.push(cpu);
            }
        }
        Ok(lines)
    }
}

/// The fastest line of a library with the case's dense weight.
fn best(lines: &[Line], library: Library) -> Option<&Line> {
    let dense = lines
        .iter()
        .filter(|l| l.library == library && l.truth == 0);
    dense.min_by(|a, b| a.ms().total_cmp(&b.ms()))
}

fn print_tables(results: &[(&Case, Vec<Line>)]) {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    println!(
        "| op | rows | cols | batch | type | Burn ms | Lacuna ms | Burn/Lacuna \
         | by CPU time | Burn error/bound | Lacuna error/bound | gemm crate ms |"
    );
    println!("|---|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|");
    for (case, lines) in results {
        let burn = best(lines, Library::Burn);
        let cpu = best(lines, Library::Cpu);
        for ours in lines.iter().filter(|l| l.library == Library::Lacuna) {
            println!(
                "| {} | {} | {} | {} | {} | {} | {:.2} | {} | {} | {} | {:.3} | {} |",
                case.op,
                case.rows,
                case.cols,
                case.batch,
                ours.format,
                or_dash(burn.map(|l| format!("{:.2}", l.ms()))),
                ours.ms(),
                or_dash(burn.map(|l| format!("{:.2}", l.ms() / ours.ms()))),
                or_dash(burn.map(|l| format!("{:.2}", l.cpu_ms() / ours.cpu_ms()))),
                or_dash(burn.map(|l| format!("{:.3}", l.error_over_bound))),
                ours.error_over_bound,
                or_dash(cpu.map(|l| format!("{:.2}", l.ms()))),
            );
        }
    }
    println!();
    println!(
        "| op | library | type | how | wall ms | least | most | CPU ms | first s \
         | error/bound | NMSE |"
    );
    println!("|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|");
    for (case, lines) in results {
        for line in lines {
            let library = match line.library {
                Library::Burn => "Burn",
                Library::Lacuna => "Lacuna",
                Library::Cpu => "gemm",
            };
            println!(
                "| {} | {library} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.3} | {:.0e}{} |",
                case.op,
                line.format,
                line.how,
                line.ms(),
                1e3 * line.wall.iter().copied().fold(f64::INFINITY, f64::min),
                1e3 * line.wall.iter().copied().fold(0.0, f64::max),
                line.cpu_ms(),
                line.first,
                line.error_over_bound,
                line.nmse,
                if line.passes() { "" } else { " WRONG" },
            );
        }
    }
}

fn run() -> Result<bool> {
    let args = Args::parse()?;
    let gpu = Gpu::new_blocking(&Options {
        adapter: args.adapter.clone(),
        ..Options::default()
    })?;
    let ours = describe(&gpu.info());
    let (device, setup) = open_burn(&gpu.info())?;
    let theirs = describe(&setup.adapter.get_info());
    if ours != theirs {
        return Err(format!("not the same adapter: Lacuna {ours}, Burn {theirs}").into());
    }
    let software = gpu.info().device_type == wgpu::DeviceType::Cpu;
    let products = args.products.unwrap_or(if software { 1 } else { 32 });

    let before = load();
    let mut results = vec![];
    for case in CASES.iter().filter(|c| c.name().contains(&args.only)) {
        results.push((case, case.run(&args, products, &gpu, &device)?));
    }
    let after = load();
    let right = results
        .iter()
        .all(|(_, lines)| lines.iter().all(Line::passes));

    if args.json {
        let cases = results.iter().map(|(case, lines)| {
            json!({
                "op": case.op,
                "rows": case.rows,
                "cols": case.cols,
                "batch": case.batch,
                "type": case.dtype.name(),
                "subjects": lines.iter().map(Line::json).collect::<Vec<_>>(),
            })
        });
        let report = json!({
            "lacuna_adapter": ours,
            "burn_adapter": theirs,
            "rounds": args.rounds,
            "copies": args.copies,
            "products": products,
            "load_before": before,
            "load_after": after,
            "cases": cases.collect::<Vec<_>>(),
        });
        println!("{report:#}");
    } else {
        println!("Lacuna's adapter: {ours}");
        println!("Burn's adapter:   {theirs}");
        println!(
            "{} rounds, {} product(s) a sample, {} weight copies; load average {before}, then {after}",
            args.rounds, products, args.copies
        );
        println!();
        print_tables(&results);
    }
    Ok(right)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("a result lies outside its bound");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
