mod asset;
mod naive;

use super::*;
use crate::config::{Activation, Config, Rope, RopeScaling};
use lacuna::{compress::compress, format::Dense, reference, verify::Random};

/// A small Llama, with odd sizes where they are allowed, and only the usual norms.
fn llama() -> Config {
    Config {
        architecture: "llama".into(),
        vocab: 19,
        hidden: 22,
        heads: 4,
        kv_heads: 2,
        head_dim: 6,
        ffn: 29,
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
        max_positions: 40,
        norm_eps: 1e-5,
        norm_plus_one: false,
        post_norms: false,
        qk_norms: false,
        activation: Activation::Silu,
        query_scale: 6f32.powf(-0.5),
        embedding_scale: 1.0,
        tied_head: false,
        bos: None,
        eos: vec![],
    }
}

/// The same with a context lengthened from 12 positions.
fn lengthened() -> Config {
    let mut config = llama();
    config.ropes[0].scaling = RopeScaling::Yarn {
        factor: 4.0,
        fast: 1.5,
        slow: 0.1,
        original: 12.0,
        attention: 1.3,
    };
    config
}

/// The same with everything that Gemma 3 has in addition.
fn gemma() -> Config {
    let windowed = Layer {
        rope: 1,
        window: Some(5),
    };
    let mut config = llama();
    config.ropes.push(Rope {
        theta: 1e2,
        scaling: RopeScaling::Linear(2.0),
    });
    config.layers = vec![windowed, windowed, config.layers[0]];
    config.post_norms = true;
    config.qk_norms = true;
    config.activation = Activation::GeluTanh;
    config.query_scale = 0.3;
    config.embedding_scale = (config.hidden as f32).sqrt();
    config.tied_head = true;
    config
}

fn random(config: Config, format: &str) -> Weights {
    Weights::random(config, 5, format.parse().unwrap()).unwrap()
}

fn twin(config: Config) -> Twin {
    Twin::new(Arc::new(random(config, "2:4@bf16"))).unwrap()
}

fn ids(count: u32) -> Vec<u32> {
    (0..count).map(|i| (i * i * 7 + i + 3) % 19).collect()
}

fn close(got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs();
        assert!(
            error <= tolerance,
            "element {i}: {got} for {expected}, {error:e} apart"
        );
    }
}

#[test]
fn norm_divides_by_the_root_mean_square() {
    // √((9 + 16) / 2) = 3.5355…
    let y = steps::rms_norm(&[3.0, 4.0, 0.0, 0.0], &[1.0, 2.0], 0.5);
    let rms = (12.5f64 + 0.5).sqrt();
    close(&y, &[3.0 / rms, 8.0 / rms, 0.0, 0.0], 1e-7);
}

#[test]
fn activations_have_their_known_values() {
    let known = [
        (Activation::Silu, 1.0, 0.731_058_578_630_004_9),
        (Activation::Silu, -2.0, -0.238_405_844_044_234_3),
        (Activation::Silu, -1000.0, 0.0),
        (Activation::GeluTanh, 1.0, 0.841_191_990_608_276_7),
        (Activation::GeluTanh, -2.0, -0.045_402_305_912_227_66),
        (Activation::GeluTanh, 100.0, 100.0),
    ];
    for (activation, x, y) in known {
        let got = activation.of(x);
        assert!((got - y).abs() < 1e-12, "{activation:?} of {x} is {got}");
    }
    let gated = steps::gated(&[0.0, 1.0], &[5.0, -2.0], Activation::Silu);
    close(&gated, &[0.0, -2.0 * 0.731_058_578_630_004_9], 1e-7);
}

#[test]
fn rope_turns_pairs_half_a_head_apart() {
    let rope = Rope {
        theta: 10.0,
        scaling: RopeScaling::None,
    };
    let (head_dim, positions) = (4, 12);
    let table = rope.table(head_dim, positions);
    let turned = |x: [f32; 4], p: usize| {
        let mut x = x;
        steps::rope(&mut x, &table[p * head_dim..][..head_dim], 1, head_dim);
        x
    };
    let dot = |a: [f32; 4], b: [f32; 4]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let (a, b) = ([1.0, -2.0, 0.5, 3.0], [0.25, 1.0, -1.5, 2.0]);
    assert_eq!(turned(a, 0).map(f32::to_bits), a.map(f32::to_bits));
    // Pair (0, 2) rotates by one radian per position, pair (1, 3) by 10^(−1/2).
    let (s, c) = 3f64.sin_cos();
    let (t, d) = (3.0 / 10f64.sqrt()).sin_cos();
    let expected = [
        c - 0.5 * s,
        -2.0 * d - 3.0 * t,
        0.5 * c + s,
        3.0 * d - 2.0 * t,
    ];
    close(&turned(a, 3), &expected, 1e-6);
    for p in 0..positions {
        assert!((dot(turned(a, p), turned(a, p)) - dot(a, a)).abs() < 1e-5);
        if p >= 4 {
            let apart = dot(turned(a, p), turned(b, p - 4));
            assert!((apart - dot(turned(a, 4), b)).abs() < 1e-5);
        }
    }
}

#[test]
fn attention_weighs_values_by_the_softmax_of_scores() {
    let heads = Heads {
        queries: 1,
        keys: 1,
        head_dim: 2,
        scale: 0.5,
        window: None,
    };
    let mut cache = Cache::default();
    // Scores ln 3 and 0: weights 3/4 and 1/4.
    cache.extend(
        &[2.0 * 3f32.ln(), 9.0, 0.0, 9.0],
        &[1.0, 10.0, 5.0, 30.0],
        false,
    );
    close(&heads.attend(&[1.0, 0.0], &cache, 1), &[2.0, 15.0], 1e-6);
    // The first position sees itself only.
    close(&heads.attend(&[1.0, 0.0], &cache, 0), &[1.0, 10.0], 0.0);
}

#[test]
fn a_window_holds_its_last_positions() {
    let values = [1.0, 2.0, 4.0, 8.0, 16.0];
    let mut cache = Cache::default();
    cache.extend(&[0.0; 5], &values, false);
    for (window, expected) in [
        (None, [1.0, 1.5, 7.0 / 3.0, 3.75, 6.2]),
        (Some(1), [1.0, 2.0, 4.0, 8.0, 16.0]),
        (Some(2), [1.0, 1.5, 3.0, 6.0, 12.0]),
        (Some(4), [1.0, 1.5, 7.0 / 3.0, 3.75, 7.5]),
        (Some(5), [1.0, 1.5, 7.0 / 3.0, 3.75, 6.2]),
    ] {
        let heads = Heads {
            queries: 1,
            keys: 1,
            head_dim: 1,
            scale: 1.0,
            window,
        };
        close(&heads.attend(&[1.0; 5], &cache, 0), &expected, 1e-6);
    }
}

#[test]
fn consecutive_query_heads_share_a_key_head() {
    let heads = Heads {
        queries: 6,
        keys: 2,
        head_dim: 1,
        scale: 1.0,
        window: None,
    };
    let mut cache = Cache::default();
    cache.extend(&[0.0; 4], &[1.0, 10.0, 3.0, 30.0], false);
    let expected = [2.0, 2.0, 2.0, 20.0, 20.0, 20.0];
    close(&heads.attend(&[1.0; 6], &cache, 1), &expected, 0.0);
}

#[test]
fn products_agree_with_the_reference() {
    let mut random = Random(11);
    for (rows, cols, batch) in [(1, 1, 1), (7, 13, 1), (4, 8, 3), (9, 66, 5), (33, 31, 2)] {
        for format in ["f32", "bf16", "2:4@f16", "1:8x4"] {
            let dense = Dense::from_f32(rows, cols, random.vector(rows * cols)).unwrap();
            let matrix = compress(&dense, format.parse().unwrap()).unwrap();
            let x = random.vector(batch * cols);
            let bias = random.vector(rows);
            let truth = reference::linear(&matrix, &x, batch, Some(&bias)).unwrap();
            let copy = decode(&matrix, &mut { usize::MAX });
            assert_eq!(copy.is_none(), format == "f32");
            for decoded in [None, copy.as_deref()] {
                let rows = Rows {
                    matrix: &matrix,
                    decoded,
                };
                let rounded: Vec<f32> = truth.y.iter().map(|&y| y as f32).collect();
                let y = linear(rows, &x, Some(&bias));
                for (y, rounded) in y.iter().zip(rounded) {
                    assert!((y - rounded).abs() <= rounded.abs() * f32::EPSILON);
                }
            }
        }
    }
}

/// Results must be the same bit for bit, however tokens are divided into calls.
#[test]
fn tokens_at_once_or_one_by_one() {
    for config in [llama(), lengthened(), gemma()] {
        let ids = ids(17);
        let vocab = config.vocab;
        let mut whole = twin(config);
        let expected = whole.forward(&ids).unwrap();
        assert_eq!(expected.len(), ids.len() * vocab);
        assert!(expected.iter().all(|l| l.is_finite()));
        let mut single = whole.clone();
        single.reset();
        let mut got = vec![];
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(single.position(), n);
            got.extend(single.forward(&[*id]).unwrap());
        }
        assert_eq!(got, expected);
        single.reset();
        single.forward(&ids[..6]).unwrap();
        single.forward(&[]).unwrap();
        assert_eq!(single.forward(&ids[6..]).unwrap(), expected[6 * vocab..]);
        single.reset();
        let last = single.forward_last(&ids).unwrap();
        assert_eq!(last, expected[16 * vocab..]);
    }
}

#[test]
fn rewinding_is_as_if_nothing_had_been() {
    for mut twin in [twin(llama()), twin(gemma()).with_f16_cache()] {
        let ids = ids(12);
        let vocab = twin.weights().config.vocab;
        let expected = twin.forward(&ids).unwrap();
        twin.rewind(7).unwrap();
        twin.forward(&[1, 2, 3]).unwrap();
        twin.rewind(5).unwrap();
        assert_eq!(twin.position(), 5);
        assert_eq!(twin.forward(&ids[5..]).unwrap(), expected[5 * vocab..]);
        assert!(matches!(
            twin.rewind(13),
            Err(Error::Context {
                tokens: 13,
                limit: 12
            })
        ));
        twin.rewind(12).unwrap();
        twin.reset();
        assert_eq!(twin.forward(&ids).unwrap(), expected);
    }
}

#[test]
fn a_window_as_long_as_the_context_is_none() {
    let ids = ids(12);
    let with = |window| {
        let mut config = llama();
        for layer in &mut config.layers {
            layer.window = window;
        }
        twin(config).forward(&ids).unwrap()
    };
    let all = with(None);
    assert_eq!(with(Some(12)), all);
    assert_eq!(with(Some(usize::MAX)), all);
    let short = with(Some(3));
    assert_eq!(short[..3 * 19], all[..3 * 19]);
    assert_ne!(short[3 * 19..4 * 19], all[3 * 19..4 * 19]);
}

#[test]
fn an_f16_cache_is_near() {
    let ids = ids(20);
    let mut exact = twin(llama());
    let expected = exact.forward(&ids).unwrap();
    let got = exact.with_f16_cache().forward(&ids).unwrap();
    assert_ne!(got, expected);
    let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
    close(&got, &expected, 0.02);
}

#[test]
fn what_cannot_be_run_is_refused_and_changes_nothing() {
    let mut twin = twin(llama());
    twin.forward(&ids(30)).unwrap();
    let mut same = twin.clone();
    assert!(matches!(
        twin.forward(&[0, 19]),
        Err(Error::Vocabulary { id: 19, vocab: 19 })
    ));
    assert!(matches!(
        twin.forward(&ids(11)),
        Err(Error::Context {
            tokens: 41,
            limit: 40
        })
    ));
    assert!(matches!(
        twin.forward_last(&[]),
        Err(Error::Shape { got: 0, .. })
    ));
    assert_eq!(twin.position(), 30);
    let ids = ids(10);
    assert_eq!(twin.forward(&ids).unwrap(), same.forward(&ids).unwrap());
    let mut bad = random(llama(), "f32");
    bad.final_norm.pop();
    assert!(matches!(
        Twin::new(Arc::new(bad)),
        Err(Error::Shape { got: 21, .. })
    ));
}
