//! The adapter that the user chose.

pub mod tuning;

use crate::error::Result;
use lacuna::{
    Gpu,
    gpu::{Options, Selector},
    wgpu,
};
use lacuna_io::printable;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// Options of every command that runs on a device.
#[derive(clap::Args)]
#[command(next_help_heading = "Device options")]
pub struct Args {
    /// Adapter to use: its number in `lacuna info`, or a part of its name
    #[arg(long, global = true, value_name = "INDEX|NAME")]
    adapter: Option<String>,
    /// Gives up on the device if one call takes longer
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Splits work into submissions of at most this duration: some systems reset devices that work longer
    #[arg(long, global = true, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..))]
    max_dispatch_ms: Option<u32>,
    /// Uses cooperative matrices, an experimental feature of wgpu, for products with f16 activations
    #[arg(long, global = true)]
    cooperative: bool,
    /// The table that `tune` wrote [default: that of the adapter in your data folder, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    tuning: Option<PathBuf>,
    /// Ignores measurements and chooses kernels by the built-in heuristics
    #[arg(long, global = true, conflicts_with = "tuning")]
    untuned: bool,
    /// Does not read or write compiled pipelines in your cache folder
    #[arg(long, global = true)]
    no_pipeline_cache: bool,
}

/// Where to compute.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Where {
    /// The GPU, else the CPU with a warning
    Auto,
    Gpu,
    Cpu,
}

/// The adapter for `place`; `None` is the CPU.
pub fn open_at(place: Where, args: &Args) -> Result<Option<Gpu>> {
    match place {
        Where::Cpu => Ok(None),
        Where::Gpu => open(args).map(Some),
        Where::Auto => match open(args) {
            // Who names an adapter does not mean the processor.
            Err(e) if e.code() == 3 && args.adapter.is_none() => {
                log::warn!("computing on the CPU: {e}");
                Ok(None)
            }
            other => other.map(Some),
        },
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|&s: &f64| s > 0.0);
    let duration = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
    duration
        .filter(|d| !d.is_zero())
        .ok_or_else(|| "a number of seconds, more than 0".into())
}

/// Opens the adapter.
pub fn open(args: &Args) -> Result<Gpu> {
    let adapter = args
        .adapter
        .as_deref()
        .map_or(Selector::Best, Selector::from);
    let mut gpu = Gpu::new_blocking(&Options {
        adapter,
        timeout: args.timeout,
        max_submission: args
            .max_dispatch_ms
            .map(|ms| Duration::from_millis(ms.into())),
        cooperative: args.cooperative,
        ..Options::default()
    })?;
    if let (Some(folder), false) = (pipelines(), args.no_pipeline_cache) {
        gpu = gpu.keep_pipelines(&folder);
    }
    let info = gpu.info();
    log::info!(
        "adapter {} ({}, {:?})",
        info.name,
        info.driver_info,
        info.backend
    );
    if args.untuned {
        return Ok(gpu);
    }
    tuning::apply(gpu, args.tuning.as_deref())
}

/// Where compiled pipelines are kept, if the system has a cache folder.
fn pipelines() -> Option<PathBuf> {
    dirs::cache_dir().map(|cache| cache.join("lacuna/pipelines"))
}

/// Where pipelines are kept, in words, for `info`.
pub fn describe_pipelines(gpu: &Gpu) -> String {
    gpu.pipelines_file().map_or_else(
        || "not kept".into(),
        |file| printable(&file.to_string_lossy()),
    )
}

/// What identifies an adapter in reports.
#[derive(Serialize, Deserialize, PartialEq)]
pub struct Adapter {
    name: String,
    driver: String,
    driver_info: String,
    backend: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Adapter {
    /// Its name alone.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl From<&wgpu::AdapterInfo> for Adapter {
    fn from(info: &wgpu::AdapterInfo) -> Self {
        Self {
            name: info.name.clone(),
            driver: info.driver.clone(),
            driver_info: info.driver_info.clone(),
            backend: info.backend.to_str().into(),
            kind: format!("{:?}", info.device_type),
        }
    }
}

impl std::fmt::Display for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name,
            driver,
            driver_info,
            backend,
            kind,
        } = self;
        write!(f, "{name}, {kind}, {backend}, {driver} {driver_info}")
    }
}
