//! Both stages on small random models.

use super::*;
use crate::network::tests::weights;
use lacuna::{format::Matrix, verify::Random};
use lacuna_llm::{Recipe, Weights};
use std::ops::ControlFlow;

const TOKENS: usize = 12;

fn windows(count: usize) -> Vec<Vec<u32>> {
    let mut random = Random(17);
    let mut window = || (0..TOKENS).map(|_| (random.bits() % 31) as u32).collect();
    (0..count).map(|_| window()).collect()
}

fn packed(dense: &Weights, format: &str) -> Weights {
    Weights::load(dense, &Recipe::uniform(format.parse().unwrap())).unwrap()
}

fn options(steps: usize) -> Options {
    let training = Training {
        steps,
        windows: 4,
        rates: Rates {
            values: 2e-2,
            scales: 1e-2,
            zeros: 1e-2,
        },
    };
    Options {
        seed: 5,
        held_out: 4,
        check: 10,
        blocks: training,
        model: training,
    }
}

/// A dense model, a compressed one, and windows to recover it on.
struct Pair {
    dense: Weights,
    packed: Weights,
    windows: Vec<Vec<u32>>,
}

impl Pair {
    fn new(kind: &str, format: &str) -> Self {
        let dense = weights(kind);
        Self {
            packed: packed(&dense, format),
            dense,
            windows: windows(128),
        }
    }

    fn with<T>(&self, options: &Options, run: impl FnOnce(&Job) -> T) -> T {
        run(&Job {
            dense: &self.dense,
            packed: &self.packed,
            windows: &self.windows,
            device: &cpu(),
            options,
        })
    }

    /// Runs both stages: the layers, and the last progress of each block and of the model.
    fn recover(&self, options: &Options, journal: Option<&Journal>) -> (Layers, Vec<Progress>) {
        let mut last = vec![];
        let mut listener = |progress: &Progress| {
            if progress.steps.0 == progress.steps.1 {
                last.push(*progress);
            }
            ControlFlow::Continue(())
        };
        let layers = self.with(options, |job| {
            let layers = recover_blocks(job, journal, &mut listener).unwrap();
            recover_model(job, &layers, journal, &mut listener).unwrap()
        });
        (layers, last)
    }
}

type Layers = Vec<[Matrix; 7]>;

fn mask(matrix: &Matrix) -> Vec<Vec<usize>> {
    let row = |row| matrix.entries(row).map(|e| e.col).collect();
    (0..matrix.rows()).map(row).collect()
}

#[test]
fn both_stages_come_nearer_and_keep_formats_and_masks() {
    for (kind, format) in [
        ("gemma", "w4g8s50"),
        ("qwen2", "2:4@f16"),
        ("llama", "w2g8"),
        ("mistral", "2:4+w4g8-sym"),
    ] {
        let pair = Pair::new(kind, format);
        let (layers, progress) = pair.recover(&options(60), None);
        assert_eq!(progress.len(), 3);
        for p in &progress {
            assert!(p.best < 0.95 * p.start, "{kind} {format}: {p:?}");
        }
        for (layer, before) in layers.iter().zip(&pair.packed.layers) {
            for (matrix, before) in layer.iter().zip(&before.linears) {
                assert_eq!(matrix.format(), before.format());
                assert_eq!(mask(matrix), mask(before));
                assert_ne!(matrix, before);
            }
        }
    }
}

/// The model stage changes scales and zeros only.
#[test]
fn the_model_stage_leaves_codes_alone() {
    let pair = Pair::new("qwen3", "w4g8s50");
    let options = options(20);
    let layers = pair.with(&options, |job| {
        let packed = job.packed_layers().unwrap();
        recover_model(job, &packed, None, &mut |_| ControlFlow::Continue(())).unwrap()
    });
    let codes = |m: &Matrix| m.codes().unwrap().codes().to_vec();
    for (layer, before) in layers.iter().zip(&pair.packed.layers) {
        for (matrix, before) in layer.iter().zip(&before.linears) {
            assert_eq!(codes(matrix), codes(before));
            assert_ne!(matrix, before);
        }
    }
}

/// Steps so large that they ruin the weights leave the result as it was.
#[test]
fn the_result_is_never_worse_than_the_start() {
    let pair = Pair::new("qwen3", "w4g8s50");
    let mut options = options(20);
    for training in [&mut options.blocks, &mut options.model] {
        training.rates = Rates {
            values: 1e4,
            scales: 1e3,
            zeros: 1e3,
        };
    }
    let (layers, progress) = pair.recover(&options, None);
    assert!(progress.iter().all(|p| p.best >= p.start), "{progress:?}");
    for (layer, before) in layers.iter().zip(&pair.packed.layers) {
        assert_eq!(*layer, before.linears);
    }
}

#[test]
fn a_run_that_was_cut_off_goes_on_to_the_same_bits() {
    let pair = Pair::new("gemma", "w4g8s50");
    let options = options(30);
    let (whole, _) = pair.recover(&options, None);
    let (again, _) = pair.recover(&options, None);
    assert_eq!(whole, again, "the same bits twice");
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::new(folder.path(), "this");
    // The first run stops in the second block, the second in the model stage, the third finishes.
    let calls = |stop: usize| {
        let mut calls = 0;
        let mut listener = move |_: &Progress| {
            calls += 1;
            if calls == stop {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        pair.with(&options, |job| {
            let layers = recover_blocks(job, Some(&journal), &mut listener)?;
            recover_model(job, &layers, Some(&journal), &mut listener)
        })
    };
    assert!(matches!(calls(45), Err(Error::Cancelled)));
    assert!(folder.path().join("block-00000.safetensors").exists());
    // One block of 30 steps is left, then 15 steps of the model stage run.
    assert!(matches!(calls(45), Err(Error::Cancelled)));
    let state = journal.state().unwrap().unwrap();
    assert_eq!(state.done, 10);
    // 20 steps of the model stage are left.
    assert_eq!(calls(21).unwrap(), whole);
    assert_eq!(calls(1).unwrap(), whole, "all is done");

    let other = Journal::new(folder.path(), "that");
    pair.with(&options, |job| {
        let mut listener = |_: &Progress| ControlFlow::Continue(());
        let refused = recover_blocks(job, Some(&other), &mut listener);
        assert!(matches!(refused, Err(Error::State { .. })));
    });
    journal.remove(2);
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn dense_products_stay() {
    let dense = weights("qwen3");
    let recipe = Recipe::parse("model.layers.1.* = w4g8s50\n*.down_proj = dense").unwrap();
    let pair = Pair {
        packed: Weights::load(&dense, &recipe).unwrap(),
        dense,
        windows: windows(128),
    };
    let (layers, progress) = pair.recover(&options(20), None);
    assert_eq!(progress.len(), 2, "a block and the model");
    assert_eq!(layers[0], pair.dense.layers[0].linears);
    assert_eq!(layers[1][6], pair.dense.layers[1].linears[6]);
    assert_ne!(layers[1][0], pair.packed.layers[1].linears[0]);
}

#[test]
fn jobs_that_contradict_themselves_are_refused() {
    let pair = Pair::new("qwen3", "2:4");
    let refused = |options: &Options, windows: &[Vec<u32>]| {
        let job = Job {
            dense: &pair.dense,
            packed: &pair.packed,
            windows,
            device: &cpu(),
            options,
        };
        recover_blocks(&job, None, &mut |_| ControlFlow::Continue(())).unwrap_err()
    };
    let fine = options(1);
    let all = &pair.windows;
    for windows in [
        vec![],
        vec![vec![1]; 8],
        vec![vec![1; 65]; 8],
        all[..3].to_vec(),
    ] {
        assert!(matches!(refused(&fine, &windows), Error::Choice { .. }));
    }
    let mut uneven = all.clone();
    uneven[3].pop();
    assert!(matches!(refused(&fine, &uneven), Error::Choice { .. }));
    let mut unknown = all.clone();
    unknown[3][3] = 31;
    assert!(matches!(refused(&fine, &unknown), Error::Model(_)));
    for change in [
        |o: &mut Options| o.held_out = 0,
        |o: &mut Options| o.held_out = 1,
        |o: &mut Options| o.check = 0,
        |o: &mut Options| o.blocks.windows = 0,
        |o: &mut Options| o.model.rates.scales = f32::NAN,
    ] {
        let mut options = fine.clone();
        change(&mut options);
        assert!(matches!(refused(&options, all), Error::Choice { .. }));
    }
    let other = weights("llama");
    let mut config = other.clone();
    config.layers.pop();
    config.config.layers.pop();
    let job = Job {
        dense: &config,
        packed: &pair.packed,
        windows: all,
        device: &cpu(),
        options: &fine,
    };
    let refused = recover_blocks(&job, None, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(Error::Shape { .. })));
    pair.with(&fine, |job| {
        let few = job.packed_layers().unwrap()[..1].to_vec();
        let refused = recover_model(job, &few, None, &mut |_| ControlFlow::Continue(()));
        assert!(matches!(refused, Err(Error::Shape { got: 1, .. })));
    });
}
