use super::*;
use crate::{
    common::gpu,
    config::Linear,
    decoder::tests::{apart, gemma, ids, llama, weights},
};
use lacuna::reference;

/// The inputs of a layer's products, one vector for each site, then the outputs of gate and up.
fn observed(block: &mut Block, stream: &mut [f32]) -> [Vec<f32>; 6] {
    let mut all = [const { vec![] }; 6];
    block
        .watch(stream, &mut |seen| {
            match seen {
                Seen::Input(site, x) => all[site as usize].extend_from_slice(x),
                Seen::FeedForward { gate, up } => {
                    all[4].extend_from_slice(gate);
                    all[5].extend_from_slice(up);
                }
            }
            Ok(())
        })
        .unwrap();
    all
}

#[test]
fn layers_give_on_the_device_what_the_twin_gives() {
    let Some(gpu) = gpu() else { return };
    let recipe = Recipe::default();
    for (config, format) in [
        (llama(), "f32"),
        (gemma(), "2:4@f16"),
        (gemma(), "w4g16s50"),
    ] {
        let weights = weights(config, format);
        // Nothing may be left over from one window to the next, whichever is longer.
        let windows = [ids(60), ids(7), ids(33)];
        for chunk in [1, 16, 60] {
            let mut device = Blocks::in_chunks(Some(&gpu), &weights.config, 60, chunk).unwrap();
            let mut cpu = Blocks::new(None, &weights.config, 60).unwrap();
            let mut streams = embed(&*weights, &recipe, &windows).unwrap();
            for layer in 0..weights.config.layers.len() {
                let mut got = device.load(&*weights, &recipe, layer).unwrap();
                let mut expected = cpu.load(&*weights, &recipe, layer).unwrap();
                for (stream, ids) in streams.iter_mut().zip(&windows) {
                    let (mut alone, mut truth) = (stream.clone(), stream.clone());
                    let inputs = observed(&mut got, stream);
                    let true_inputs = observed(&mut expected, &mut truth);
                    got.run(&mut alone).unwrap();
                    assert_eq!(alone, *stream);
                    let near = |got: &[f32], expected: &[f32]| {
                        let (largest, _) = apart(got, expected);
                        assert!(largest <= 1e-4, "{format}, layer {layer}: {largest}");
                    };
                    near(stream, &truth);
                    for site in Site::ALL {
                        let width = weights.config.width(site);
                        assert_eq!(inputs[site as usize].len(), ids.len() * width);
                        near(&inputs[site as usize], &true_inputs[site as usize]);
                    }
                    for i in [4, 5] {
                        assert_eq!(inputs[i].len(), ids.len() * weights.config.ffn);
                        near(&inputs[i], &true_inputs[i]);
                    }
                    let product = inputs[4].iter().zip(&inputs[5]).map(|(g, u)| g * u);
                    near(&inputs[3], &product.collect::<Vec<f32>>());
                }
            }
        }
    }
}

/// The last layer's output, through the final norm and the head, must give the logits of the whole model.
#[test]
fn all_layers_one_by_one_are_the_model() {
    for config in [llama(), gemma()] {
        let weights = weights(config, "f32");
        let config = &weights.config;
        let recipe = Recipe::default();
        let ids = ids(40);
        let mut stream = embed(&*weights, &recipe, std::slice::from_ref(&ids))
            .unwrap()
            .remove(0);
        let mut blocks = Blocks::new(None, config, 40).unwrap();
        for layer in 0..config.layers.len() {
            let mut block = blocks.load(&*weights, &recipe, layer).unwrap();
            block.run(&mut stream).unwrap();
        }
        let mut normed = vec![];
        for x in stream.chunks(config.hidden) {
            let squares: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
            let rms = (squares / x.len() as f64 + f64::from(config.norm_eps)).sqrt();
            let of = |(&x, &w): (&f32, &f32)| (f64::from(x) / rms * f64::from(w)) as f32;
            normed.extend(x.iter().zip(&weights.final_norm).map(of));
        }
        let logits: Vec<f32> = reference::linear(weights.head(), &normed, ids.len(), None)
            .unwrap()
            .y
            .iter()
            .map(|&y| y as f32)
            .collect();
        let truth = Twin::new(weights.clone()).unwrap().forward(&ids).unwrap();
        assert!(apart(&logits, &truth).0 <= 1e-5);
    }
}

/// The source may change from layer to layer; windows that do not fit the model are refused.
#[test]
fn a_layer_takes_windows_of_its_model_only() {
    let weights = weights(llama(), "f32");
    let (config, recipe) = (&weights.config, Recipe::default());
    let mut blocks = Blocks::new(None, config, 8).unwrap();
    assert!(matches!(
        blocks.load(&*weights, &recipe, 3),
        Err(Error::Choice { what: "layer", .. })
    ));
    let mut block = blocks.load(&*weights, &recipe, 2).unwrap();
    let mut stream = vec![0.5; 9 * config.hidden];
    assert!(matches!(
        block.run(&mut stream),
        Err(Error::Context {
            tokens: 9,
            limit: 8
        })
    ));
    assert!(matches!(
        block.run(&mut stream[..config.hidden - 1]),
        Err(Error::Shape { .. })
    ));
    let stop = |_: Site, _: &[f32]| Err(Error::Cancelled);
    assert!(matches!(
        block.observe(&mut stream[..config.hidden], &mut { stop }),
        Err(Error::Cancelled)
    ));
    for context in [0, 101] {
        assert!(Blocks::new(None, config, context).is_err());
    }
    assert!(matches!(
        embed(&*weights, &recipe, &[vec![1, 83]]),
        Err(Error::Vocabulary { id: 83, vocab: 83 })
    ));
    let sparse = Recipe::parse("*embed* = 2:4").unwrap();
    assert!(matches!(
        embed(&*weights, &sparse, &[vec![1]]),
        Err(Error::Choice { .. })
    ));
}

#[test]
fn sites_are_what_products_take() {
    let config = gemma();
    for site in Site::ALL {
        for &linear in site.linears() {
            assert_eq!(config.shape(linear)[1], config.width(site));
        }
    }
    let all: Vec<Linear> = Site::ALL
        .iter()
        .flat_map(|s| s.linears())
        .copied()
        .collect();
    assert_eq!(all, Linear::ALL);
    assert_eq!(Site::FeedForward.module(3), "model.layers.3.mlp.gate_proj");
}
