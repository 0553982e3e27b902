//! The tensor types of ggml.

use super::blocks::{self, Coded};
use lacuna::format::{Dtype, Quant};
use std::fmt;

/// How a GGUF tensor stores its values.
///
/// All present types of ggml are known, so files open whatever they hold. Those that can be read
/// are F32, F16, BF16, `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`, `Q8_0`, `Q2_K` to `Q6_K`, `IQ4_NL`, `IQ4_XS`,
/// `MXFP4`, `TQ1_0` and `TQ2_0`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GgmlType {
    code: u32,
    name: &'static str,
    /// Values in a block. The length of a row is a multiple of it.
    pub(super) block: usize,
    /// Bytes in a block.
    pub(super) bytes: usize,
}

/// The types that [`GgmlType::decode`] reads, for messages.
pub(super) const READABLE: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, \
     IQ4_NL, IQ4_XS, MXFP4, TQ1_0 or TQ2_0";

const fn of(code: u32, name: &'static str, block: usize, bytes: usize) -> GgmlType {
    GgmlType {
        code,
        name,
        block,
        bytes,
    }
}

/// `enum ggml_type`. The codes left out belonged to types that were withdrawn.
const TYPES: [GgmlType; 34] = [
    of(0, "F32", 1, 4),
    of(1, "F16", 1, 2),
    of(2, "Q4_0", 32, 18),
    of(3, "Q4_1", 32, 20),
    of(6, "Q5_0", 32, 22),
    of(7, "Q5_1", 32, 24),
    of(8, "Q8_0", 32, 34),
    of(9, "Q8_1", 32, 36),
    of(10, "Q2_K", 256, 84),
    of(11, "Q3_K", 256, 110),
    of(12, "Q4_K", 256, 144),
    of(13, "Q5_K", 256, 176),
    of(14, "Q6_K", 256, 210),
    of(15, "Q8_K", 256, 292),
    of(16, "IQ2_XXS", 256, 66),
    of(17, "IQ2_XS", 256, 74),
    of(18, "IQ3_XXS", 256, 98),
    of(19, "IQ1_S", 256, 50),
    of(20, "IQ4_NL", 32, 18),
    of(21, "IQ3_S", 256, 110),
    of(22, "IQ2_S", 256, 82),
    of(23, "IQ4_XS", 256, 136),
    of(24, "I8", 1, 1),
    of(25, "I16", 1, 2),
    of(26, "I32", 1, 4),
    of(27, "I64", 1, 8),
    of(28, "F64", 1, 8),
    of(29, "IQ1_M", 256, 56),
    of(30, "BF16", 1, 2),
    of(34, "TQ1_0", 256, 54),
    of(35, "TQ2_0", 256, 66),
    of(39, "MXFP4", 32, 17),
    of(40, "NVFP4", 64, 36),
    of(41, "Q1_0", 128, 18),
];

impl GgmlType {
    pub(super) fn from_code(code: u32) -> Option<Self> {
        TYPES.into_iter().find(|t| t.code == code)
    }

    /// Its name in ggml, for example `Q4_K`.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The engine's storage type, or `None` if this type is quantised or not for weights.
    pub fn dtype(self) -> Option<Dtype> {
        match self.name {
            "F32" => Some(Dtype::F32),
            "F16" => Some(Dtype::F16),
            "BF16" => Some(Dtype::Bf16),
            _ => None,
        }
    }

    /// Whether tensors of this type can be read.
    pub fn is_readable(self) -> bool {
        blocks::floats(self.name).is_some() || self.coded().is_some()
    }

    /// The engine's format for the codes of this type: `w4g32-sym` for `Q4_0`, `w4g32-real` for
    /// `Q4_K`. `None` if they cannot be read as codes.
    pub fn quant(self) -> Option<Quant> {
        Some(self.coded()?.quant)
    }

    pub(super) fn coded(self) -> Option<Coded> {
        blocks::coded(self.name)
    }

    /// Decodes the whole blocks of `bytes` for which `values` has room. Returns `false` if the type
    /// cannot be read.
    pub(super) fn decode(self, bytes: &[u8], values: &mut [f32]) -> bool {
        let blocks = (bytes.len() / self.bytes).min(values.len() / self.block);
        let bytes = &bytes[..blocks * self.bytes];
        let values = &mut values[..blocks * self.block];
        match (blocks::floats(self.name), self.coded()) {
            (Some(decode), _) => decode(bytes, values),
            (None, Some(coded)) => coded.decode(bytes, values),
            (None, None) => return false,
        }
        true
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoders_take_the_blocks_of_the_table() {
        let mut names = Vec::new();
        for t in TYPES {
            if !t.is_readable() {
                continue;
            }
            names.push(t.name);
            // Two blocks, of which one byte or value is missing, count as one; nothing else is written.
            for (bytes, values, written) in [(0, 0, 2), (1, 0, 1), (0, 1, 1)] {
                let mut y = vec![f32::NAN; 2 * t.block - values];
                assert!(t.decode(&vec![0; 2 * t.bytes - bytes], &mut y));
                assert!(y[..written * t.block].iter().all(|y| !y.is_nan()), "{t}");
                assert!(y[written * t.block..].iter().all(|y| y.is_nan()), "{t}");
            }
        }
        names.sort_unstable();
        let mut readable: Vec<_> = READABLE.split(", ").flat_map(|n| n.split(" or ")).collect();
        readable.sort_unstable();
        assert_eq!(names, readable);
    }

    #[test]
    fn codes_are_in_order_and_unique() {
        assert!(TYPES.is_sorted_by(|a, b| a.code < b.code));
    }
}
