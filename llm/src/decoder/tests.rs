use super::*;
use crate::{
    config::{Activation, Config, Layer, Rope, RopeScaling},
    recipe::Recipe,
    sampling,
    twin::Twin,
    weights::Weights,
};
use lacuna::{format::Format, gpu, verify::Random};

/// The best adapter. Without one, a test that needs it is skipped with a line on stderr,
/// unless `LACUNA_TEST_ADAPTER=1` promised one: then it fails.
fn device() -> Option<Gpu> {
    match Gpu::new_blocking(&gpu::Options::default()) {
        Ok(gpu) => Some(gpu),
        Err(why) if std::env::var_os("LACUNA_TEST_ADAPTER").is_none() => {
            eprintln!("skipped: {why}");
            None
        }
        Err(why) => panic!("LACUNA_TEST_ADAPTER promises an adapter: {why}"),
    }
}

fn llama() -> Config {
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

/// Everything that Gemma 3 has more; its heads are wider than a workgroup of a CPU adapter.
fn gemma() -> Config {
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

fn weights(config: Config, format: &str) -> Arc<Weights> {
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

fn load(gpu: &Gpu, weights: &Weights) -> Arc<Model> {
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

fn ids(count: u32) -> Vec<u32> {
    (0..count).map(|i| (i * i * 7 + i + 3) % 83).collect()
}

fn go_on(_: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// (largest difference, normalised mean square error)
fn apart(got: &[f32], expected: &[f32]) -> (f32, f64) {
    assert_eq!(got.len(), expected.len());
    let pairs = || got.iter().zip(expected);
    let largest = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let square = |v: f32| f64::from(v).powi(2);
    let noise: f64 = pairs().map(|(a, b)| square(a - b)).sum();
    let power: f64 = expected.iter().map(|&b| square(b)).sum();
    (largest, noise / power)
}

#[test]
fn every_position_agrees_with_the_twin() {
    let Some(gpu) = device() else { return };
    for (config, format) in [
        (llama(), "f32"),
        (gemma(), "2:4@f16"),
        (llama(), "1:4x2@bf16"),
    ] {
        let weights = weights(config, format);
        let mut twin = Twin::new(Arc::clone(&weights)).unwrap();
        let model = load(&gpu, &weights);
        let mut decoder = Decoder::new(&model, &exact(8)).unwrap();
        for &id in &ids(40) {
            decoder.prefill(&[id], &mut go_on).unwrap();
            let got = decoder.logits().unwrap();
            let (largest, nmse) = apart(&got, &twin.forward(&[id]).unwrap());
            assert!(
                largest <= 1e-4 && nmse <= 1e-10,
                "{format}: {largest} {nmse}"
            );
        }
    }
}

#[test]
fn a_prompt_in_chunks_is_the_same_prompt() {
    let Some(gpu) = device() else { return };
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
    let Some(gpu) = device() else { return };
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
    let Some(gpu) = device() else { return };
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
        // The last token was sampled and not yet taken: the next prompt begins behind it.
        twin.rewind(twin.position() - 1).unwrap();
        assert_eq!(decoder.position(), twin.position());
        given.extend(ids(3));
    }
}

#[test]
fn sampling_on_the_device_follows_the_reference() {
    let Some(gpu) = device() else { return };
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
    // The device's exp may differ in its last bits, and a draw fall on the border they move.
    assert!(same * 100 >= all * 97, "{same} of {all}");
}

#[test]
fn a_saved_cache_goes_on_where_it_was_and_a_rewound_one_forgets() {
    let Some(gpu) = device() else { return };
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
    }
}

#[test]
fn what_cannot_be_run_is_refused_and_changes_nothing() {
    let Some(gpu) = device() else { return };
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
