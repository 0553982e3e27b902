//! Each launch by itself against a naive f64 loop.

mod shaders;

use super::*;
use crate::{
    common::gpu,
    config::{Activation, Config, Layer, Rope, RopeScaling},
    model::{Place, region},
    sampling::{self, Sampling},
};
use lacuna::{
    Gpu, PlanBuilder, Tensor,
    caps::DeviceClass,
    compress::compress,
    format::{Dense, Format},
    kernel::RowReader,
    verify::Random,
};

fn config() -> Config {
    Config {
        architecture: "test".into(),
        vocab: 301,
        hidden: 36,
        heads: 6,
        kv_heads: 2,
        head_dim: 24,
        ffn: 52,
        layers: vec![],
        ropes: vec![Rope {
            theta: 1e3,
            scaling: RopeScaling::None,
        }],
        max_positions: 64,
        norm_eps: 1e-5,
        norm_plus_one: false,
        post_norms: false,
        qk_norms: true,
        activation: Activation::GeluTanh,
        query_scale: 0.3,
        embedding_scale: 1.5,
        tied_head: true,
        bos: None,
        eos: vec![],
    }
}

const CONTEXT: usize = 64;

/// Outputs of products of `rows` rows each for some tokens, as one tensor, and where each lies: stacked, so that
/// a token's lie side by side, or each in a region of its own.
fn outputs(
    gpu: &Gpu,
    tokens: usize,
    of: &[(usize, &[f64])],
    stacked: bool,
) -> (Tensor, Vec<Place>) {
    let width: usize = of.iter().map(|(rows, _)| rows).sum();
    let (mut first, mut places) = (0, vec![]);
    for &(rows, _) in of {
        let stride = if stacked { width } else { rows };
        places.push(Place { first, stride });
        first += if stacked { rows } else { region(tokens, rows) };
    }
    let mut all = vec![f32::NAN; first.max(tokens * width)];
    for (&(rows, values), place) in of.iter().zip(&places) {
        for (token, values) in values.chunks(rows).enumerate() {
            for (i, &value) in values.iter().enumerate() {
                all[place.first + token * place.stride + i] = value as f32;
            }
        }
    }
    (gpu.tensor_from(1, all.len(), &all).unwrap(), places)
}

/// The adapter's capabilities, and those of a GPU without subgroups.
fn both(gpu: &Gpu) -> [Caps; 2] {
    let portable = Caps {
        class: DeviceClass::Gpu,
        subgroups: None,
        ..*gpu.caps()
    };
    [*gpu.caps(), portable]
}

fn run(gpu: &Gpu, dispatch: Dispatch, tensors: &[Tensor]) {
    let mut plan = PlanBuilder::new(gpu);
    plan.dispatch(dispatch, tensors).unwrap();
    plan.build().unwrap().run().unwrap();
}

fn random(gpu: &Gpu, seed: u64, batch: usize, len: usize) -> (Tensor, Vec<f64>) {
    let values = Random(seed).vector(batch * len);
    let tensor = gpu.tensor_from(batch, len, &values).unwrap();
    (tensor, values.into_iter().map(f64::from).collect())
}

fn close(gpu: &Gpu, got: &Tensor, expected: &[f64], tolerance: f64) {
    let got = got.read_blocking(gpu).unwrap();
    assert_eq!(got.len(), expected.len());
    for (i, (&got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs();
        assert!(
            error <= tolerance * expected.abs().max(1.0),
            "{i}: {got} for {expected}"
        );
    }
}

fn normed(x: &[f64], weight: &[f64], eps: f32) -> Vec<f64> {
    let square = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (square + f64::from(eps)).sqrt();
    x.iter().zip(weight).map(|(v, w)| v * scale * w).collect()
}

#[test]
fn gather_takes_the_rows_of_its_part_alone() {
    let Some(gpu) = gpu() else { return };
    let config = config();
    let values = Random(5).vector(200 * config.hidden);
    let dense = Dense::from_f32(200, config.hidden, values).unwrap();
    for format in [
        "f32",
        "f16",
        "bf16",
        "w8g32-sym",
        "w3g8",
        "w5row-real",
        "w6g16",
    ] {
        let format: Format = format.parse().unwrap();
        let matrix = compress(&dense, format).unwrap();
        let stored = matrix.to_dense().values().to_f32();
        let weight = gpu.upload(&matrix).unwrap();
        let reader = RowReader::new(format, config.hidden).unwrap();
        let glue = Glue::new(&config, gpu.caps(), CONTEXT, KvType::F32);
        // Rows 101 … 300 of an embedding: the first and the last id lie outside.
        let ids = [100u32, 101, 300, 177, 301];
        let tensor = gpu.tensor_from(1, 5, &ids).unwrap();
        let x = gpu
            .tensor_from(5, config.hidden, &vec![7f32; 5 * config.hidden])
            .unwrap();
        let mut plan = PlanBuilder::new(&gpu);
        for (part, layout) in weight.layouts().enumerate() {
            let gather = glue.gather(5, reader.clone(), 101, part, layout);
            plan.dispatch_on(gather, &weight, &[tensor.clone(), x.clone()])
                .unwrap();
        }
        plan.build().unwrap().run().unwrap();
        let expected: Vec<f64> = ids
            .iter()
            .flat_map(|&id| (0..config.hidden).map(move |c| (id, c)))
            .map(|(id, c)| match id.checked_sub(101) {
                Some(row) if row < 200 => 1.5 * f64::from(stored[row as usize * config.hidden + c]),
                _ => 7.0,
            })
            .collect();
        close(&gpu, &x, &expected, 1e-6);
    }
}

#[test]
fn norms_settle_what_came_before() {
    let Some(gpu) = gpu() else { return };
    let config = config();
    let (rows, len) = (5, config.hidden);
    for caps in both(&gpu) {
        let glue = Glue::new(&config, &caps, CONTEXT, KvType::F32);
        for residual in [Residual::None, Residual::Add, Residual::Post] {
            for last in [false, true] {
                let (x, mut x0) = random(&gpu, 1, rows, len);
                let (h, h0) = random(&gpu, 2, rows, len);
                let (weight, w0) = random(&gpu, 3, 1, len);
                let (post, p0) = random(&gpu, 4, 1, len);
                let state = gpu.tensor_from(1, 4, &[0u32, 3, 0, 0]).unwrap();
                let y = gpu.tensor(if last { 1 } else { rows }, len).unwrap();
                let mut tensors = vec![x.clone(), weight, y.clone()];
                if residual != Residual::None {
                    tensors.push(h);
                }
                if residual == Residual::Post {
                    tensors.push(post);
                }
                if last {
                    tensors.push(state);
                }
                run(&gpu, glue.norm(rows, residual, last), &tensors);

                let done = if last { 2..3 } else { 0..rows };
                let mut expected = vec![];
                for row in done {
                    let range = row * len..(row + 1) * len;
                    let add = match residual {
                        Residual::None => vec![0.0; len],
                        Residual::Add => h0[range.clone()].to_vec(),
                        Residual::Post => normed(&h0[range.clone()], &p0, config.norm_eps),
                    };
                    for (x, add) in x0[range.clone()].iter_mut().zip(add) {
                        *x += add;
                    }
                    expected.extend(normed(&x0[range], &w0, config.norm_eps));
                }
                close(&gpu, &y, &expected, 1e-5);
                close(&gpu, &x, &x0, 1e-5);
            }
        }
    }
}

/// Attention of query `q`: the softmax of its scores with `keys`, times `values`.
fn attended(q: &[f64], keys: &[&[f64]], values: &[&[f64]]) -> Vec<f64> {
    let dot = |k: &[f64]| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>();
    let weights: Vec<f64> = keys.iter().map(|k| dot(k).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let element = |i: usize| {
        weights
            .iter()
            .zip(values)
            .map(|(w, v)| w * v[i])
            .sum::<f64>()
            / sum
    };
    (0..q.len()).map(element).collect()
}

#[test]
fn heads_fill_the_cache_that_attention_reads() {
    let Some(gpu) = gpu() else { return };
    for (head_dim, qk_norms) in [
        (8, false),
        (24, true),
        (64, true),
        (88, false),
        (168, false),
        (256, false),
        (272, false),
    ] {
        let mut config = config();
        (config.head_dim, config.qk_norms) = (head_dim, qk_norms);
        // Compiling takes most of the time: one size has all cases.
        let cases = [
            (Some(7), 5, false, 1),
            (None, 1, true, 3),
            (None, 1, true, 1),
            (Some(7), 1, true, 2),
            (None, 5, true, 1),
            (None, 5, false, 8),
        ];
        let cases = if head_dim == 24 {
            &cases[..]
        } else {
            &cases[..2]
        };
        for caps in both(&gpu) {
            for &(window, tokens, stacked, splits) in cases {
                let glue = Glue::new(&config, &caps, CONTEXT, KvType::F32);
                check_attention(&gpu, &config, &glue, window, (tokens, stacked, splits));
            }
        }
    }
}

fn check_attention(
    gpu: &Gpu,
    config: &Config,
    glue: &Glue<'_>,
    window: Option<usize>,
    (tokens, stacked, splits): (usize, bool, usize),
) {
    let (heads, kv_heads, dim) = (config.heads, config.kv_heads, config.head_dim);
    let (_, q0) = random(gpu, 1, tokens, heads * dim);
    let (_, k0) = random(gpu, 2, tokens, kv_heads * dim);
    let (_, v0) = random(gpu, 3, tokens, kv_heads * dim);
    let all: [(usize, &[f64]); 3] = [
        (heads * dim, &q0),
        (kv_heads * dim, &k0),
        (kv_heads * dim, &v0),
    ];
    let (qkv, places) = outputs(gpu, tokens, &all, stacked);
    let places = [places[0], places[1], places[2]];
    let (norms, n0) = random(gpu, 4, 2, dim);
    let (cache, mut c0) = random(gpu, 5, 2 * kv_heads, CONTEXT * dim);
    let table = config.ropes[0].table(dim, CONTEXT);
    let turns = gpu.tensor_from(CONTEXT, dim, &table).unwrap();
    let position = 41;
    let state = [position as u32, tokens as u32, 0, 0];
    let state = gpu.tensor_from(1, 4, &state).unwrap();
    let o = gpu.tensor(tokens, heads * dim).unwrap();
    let mut tensors = vec![state.clone(), qkv.clone(), cache.clone(), turns];
    if config.qk_norms {
        tensors.push(norms);
    }
    run(gpu, glue.heads(tokens, places), &tensors);
    let layer = Layer { rope: 0, window };
    // What a share without keys leaves is not what lay there.
    let partial = vec![f32::NAN; splits * tokens * heads * (dim + 4)];
    let partial = gpu.tensor_from(1, partial.len(), &partial).unwrap();
    let result = if splits > 1 { &partial } else { &o };
    run(
        gpu,
        glue.attention(tokens, &layer, places[0], splits),
        &[state, qkv.clone(), cache.clone(), result.clone()],
    );
    if splits > 1 {
        run(gpu, glue.join(tokens, splits), &[partial, o.clone()]);
    }

    let turned = |head: &[f64], weight: &[f64], p: usize| -> Vec<f64> {
        let head = if config.qk_norms {
            normed(head, weight, config.norm_eps)
        } else {
            head.to_vec()
        };
        let turn = |i: usize| {
            let pair = i % (dim / 2);
            let [cos, sin] = [0, 1].map(|j| f64::from(table[(p * dim / 2 + pair) * 2 + j]));
            let (low, high) = (head[pair], head[pair + dim / 2]);
            if i < dim / 2 {
                low * cos - high * sin
            } else {
                high * cos + low * sin
            }
        };
        (0..dim).map(turn).collect()
    };
    let mut q1 = vec![];
    for t in 0..tokens {
        for h in 0..heads {
            let at = (t * heads + h) * dim;
            let head = turned(&q0[at..at + dim], &n0[..dim], position + t);
            q1.extend(head.iter().map(|v| v * f64::from(config.query_scale)));
        }
        for h in 0..kv_heads {
            let (at, p) = ((t * kv_heads + h) * dim, position + t);
            let to = (h * CONTEXT + p) * dim;
            c0[to..to + dim].copy_from_slice(&turned(&k0[at..at + dim], &n0[dim..], p));
            let to = ((kv_heads + h) * CONTEXT + p) * dim;
            c0[to..to + dim].copy_from_slice(&v0[at..at + dim]);
        }
    }
    let turned: Vec<f32> = qkv.read_blocking(gpu).unwrap();
    for (token, expected) in q1.chunks(heads * dim).enumerate() {
        for (i, expected) in expected.iter().enumerate() {
            let got = turned[token * places[0].stride + i];
            assert!(
                (f64::from(got) - expected).abs() <= 1e-5,
                "{got} for {expected}"
            );
        }
    }
    close(gpu, &cache, &c0, 1e-5);
    let mut expected = vec![];
    for t in 0..tokens {
        let last = position + t;
        let first = window.map_or(0, |w| (last + 1).saturating_sub(w));
        for h in 0..heads {
            let kv = h / (heads / kv_heads);
            let at = |which: usize, p: usize| {
                let start = ((which * kv_heads + kv) * CONTEXT + p) * dim;
                &c0[start..start + dim]
            };
            let keys: Vec<_> = (first..=last).map(|p| at(0, p)).collect();
            let values: Vec<_> = (first..=last).map(|p| at(1, p)).collect();
            let q = &q1[(t * heads + h) * dim..][..dim];
            expected.extend(attended(q, &keys, &values));
        }
    }
    close(gpu, &o, &expected, 2e-5);
}

#[test]
fn gates_close_and_open_and_never_overflow() {
    let Some(gpu) = gpu() else { return };
    let mut config = config();
    let mut gates = Random(1).vector(3 * config.ffn);
    gates[..6].copy_from_slice(&[0.0, -0.0, 80.0, -80.0, 1e4, -1e4]);
    let up = Random(2).vector(3 * config.ffn);
    let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| v.into()).collect() };
    let (gates, up) = (wide(&gates), wide(&up));
    for activation in [Activation::Silu, Activation::GeluTanh] {
        config.activation = activation;
        let act = |x: f64| match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + (0.797_884_560_8 * (x + 0.044_715 * x.powi(3))).tanh())
            }
        };
        let pairs = gates.iter().zip(&up);
        let expected: Vec<f64> = pairs.map(|(&g, &u)| act(g) * u).collect();
        let glue = Glue::new(&config, gpu.caps(), CONTEXT, KvType::F32);
        for stacked in [true, false] {
            let all: [(usize, &[f64]); 2] = [(config.ffn, &gates), (config.ffn, &up)];
            let (gate_up, places) = outputs(&gpu, 3, &all, stacked);
            let places = [places[0], places[1]];
            let inner = gpu.tensor(3, config.ffn).unwrap();
            run(
                &gpu,
                glue.gated(3, places),
                &[gate_up.clone(), inner.clone()],
            );
            close(&gpu, &inner, &expected, 1e-5);

            // A threshold of 0 drops zeros only.
            let inner = gpu.tensor(3, config.ffn).unwrap();
            let state = gpu.tensor_from(1, 4, &[0u32, 3, 0, 0]).unwrap();
            let thresholds = gpu
                .tensor_from(1, config.ffn, &vec![0f32; config.ffn])
                .unwrap();
            let tallies = gpu.tensor_from(1, 4, &[0u32; 4]).unwrap();
            let tensors = [state, thresholds, tallies, gate_up, inner.clone()];
            run(&gpu, glue.threshold_gated(3, places, 0), &tensors);
            close(&gpu, &inner, &expected, 1e-5);
        }
    }
}

#[test]
fn scores_fold_slices_of_any_length() {
    let Some(gpu) = gpu() else { return };
    let config = config();
    let (rows, cuts) = (4, [0, 1, 130, 131, 301]);
    for caps in both(&gpu) {
        let glue = Glue::new(&config, &caps, CONTEXT, KvType::F32);
        let random = Random(9).vector(rows * 301);
        let mut all: Vec<f32> = random.iter().map(|v| v * 30.0).collect();
        // Less another maximum than these, a sum would overflow, and that of the last row vanish less any number
        // that is not a logit. Lanes of every part of a workgroup meet one.
        for (row, at) in [32, 64, 128, 291].into_iter().enumerate() {
            all[row * 301 + at] += 200.0;
        }
        all[3 * 301..].iter_mut().for_each(|v| *v -= 400.0);
        let ids = [0u32, 130, 300, 77];
        let targets = gpu.tensor_from(1, rows, &ids).unwrap();
        let scores = gpu.tensor_from(rows, 4, &[9f32; 16]).unwrap();
        for cut in cuts.windows(2) {
            let len = cut[1] - cut[0];
            let slice: Vec<f32> = (0..rows)
                .flat_map(|r| all[r * 301 + cut[0]..r * 301 + cut[1]].to_vec())
                .collect();
            let logits = gpu.tensor_from(rows, len, &slice).unwrap();
            let tensors = [logits, targets.clone(), scores.clone()];
            run(&gpu, glue.score(rows, cut[0], len), &tensors);
        }
        let got = scores.read_blocking(&gpu).unwrap();
        for (row, &id) in ids.iter().enumerate() {
            let logits = &all[row * 301..(row + 1) * 301];
            let expected = crate::perplexity::nll(logits, id).unwrap();
            let [highest, sum, target] = [0, 1, 2].map(|i| f64::from(got[4 * row + i]));
            let nll = highest + sum.ln() - target;
            assert!((nll - expected).abs() < 1e-4, "{nll} for {expected}");
        }
    }
}

#[test]
fn draws_among_ties_and_what_is_no_number_are_those_of_the_host() {
    let Some(gpu) = gpu() else { return };
    let config = config();
    let row = |of: &dyn Fn(usize) -> f32| (0..config.vocab).map(of).collect::<Vec<f32>>();
    // Every token has the largest mass or none: exp cannot differ in its last bits.
    let rows = [
        // So many that with one step more each, their masses would not fit 32 bits.
        row(&|i| if i < 256 { 2.5 } else { f32::NEG_INFINITY }),
        row(&|i| [0.0, -0.0, -1e30][i % 3]),
        row(&|i| if i % 7 == 3 { f32::INFINITY } else { i as f32 }),
        row(&|i| if i % 2 == 0 { f32::NAN } else { -2.0 }),
        row(&|i| if i == 300 { -1.0 } else { f32::NAN }),
    ];
    for caps in both(&gpu) {
        let glue = Glue::new(&config, &caps, CONTEXT, KvType::F32);
        for (number, logits) in rows.iter().enumerate() {
            for (temperature, top_k, top_p) in
                [(0.0, 0, 1.0), (1.0, 0, 1.0), (0.5, 200, 1.0), (1.0, 0, 0.4)]
            {
                let sampling = Sampling {
                    temperature,
                    top_k,
                    top_p,
                    seed: 0x100_0000_000b,
                };
                let step = 5 + number as u32;
                let expected = sampling::sample(logits, &sampling, step).unwrap();
                let tensors = [
                    gpu.tensor_from(1, config.vocab, logits).unwrap(),
                    gpu.tensor_from(1, 5, &sampling.words()).unwrap(),
                    gpu.tensor_from(1, 4, &[20u32, 3, step, 0]).unwrap(),
                    gpu.tensor_from(1, 1, &[9u32]).unwrap(),
                    gpu.tensor_from(1, 1, &[9u32]).unwrap(),
                ];
                run(&gpu, glue.sample(), &tensors);
                let [state, ids, sampled] = [2, 3, 4].map(|i| {
                    let words = tensors[i].read_blocking(&gpu).unwrap().into_iter();
                    words.map(f32::to_bits).collect::<Vec<_>>()
                });
                assert_eq!(sampled, [expected], "{number}: {sampling:?}");
                assert_eq!(ids, [expected], "{number}: {sampling:?}");
                assert_eq!(state[..3], [23, 1, step + 1]);
            }
        }
    }
}
