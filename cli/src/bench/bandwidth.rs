//! How fast memory is: the roof over every product.

use super::{clock::Timed, machine};
use crate::{
    error::{Error, Result},
    interrupt,
};
use lacuna::{
    Gpu, Plan, PlanBuilder, Tensor,
    kernel::{Const, Dispatch, Operand, Role, fold},
    wgpu,
};
use std::{borrow::Cow, hint::black_box, thread, time::Instant};

/// Bytes of one buffer, within every device's binding limit.
const BUFFER_BYTES: u64 = 64 << 20;
/// Least bytes that one measurement reads and writes, where memory allows.
const LEAST_BYTES: u64 = 512 << 20;
/// A measurement repeats its work until it lasts at least this long, so that the cost of submitting vanishes.
const LEAST_SECONDS: f64 = 0.02;
const ATTEMPTS: usize = 5;

/// Copy kernels as `(element type, its bytes, workgroup size, elements per lane)`. GPUs prefer 16-byte
/// loads; CPU adapters prefer scalar loads from neighbouring lanes.
const KERNELS: [(&str, u64, u32, u32); 5] = [
    ("vec4<u32>", 16, 256, 1),
    ("vec4<u32>", 16, 256, 4),
    ("u32", 4, 256, 4),
    ("u32", 4, 8, 64),
    ("u32", 4, 64, 64),
];

/// Source and destination buffers of a copy, made as a host application makes its own.
pub struct Copier {
    gpu: Gpu,
    pairs: Vec<[(wgpu::Buffer, Tensor); 2]>,
}

impl Copier {
    /// Allocates the buffers of one measurement.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        let bytes = LEAST_BYTES
            .max(machine::cold_bytes(gpu))
            .min(machine::memory_budget(gpu));
        let pairs = bytes.div_ceil(2 * BUFFER_BYTES).max(1);
        let pair = |_| Ok([buffer(gpu)?, buffer(gpu)?]);
        Ok(Self {
            gpu: gpu.clone(),
            pairs: (0..pairs).map(pair).collect::<Result<_>>()?,
        })
    }

    fn bytes_moved(&self) -> f64 {
        (2 * BUFFER_BYTES) as f64 * self.pairs.len() as f64
    }

    /// A plan that copies every pair `repeats` times with kernel number `kernel`.
    fn plan(&self, kernel: usize, repeats: usize) -> Result<Plan> {
        let (word, word_bytes, workgroup, words) = KERNELS[kernel];
        let count = BUFFER_BYTES / word_bytes;
        let operand = |name, index, write| Operand {
            name,
            binding: index as u32 + 1,
            role: Role::Tensor(index),
            write,
        };
        let dispatch = Dispatch {
            name: format!("copy {word} g{workgroup} w{words}"),
            enables: vec![],
            consts: vec![
                ("WORKGROUP", Const::U32(workgroup)),
                ("WORDS", Const::U32(words)),
            ],
            fragments: vec![
                Cow::Owned(format!("alias Word = {word};")),
                Cow::Borrowed(include_str!("copy.wgsl")),
            ],
            params: vec![count as u32],
            operands: vec![operand("source", 0, false), operand("destination", 1, true)],
            invocations: workgroup,
            workgroup_bytes: 0,
            subgroups: false,
            int64: false,
            scratch_bytes: 0,
            grid: fold(
                count.div_ceil(u64::from(workgroup * words)),
                self.gpu.caps().max_workgroups,
            ),
        };
        let mut builder = PlanBuilder::new(&self.gpu);
        for _ in 0..repeats {
            for [(_, source), (_, destination)] in &self.pairs {
                builder.dispatch(dispatch.clone(), &[source.clone(), destination.clone()])?;
            }
        }
        Ok(builder.build()?)
    }

    /// Copy bandwidth of the fastest of several methods; of each, the median of a few attempts counts.
    pub fn measure(&self) -> Result<Bandwidth> {
        let mut best = Bandwidth {
            seconds: f64::INFINITY,
            method: String::new(),
            kernel: 0,
            gb_per_s: 0.0,
        };
        let mut fastest_kernel = f64::INFINITY;
        let buffers = |encoder: &mut wgpu::CommandEncoder| {
            for [(source, _), (destination, _)] in &self.pairs {
                encoder.copy_buffer_to_buffer(source, 0, destination, 0, BUFFER_BYTES);
            }
            Ok(())
        };
        if let Some(seconds) = self.timed("copy_buffer_to_buffer", best.seconds, buffers)? {
            best.take(seconds, "copy_buffer_to_buffer");
        }
        for (number, (word, _, workgroup, words)) in KERNELS.into_iter().enumerate() {
            if workgroup > self.gpu.caps().max_invocations {
                continue;
            }
            let method = format!("copy kernel, {word}, {workgroup} lanes x {words}");
            let plan = self.plan(number, 1)?;
            let record = |encoder: &mut wgpu::CommandEncoder| Ok(plan.encode(encoder)?);
            if let Some(seconds) = self.timed(&method, best.seconds, record)? {
                if seconds < fastest_kernel {
                    (best.kernel, fastest_kernel) = (number, seconds);
                }
                best.take(seconds, &method);
            }
        }
        best.gb_per_s = self.bytes_moved() / best.seconds / 1e9;
        Ok(best)
    }

    /// [`seconds`] of one copying method, after checking that it did copy.
    fn timed(
        &self,
        method: &str,
        best: f64,
        record: impl Fn(&mut wgpu::CommandEncoder) -> Result<()>,
    ) -> Result<Option<f64>> {
        // Fills the first source with a value that no other method has written.
        let mark = method.bytes().fold(1.0, |m, b| m + f32::from(b));
        let [(_, source), (_, destination)] = &self.pairs[0];
        source.write(&self.gpu, &vec![mark; source.len()])?;
        let seconds = seconds(&self.gpu, best, record)?;
        let got = destination.read_blocking(&self.gpu)?;
        if got.iter().any(|v| v.to_bits() != mark.to_bits()) {
            return Err(Error::Check(format!("{method} did not copy")));
        }
        match seconds {
            None => log::info!("{method}: not the fastest"),
            Some(s) => log::info!("{method}: {:.2} GB/s", self.bytes_moved() / s / 1e9),
        }
        Ok(seconds)
    }

    /// A plan that copies for about `LEAST_SECONDS`, for testing the device's clock.
    pub fn work(&self, bandwidth: &Bandwidth) -> Result<Timed> {
        let most = (1000 / self.pairs.len()).max(1);
        let repeats = ((LEAST_SECONDS / bandwidth.seconds).ceil() as usize).clamp(1, most);
        let plan = self.plan(bandwidth.kernel, repeats)?;
        Timed::new(&self.gpu, vec![plan], 1, true)
    }
}

/// Seconds that the work recorded by `record` takes, the median of a few attempts; `None` if the first
/// tries show that it is slower than `best`.
pub fn seconds(
    gpu: &Gpu,
    best: f64,
    record: impl Fn(&mut wgpu::CommandEncoder) -> Result<()>,
) -> Result<Option<f64>> {
    let run = |repeats: usize| -> Result<f64> {
        let mut encoder = gpu.encoder();
        for _ in 0..repeats {
            record(&mut encoder)?;
        }
        let begin = Instant::now();
        gpu.submit(encoder)?;
        gpu.wait()?;
        Ok(begin.elapsed().as_secs_f64() / repeats as f64)
    };
    // The first run compiles shaders and clears new memory.
    if run(1)? > 10.0 * best {
        return Ok(None);
    }
    let once = run(1)?;
    if once > 1.5 * best {
        return Ok(None);
    }
    let repeats = (LEAST_SECONDS / once).ceil().clamp(1.0, 1e4) as usize;
    let mut times = vec![];
    for _ in 0..ATTEMPTS {
        interrupt::check()?;
        times.push(run(repeats)?);
    }
    times.sort_by(f64::total_cmp);
    Ok(Some(times[ATTEMPTS / 2]))
}

/// The result of a measurement.
pub struct Bandwidth {
    /// Bytes read and written per nanosecond.
    pub gb_per_s: f64,
    /// The copying method that was fastest.
    pub method: String,
    seconds: f64,
    /// The fastest of the copy kernels.
    kernel: usize,
}

impl Bandwidth {
    fn take(&mut self, seconds: f64, method: &str) {
        if seconds < self.seconds {
            self.seconds = seconds;
            method.clone_into(&mut self.method);
        }
    }
}

/// A buffer made by wgpu itself and a tensor in it, as in an application that embeds the engine.
fn buffer(gpu: &Gpu) -> Result<(wgpu::Buffer, Tensor)> {
    use wgpu::BufferUsages as U;
    let scope = gpu
        .device()
        .push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some("copy"),
        size: BUFFER_BYTES,
        usage: U::STORAGE | U::COPY_SRC | U::COPY_DST,
        mapped_at_creation: false,
    });
    if pollster::block_on(scope.pop()).is_some() {
        let error = lacuna::Error::OutOfMemory {
            what: "a buffer to copy",
            bytes: BUFFER_BYTES,
        };
        return Err(error.into());
    }
    let tensor = gpu.tensor_in(&buffer, 0, 1, (BUFFER_BYTES / 4) as usize)?;
    Ok((buffer, tensor))
}

/// GB/s that a plain loop on every core reads: the best of a few attempts over 1 GiB, or over four
/// times the last-level cache if that is more.
pub fn host_read() -> Result<f64> {
    let bytes = (1 << 30).max(4 * machine::last_level_cache());
    let data = vec![1u64; (bytes / 8) as usize];
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut best = 0.0f64;
    for _ in 0..ATTEMPTS {
        interrupt::check()?;
        let begin = Instant::now();
        thread::scope(|scope| {
            for part in data.chunks(data.len().div_ceil(threads)) {
                scope.spawn(move || black_box(sum(black_box(part))));
            }
        });
        best = best.max(bytes as f64 / begin.elapsed().as_secs_f64() / 1e9);
    }
    Ok(best)
}

/// Keeps several sums side by side: a single one would wait for its own additions, not for memory.
fn sum(data: &[u64]) -> u64 {
    let mut sums = [0u64; 16];
    let chunks = data.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().chain(rest).fold(0, |a, &b| a.wrapping_add(b))
}
