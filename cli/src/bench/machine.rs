//! What is known about the machine: its memory, its caches and how long it takes to warm up.

use lacuna::{Gpu, caps::DeviceClass, wgpu};
use std::time::Duration;

/// Least bytes that must be touched before a weight counts as cold again, however small the caches.
const LEAST_COLD_BYTES: u64 = 256 << 20;
/// Budget where free memory is unknown: every GPU worth timing has twice as much memory.
const UNKNOWN_BUDGET: u64 = 4 << 30;

/// Bytes touched between two uses of a cold weight: 256 MiB, or, where the device is the processor,
/// four times the last-level cache if that is more.
pub fn cold_bytes(gpu: &Gpu) -> u64 {
    let on_cpu = gpu.info().device_type == wgpu::DeviceType::Cpu;
    let cache = if on_cpu { last_level_cache() } else { 0 };
    LEAST_COLD_BYTES.max(4 * cache)
}

/// Bytes that copies of weights may take: half of free memory where the host's memory is used.
pub fn memory_budget(gpu: &Gpu) -> u64 {
    use wgpu::DeviceType::{Cpu, IntegratedGpu};
    match gpu.info().device_type {
        Cpu | IntegratedGpu => available().map_or(UNKNOWN_BUDGET, |free| free / 2),
        _ => UNKNOWN_BUDGET,
    }
}

/// How long a GPU runs products before samples count. While the host prepares weights it idles, and
/// then starts at a fifth of its clock: an H100 took twice as long for dense products and four times
/// as long for sparse ones.
pub fn warm_up(gpu: &Gpu) -> Duration {
    match gpu.caps().class {
        DeviceClass::Gpu => Duration::from_millis(300),
        DeviceClass::Cpu => Duration::ZERO,
    }
}

/// Size of the largest cache that Linux lists for the first core; 0 where it lists none.
pub fn last_level_cache() -> u64 {
    let size = |index: usize| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let text = std::fs::read_to_string(path).ok()?;
        let text = text.trim();
        let (digits, unit) = match text.as_bytes().last()? {
            b'K' => (&text[..text.len() - 1], 1 << 10),
            b'M' => (&text[..text.len() - 1], 1 << 20),
            _ => (text, 1),
        };
        digits.parse::<u64>().ok().map(|n| n * unit)
    };
    (0..8).filter_map(size).max().unwrap_or(0)
}

/// Free memory of the host, as Linux reports it.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}
