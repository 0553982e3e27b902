//! Recognition of layouts by the names of tensors.

use super::{Layout, Refusal, bitmask};
use crate::{
    file::{Stored, WeightFile},
    tensor::TensorDtype,
};
use std::collections::{BTreeMap, BTreeSet};

/// Weights by their prefix `P`, each with the names of its tensors.
pub(crate) type Found = BTreeMap<String, (Layout, Vec<String>)>;

/// Suffixes of the tensors of GPTQ and AWQ.
const QWEIGHT: [&str; 4] = [".qweight", ".qzeros", ".scales", ".g_idx"];

/// Suffixes of `pack-quantized`.
const PACKED: [&str; 5] = [
    ".weight_packed",
    ".weight_scale",
    ".weight_shape",
    ".weight_zero_point",
    ".weight_g_idx",
];

/// Suffixes of bitmasks. Of two that end alike the longer comes first.
const BITMASK: [&str; 8] = [
    ".weight.compressed",
    ".weight.bitmask",
    ".weight.row_offsets",
    ".weight.shape",
    ".compressed",
    ".bitmask",
    ".row_offsets",
    ".shape",
];

/// Suffixes by which other layouts are known. A tensor whose name ends so by chance makes no
/// weight: [`classify`] asks for what must be beside it.
const OTHERS: [&str; 10] = [
    ".weight_scale_inv",
    ".meta",
    ".weight.absmax",
    ".SCB",
    ".B",
    ".s",
    ".W_q",
    ".codebooks",
    ".Qidxs",
    ".codes",
];

/// The suffixes of the tensors that a weight of `layout` consists of.
const fn belonging(layout: Layout) -> &'static [&'static str] {
    match layout {
        Layout::Gptq | Layout::Awq => &QWEIGHT,
        Layout::PackQuantized => &PACKED,
        Layout::Sparse24Bitmask | Layout::SparseBitmask => &BITMASK,
        _ => &[],
    }
}

const MARLIN_24: &str = "marlin-24";
const MARLIN: &str = "Marlin";
const AWQ_GEMV: &str = "AWQ GEMV";
const FLOAT_PACKED: &str = "nvfp4 or mxfp4";
const FP8: &str = "float-quantized";
const INT8: &str = "int-quantized";
const BITSANDBYTES: &str = "bitsandbytes";
const HQQ: &str = "HQQ";
const AQLM: &str = "AQLM";
const QUIP: &str = "QuIP#";

/// Why each layout that is only known by name is not read.
const UNREAD: [(&str, &str); 10] = [
    (
        MARLIN_24,
        "codes lie in tiles of one kernel, and no program but that kernel reads them back",
    ),
    (
        MARLIN,
        "codes lie in tiles of one kernel; quantise to GPTQ or AWQ GEMM instead",
    ),
    (
        AWQ_GEMV,
        "only version GEMM of AWQ is read, which has a row of qweight for each input",
    ),
    (
        FLOAT_PACKED,
        "codes are floats of 4 bits, which the engine has no format for",
    ),
    (
        FP8,
        "values are floats of 8 bits, which the engine has no format for",
    ),
    (
        INT8,
        "it is made for inputs of 8 bits, which the engine does not round to",
    ),
    (
        BITSANDBYTES,
        "codes are numbers of a table, which the engine has no format for",
    ),
    (HQQ, "scales and zero points lie in a pickled dictionary"),
    (
        AQLM,
        "codes are numbers of vectors, which the engine has no format for",
    ),
    (
        QUIP,
        "codes are numbers of vectors, which the engine has no format for",
    ),
];

/// The reason to refuse a layout that is known by name.
pub(super) fn why_unread(layout: Layout) -> Refusal {
    let Layout::Other(name) = layout else {
        return Refusal::Unread {
            reason: "it is no layout of another program",
        };
    };
    let known = UNREAD.iter().find(|(known, _)| *known == name);
    Refusal::Unread {
        reason: known.map_or("it is not read", |(_, reason)| reason),
    }
}

/// The tensors with one prefix.
struct Names<'a> {
    file: &'a WeightFile,
    module: &'a str,
    suffixes: BTreeSet<&'static str>,
}

impl Names<'_> {
    fn has(&self, suffix: &'static str) -> bool {
        self.suffixes.contains(suffix)
    }

    fn stored(&self, suffix: &str) -> Option<&Stored> {
        self.file.tensors.get(&format!("{}{suffix}", self.module))
    }

    fn dtype(&self, suffix: &str) -> Option<TensorDtype> {
        self.stored(suffix).map(|stored| stored.dtype)
    }
}

/// Finds the weights of other programs among the tensors that no container has `owned`.
pub(crate) fn find(file: &WeightFile, owned: &BTreeSet<String>) -> Found {
    let mut prefixes: BTreeMap<&str, BTreeSet<&'static str>> = BTreeMap::new();
    for tensor in file.tensors.keys().filter(|name| !owned.contains(*name)) {
        let split = |suffix: &&'static str| Some((tensor.strip_suffix(*suffix)?, *suffix));
        let families = [&QWEIGHT[..], &PACKED, &BITMASK, &OTHERS];
        let found = families.into_iter().flatten().find_map(split);
        if let Some((module, suffix)) = found.filter(|(module, _)| !module.is_empty()) {
            prefixes.entry(module).or_default().insert(suffix);
        }
    }
    let mut found = Found::new();
    for (module, suffixes) in prefixes {
        let names = Names {
            file,
            module,
            suffixes,
        };
        if let Some(layout) = classify(&names) {
            let there = |suffix: &&&str| names.suffixes.contains(**suffix);
            let tensors = belonging(layout).iter().filter(there);
            let tensors = tensors.map(|suffix| format!("{module}{suffix}"));
            found.insert(module.into(), (layout, tensors.collect()));
        }
    }
    found
}

/// The layout that tensors of these names have, or are a part of. Of the readable families at
/// least two must be there, so that the error can name one that is missing.
fn classify(names: &Names<'_>) -> Option<Layout> {
    let has = |suffix| names.has(suffix);
    let several = |family: &[&'static str]| family.iter().filter(|s| has(s)).count() > 1;
    let scaled = has(".weight_scale") || has(".weight_scale_inv");
    let weight = names.dtype(".weight");
    if has(".W_q") {
        Some(Layout::Other(HQQ))
    } else if has(".codebooks") && has(".codes") {
        Some(Layout::Other(AQLM))
    } else if has(".Qidxs") {
        Some(Layout::Other(QUIP))
    } else if has(".SCB") || has(".weight.absmax") {
        Some(Layout::Other(BITSANDBYTES))
    } else if names.dtype(".B") == Some(TensorDtype::I32) && has(".s") {
        Some(Layout::Other(MARLIN))
    } else if several(&QWEIGHT) {
        Some(of_qweight(names))
    } else if has(".weight_packed") && has(".meta") {
        Some(Layout::Other(MARLIN_24))
    } else if names.dtype(".weight_packed") == Some(TensorDtype::U8) {
        Some(Layout::Other(FLOAT_PACKED))
    } else if scaled && matches!(weight, Some(TensorDtype::F8_E4M3 | TensorDtype::F8_E5M2)) {
        Some(Layout::Other(FP8))
    } else if scaled && weight == Some(TensorDtype::I8) {
        Some(Layout::Other(INT8))
    } else if several(&PACKED) && (has(".weight_packed") || weight.is_none()) {
        // Scales beside a plain weight only say how it was rounded.
        Some(Layout::PackQuantized)
    } else if several(&BITMASK) {
        let values = [".compressed", ".weight.compressed"];
        let rank = values.iter().find_map(|name| names.stored(name));
        let rank = rank.map(|stored| stored.shape.len());
        let offsets = has(".row_offsets") || has(".weight.row_offsets");
        Some(bitmask::layout(offsets, rank))
    } else {
        None
    }
}

/// GPTQ has as many words in a row as there are outputs, AWQ an eighth of them. If the rows are
/// outputs, it is the other version of AWQ.
fn of_qweight(names: &Names<'_>) -> Layout {
    let shape = |suffix| names.stored(suffix).map(|stored| stored.shape.as_slice());
    match (shape(".qweight"), shape(".scales")) {
        (_, _) if names.dtype(".qweight") == Some(TensorDtype::I16) => Layout::Other(AWQ_GEMV),
        (Some(&[_, words]), Some(&[_, outputs])) if words == outputs => Layout::Gptq,
        (Some(&[_, words]), Some(&[_, outputs])) if words.checked_mul(8) == Some(outputs) => {
            Layout::Awq
        }
        (Some(&[rows, _]), Some(&[outputs, _])) if rows == outputs && !names.has(".g_idx") => {
            Layout::Other(AWQ_GEMV)
        }
        _ => Layout::Gptq,
    }
}
