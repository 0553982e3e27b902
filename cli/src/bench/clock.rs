//! Timing plans: by the device's timestamps where they can be trusted, else by the wall clock.

use crate::error::Result;
use lacuna::{Gpu, Plan, caps::DeviceClass, gpu::Timestamps, wgpu};
use std::time::{Duration, Instant};

/// Shares of the wall clock at which timestamps are believed. A real device's wall clock also
/// holds submitting and waking up, which take milliseconds; a software adapter that says less
/// has stamped when it liked.
fn believable(class: DeviceClass) -> std::ops::RangeInclusive<f64> {
    match class {
        DeviceClass::Gpu => 0.5..=1.2,
        DeviceClass::Cpu => 0.8..=1.2,
    }
}

/// Plans of the same size that do the same work on different copies, run in turn.
pub struct Timed {
    plans: Vec<Plan>,
    products: usize,
    timestamps: Option<Timestamps>,
}

impl Timed {
    /// `products` is the number of products in each plan.
    pub fn new(gpu: &Gpu, plans: Vec<Plan>, products: usize, timestamps: bool) -> Result<Self> {
        let steps = plans.first().map_or(0, |p| p.steps().len());
        let timestamps = timestamps.then(|| gpu.timestamps(steps)).transpose()?;
        Ok(Self {
            plans,
            products,
            timestamps,
        })
    }

    /// Seconds that a product takes in plan `turn`, counted round.
    pub fn sample(&self, gpu: &Gpu, turn: usize) -> Result<f64> {
        let (passes, wall) = self.run(gpu, turn)?;
        let seconds = if passes.is_empty() {
            wall
        } else {
            // From the first pass of each product to the end of its last, which leaves out
            // the gaps between products. Passes that overlap must not count twice.
            let each = passes.chunks(passes.len() / self.products);
            let sum: f64 = each.map(span).sum();
            sum.min(span(&passes))
        };
        Ok(seconds / self.products as f64)
    }

    fn run(&self, gpu: &Gpu, turn: usize) -> Result<(Vec<(Duration, Duration)>, f64)> {
        let plan = &self.plans[turn % self.plans.len()];
        let mut encoder = gpu
            .device()
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        match &self.timestamps {
            None => plan.encode(&mut encoder)?,
            Some(timestamps) => {
                plan.encode_timed(&mut encoder, timestamps)?;
                timestamps.resolve(&mut encoder);
            }
        }
        let begin = Instant::now();
        gpu.submit(encoder)?;
        gpu.wait()?;
        let wall = begin.elapsed().as_secs_f64();
        let passes = self.timestamps.as_ref().map(|t| t.read_blocking(gpu));
        Ok((passes.transpose()?.unwrap_or_default(), wall))
    }
}

/// Seconds from the begin of the first to the end of the last pass.
fn span(passes: &[(Duration, Duration)]) -> f64 {
    match (passes.first(), passes.last()) {
        (Some((begin, _)), Some((_, end))) => end.saturating_sub(*begin).as_secs_f64(),
        _ => 0.0,
    }
}

/// Whether the device's timestamps agree with the wall clock on `work`, which takes long
/// enough for submitting not to matter. Software adapters stamp when they like.
pub fn trustworthy(gpu: &Gpu, work: &Timed) -> Result<bool> {
    let mut ratios = vec![];
    for turn in 0..5 {
        match work.run(gpu, turn) {
            Ok((passes, wall)) => ratios.push(span(&passes) / wall),
            // A clock that runs backwards.
            Err(crate::error::Error::Engine(lacuna::Error::Gpu {
                what: "timestamps", ..
            })) => {
                return Ok(false);
            }
            Err(e) => return Err(e),
        }
    }
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ratios.len() / 2];
    log::info!("timestamps say {ratio:.3} of the wall clock");
    Ok(believable(gpu.caps().class).contains(&ratio))
}
