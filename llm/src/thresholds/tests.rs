use super::*;
use crate::{
    blocks::Blocks,
    common::gpu,
    config::Activation,
    decoder::{
        Decoder, Options,
        tests::{apart, gemma, go_on, ids, llama, load, weights},
    },
    glue::{Glue, KvType},
    model::{Model, Place},
    recipe::Recipe,
    twin::Twin,
    weights::Weights,
};
use lacuna::{
    Caps, PlanBuilder, Tuning,
    caps::DeviceClass,
    gpu::ReadBack,
    kernel::{Dispatch, Problem},
    verify::Random,
};
use std::{ops::ControlFlow, sync::Arc};

/// The adapter's capabilities, and those of a GPU without subgroups.
fn both(gpu: &Gpu) -> [Caps; 2] {
    let shared = Caps {
        class: DeviceClass::Gpu,
        subgroups: None,
        max_invocations: 32,
        ..*gpu.caps()
    };
    [*gpu.caps(), shared]
}

/// Every kind of value at every kind of threshold.
fn values(len: usize) -> (Vec<f32>, Vec<f32>) {
    let mut random = Random(3);
    let special = [0.0, -0.0, f32::NAN, f32::INFINITY, -0.5, 0.5, 1e-42, -1e-42];
    let limits = [0.0, 0.5, f32::INFINITY, 1e-42];
    let x = (0..5 * len).map(|i| match i % 3 {
        0 => special[i / 3 % special.len()],
        _ => random.signed(),
    });
    let x = x.collect();
    let t = (0..len).map(|i| match i % 5 {
        0..4 => limits[i % 5],
        _ => 0.3,
    });
    (x, t.collect())
}

#[test]
fn launches_drop_and_count_what_the_rule_says() {
    let Some(gpu) = gpu() else { return };
    let mut config = llama();
    for (len, tokens, activation) in [
        (4, 3, Activation::Silu),
        (68, 5, Activation::GeluTanh),
        (520, 1, Activation::Silu),
    ] {
        (config.ffn, config.activation) = (len, activation);
        let (x, t) = values(len);
        let thresholds = Thresholds::new(t.clone()).unwrap();
        let up = Random(5).vector(5 * len);
        let stride = 2 * len;
        let places = [0, len].map(|first| Place { first, stride });
        for caps in both(&gpu) {
            let glue = Glue::new(&config, &caps, 64, KvType::F32);
            let run = |dispatch: Dispatch, gated: bool| {
                let [state, limits] = [
                    gpu.tensor_from(1, 4, &[7u32, tokens, 0, 0]).unwrap(),
                    gpu.tensor_from(1, len, &t).unwrap(),
                ];
                let tallies = [[9u32; 4], [u32::MAX, 1, 2, 9], [9; 4]].concat();
                let tallies = gpu.tensor_from(3, 4, &tallies).unwrap();
                let input = if gated {
                    let rows = x.chunks(len).zip(up.chunks(len));
                    let stacked: Vec<f32> = rows.flat_map(|(x, up)| [x, up].concat()).collect();
                    gpu.tensor_from(5, 2 * len, &stacked).unwrap()
                } else {
                    gpu.tensor_from(5, len, &x).unwrap()
                };
                let y = gpu.tensor(5, len).unwrap();
                let mut plan = PlanBuilder::new(&gpu);
                let tensors = [state, limits, tallies.clone(), input, y.clone()];
                plan.dispatch(dispatch, &tensors).unwrap();
                plan.build().unwrap().run().unwrap();
                let read = ReadBack::new(&gpu, &tallies).unwrap();
                let mut encoder = gpu.encoder();
                read.encode(&mut encoder);
                gpu.submit(encoder).unwrap();
                let words: Vec<u32> = read.read_blocking(&gpu).unwrap();
                (y.read_blocking(&gpu).unwrap(), words)
            };
            let counted = |active: usize| {
                let sum = u64::from(u32::MAX) + (1 << 32) + active as u64;
                let own = [sum as u32, (sum >> 32) as u32, 2 + tokens, 9];
                [[9; 4], own, [9; 4]].concat()
            };
            let (y, words) = run(glue.threshold_input(5, len, 1), false);
            let mut expected = x.clone();
            let rows = x.chunks(len).zip(expected.chunks_mut(len));
            let active: Vec<usize> = rows.map(|(by, x)| thresholds.apply(by, x)).collect();
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&y), bits(&expected));
            assert_eq!(words, counted(active[..tokens as usize].iter().sum()));
            assert!((1..5 * len).contains(&active.iter().sum()));

            // The launch compares its own f32 activation, so results are checked strictly only away from
            // the threshold.
            let (y, words) = run(glue.threshold_gated(5, places, 1), true);
            let (mut least, mut most) = (0, 0);
            for (i, (&got, &gate)) in y.iter().zip(&x).enumerate() {
                let g = match activation {
                    Activation::Silu => f64::from(gate) / (1.0 + f64::from(-gate).exp()),
                    Activation::GeluTanh => {
                        let x = f64::from(gate);
                        let inner = 0.797_884_560_802_865_4 * (x + 0.044_715 * x.powi(3));
                        0.5 * x * (1.0 + inner.tanh())
                    }
                };
                let limit = f64::from(t[i % len]);
                let full = g * f64::from(up[i]);
                let near = (g.abs() - limit).abs() <= 1e-6 * limit.max(1e-30);
                let whole = full.is_nan() && got.is_nan()
                    || full.is_infinite() && full.total_cmp(&got.into()).is_eq()
                    || (f64::from(got) - full).abs() <= 1e-5 * full.abs().max(1e-30);
                let dropped = got.to_bits() == 0;
                let active = g.is_nan() || g.abs() > limit;
                if near || g.abs() < 1e-37 {
                    assert!(whole || dropped, "{i}: {got} of {gate}");
                } else {
                    assert!(if active { whole } else { dropped }, "{i}: {got} of {gate}");
                }
                if i / len < tokens as usize {
                    least += u64::from(active && !near && g.abs() >= 1e-37);
                    most += u64::from(active || near || g.abs() < 1e-37);
                }
            }
            let counted =
                (u64::from(words[5]) << 32 | u64::from(words[4])) - u64::from(u32::MAX) - (1 << 32);
            assert!(
                (least..=most).contains(&counted),
                "{least} {counted} {most}"
            );
        }
    }
}

/// Thresholds for these gates of every layer, in about half of them one for all channels.
fn thresholds(config: &Config, gates: &[Gate]) -> ActivationThresholds {
    let mut random = Random(11);
    let mut modules = BTreeMap::new();
    for layer in 0..config.layers.len() {
        for &gate in gates {
            // This gate has no thresholds, and so must drop nothing.
            if layer == 1 && gate == Gate::Input(Linear::K) {
                continue;
            }
            let scale = match gate {
                Gate::FeedForward => 0.15,
                Gate::Input(Linear::Down) => 0.01,
                Gate::Input(Linear::O) => 0.1,
                Gate::Input(_) => 0.5,
            };
            let values = if gate.module(layer).len() % 2 == 0 {
                vec![scale]
            } else {
                let one = |_| (random.signed().abs() + 0.5) * scale;
                (0..gate.channels(config)).map(one).collect()
            };
            modules.insert(gate.module(layer), Thresholds::new(values).unwrap());
        }
    }
    ActivationThresholds::new(config, &modules).unwrap()
}

/// The same device, tuned so that skipping always pays, or never.
fn skipping(gpu: &Gpu, always: bool) -> Gpu {
    let mut tuning = Tuning::new("", "");
    for format in ["f32", "f16", "bf16", "w4g16"] {
        for (layout, skip) in [(Layout::Rows, Skip::Rows), (Layout::Bands, Skip::Cols)] {
            let problem = Problem {
                rows: 1,
                cols: 1,
                batch: 1,
                format: format.parse().unwrap(),
                bias: false,
                layout,
                skip,
                precision: Precision::F32,
            };
            tuning.pays_below(&problem, f64::from(u8::from(always)));
        }
    }
    gpu.clone().tuned(tuning)
}

fn sparse(gpu: &Gpu, weights: &Weights, thresholds: &ActivationThresholds) -> Arc<Model> {
    let keep = &mut |_: crate::Progress<'_>| ControlFlow::Continue(());
    let recipe = Recipe::default();
    Arc::new(Model::load_thresholded(gpu, weights, &recipe, Some(thresholds), keep).unwrap())
}

fn exact(chunk: usize) -> Options {
    Options {
        kv: KvType::F32,
        chunk: Some(chunk),
        ..Options::default()
    }
}

#[test]
fn a_thresholded_model_is_that_of_the_twin_token_by_token_and_in_chunks() {
    let Some(gpu) = gpu() else { return };
    let chess = [
        Gate::FeedForward,
        Gate::Input(Linear::Q),
        Gate::Input(Linear::O),
    ];
    for (config, format, gates) in [
        (llama(), "f32", &chess[..1]),
        (gemma(), "2:4@f16", &chess[..]),
        (llama(), "w4g16", &Gate::ALL[..7]),
        (gemma(), "f32", &Gate::ALL[..]),
    ] {
        let weights = weights(config, format);
        let thresholds = thresholds(&weights.config, gates);
        let mut twin = Twin::new(Arc::clone(&weights)).unwrap();
        let dense = twin.forward(&ids(40)).unwrap();
        let mut twin = twin.with_thresholds(&thresholds).unwrap();
        let truth = twin.forward(&ids(40)).unwrap();
        // Thresholds change the logits by far more than a device differs from the twin.
        let (shown, _) = apart(&dense, &truth);
        assert!(shown > 1e-2, "{format}: {shown}");
        for tally in twin.tallies() {
            assert!((0.02..0.98).contains(&tally.sparsity()), "{tally:?}");
        }
        let mut launches = vec![];
        for always in [false, true] {
            let model = sparse(&skipping(&gpu, always), &weights, &thresholds);
            let mut decoder = Decoder::new(&model, &exact(8)).unwrap();
            launches.push(decoder.launches_per_token());
            for (&id, truth) in ids(40).iter().zip(truth.chunks(83)) {
                decoder.prefill(&[id], &mut go_on).unwrap();
                let (largest, _) = apart(&decoder.logits().unwrap(), truth);
                assert!(largest <= 1e-4, "{format}: {largest}");
            }
            assert_eq!(decoder.tallies().unwrap(), twin.tallies());
            // A last chunk that is not full has rows that belong to no token.
            for length in [7, 21] {
                decoder.rewind(0).unwrap();
                decoder.clear_tallies().unwrap();
                let mut twin = twin.clone();
                twin.reset();
                twin.clear_tallies();
                decoder.prefill(&ids(length), &mut go_on).unwrap();
                let truth = twin.forward_last(&ids(length)).unwrap();
                let (largest, _) = apart(&decoder.logits().unwrap(), &truth);
                assert!(largest <= 1e-4, "{format}, {length}: {largest}");
                assert_eq!(decoder.tallies().unwrap(), twin.tallies());
            }
        }
        // Pruned weights never skip.
        assert_eq!(launches[0] == launches[1], format.starts_with("2:4"));
        let needed = weights_needed(&weights.config, &twin.tallies());
        assert!((0.1..0.99).contains(&needed), "{needed}");
    }
}

#[test]
fn thresholds_of_nothing_drop_nothing_and_those_of_everything_all() {
    let Some(gpu) = gpu() else { return };
    let weights = weights(llama(), "f32");
    let all = |value: f32, gates: &[Gate]| {
        let gates = gates
            .iter()
            .flat_map(|g| (0..3).map(|layer| g.module(layer)));
        let modules = gates
            .map(|g| (g, Thresholds::scalar(value).unwrap()))
            .collect();
        ActivationThresholds::new(&weights.config, &modules).unwrap()
    };
    let logits = |model: &Arc<Model>| {
        let mut decoder = Decoder::new(model, &exact(8)).unwrap();
        decoder.prefill(&ids(20), &mut go_on).unwrap();
        let logits = decoder.logits().unwrap();
        (logits, decoder.tallies().unwrap())
    };
    let (dense, none) = logits(&load(&gpu, &weights));
    assert_eq!(none, []);
    let model = sparse(&skipping(&gpu, true), &weights, &all(0.0, &Gate::ALL));
    let (same, tallies) = logits(&model);
    // A step that skips adds up in another order.
    assert!(
        apart(&same, &dense).1 <= 1e-12,
        "{:?}",
        apart(&same, &dense)
    );
    assert_eq!(tallies.len(), 24);
    for tally in tallies {
        assert_eq!(tally.of, 20 * tally.gate.channels(&weights.config) as u64);
        assert!(tally.sparsity() < 0.01, "{tally:?}");
    }
    // Thresholds can be replaced in a loaded model.
    model
        .set_thresholds(&all(f32::INFINITY, &Gate::ALL))
        .unwrap();
    let (bare, tallies) = logits(&model);
    assert!(tallies.iter().all(|t| t.active == 0));
    let mut naive = Weights::clone(&weights);
    for layer in &mut naive.layers {
        for linear in Linear::ALL {
            let [rows, cols] = naive.config.shape(linear);
            let zeros = lacuna::format::Dense::from_f32(rows, cols, vec![0.0; rows * cols]);
            layer.linears[linear as usize] = zeros.unwrap().into();
        }
    }
    assert!(apart(&bare, &logits(&load(&gpu, &naive)).0).0 <= 1e-6);
    assert!(matches!(
        model.set_thresholds(&all(0.0, &Gate::ALL[..7])),
        Err(Error::Choice { .. })
    ));
}

#[test]
fn thresholds_of_another_model_are_refused() {
    let config = llama();
    let one = |name: &str, len: usize| {
        let thresholds = Thresholds::new(vec![0.5; len]).unwrap();
        ActivationThresholds::new(&config, &BTreeMap::from([(name.into(), thresholds)]))
    };
    assert!(one("model.layers.2.mlp", 68).is_ok());
    assert!(one("model.layers.2.mlp", 1).is_ok());
    assert!(one("model.layers.2.self_attn.o_proj", 96).is_ok());
    for len in [2, 67, 69] {
        let refused = one("model.layers.2.mlp", len);
        assert!(matches!(refused, Err(Error::Module { .. })), "{len}");
    }
    for name in ["model.layers.3.mlp", "mlp", "model.layers.0.self_attn", ""] {
        let refused = one(name, 1);
        assert!(
            matches!(refused, Err(Error::UnknownModule { .. })),
            "{name}"
        );
    }
    let mut fewer = llama();
    fewer.layers.pop();
    let twin = Twin::new(weights(fewer, "f32")).unwrap();
    assert!(
        twin.with_thresholds(&one("model.layers.2.mlp", 1).unwrap())
            .is_err()
    );
}

#[test]
fn a_thresholded_layer_is_that_of_the_twin_and_takes_other_thresholds() {
    let Some(gpu) = gpu() else { return };
    let weights = weights(gemma(), "f32");
    let (config, recipe) = (&weights.config, Recipe::default());
    let some = thresholds(config, &Gate::ALL);
    let none = Gate::ALL
        .iter()
        .flat_map(|g| (0..3).map(|layer| g.module(layer)));
    let none = none
        .filter(|name| name != "model.layers.1.self_attn.k_proj")
        .map(|g| (g, Thresholds::scalar(0.0).unwrap()));
    let none = ActivationThresholds::new(config, &none.collect()).unwrap();
    let x = Random(2).vector(30 * config.hidden);
    let run = |gpu: Option<&Gpu>, first: &ActivationThresholds, then: &ActivationThresholds| {
        let mut blocks = Blocks::in_chunks(gpu, config, 30, 8).unwrap();
        let mut block = blocks
            .load_thresholded(&*weights, &recipe, 1, first)
            .unwrap();
        block.set_thresholds(then).unwrap();
        let mut stream = x.clone();
        block.run(&mut stream).unwrap();
        stream
    };
    let expected = run(None, &some, &some);
    for first in [&some, &none] {
        let (largest, _) = apart(&run(Some(&gpu), first, &some), &expected);
        assert!(largest <= 1e-4, "{largest}");
    }
    let mut blocks = Blocks::in_chunks(Some(&gpu), config, 30, 8).unwrap();
    let mut dense = x.clone();
    blocks
        .load(&*weights, &recipe, 1)
        .unwrap()
        .run(&mut dense)
        .unwrap();
    assert_eq!(run(Some(&gpu), &some, &none), dense);
    assert!(apart(&dense, &expected).0 > 1e-2);
}
