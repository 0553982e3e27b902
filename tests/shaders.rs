//! Every kernel × candidate through naga to SPIR-V, MSL and HLSL, without a GPU: the text must be
//! valid and be what the host believes of it (bindings, parameters, sizes).

#[path = "common/naga.rs"]
mod checks;

use lacuna::{
    Activation, Caps,
    caps::{DeviceClass, Subgroups},
    format::{Dtype, Format, Precision},
    kernel::{self, Dispatch, compact, convert},
    verify,
};
use naga::back::{hlsl, msl, spv};
use std::collections::{BTreeMap, BTreeSet};

/// Devices for which the text differs: no subgroups, each size of them, and a size that varies; some
/// with 64-bit integers.
fn devices() -> Vec<Caps> {
    let sizes = [
        None,
        Some((4, 4)),
        Some((8, 8)),
        Some((32, 32)),
        Some((8, 32)),
    ];
    let mut devices = vec![];
    for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
        for size in sizes {
            let subgroups = size.map(|(min, max)| Subgroups { min, max });
            let (max_workgroup_bytes, max_invocations) = (32 << 10, 1024);
            devices.push(Caps {
                class,
                subgroups,
                int64: matches!(size, Some((4 | 8, 4 | 8))),
                cooperative: match size {
                    Some((8, 8)) => Some(8),
                    Some((32, 32)) => Some(16),
                    _ => None,
                },
                max_workgroup_bytes,
                max_invocations,
                ..Caps::PORTABLE
            });
        }
    }
    devices
}

/// Every distinct launch of the quick case table, of the lists by which its products skip, and of the
/// conversions around them.
fn dispatches() -> BTreeMap<String, Dispatch> {
    let mut all = BTreeMap::new();
    for caps in devices() {
        for dtype in [Dtype::F16, Dtype::Bf16] {
            for launch in [convert::widen, convert::narrow].map(|of| of(dtype, 67, &caps)) {
                all.entry(launch.wgsl()).or_insert(launch);
            }
        }
        for (channels, scalar) in [(64, true), (64, false), (67, true), (67, false)] {
            for batch in [2, 40] {
                let gelu = Activation::GeluTanh;
                for launch in compact::dispatches(batch, channels, scalar, gelu, &caps) {
                    all.entry(launch.wgsl()).or_insert(launch);
                }
            }
        }
    }
    for case in verify::cases(true) {
        for caps in devices() {
            // Group-pruned weights lie otherwise on CPU adapters, and meet no matrices there.
            let matrices = caps.cooperative.is_some()
                && (caps.class == DeviceClass::Gpu
                    || !matches!(case.problem.format, Format::Gqs { .. }));
            if case.problem.precision == Precision::F16 && !matrices {
                continue;
            }
            let parts = case.problem.parts(&caps).unwrap();
            let mut names = BTreeSet::new();
            for candidate in kernel::candidates(&case.problem, &caps).unwrap() {
                assert!(
                    names.insert(candidate.to_string()),
                    "{}: {candidate} twice",
                    case.problem
                );
                for dispatch in candidate.lower(&case.problem, &parts, &caps).unwrap() {
                    all.entry(dispatch.wgsl()).or_insert(dispatch);
                }
            }
        }
    }
    all
}

#[test]
fn every_kernel_becomes_spirv_msl_and_hlsl() {
    for dispatch in dispatches().values() {
        checks::becomes_spirv_msl_and_hlsl(dispatch);
    }
}

#[test]
fn the_host_believes_of_a_shader_what_it_says() {
    for dispatch in dispatches().values() {
        checks::is_what_the_host_believes(dispatch);
    }
}

#[test]
fn every_operand_of_a_shader_can_be_declared_writable() {
    for dispatch in dispatches().values() {
        let mut shared = dispatch.clone();
        for operand in &dispatch.operands {
            if matches!(operand.role, kernel::Role::Tensor(_)) {
                shared = shared.writable(operand.name).unwrap();
                assert!(
                    shared
                        .operands
                        .iter()
                        .any(|o| o.write && o.name == operand.name)
                );
            }
        }
        checks::is_what_the_host_believes(&shared);
    }
}

#[test]
fn every_subgroup_size_has_a_candidate_that_is_valid() {
    let sizes = [4, 8, 16, 32, 64, 128].map(|size| (size, size));
    let formats = ["f32", "2:4x8", "w4g16s50"].map(|f| f.parse().unwrap());
    for (min, max) in sizes.into_iter().chain([(4, 128)]) {
        for (class, format) in [DeviceClass::Cpu, DeviceClass::Gpu]
            .into_iter()
            .flat_map(|class| formats.map(|f| (class, f)))
        {
            let caps = Caps {
                class,
                subgroups: Some(Subgroups { min, max }),
                max_invocations: 1024,
                max_workgroup_bytes: 32 << 10,
                ..Caps::PORTABLE
            };
            for batch in [1, 40] {
                let problem = verify::Case::new(64, 96, batch, format, false).problem;
                let parts = problem.parts(&caps).unwrap();
                let best = kernel::candidates(&problem, &caps).unwrap()[0];
                for dispatch in best.lower(&problem, &parts, &caps).unwrap() {
                    checks::is_what_the_host_believes(&dispatch);
                }
            }
        }
    }
}

#[test]
fn every_problem_has_a_candidate_on_the_least_device() {
    // x in f16 needs cooperative matrices, which the least device lacks.
    let cases = verify::cases(false).filter(|c| c.problem.precision != Precision::F16);
    for case in cases {
        // The buffers are x, y, the weight, the bias and, where products skip, the list.
        let listed = case.problem.skip != kernel::Skip::Nothing;
        let least = Caps {
            max_storage_buffers: 4 + u32::from(listed),
            max_invocations: 128,
            ..Caps::PORTABLE
        };
        let found = kernel::candidates(&case.problem, &least);
        assert!(found.is_ok_and(|c| !c.is_empty()), "{}", case.problem);
    }
}

/// Opcode of `OpSDot`.
const SDOT: u32 = 4450;

/// The opcodes of a SPIR-V module, after its header of five words.
fn opcodes(words: &[u32]) -> Vec<u32> {
    let mut at = 5;
    let mut found = vec![];
    while let Some(word) = words.get(at) {
        found.push(word & 0xffff);
        at += (word >> 16).max(1) as usize;
    }
    found
}

#[test]
fn dot_products_of_bytes_are_instructions_where_there_are_such_and_arithmetic_elsewhere() {
    let all = dispatches();
    let bytes = all.values().filter(|d| d.wgsl().contains("dot4I8Packed"));
    let mut met = 0;
    for dispatch in bytes {
        met += 1;
        let (module, info) = checks::validate(&dispatch.wgsl(), dispatch);
        for native in [true, false] {
            let mut options = spv::Options {
                lang_version: (1, 3),
                ..Default::default()
            };
            if !native {
                // The capabilities of a device without the extension.
                let others = [spv::Capability::Shader, spv::Capability::Int64];
                let subgroups = [
                    spv::Capability::GroupNonUniform,
                    spv::Capability::GroupNonUniformArithmetic,
                ];
                options.capabilities = Some(others.into_iter().chain(subgroups).collect());
            }
            let words = spv::write_vec(&module, &info, &options, None).expect(&dispatch.name);
            assert_eq!(opcodes(&words).contains(&SDOT), native, "{}", dispatch.name);

            let options = hlsl::Options {
                shader_model: if native {
                    hlsl::ShaderModel::V6_4
                } else {
                    hlsl::ShaderModel::V6_2
                },
                ..Default::default()
            };
            let (mut text, pipeline) = (String::new(), hlsl::PipelineOptions::default());
            hlsl::Writer::new(&mut text, &options, &pipeline)
                .write(&module, &info, None)
                .expect(&dispatch.name);
            let instruction = text.contains("dot4add_i8packed");
            assert_eq!(instruction, native, "{}", dispatch.name);
        }
        // Metal has no such instruction: it gets vectors of bytes, or shifts.
        let options = msl::Options {
            lang_version: (2, 4),
            fake_missing_bindings: true,
            ..Default::default()
        };
        let pipeline = msl::PipelineOptions::default();
        let metal = msl::write_string(&module, &info, &options, &pipeline);
        assert!(metal.is_ok_and(|(text, _)| text.contains("packed_char4")));
    }
    assert!(met > 0, "no launch multiplies bytes");
}
