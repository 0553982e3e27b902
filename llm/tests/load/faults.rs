//! Copies of the shipped model with something wrong in them.

use crate::{
    common::gpu,
    files::{Folder, assert_names},
};
use half::bf16;
use lacuna_llm::{Checkpoint, Error, Linear, Model, Recipe, Weights};
use serde_json::Value;
use std::{fs, ops::ControlFlow};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/shakespeare");

/// The shipped configuration, the bytes of the weights, and where their header ends.
fn shipped() -> (Value, Vec<u8>, usize) {
    let config = fs::read(format!("{MODEL}/config.json")).unwrap();
    let bytes = fs::read(format!("{MODEL}/model.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&config).unwrap(), bytes, 8 + header)
}

#[test]
fn weights_cut_short_anywhere_are_refused_with_the_file() {
    let (config, bytes, data) = shipped();
    let folder = Folder::new(&config);
    let len = bytes.len();
    for cut in [
        0,
        1,
        7,
        8,
        9,
        data / 2,
        data - 1,
        data,
        data + 1,
        len / 2,
        len - 1,
    ] {
        folder.put("model.safetensors", &bytes[..cut]);
        let result = Checkpoint::open(folder.path());
        assert!(matches!(result, Err(Error::File(_))), "{cut} of {len}");
        assert_names(result, &["model.safetensors"]);
    }
    folder.put("model.safetensors", &bytes);
    Checkpoint::open(folder.path()).unwrap();
}

#[test]
fn a_value_beyond_f16_is_named_where_the_model_is_loaded() {
    let (config, mut bytes, data) = shipped();
    let module = Linear::Up.module(2);
    let header: Value = serde_json::from_slice(&bytes[8..data]).unwrap();
    let tensor = &header[format!("{module}.weight")];
    let [start, cols] = [&tensor["data_offsets"][0], &tensor["shape"][1]];
    let [start, cols] = [start, cols].map(|v| v.as_u64().unwrap() as usize);
    let at = data + start + 2 * (3 * cols + 5);
    bytes[at..at + 2].copy_from_slice(&bf16::from_f32(1e6).to_le_bytes());
    let folder = Folder::new(&config);
    folder.put("model.safetensors", &bytes);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();

    let load = |recipe: &str| {
        let recipe = Recipe::parse(recipe).unwrap();
        let mut results = vec![Weights::load(&checkpoint, &recipe).map(drop)];
        if let Some(gpu) = gpu() {
            let keep = &mut |_: lacuna_llm::Progress<'_>| ControlFlow::Continue(());
            results.push(Model::load(&gpu, &checkpoint, &recipe, keep).map(drop));
        }
        results
    };
    for recipe in ["* = f16", "model.layers.* = 2:4@f16"] {
        for result in load(recipe) {
            assert!(
                matches!(result, Err(Error::F16Overflow { row: 3, col: 5, .. })),
                "{result:?}"
            );
            assert_names(result, &[&module, "row 3, column 5"]);
        }
    }
    // In a type that can hold the value, it is loaded.
    for result in load("* = f16\n*.up_proj = bf16") {
        result.unwrap();
    }
}
