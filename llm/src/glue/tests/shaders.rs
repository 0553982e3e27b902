//! Every launch through naga, without a GPU.

#[path = "../../../../tests/common/naga.rs"]
mod checks;

use super::{CONTEXT, config};
use crate::{
    config::{Activation, Layer},
    glue::{Glue, KvType, Residual},
    model::Place,
};
use lacuna::{
    Caps,
    caps::{DeviceClass, Subgroups},
    kernel::{Dispatch, PartLayout, RowReader},
};
use std::collections::BTreeMap;

/// The least device that the launches need.
const LEAST: Caps = Caps {
    max_invocations: 128,
    ..Caps::PORTABLE
};

/// Devices that get different WGSL: without subgroups, with subgroups of one size, and of several sizes.
fn devices() -> Vec<Caps> {
    let sizes = [None, Some((4, 4)), Some((8, 8)), Some((8, 32))];
    let of = |class| {
        sizes.map(|size| Caps {
            class,
            subgroups: size.map(|(min, max)| Subgroups { min, max }),
            max_invocations: 1024,
            ..Caps::PORTABLE
        })
    };
    [of(DeviceClass::Cpu), of(DeviceClass::Gpu)]
        .concat()
        .into_iter()
        .chain([LEAST])
        .collect()
}

/// Every distinct launch on these devices.
fn dispatches(devices: &[Caps]) -> BTreeMap<String, Dispatch> {
    let mut all = vec![];
    let (tokens, mut config) = (5, config());
    let place = Place {
        first: 128,
        stride: 512,
    };
    let layout = PartLayout {
        row_base: 3,
        rows: 7,
        values: 64,
        value_stride: 24,
        indices: 0,
        index_stride: 0,
        words: 256,
        ..PartLayout::default()
    };
    for caps in devices {
        for kv in [KvType::F16, KvType::F32] {
            for head_dim in [8, 24, 64, 80, 128, 168, 256, 272] {
                config.head_dim = head_dim;
                for qk_norms in [false, true] {
                    config.qk_norms = qk_norms;
                    let glue = Glue::new(&config, caps, CONTEXT, kv);
                    all.push(glue.heads(tokens, [place; 3]));
                }
                for window in [None, Some(1), Some(7)] {
                    let glue = Glue::new(&config, caps, CONTEXT, kv);
                    let layer = Layer { rope: 0, window };
                    all.extend([1, 3].map(|splits| glue.attention(tokens, &layer, place, splits)));
                    all.push(glue.join(tokens, 3));
                }
            }
        }
        for activation in [Activation::Silu, Activation::GeluTanh] {
            config.activation = activation;
            let glue = Glue::new(&config, caps, CONTEXT, KvType::F32);
            all.extend([
                glue.gated(tokens, [place; 2]),
                glue.threshold_gated(tokens, [place; 2], 3),
            ]);
        }
        let glue = Glue::new(&config, caps, CONTEXT, KvType::F32);
        for residual in [Residual::None, Residual::Add, Residual::Post] {
            all.extend([false, true].map(|last| glue.norm(tokens, residual, last)));
        }
        for format in ["f32", "f16", "bf16", "w4g32", "w5g24-real"] {
            let reader = RowReader::new(format.parse().unwrap(), config.hidden).unwrap();
            all.push(glue.gather(tokens, reader, 0, 0, &layout));
        }
        all.push(glue.score(tokens, 0, 100));
        all.push(glue.sample());
        all.push(glue.threshold_input(tokens, 2000, 3));
    }
    all.into_iter().map(|d| (d.wgsl(), d)).collect()
}

#[test]
fn every_launch_becomes_spirv_msl_and_hlsl() {
    for dispatch in dispatches(&devices()).values() {
        checks::becomes_spirv_msl_and_hlsl(dispatch);
    }
}

#[test]
fn the_host_believes_of_a_launch_what_it_says() {
    let all = dispatches(&devices());
    for name in [
        "gather",
        "norm",
        "heads",
        "attention",
        "attention_join",
        "gated",
        "score",
        "sample",
        "threshold",
    ] {
        assert!(all.values().any(|d| d.name == name), "{name}");
    }
    for dispatch in all.values() {
        checks::is_what_the_host_believes(dispatch);
    }
}

#[test]
fn every_launch_fits_the_least_device() {
    for dispatch in dispatches(&[LEAST]).values() {
        dispatch.fits(&LEAST).unwrap();
        assert!(!dispatch.subgroups, "{}", dispatch.name);
    }
}
