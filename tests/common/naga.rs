//! A launch through naga, without a GPU: its text must be valid and be what the host believes of it
//! (bindings, parameters, sizes).

use lacuna::kernel::Dispatch;
use naga::{
    AddressSpace, ResourceBinding, StorageAccess,
    back::{hlsl, msl, spv},
    front::wgsl,
    valid::{
        Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator,
    },
};
use std::collections::BTreeMap;

/// Parses and validates the text of a launch.
pub fn validate(text: &str, dispatch: &Dispatch) -> (naga::Module, ModuleInfo) {
    let module = wgsl::parse_str(text)
        .unwrap_or_else(|e| panic!("{}: {}", dispatch.name, e.emit_to_string(text)));
    // `unpack2x16float` needs the last: it is core WGSL, but absent from some old GL drivers.
    let capabilities = Capabilities::SUBGROUP
        | Capabilities::SHADER_INT64
        | Capabilities::SHADER_FLOAT16
        | Capabilities::COOPERATIVE_MATRIX
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all());
    let info = validator
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}: {}", dispatch.name, e.emit_to_string(text)));
    (module, info)
}

/// Checks that the launch becomes SPIR-V, MSL and HLSL.
pub fn becomes_spirv_msl_and_hlsl(dispatch: &Dispatch) {
    let (module, info) = validate(&dispatch.wgsl(), dispatch);

    let options = spv::Options {
        lang_version: (1, 3),
        ..Default::default()
    };
    let words = spv::write_vec(&module, &info, &options, None).expect(&dispatch.name);
    assert!(!words.is_empty());

    let slots = dispatch
        .operands
        .iter()
        .map(|o| (o.binding, o.write))
        .chain([(0, false)]);
    let resources = slots
        .map(|(binding, mutable)| {
            let target = msl::BindTarget {
                buffer: Some(binding as u8),
                mutable,
                ..Default::default()
            };
            (ResourceBinding { group: 0, binding }, target)
        })
        .collect();
    let entry = msl::EntryPointResources {
        resources,
        sizes_buffer: Some(24),
        ..Default::default()
    };
    let options = msl::Options {
        lang_version: (2, 4),
        per_entry_point_map: [("main".to_string(), entry)].into(),
        ..Default::default()
    };
    let (metal, _) = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
        .expect(&dispatch.name);
    assert!(metal.contains("kernel"), "{}", dispatch.name);

    // Direct3D has no cooperative matrices, and none of its devices is ever asked for them.
    if dispatch.enables.contains(&"wgpu_cooperative_matrix") {
        return;
    }
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_2,
        ..Default::default()
    };
    let mut direct = String::new();
    let pipeline = hlsl::PipelineOptions::default();
    hlsl::Writer::new(&mut direct, &options, &pipeline)
        .write(&module, &info, None)
        .expect(&dispatch.name);
    assert!(direct.contains("numthreads"), "{}", dispatch.name);
}

/// Checks that the text declares the bindings, parameters and sizes that the launch states.
pub fn is_what_the_host_believes(dispatch: &Dispatch) {
    let text = dispatch.wgsl();
    let (module, _) = validate(&text, dispatch);
    let name = &dispatch.name;

    let mut declared = BTreeMap::new();
    let (mut params_bytes, mut workgroup_bytes) = (0, 0);
    let layouter = {
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        layouter
    };
    for (_, global) in module.global_variables.iter() {
        let size = layouter[global.ty].size;
        match (global.space, &global.binding) {
            (AddressSpace::Uniform, Some(binding)) => {
                assert_eq!(binding.binding, 0, "{name}");
                params_bytes += size as usize;
            }
            (AddressSpace::Storage { access }, Some(binding)) => {
                let write = access.contains(StorageAccess::STORE);
                declared.insert(binding.binding, (global.name.clone().unwrap(), write));
            }
            (AddressSpace::WorkGroup, _) => workgroup_bytes += size,
            _ => {}
        }
    }
    assert_eq!(
        params_bytes,
        dispatch.params.len() * 4,
        "{name}: bytes of parameters"
    );
    let bound: BTreeMap<_, _> = dispatch
        .operands
        .iter()
        .map(|o| (o.binding, (o.name.to_string(), o.write)))
        .collect();
    assert_eq!(declared, bound, "{name}: storage bindings");
    assert_eq!(
        workgroup_bytes, dispatch.workgroup_bytes,
        "{name}: bytes of workgroup memory"
    );

    let main = &module.entry_points[0];
    assert_eq!(main.name, "main");
    assert_eq!(
        main.workgroup_size.iter().product::<u32>(),
        dispatch.invocations,
        "{name}: invocations"
    );
    assert_eq!(
        text.contains("subgroup"),
        dispatch.subgroups,
        "{name}: use of subgroups"
    );
    assert_eq!(text.contains("u64"), dispatch.int64, "{name}: use of u64");
}
