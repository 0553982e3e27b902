//! Files of statistics, which machines that share a job hand to each other.

use crate::{
    folder::Folder,
    safetensors::{check_refusal, check_words},
    sketch::Sketch,
};
use lacuna_prune::{Error, Importance, QuantileTable, Statistics};

/// `data` is the sketch of a file of statistics. What is accepted must be moments, symmetric Hessians and
/// ascending quantiles, from which thresholds can be made.
pub fn statistics(data: &[u8]) {
    let Some(sketch) = Sketch::read(data) else {
        return;
    };
    let folder = Folder::new();
    let file = match Statistics::open(folder.put("s.safetensors", sketch.file)) {
        Ok(file) => file,
        Err(error) => return refusal(&error),
    };
    for module in file.modules() {
        match file.inputs(module) {
            Err(error) => refusal(&error),
            Ok(inputs) => {
                let cols = inputs.mean().len();
                let hessian = inputs.hessian();
                assert_eq!(file.check(module, cols).ok(), Some(hessian.is_some()));
                assert!(file.check(module, cols + 1).is_err());
                assert!(inputs.mean_square().iter().all(|&square| square >= 0.0));
                let mirrored = |h: &[f32]| {
                    (0..cols * cols)
                        .all(|i| h[i].to_bits() == h[i % cols * cols + i / cols].to_bits())
                };
                assert!(hessian.is_none_or(mirrored));
            }
        }
        match file.quantiles(module) {
            Err(error) => refusal(&error),
            Ok(table) => ascends(&table),
        }
    }
    for module in file.gates() {
        match file.gate(module) {
            Err(error) => refusal(&error),
            Ok(gate) => {
                for importance in Importance::ALL {
                    ascends(gate.table(importance));
                    // The thresholds of what overflows are refused.
                    let _ = gate.thresholds(importance, 0.5);
                }
            }
        }
    }
}

fn ascends(table: &QuantileTable) {
    let shares = [0.0, 0.25, 0.5, 1.0].map(|share| table.at(share));
    assert!(shares.is_sorted(), "{shares:?}");
}

fn refusal(error: &Error) {
    match error {
        Error::File(error) => check_refusal(error),
        other => check_words(&other.to_string()),
    }
}
