//! Measures the rate of arithmetic, the other upper limit on every product.

use super::bandwidth::seconds;
use crate::error::{Error, Result};
use lacuna::{
    Gpu, PlanBuilder,
    kernel::{Const, Dispatch, Operand, Role},
    wgpu,
};
use std::borrow::Cow;

/// `(workgroup size, vectors of four chains per lane)`. A CPU adapter can keep only a few in registers;
/// a GPU hides latency with more lanes.
const KERNELS: [(u32, u32); 4] = [(8, 2), (8, 4), (64, 2), (256, 4)];
/// Steps of a chain; Mesa 22.3 cuts loops off after 65 535.
const ROUNDS: u32 = 4096;
/// Lanes, enough for every device.
const LANES: u32 = 1 << 18;
/// Lanes on a CPU adapter: even the fastest of these do a hundredth of what GPUs do.
const FEW_LANES: u32 = 1 << 12;

/// Multiplications and additions in f32 per nanosecond (GFLOP/s), by the fastest of several kernels that
/// run chains of multiply-adds.
///
/// # Errors
/// [`Error::Check`] if the chains do not converge to their known limit.
pub fn measure(gpu: &Gpu) -> Result<f64> {
    let on_cpu = gpu.info().device_type == wgpu::DeviceType::Cpu;
    let lanes = if on_cpu { FEW_LANES } else { LANES };
    let y = gpu.tensor(1, lanes as usize)?;
    let mut most = 0.0f64;
    for (workgroup, sums) in KERNELS {
        if workgroup > gpu.caps().max_invocations {
            continue;
        }
        let operations = f64::from(lanes) * f64::from(ROUNDS) * f64::from(8 * sums);
        let name = format!("multiply-adds, {workgroup} lanes x {sums} vectors");
        let dispatch = Dispatch {
            name: name.clone(),
            consts: vec![
                ("WORKGROUP", Const::U32(workgroup)),
                ("SUMS", Const::U32(sums)),
            ],
            fragments: vec![Cow::Borrowed(include_str!("peak.wgsl"))],
            params: vec![ROUNDS, 0.5f32.to_bits(), 1.0f32.to_bits()],
            operands: vec![Operand::write("y", 1, Role::Tensor(0))],
            invocations: workgroup,
            grid: [lanes / workgroup, 1, 1],
            ..Dispatch::default()
        };
        let mut builder = PlanBuilder::new(gpu);
        builder.dispatch(dispatch, std::slice::from_ref(&y))?;
        let plan = builder.build()?;
        let record = |encoder: &mut wgpu::CommandEncoder| Ok(plan.encode(encoder)?);
        let best = if most > 0.0 {
            operations / most / 1e9
        } else {
            f64::INFINITY
        };
        let seconds = seconds(gpu, best, record)?;
        if y.read_blocking(gpu)?
            .iter()
            .any(|&y| (y - 2.0).abs() > 1e-5)
        {
            return Err(Error::Check(format!("{name}: not what they come to")));
        }
        if let Some(seconds) = seconds {
            let rate = operations / seconds / 1e9;
            log::info!("{name}: {rate:.1} GFLOP/s");
            most = most.max(rate);
        }
    }
    Ok(most)
}
