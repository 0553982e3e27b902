use super::*;
use crate::{
    common::gpu,
    decoder::{
        Decoder, Options,
        tests::{apart, go_on, ids, llama, load, weights},
    },
    glue::KvType,
    twin::Twin,
};
use lacuna::compress::compress;
use std::sync::Arc;

/// The products of each stack of a layer: `q+k+v o …`.
fn names(layer: &LayerOnDevice) -> String {
    let name = |&(linear, _): &(Linear, usize)| {
        let name = linear.name().rsplit('.').next();
        name.and_then(|name| name.strip_suffix("_proj")).unwrap()
    };
    let stack = |stack: &Stack| {
        stack
            .products
            .iter()
            .map(name)
            .collect::<Vec<_>>()
            .join("+")
    };
    layer.stacks.iter().map(stack).collect::<Vec<_>>().join(" ")
}

#[test]
fn products_of_one_input_are_stacked_as_far_as_their_formats_allow() {
    let Some(gpu) = gpu() else { return };
    for (formats, expected) in [
        (["f32"; 7], "q+k+v o gate+up down"),
        (
            ["w4g8", "w4g8", "w8g8", "f16", "f16", "2:4@f16", "f32"],
            "q+k v o gate up down",
        ),
        (
            [
                "f32",
                "w4g8s50",
                "w4g8s50",
                "f32",
                "2:4x4@f16",
                "2:4x4@f16",
                "f32",
            ],
            "q k+v o gate+up down",
        ),
        (["w4g8s50-ragged"; 7], "q k v o gate up down"),
        // 32 rows share columns: queries have 96 rows and keys 32, but gate has 68.
        (["2:4x32@f16"; 7], "q+k+v o gate up down"),
    ] {
        let mut weights = Arc::unwrap_or_clone(weights(llama(), "f32"));
        for layer in &mut weights.layers {
            // Keys have no bias: in a stack it is zeros.
            layer.biases[Linear::K as usize] = None;
            for (matrix, format) in layer.linears.iter_mut().zip(formats) {
                *matrix = compress(&matrix.to_dense(), format.parse().unwrap()).unwrap();
            }
        }
        let model = load(&gpu, &weights);
        for layer in &model.layers {
            assert_eq!(names(layer), expected, "{formats:?}");
        }
        let truth = Twin::new(Arc::new(weights)).unwrap().forward(&ids(20));
        let truth = truth.unwrap();
        for chunk in [1, 7] {
            let options = Options {
                kv: KvType::F32,
                chunk: Some(chunk),
                ..Options::default()
            };
            let mut decoder = Decoder::new(&model, &options).unwrap();
            decoder.prefill(&ids(19), &mut go_on).unwrap();
            for row in [18, 19] {
                let truth = &truth[row * 83..(row + 1) * 83];
                let (largest, nmse) = apart(&decoder.logits().unwrap(), truth);
                assert!(
                    largest <= 1e-4 && nmse <= 1e-10,
                    "{formats:?}: {largest} {nmse}"
                );
                if row == 18 {
                    decoder.prefill(&ids(20)[19..], &mut go_on).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_token_of_a_dense_model_takes_nine_launches_a_layer() {
    let Some(gpu) = gpu() else { return };
    let model = load(&gpu, &weights(llama(), "f16"));
    let decoder = Decoder::new(&model, &Options::default()).unwrap();
    // Embedding, final norm, head, sampling.
    assert_eq!(decoder.launches_per_token(), 3 * 9 + 4);
}
