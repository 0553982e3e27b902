mod ahead;

use super::*;
use crate::{
    common::gpu,
    config::{Activation, Config, Layer, Linear, Rope, RopeScaling},
    recipe::Recipe,
    sampling,
    twin::Twin,
    weights::Weights,
};
use lacuna::{
    Gpu,
    caps::DeviceClass,
    compress::compress,
    format::{Dense, Format},
    verify::Random,
};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

pub(crate) fn llama() -> Config {
    Config {
        architecture: "llama".into(),
        vocab: 83,
        hidden: 44,
        heads: 6,
        kv_heads: 2,
        head_dim: 16,
        ffn: 68,
        layers: vec![
            Layer {
                rope: 0,
                window: None
            };
            3
        ],
        ropes: vec![Rope {
            theta: 1e4,
            scaling: RopeScaling::None,
        }],
        max_positions: 100,
        norm_eps: 1e-5,
        norm_plus_one: false,
        post_norms: false,
        qk_norms: false,
        activation: Activation::Silu,
        query_scale: 0.25,
        embedding_scale: 1.0,
        tied_head: false,
        bos: None,
        eos: vec![],
    }
}

/// The same with everything that Gemma 3 has in addition. Its heads are wider than a workgroup of a CPU
/// adapter.
pub(crate) fn gemma() -> Config {
    let windowed = Layer {
        rope: 1,
        window: Some(9),
    };
    let mut config = llama();
    config.ropes.push(Rope {
        theta: 1e2,
        scaling: RopeScaling::Linear(2.0),
    });
    config.layers = vec![windowed, config.layers[0], windowed];
    (config.heads, config.kv_heads, config.head_dim) = (3, 1, 64);
    config.post_norms = true;
    config.qk_norms = true;
    config.activation = Activation::GeluTanh;
    config.embedding_scale = 6.63;
    config.tied_head = true;
    config
}

pub(crate) fn weights(config: Config, format: &str) -> Arc<Weights> {
    let format: Format = format.parse().unwrap();
    let mut weights = Weights::random(config, 7, format).unwrap();
    let mut random = Random(3);
    for layer in &mut weights.layers {
        for linear in [Linear::Q, Linear::K, Linear::V] {
            let rows = layer.linear(linear).rows();
            layer.biases[linear as usize] = Some((0..rows).map(|_| random.signed()).collect());
        }
    }
    Arc::new(weights)
}

pub(crate) fn load(gpu: &Gpu, weights: &Weights) -> Arc<Model> {
    let keep = &mut |_: crate::Progress<'_>| ControlFlow::Continue(());
    Arc::new(Model::load(gpu, weights, &Recipe::default(), keep).unwrap())
}

fn exact(chunk: usize) -> Options {
    Options {
        kv: KvType::F32,
        chunk: Some(chunk),
        ..Options::default()
    }
}

pub(crate) fn ids(count: u32) -> Vec<u32> {
    (0..count).map(|i| (i * i * 7 + i + 3) % 83).collect()
}

pub(crate) fn go_on(_: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// (largest difference, normalised mean square error).
pub(crate) fn apart(got: &[f32], expected: &[f32]) -> (f32, f64) {
    assert_eq!(got.len(), expected.len());
    let pairs = || got.iter().zip(expected);
    let largest = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let square = |v: f32| f64::from(v).powi(2);
    let noise: f64 = pairs().map(|(a, b)| square(a - b)).sum();
    let power: f64 = expected.iter().map(|&b| square(b)).sum();
    (largest, noise / power)
}

/// The adapter's capabilities, and those of a GPU without subgroups, on which the launches between the
/// products sum in workgroup memory.
fn both(gpu: &Gpu) -> [Caps; 2] {
    let shared = Caps {
        class: DeviceClass::Gpu,
        subgroups: None,
        ..*gpu.caps()
    };
    [*gpu.caps(), shared]
}

#[test]
fn every_position_agrees_with_the_twin() {
    let Some(gpu) = gpu() else { return };
    for (config, format) in [
        (llama(), "f32"),
        (gemma(), "2:4@f16"),
        (llama(), "1:4x2@bf16"),
    ] {
        let weights = weights(config, format);
        let model = load(&gpu, &weights);
        let truth = Twin::new(Arc::clone(&weights)).unwrap().forward(&ids(40));
        let truth = truth.unwrap();
        for caps in both(&gpu) {
            let mut decoder = Decoder::with_caps(&model, &exact(8), caps).unwrap();
            for (&id, truth) in ids(40).iter().zip(truth.chunks(83)) {
                decoder.prefill(&[id], &mut go_on).unwrap();
                let (largest, nmse) = apart(&decoder.logits().unwrap(), truth);
                assert!(
                    largest <= 1e-4 && nmse <= 1e-10,
                    "{format}: {largest} {nmse}"
                );
            }
        }
    }
}

#[test]
fn a_step_of_a_long_sequence_cuts_its_keys() {
    let Some(gpu) = gpu() else { return };
    for mut config in [llama(), gemma()] {
        config.max_positions = 2 * LONG;
        let weights = weights(config, "f32");
        let model = load(&gpu, &weights);
        let given = ids(LONG as u32 + 9);
        let mut twin = Twin::new(Arc::clone(&weights)).unwrap();
        twin.forward_last(&given[..LONG - 3]).unwrap();
        let truth = twin.forward(&given[LONG - 3..]).unwrap();
        for caps in both(&gpu) {
            let mut decoder = Decoder::with_caps(&model, &exact(64), caps).unwrap();
            decoder.prefill(&given[..LONG - 3], &mut go_on).unwrap();
            let short = decoder.launches_per_token();
            for (&id, truth) in given[LONG - 3..].iter().zip(truth.chunks(83)) {
                decoder.prefill(&[id], &mut go_on).unwrap();
                let (largest, nmse) = apart(&decoder.logits().unwrap(), truth);
                assert!(largest <= 1e-4 && nmse <= 1e-10, "{largest} {nmse}");
            }
            let splits = Glue::new(&weights.config, &caps, 2 * LONG, KvType::F32).splits();
            let joins = if splits > 1 { 3 } else { 0 };
            assert_eq!(decoder.launches_per_token(), short + joins);
        }
    }
}

#[test]
fn an_embedding_of_codes_agrees_with_the_twin() {
    let Some(gpu) = gpu() else { return };
    for (config, format) in [(gemma(), "w8g8-sym"), (llama(), "w5g24-real")] {
        let mut weights = Arc::unwrap_or_clone(weights(config, "f32"));
        for matrix in std::iter::once(&mut weights.embedding).chain(&mut weights.head) {
            *matrix = compress(&matrix.to_dense(), format.parse().unwrap()).unwrap();
        }
        let model = load(&gpu, &weights);
        assert_eq!(model.embedding[0].weight.format().to_string(), format);
        let truth = Twin::new(Arc::new(weights)).unwrap().forward(&ids(20));
        let mut decoder = Decoder::new(&model, &exact(8)).unwrap();
        decoder.prefill(&ids(20), &mut go_on).unwrap();
        let truth = &truth.unwrap()[19 * 83..];
        let (largest, nmse) = apart(&decoder.logits().unwrap(), truth);
        assert!(
            largest <= 1e-4 && nmse <= 1e-10,
            "{format}: {largest} {nmse}"
        );
    }
    // An embedding that leaves columns out cannot be read row by row.
    let mut sparse = Arc::unwrap_or_clone(weights(gemma(), "f32"));
    sparse.embedding = compress(&sparse.embedding.to_dense(), "2:4".parse().unwrap()).unwrap();
    let keep = &mut |_: crate::Progress<'_>| ControlFlow::Continue(());
    let refused = Model::load(&gpu, &sparse, &Recipe::default(), keep);
    assert!(matches!(refused, Err(Error::Choice { .. })));
}

#[test]
fn prompts_scores_and_tokens_need_no_subgroups() {
    let Some(gpu) = gpu() else { return };
    let weights = weights(gemma(), "f32");
    let model = load(&gpu, &weights);
    let mut given = ids(37);
    let [mut usual, mut shared] =
        both(&gpu).map(|caps| Decoder::with_caps(&model, &exact(8), caps).unwrap());
    let expected = usual.score(&given[..36], &given[1..]).unwrap();
    let scores = shared.score(&given[..36], &given[1..]).unwrap();
    for (score, expected) in scores.iter().zip(&expected) {
        assert!((score - expected).abs() <= 1e-4, "{score} for {expected}");
    }
    for decoder in [&mut usual, &mut shared] {
        decoder.rewind(0).unwrap();
        decoder.prefill(&given, &mut go_on).unwrap();
    }
    let mut twin = Twin::new(weights).unwrap();
    for _ in 0..20 {
        let expected = sampling::arg_max(&twin.forward_last(&given).unwrap()).unwrap();
        for decoder in [&mut usual, &mut shared] {
            let id = decoder.next_token(&Sampling::default()).unwrap();
            assert_eq!(id, expected);
        }
        given = vec![expected];
    }
}

#[test]
fn a_prompt_in_chunks_is_the_same_prompt() {
    let Some(gpu) = gpu() else { return };
    for config in [llama(), gemma()] {
        let weights = weights(config, "f32");
        let model = load(&gpu, &weights);
        for length in [1, 2, 7, 8, 9, 24, 27, 100] {
            let mut twin = Twin::new(Arc::clone(&weights)).unwrap();
            let expected = twin.forward_last(&ids(length)).unwrap();
            let mut decoder = Decoder::new(&model, &exact(8)).unwrap();
            decoder.prefill(&ids(length), &mut go_on).unwrap();
            let (largest, _) = apart(&decoder.logits().unwrap(), &expected);
            assert!(largest <= 1e-4, "{length}: {largest}");
        }
    }
}

#[test]
fn scores_are_those_of_the_twin() {
    let Some(gpu) = gpu() else { return };
    let weights = weights(gemma(), "f32");
    let model = load(&gpu, &weights);
    let mut decoder = Decoder::new(&model, &exact(8)).unwrap();
    let text = ids(38);
    let (given, targets) = (&text[..37], &text[1..]);
    let scores = decoder.score(given, targets).unwrap();
    let logits = Twin::new(weights).unwrap().forward(given).unwrap();
    for ((score, row), &target) in scores.iter().zip(logits.chunks(83)).zip(targets) {
        let sum: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
        let expected = sum.ln() - f64::from(row[target as usize]);
        assert!((score - expected).abs() <= 1e-4, "{score} for {expected}");
    }
}

#[test]
fn greedy_tokens_are_those_of_the_twin_and_a_prompt_may_follow() {
    let Some(gpu) = gpu() else { return };
    let weights = weights(llama(), "f32");
    let mut twin = Twin::new(Arc::clone(&weights)).unwrap();
    let model = load(&gpu, &weights);
    let mut decoder = Decoder::new(&model, &exact(8)).unwrap();
    let mut given = ids(11);
    for _ in 0..2 {
        decoder.prefill(&given, &mut go_on).unwrap();
        let mut logits = twin.forward_last(&given).unwrap();
        for _ in 0..20 {
            let id = decoder.next_token(&Sampling::default()).unwrap();
            assert_eq!(id, sampling::arg_max(&logits).unwrap());
            given = vec![id];
            logits = twin.forward_last(&given).unwrap();
        }
        // The last token was sampled but not run, so the next prompt does not begin after it but in its place.
        twin.rewind(twin.position() - 1).unwrap();
        assert_eq!(decoder.position(), twin.position());
        given.extend(ids(3));
    }
}

#[test]
fn sampling_on_the_device_follows_the_reference() {
    let Some(gpu) = gpu() else { return };
    let model = load(&gpu, &weights(llama(), "f32"));
    let mut decoder = Decoder::new(&model, &exact(8)).unwrap();
    let (mut same, mut all) = (0, 0);
    for (temperature, top_k, top_p) in [
        (0.0, 0, 1.0),
        (1.0, 0, 1.0),
        (0.7, 5, 1.0),
        (1.3, 0, 0.5),
        (2.0, 40, 0.9),
        (1.0, 1, 1.0),
        (1.0, 0, 1e-6),
    ] {
        let sampling = Sampling {
            temperature,
            top_k,
            top_p,
            seed: 0x100_0000_000b,
        };
        for step in 0..12 {
            decoder.rewind(0).unwrap();
            decoder.prefill(&[step % 5, 4], &mut go_on).unwrap();
            let logits = decoder.logits().unwrap();
            let steps = decoder.steps;
            let id = decoder.next_token(&sampling).unwrap();
            all += 1;
            same += u32::from(id == sampling::sample(&logits, &sampling, steps).unwrap());
        }
    }
    // The device's exp may differ in its last bits, which can change a draw that falls on the border of
    // two tokens.
    assert!(same * 100 >= all * 97, "{same} of {all}");
}

#[test]
fn a_saved_cache_goes_on_where_it_was_and_a_rewound_one_forgets() {
    let Some(gpu) = gpu() else { return };
    let weights = weights(gemma(), "f32");
    let model = load(&gpu, &weights);
    for kv in [KvType::F16, KvType::F32] {
        let options = Options { kv, ..exact(8) };
        let mut decoder = Decoder::new(&model, &options).unwrap();
        decoder.prefill(&ids(20), &mut go_on).unwrap();
        let saved = decoder.save().unwrap();
        let finish = |decoder: &mut Decoder| {
            decoder.prefill(&[5, 6, 7], &mut go_on).unwrap();
            decoder.logits().unwrap()
        };
        let expected = finish(&mut decoder);
        decoder.rewind(20).unwrap();
        assert_eq!(finish(&mut decoder), expected);
        let mut other = Decoder::new(&model, &options).unwrap();
        other.restore(&saved).unwrap();
        assert_eq!(finish(&mut other), expected);

        // What has as many words may still be something else.
        let context = other.context();
        let (kv, context) = match kv {
            KvType::F16 => (KvType::F32, context / 2),
            KvType::F32 => (KvType::F16, context),
        };
        let context = Some(context);
        let of_other = |kv| Options {
            context,
            kv,
            ..options
        };
        let mut typed = Decoder::new(&model, &of_other(kv)).unwrap();
        assert!(matches!(typed.restore(&saved), Err(Error::Choice { .. })));
        let shorter = Options {
            context: Some(24),
            ..options
        };
        let mut shorter = Decoder::new(&model, &shorter).unwrap();
        assert!(matches!(shorter.restore(&saved), Err(Error::Shape { .. })));
        assert_eq!((typed.position(), shorter.position()), (0, 0));
    }
}

#[test]
fn what_cannot_be_run_is_refused_and_changes_nothing() {
    let Some(gpu) = gpu() else { return };
    let model = load(&gpu, &weights(llama(), "f32"));
    let mut decoder = Decoder::new(&model, &exact(8)).unwrap();
    let greedy = Sampling::default();
    assert!(matches!(
        decoder.prefill(&[], &mut go_on),
        Err(Error::Empty)
    ));
    assert!(matches!(decoder.next_token(&greedy), Err(Error::Empty)));
    assert!(matches!(decoder.logits(), Err(Error::Empty)));
    assert!(matches!(
        decoder.prefill(&[1, 83], &mut go_on),
        Err(Error::Vocabulary { id: 83, vocab: 83 })
    ));
    assert!(matches!(
        decoder.prefill(&ids(101), &mut go_on),
        Err(Error::Context {
            tokens: 101,
            limit: 100
        })
    ));
    assert_eq!(decoder.position(), 0);
    decoder.prefill(&ids(100), &mut go_on).unwrap();
    decoder.next_token(&greedy).unwrap();
    assert!(matches!(
        decoder.next_token(&greedy),
        Err(Error::Context { .. })
    ));
    let stop = &mut |_| ControlFlow::Break(());
    decoder.rewind(0).unwrap();
    assert!(matches!(
        decoder.prefill(&ids(9), stop),
        Err(Error::Cancelled)
    ));
    assert!(
        Decoder::new(
            &model,
            &Options {
                context: Some(101),
                ..exact(8)
            }
        )
        .is_err()
    );
}

/// Lengths around those of chunks and workgroups, up to a full cache, each taken as one prompt.
#[test]
fn a_context_of_any_length_agrees_with_the_twin() {
    let Some(gpu) = gpu() else { return };
    for mut config in [llama(), gemma()] {
        config.max_positions = 2048;
        let name = config.activation;
        let weights = weights(config, "f32");
        let model = load(&gpu, &weights);
        let mut twin = Twin::new(weights).unwrap();
        let mut decoders = [(KvType::F32, 1e-4), (KvType::F16, 1e-2)].map(|(kv, most)| {
            let options = Options {
                kv,
                ..Options::default()
            };
            (Decoder::new(&model, &options).unwrap(), most, 0f32)
        });
        for length in [1, 2, 31, 32, 33, 127, 128, 129, 1000, 2048] {
            let prompt = ids(length);
            // The twin goes on from the last length, because its results do not depend on how tokens are
            // divided.
            let truth = twin.forward_last(&prompt[twin.position()..]).unwrap();
            for (decoder, most, worst) in &mut decoders {
                decoder.rewind(0).unwrap();
                decoder.prefill(&prompt, &mut go_on).unwrap();
                let (largest, _) = apart(&decoder.logits().unwrap(), &truth);
                assert!(largest <= *most, "{name:?}, {length} tokens: {largest}");
                *worst = worst.max(largest);
            }
        }
        let [f32s, f16s] = decoders.map(|(_, _, worst)| worst);
        eprintln!("{name:?}: at most {f32s:.2e} apart, {f16s:.2e} with an f16 cache");
    }
}

#[test]
fn a_prompt_longer_than_the_window_is_seen_to_the_window_and_no_further() {
    let Some(gpu) = gpu() else { return };
    let mut config = gemma();
    let windowed = config.layers[0];
    (config.layers, config.max_positions) = (vec![windowed; 3], 400);
    let weights = weights(config, "f32");
    let model = load(&gpu, &weights);
    for chunk in [4, 64, 400] {
        let mut decoder = Decoder::new(&model, &exact(chunk)).unwrap();
        let mut after = |prompt: &[u32]| {
            decoder.rewind(0).unwrap();
            decoder.prefill(prompt, &mut go_on).unwrap();
            decoder.logits().unwrap()
        };
        let prompt = ids(300);
        let logits = after(&prompt);
        let mut twin = Twin::new(Arc::clone(&weights)).unwrap();
        let (largest, _) = apart(&logits, &twin.forward_last(&prompt).unwrap());
        assert!(largest <= 1e-4, "{largest}");
        // Three layers that each look back over eight tokens see the last 25 tokens.
        let mut other = prompt.clone();
        other[..275].fill(1);
        assert_eq!(after(&other), logits);
        other[275] = prompt[275] ^ 1;
        assert_ne!(after(&other), logits);
    }
}

#[test]
fn a_token_after_the_first_creates_nothing() {
    let Some(gpu) = gpu() else { return };
    let model = load(&gpu, &weights(gemma(), "2:4@f16"));
    let mut decoder = Decoder::new(&model, &exact(8)).unwrap();
    decoder.prefill(&ids(9), &mut go_on).unwrap();
    let sampling = Sampling {
        temperature: 1.0,
        ..Sampling::default()
    };
    decoder.next_token(&sampling).unwrap();

    let counts = || {
        let counters = gpu.device().get_internal_counters().hal;
        [
            counters.buffers.read(),
            counters.bind_groups.read(),
            counters.bind_group_layouts.read(),
            counters.pipeline_layouts.read(),
            counters.compute_pipelines.read(),
            counters.shader_modules.read(),
            counters.memory_allocations.read(),
        ]
    };
    let before = counts();
    assert!(before[0] > 0 && before[1] > 0, "{before:?} counts nothing");
    // What is made and dropped within a token can be seen only while it exists, so a thread watches.
    let done = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = BTreeSet::from([counts()]);
            while !done.load(Ordering::Relaxed) {
                seen.insert(counts());
            }
            seen
        });
        let tokens: Result<Vec<u32>> = (0..20).map(|_| decoder.next_token(&sampling)).collect();
        done.store(true, Ordering::Relaxed);
        tokens.unwrap();
        watcher.join().unwrap()
    });
    // The engine asks whether the device is there by a buffer of 16 bytes, which is dropped at once.
    let mut asking = before;
    asking[0] += 1;
    assert!(
        seen.is_subset(&BTreeSet::from([before, asking])),
        "{seen:?}"
    );
    assert_eq!(counts(), before);
    // A prompt needs writes, whose buffers wgpu frees when they have run.
    decoder.prefill(&ids(30), &mut go_on).unwrap();
    decoder.next_token(&sampling).unwrap();
    assert_eq!(counts(), before);
}

#[test]
fn weights_of_other_shapes_than_the_configuration_says_are_refused() {
    let Some(gpu) = gpu() else { return };
    let right = weights(gemma(), "f32");
    let refused = |what: String, change: &dyn Fn(&mut Weights)| {
        let mut wrong = Weights::clone(&right);
        change(&mut wrong);
        let keep = &mut |_: crate::Progress<'_>| ControlFlow::Continue(());
        let model = Model::load(&gpu, &wrong, &Recipe::default(), keep);
        let decoder = model.and_then(|m| Decoder::new(&Arc::new(m), &exact(8)));
        assert!(decoder.is_err(), "{what}");
    };
    for linear in Linear::ALL {
        let [rows, cols] = right.config.shape(linear);
        for [rows, cols] in [
            [rows + 8, cols],
            [rows - 8, cols],
            [rows, cols + 8],
            [rows, cols - 8],
        ] {
            refused(format!("{linear:?} of {rows} × {cols}"), &|w| {
                let values = vec![0.5; rows * cols];
                let dense = Dense::from_f32(rows, cols, values).unwrap();
                w.layers[1].linears[linear as usize] = dense.into();
            });
        }
    }
    for linear in [Linear::Q, Linear::V] {
        refused(format!("bias of {linear:?}"), &|w| {
            w.layers[2].biases[linear as usize] = Some(vec![0.5; 4]);
        });
    }
    refused("attention norm".into(), &|w| {
        w.layers[0].attention_norm.pop();
    });
    refused("query norm".into(), &|w| {
        w.layers[0].q_norm.as_mut().unwrap().pop();
    });
    refused("query and key norm".into(), &|w| {
        let value = w.layers[0].q_norm.as_mut().unwrap().pop().unwrap();
        w.layers[0].k_norm.as_mut().unwrap().push(value);
    });
    for rows in [80, 90] {
        refused(format!("embedding of {rows} rows"), &|w| {
            let dense = Dense::from_f32(rows, 44, vec![0.5; rows * 44]).unwrap();
            w.embedding = dense.into();
        });
    }
}
