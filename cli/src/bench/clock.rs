//! Timing plans: by the device's timestamps where they can be trusted, else by the wall clock.

use crate::error::Result;
use lacuna::{Gpu, Plan, caps::DeviceClass, gpu::Timestamps};
use std::time::Instant;

/// Ratios of timestamps to wall clock at which timestamps are trusted. On a real device the wall
/// clock also covers submitting and waking up, which take milliseconds; a software adapter whose
/// timestamps say much less has placed them arbitrarily.
fn believable(class: DeviceClass) -> std::ops::RangeInclusive<f64> {
    match class {
        DeviceClass::Gpu => 0.5..=1.2,
        DeviceClass::Cpu => 0.8..=1.2,
    }
}

/// Plans that do the same work on different copies of a weight, run in turn.
pub struct Timed {
    plans: Vec<Plan>,
    products: usize,
    timestamps: Option<Timestamps>,
}

impl Timed {
    /// `products` is the number of products in each plan.
    pub fn new(gpu: &Gpu, plans: Vec<Plan>, products: usize, timestamps: bool) -> Result<Self> {
        let timestamps = timestamps.then(|| gpu.timestamps(1)).transpose()?;
        Ok(Self {
            plans,
            products,
            timestamps,
        })
    }

    /// Mean seconds per product of plan `turn`, wrapping round: the plan's time over its number of
    /// products. This includes what the device needs between launches, as real sequences of products
    /// do. An H100 takes 5 µs for an empty pass, so products do not get passes of their own.
    pub fn sample(&self, gpu: &Gpu, turn: usize) -> Result<f64> {
        let (span, wall) = self.run(gpu, turn)?;
        Ok(span.unwrap_or(wall) / self.products as f64)
    }

    /// Seconds of plan `turn` by the device's clock, if timestamps are on, and by the host's.
    fn run(&self, gpu: &Gpu, turn: usize) -> Result<(Option<f64>, f64)> {
        let plan = &self.plans[turn % self.plans.len()];
        let mut encoder = gpu.encoder();
        match &self.timestamps {
            None => plan.encode(&mut encoder)?,
            Some(timestamps) => {
                plan.encode_span(&mut encoder, timestamps)?;
                timestamps.resolve(&mut encoder);
            }
        }
        let begin = Instant::now();
        gpu.submit(encoder)?;
        gpu.wait()?;
        let wall = begin.elapsed().as_secs_f64();
        let stamps = self.timestamps.as_ref().map(|t| t.read_blocking(gpu));
        let span = stamps.transpose()?.map(|passes| {
            let span = passes
                .first()
                .map(|(begin, end)| end.saturating_sub(*begin));
            span.unwrap_or_default().as_secs_f64()
        });
        Ok((span, wall))
    }
}

/// Whether the device's timestamps agree with the wall clock on `work`, which must take long enough
/// for submitting not to matter. Software adapters may place timestamps arbitrarily.
pub fn trustworthy(gpu: &Gpu, work: &Timed) -> Result<bool> {
    let mut ratios = vec![];
    for turn in 0..5 {
        match work.run(gpu, turn) {
            Ok((span, wall)) => ratios.push(span.unwrap_or(wall) / wall),
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
