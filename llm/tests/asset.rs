//! The shipped model on the adapter at hand, against its CPU twin.

mod common;

use common::gpu;
use lacuna::Gpu;
use lacuna_llm::{
    Checkpoint, Decoder, KvType, Model, Options, Recipe, Twin, Weights, perplexity,
    sampling::{Sampling, arg_max},
};
use std::{fs, ops::ControlFlow, sync::Arc};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/shakespeare");

/// A decoder on the device and the twin, with f32 caches of 512 tokens. The model was trained on windows
/// of 256 bytes; positions beyond serve as well to compare numbers.
fn both(gpu: &Gpu, format: &str) -> (Decoder, Twin) {
    let checkpoint = Checkpoint::open(MODEL).unwrap();
    let recipe = Recipe::from_arg(format).unwrap();
    let mut weights = Weights::load(&checkpoint, &recipe).unwrap();
    weights.config.max_positions = 512;
    let keep = &mut |_: lacuna_llm::Progress<'_>| ControlFlow::Continue(());
    let model = Model::load(gpu, &weights, &Recipe::default(), keep).unwrap();
    let options = Options {
        kv: KvType::F32,
        ..Options::default()
    };
    let decoder = Decoder::new(&Arc::new(model), &options).unwrap();
    (decoder, Twin::new(Arc::new(weights)).unwrap())
}

fn text(bytes: usize) -> Vec<u32> {
    let text = fs::read(format!("{MODEL}/heldout.txt")).unwrap();
    text[..bytes].iter().map(|&b| u32::from(b)).collect()
}

fn go_on(_: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn every_position_of_a_text_agrees_with_the_twin() {
    let Some(gpu) = gpu() else { return };
    for format in ["dense", "2:4"] {
        let (mut decoder, mut twin) = both(&gpu, format);
        let text = text(512);
        let truth = twin.forward(&text).unwrap();
        let (mut largest, mut noise, mut power) = (0f64, 0.0, 0.0);
        for (&id, truth) in text.iter().zip(truth.chunks(256)) {
            decoder.prefill(&[id], &mut go_on).unwrap();
            for (got, &truth) in decoder.logits().unwrap().into_iter().zip(truth) {
                let (got, truth) = (f64::from(got), f64::from(truth));
                // `max` ignores NaN, so check for it first.
                assert!(got.is_finite());
                largest = largest.max((got - truth).abs());
                noise += (got - truth).powi(2);
                power += truth.powi(2);
            }
        }
        let nmse = noise / power;
        eprintln!("{format}: largest difference {largest:.2e}, NMSE {nmse:.2e}");
        assert!(largest <= 1e-3 && nmse <= 1e-8, "{largest} {nmse}");
    }
}

/// How far the best logit stands above the second.
fn gap(logits: &[f32], best: u32) -> f32 {
    let others = (0u32..).zip(logits).filter(|(id, _)| *id != best);
    logits[best as usize] - others.map(|(_, &l)| l).fold(f32::MIN, f32::max)
}

#[test]
fn greedy_generation_is_the_twins() {
    let Some(gpu) = gpu() else { return };
    for format in ["dense", "2:4"] {
        let (mut decoder, mut twin) = both(&gpu, format);
        let prompt = text(32);
        decoder.prefill(&prompt, &mut go_on).unwrap();
        let mut logits = twin.forward_last(&prompt).unwrap();
        let mut close_calls = 0;
        for step in 0..200 {
            let id = decoder.next_token(&Sampling::default()).unwrap();
            assert_eq!(decoder.position(), prompt.len() + step);
            let expected = arg_max(&logits).unwrap();
            if gap(&logits, expected) < 1e-3 {
                // Too close to tell: both go on with the twin's token, in place of the sampled one.
                close_calls += 1;
                decoder.prefill(&[expected], &mut go_on).unwrap();
            } else {
                assert_eq!(id, expected, "{format}: token {step}");
            }
            logits = twin.forward_last(&[expected]).unwrap();
        }
        eprintln!("{format}: 200 tokens, {close_calls} too close to tell");
        assert!(close_calls <= 5, "{close_calls}");
    }
}

#[test]
fn scores_of_a_text_are_the_twins() {
    let Some(gpu) = gpu() else { return };
    for format in ["dense", "2:4", "1:8x4@f16"] {
        let (mut decoder, mut twin) = both(&gpu, format);
        let ids = text(301);
        let scores = decoder.score(&ids[..300], &ids[1..]).unwrap();
        assert_eq!(scores.len(), 300);
        let logits = twin.forward(&ids[..300]).unwrap();
        let mut largest = 0f64;
        for ((score, row), &target) in scores.iter().zip(logits.chunks(256)).zip(&ids[1..]) {
            let expected = perplexity::nll(row, target).unwrap();
            largest = largest.max((score - expected).abs());
            assert!((score - expected).abs() <= 1e-4, "{score} for {expected}");
        }
        eprintln!("{format}: scores at most {largest:.2e} apart");
    }
}
