//! Products that skip what is not active, and the list of what is, against the reference.

mod common;
#[path = "common/reopen.rs"]
mod reopen;

use common::gpu;
use lacuna::{
    Activation, Caps, Error, PlanBuilder,
    caps::DeviceClass,
    compress,
    format::Dense,
    kernel::{Layout, Skip, compact},
    reference,
    verify::{Case, Random},
    wgpu,
};
use reopen::reopen;

#[test]
fn nan_is_active_for_every_candidate_that_skips_columns() {
    let Some(gpu) = gpu() else { return };
    // Columns that no width of loads divides: what lies behind the last one is not looked at.
    for (format, cols) in [("f32", 257), ("f16", 257), ("w4g128", 272), ("w4g32", 257)] {
        for batch in [1, 3] {
            let case = Case::new(130, cols, batch, format.parse().unwrap(), false);
            let mut case = case.skipping(Layout::Bands, Skip::Cols);
            case.x[7] = f32::NAN;
            let truth = case.reference().unwrap();
            let mut compared = 0;
            for (candidate, legal) in case.survey(gpu.caps()).unwrap() {
                if legal.is_ok() {
                    let comparison = case.check(&gpu, candidate, &truth).unwrap();
                    assert!(comparison.passes(), "{format} {candidate}: {comparison:?}");
                    compared += 1;
                }
            }
            assert!(compared > 0, "{format}");
        }
    }
}

#[test]
fn a_list_names_the_active_channels_in_order_and_keeps_nan() {
    let Some(gpu) = gpu() else { return };
    for (batch, channels) in [
        (1, 1),
        (1, 16),
        (2, 17),
        (3, 1000),
        (1, 70_001),
        (2, 0),
        (16, 33),
        (17, 33),
        (40, 1000),
        (33, 0),
        // More iterations than Mesa 22.3 allows the loops of a shader.
        (300, 8192),
        (70_001, 3),
    ] {
        let mut x = Random(7).vector(batch * channels);
        if let Some(first) = x.first_mut() {
            *first = f32::NAN;
        }
        let thresholds: Vec<f32> = Random(8).vector(channels);
        let mut thresholds: Vec<f32> = thresholds.into_iter().map(f32::abs).collect();
        for (i, t) in thresholds.iter_mut().enumerate() {
            match i % 5 {
                1 => *t = 0.0,
                3 => *t = f32::INFINITY,
                _ => {}
            }
        }
        if channels > 3 {
            (x[1], x[2]) = (-0.0, f32::NEG_INFINITY);
        }
        let xs = gpu.tensor_from(batch, channels, &x).unwrap();
        let limits = gpu.tensor_from(1, channels, &thresholds).unwrap();
        let expected = reference::threshold(&x, &thresholds);
        let any = |c: &u32| (0..batch).any(|b| expected[b * channels + *c as usize] != 0.0);
        let listed: Vec<u32> = (0..channels as u32).filter(any).collect();
        // A single subgroup makes lists in one way, a workgroup of any kind in another.
        let own = *gpu.caps();
        let [cpu, other] = [DeviceClass::Cpu, DeviceClass::Gpu].map(|class| Caps { class, ..own });
        let subgroups = None;
        for caps in [cpu, other, Caps { subgroups, ..cpu }] {
            let active = gpu.active(batch, channels).unwrap();
            let tensors = [&xs, &limits, active.kept(), active.list()].map(Clone::clone);
            let mut builder = PlanBuilder::new(&gpu);
            for launch in compact::dispatches(batch, channels, false, Activation::None, &caps) {
                builder.dispatch(launch, &tensors).unwrap();
            }
            let plan = builder.build().unwrap();
            plan.run().unwrap();
            plan.run().unwrap();
            let kept = active.kept().read_blocking(&gpu).unwrap();
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(
                bits(&kept),
                bits(&expected),
                "{batch} x {channels}, {caps:?}"
            );
            let found = active.read_blocking(&gpu).unwrap();
            assert_eq!(found, listed, "{batch} x {channels}, {caps:?}");
            let tally = active.tally_blocking(&gpu).unwrap();
            assert_eq!(tally, (2 * listed.len() as u64, 2), "{batch} x {channels}");
        }
    }
}

#[test]
fn products_that_skip_are_right_in_every_part_and_at_both_extremes() {
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: 256 << 10,
        ..wgpu::Limits::default()
    };
    let Some(gpu) = reopen(limits) else { return };
    let (rows, cols, batch) = (4200, 24, 2);
    for format in ["f32", "f16", "w4g16"] {
        let dense = Dense::from_f32(rows, cols, Random(1).vector(rows * cols)).unwrap();
        let weight = compress::compress(&dense, format.parse().unwrap()).unwrap();
        let [by_rows, bands] = [gpu.upload(&weight), gpu.upload_bands(&weight)].map(Result::unwrap);
        if format == "f32" {
            assert!(by_rows.parts() > 1 && bands.parts() > 1);
        }
        let mut x = Random(2).vector(batch * cols);
        let gate = Random(3).vector(batch * rows);
        x[7] = f32::NAN;
        for threshold in [0.0, 0.5, f32::INFINITY] {
            let t = gpu.tensor_from(1, 1, &[threshold]).unwrap();
            let (xs, gates) = (
                gpu.tensor_from(batch, cols, &x).unwrap(),
                gpu.tensor_from(batch, rows, &gate).unwrap(),
            );
            let y = gpu.tensor(batch, rows).unwrap();
            let [of_rows, of_cols] = [rows, cols].map(|n| gpu.active(batch, n).unwrap());
            let mut builder = PlanBuilder::new(&gpu);
            let plain = Activation::None;
            builder.threshold(&gates, &t, plain, &of_rows).unwrap();
            builder.masked(&by_rows, &xs, None, &of_rows).unwrap();
            builder.threshold(&xs, &t, plain, &of_cols).unwrap();
            builder.input_sparse(&bands, &of_cols, None, &y).unwrap();
            builder.build().unwrap().run().unwrap();

            let kept = |v: &[f32]| reference::threshold(v, &[threshold]);
            let masked = reference::linear(&weight, &x, batch, None).unwrap();
            let masked = masked.masked(&kept(&gate)).unwrap();
            let got = of_rows.kept().read_blocking(&gpu).unwrap();
            assert!(
                masked.compare(&got).unwrap().passes(),
                "{format} {threshold}"
            );
            let sparse = reference::linear(&weight, &kept(&x), batch, None).unwrap();
            let got = y.read_blocking(&gpu).unwrap();
            assert!(
                sparse.compare(&got).unwrap().passes(),
                "{format} {threshold}"
            );
        }
    }
}

#[test]
fn weights_without_every_value_have_no_bands_and_those_by_rows_skip_no_columns() {
    let Some(gpu) = gpu() else { return };
    let dense = Dense::from_f32(32, 48, vec![1.0; 32 * 48]).unwrap();
    for format in ["2:4", "w3g16", "w4g8", "w4g16s50"] {
        let weight = compress::compress(&dense, format.parse().unwrap()).unwrap();
        let refused = gpu.upload_bands(&weight);
        assert!(matches!(refused, Err(Error::Unfit { .. })), "{format}");
    }
    let weight = gpu.upload(&dense.into()).unwrap();
    let active = gpu.active(1, 48).unwrap();
    let y = gpu.tensor(1, 32).unwrap();
    let mut builder = PlanBuilder::new(&gpu);
    let refused = builder.input_sparse(&weight, &active, None, &y).map(drop);
    assert!(
        matches!(refused, Err(Error::NoKernel { .. })),
        "{refused:?}"
    );
}
