//! Blocks of quantised values: codes in groups, and what they decode to.
//!
//! A row is cut into blocks of 32 or 256 values that share scales: d and m are f16, s and t
//! integers. A value is a code q. A code of four bits takes half a byte and one of two bits a
//! quarter; codes of other lengths have their higher bits in h. A code of `IQ4` or `MXFP4` is an
//! index into a table of sixteen integers; our codes are those integers. Lengths are in bytes:
//!
//! ```text
//! Q8_0   d:2 | q:32, signed                                y = d · q
//! Q4_0   d:2 | q:16                                        y = d · (q − 8)
//! Q4_1   d:2 | m:2 | q:16                                  y = d · q + m
//! Q5_0   d:2 | h:4 | q:16                                  y = d · (q − 16)
//! Q5_1   d:2 | m:2 | h:4 | q:16                            y = d · q + m
//! Q2_K   s and t:16 | q:64 | d:2 | m:2                     y = d·s · q − m·t
//! Q3_K   h:32 | q:64 | s:12 | d:2                          y = d·(s − 32) · (q − 4)
//! Q4_K   d:2 | m:2 | s:12 | q:128                          y = d·s · q − m·t
//! Q5_K   d:2 | m:2 | s:12 | h:32 | q:128                   y = d·s · q − m·t
//! Q6_K   q:128 | h:64 | s:16, signed | d:2                 y = d·s · (q − 32)
//! IQ4_NL d:2 | q:16                                        y = d · IQ4[q]
//! IQ4_XS d:2 | h:2 | s:4 | q:128                           y = d·(s − 32) · IQ4[q]
//! MXFP4  e:1 | q:16                                        y = 2^(e − 128) · FP4[q]
//! TQ1_0  q:52, five trits a byte | d:2                     y = d · (q − 1)
//! TQ2_0  q:64 | d:2                                        y = d · (q − 1)
//!
//! codes of 32 values:    byte l  = value l, low | value 16 + l, high
//! Q2_K, Q3_K, TQ2_0, each half: quarter g of byte l = value 32g + l
//! Q4_K, Q5_K:            byte 32p + l = value 64p + l, low | value 64p + 32 + l, high
//! Q6_K, each half:       byte l < 64 = value l, low | value 64 + l, high
//! IQ4_XS:                as of 32 values, group by group
//! TQ1_0:                 trit t of byte l of 32, of 16, of 4 = value l + 32t, 160 + l + 16t, 240 + l + 4t
//! high bits of 32:       bit i of h, a u32, = value i
//! Q3_K, Q5_K:            bit g of h[l] = value 32g + l
//! Q6_K, each half:       bits 2g and 2g + 1 of h[l] = value 32g + l
//!
//! Q2_K, of groups of 16: byte g = s, low | t, high
//! Q3_K, of groups of 16, six bits each:
//!   bytes 0..8    the low bits of s0..s7, above them those of s8..s15
//!   bytes 8..12   quarter k of byte l = the top bits of s(4k + l)
//! IQ4_XS, of groups of 32, six bits each: nibble g of s, above it bits 2g and 2g + 1 of h, a u16
//! Q4_K, Q5_K, of groups of 32, six bits each:
//!   bytes 0..4    s0..s3, above them the top bits of s4..s7
//!   bytes 4..8    t0..t3, above them the top bits of t4..t7
//!   bytes 8..12   the low bits of s4..s7, above them those of t4..t7
//! ```
//!
//! Each product and sum is rounded to f32 in the order written above, as in ggml's reference, so
//! that values agree with it bit for bit. Layouts and formulas are `block_*` and
//! `dequantize_row_*` of <https://github.com/ggml-org/ggml>.

use half::{bf16, f16};
use lacuna::format::{Quant, ZeroPoint};

/// Decodes numbers that are not quantised; both slices hold the same number of them.
pub(super) type Decode = fn(&[u8], &mut [f32]);

/// The decoder of the float type of this name, if it is one.
pub(super) fn floats(name: &str) -> Option<Decode> {
    Some(match name {
        "F32" => |b, y| each(b, y, |b| f32::from_le_bytes(*b)),
        "F16" => |b, y| each(b, y, |b| f16::from_le_bytes(*b).to_f32()),
        "BF16" => |b, y| each(b, y, |b| bf16::from_le_bytes(*b).to_f32()),
        _ => return None,
    })
}

fn each<const BYTES: usize>(bytes: &[u8], y: &mut [f32], value: impl Fn(&[u8; BYTES]) -> f32) {
    for (y, bytes) in y.iter_mut().zip(bytes.as_chunks().0) {
        *y = value(bytes);
    }
}

/// Neighbouring codes that share one scale.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    pub scale: f32,
    /// The value of code 0, in types that store a minimum.
    pub least: f32,
    /// Codes as the engine counts them, from 0.
    pub codes: &'a [u8],
}

/// Called with groups, one by one.
type See<'a> = dyn FnMut(Group<'_>) + 'a;

/// Takes whole blocks apart into groups.
type Apart = fn(&[u8], &mut See<'_>);

/// How blocks of a type come apart into groups of codes.
#[derive(Clone, Copy)]
pub(super) struct Coded {
    pub quant: Quant,
    apart: Apart,
}

impl Coded {
    /// Calls `see` with each group of whole blocks, in order.
    pub fn apart(self, blocks: &[u8], mut see: impl FnMut(Group<'_>)) {
        (self.apart)(blocks, &mut see);
    }

    /// Decodes whole blocks; the slices hold the same number of them.
    pub fn decode(self, blocks: &[u8], y: &mut [f32]) {
        let mut at = 0;
        let middle = f32::from(self.quant.middle());
        self.apart(blocks, |group| {
            let codes = group.codes.iter().map(|&q| f32::from(q));
            for (y, q) in y[at..].iter_mut().zip(codes) {
                *y = if self.quant.symmetric() {
                    group.scale * (q - middle)
                } else {
                    group.scale * q + group.least
                };
            }
            at += group.codes.len();
        });
    }
}

/// How blocks of the type of this name come apart, or `None` if it has no codes that can be read.
pub(super) fn coded(name: &str) -> Option<Coded> {
    let (bits, group, zero_point, apart): (_, _, _, Apart) = match name {
        "Q4_0" => (4, 32, ZeroPoint::Middle, |b, see| blocks(b, see, q4_0)),
        "Q4_1" => (4, 32, ZeroPoint::Real, |b, see| blocks(b, see, q4_1)),
        "Q5_0" => (5, 32, ZeroPoint::Middle, |b, see| blocks(b, see, q5_0)),
        "Q5_1" => (5, 32, ZeroPoint::Real, |b, see| blocks(b, see, q5_1)),
        "Q8_0" => (8, 32, ZeroPoint::Middle, |b, see| blocks(b, see, q8_0)),
        "Q2_K" => (2, 16, ZeroPoint::Real, |b, see| blocks(b, see, q2_k)),
        "Q3_K" => (3, 16, ZeroPoint::Middle, |b, see| blocks(b, see, q3_k)),
        "Q4_K" => (4, 32, ZeroPoint::Real, |b, see| blocks(b, see, q4_k)),
        "Q5_K" => (5, 32, ZeroPoint::Real, |b, see| blocks(b, see, q5_k)),
        "Q6_K" => (6, 16, ZeroPoint::Middle, |b, see| blocks(b, see, q6_k)),
        "IQ4_NL" => (8, 32, ZeroPoint::Middle, |b, see| blocks(b, see, iq4_nl)),
        "IQ4_XS" => (8, 32, ZeroPoint::Middle, |b, see| blocks(b, see, iq4_xs)),
        "MXFP4" => (5, 32, ZeroPoint::Middle, |b, see| blocks(b, see, mxfp4)),
        "TQ1_0" => (2, 128, ZeroPoint::Middle, |b, see| blocks(b, see, tq1_0)),
        "TQ2_0" => (2, 128, ZeroPoint::Middle, |b, see| blocks(b, see, tq2_0)),
        _ => return None,
    };
    let quant = Quant::new(bits, Some(group), zero_point).ok()?;
    Some(Coded { quant, apart })
}

fn blocks<const BYTES: usize>(
    bytes: &[u8],
    see: &mut See<'_>,
    block: impl Fn(&[u8; BYTES], &mut See<'_>),
) {
    bytes.as_chunks().0.iter().for_each(|b| block(b, see));
}

fn half(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

/// A block that is one group.
fn one(scale: f32, least: f32, codes: &[u8; 32]) -> Group<'_> {
    Group {
        scale,
        least,
        codes,
    }
}

/// Passes on the groups of a block; `numbers` gives the scale and least value of each.
fn many<const GROUP: usize>(
    codes: &[u8; 256],
    see: &mut See<'_>,
    numbers: impl Fn(usize) -> (f32, f32),
) {
    for (g, codes) in codes.as_chunks::<GROUP>().0.iter().enumerate() {
        let (scale, least) = numbers(g);
        see(Group {
            scale,
            least,
            codes,
        });
    }
}

/// The 4-bit codes of 32 values.
fn nibbles(q: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|i| if i < 16 { q[i] & 15 } else { q[i - 16] >> 4 })
}

/// The 5-bit codes of 32 values.
fn five_bits(h: [u8; 4], q: &[u8; 16]) -> [u8; 32] {
    let (h, low) = (u32::from_le_bytes(h), nibbles(q));
    std::array::from_fn(|i| low[i] | ((h >> i & 1) as u8) << 4)
}

fn q4_0([d0, d1, q @ ..]: &[u8; 18], see: &mut See<'_>) {
    see(one(half(*d0, *d1), 0.0, &nibbles(q)));
}

fn q4_1([d0, d1, m0, m1, q @ ..]: &[u8; 20], see: &mut See<'_>) {
    see(one(half(*d0, *d1), half(*m0, *m1), &nibbles(q)));
}

fn q5_0([d0, d1, h0, h1, h2, h3, q @ ..]: &[u8; 22], see: &mut See<'_>) {
    let codes = five_bits([*h0, *h1, *h2, *h3], q);
    see(one(half(*d0, *d1), 0.0, &codes));
}

fn q5_1([d0, d1, m0, m1, h0, h1, h2, h3, q @ ..]: &[u8; 24], see: &mut See<'_>) {
    let codes = five_bits([*h0, *h1, *h2, *h3], q);
    see(one(half(*d0, *d1), half(*m0, *m1), &codes));
}

fn q8_0([d0, d1, q @ ..]: &[u8; 34], see: &mut See<'_>) {
    // Flipping the sign bit turns −128 into code 0.
    see(one(half(*d0, *d1), 0.0, &q.map(|q| q ^ 0x80)));
}

/// The 2-bit codes of 256 values.
fn quarters(q: &[u8]) -> [u8; 256] {
    std::array::from_fn(|i| q[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3)
}

fn q2_k([rest @ .., d0, d1, m0, m1]: &[u8; 84], see: &mut See<'_>) {
    let (s, q) = rest.split_at(16);
    let (d, m) = (half(*d0, *d1), half(*m0, *m1));
    many::<16>(&quarters(q), see, |g| {
        (d * f32::from(s[g] & 15), -(m * f32::from(s[g] >> 4)))
    });
}

fn q3_k([rest @ .., d0, d1]: &[u8; 110], see: &mut See<'_>) {
    let (h, rest) = rest.split_at(32);
    let (q, s) = rest.split_at(64);
    let low = quarters(q);
    let codes = std::array::from_fn(|i| low[i] | (h[i % 32] >> (i / 32) & 1) << 2);
    let d = half(*d0, *d1);
    many::<16>(&codes, see, |g| {
        let low = s[g % 8] >> (g / 8 * 4) & 15;
        let scale = low | (s[8 + g % 4] >> (g / 4 * 2) & 3) << 4;
        (d * (f32::from(scale) - 32.0), 0.0)
    });
}

fn q4_k([d0, d1, m0, m1, rest @ ..]: &[u8; 144], see: &mut See<'_>) {
    let (s, q) = rest.split_at(12);
    let (d, m) = (half(*d0, *d1), half(*m0, *m1));
    many::<32>(&halves_of(q), see, |g| six_bits(s, g, d, m));
}

fn q5_k([d0, d1, m0, m1, rest @ ..]: &[u8; 176], see: &mut See<'_>) {
    let (s, rest) = rest.split_at(12);
    let (h, q) = rest.split_at(32);
    let low = halves_of(q);
    let codes = std::array::from_fn(|i| low[i] | (h[i % 32] >> (i / 32) & 1) << 4);
    let (d, m) = (half(*d0, *d1), half(*m0, *m1));
    many::<32>(&codes, see, |g| six_bits(s, g, d, m));
}

/// The four low bits of the codes of `Q4_K` and `Q5_K`.
fn halves_of(q: &[u8]) -> [u8; 256] {
    std::array::from_fn(|i| q[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15)
}

/// The scale and the least value of group `g` of `Q4_K` and `Q5_K`.
fn six_bits(s: &[u8], g: usize, d: f32, m: f32) -> (f32, f32) {
    let (s, t) = if g < 4 {
        (s[g] & 63, s[g + 4] & 63)
    } else {
        let low = s[g + 4];
        (low & 15 | s[g - 4] >> 6 << 4, low >> 4 | s[g] >> 6 << 4)
    };
    (d * f32::from(s), -(m * f32::from(t)))
}

fn q6_k([rest @ .., d0, d1]: &[u8; 210], see: &mut See<'_>) {
    let (q, rest) = rest.split_at(128);
    let (h, s) = rest.split_at(64);
    let codes = std::array::from_fn(|i| {
        // Each half of a block holds four runs of 32 values.
        let (half, run, l) = (i / 128, i / 32 % 4, i % 32);
        let low = q[64 * half + 32 * (run % 2) + l] >> (run / 2 * 4) & 15;
        low | (h[32 * half + l] >> (run * 2) & 3) << 4
    });
    let d = half(*d0, *d1);
    many::<16>(&codes, see, |g| (d * f32::from(s[g].cast_signed()), 0.0));
}

/// What the codes of `IQ4_NL` and `IQ4_XS` stand for.
const IQ4: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Twice what the codes of `MXFP4` stand for.
const FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Looks codes up in a table of integers, and gives those as codes in which `middle` stands for 0.
fn looked_up<const N: usize>(table: [i8; 16], middle: u8, codes: [u8; N]) -> [u8; N] {
    codes.map(|q| middle.wrapping_add_signed(table[usize::from(q)]))
}

fn iq4_nl([d0, d1, q @ ..]: &[u8; 18], see: &mut See<'_>) {
    let codes = looked_up(IQ4, 128, nibbles(q));
    see(one(half(*d0, *d1), 0.0, &codes));
}

fn iq4_xs([d0, d1, h0, h1, rest @ ..]: &[u8; 136], see: &mut See<'_>) {
    let (s, q) = rest.split_at(4);
    let (d, h) = (half(*d0, *d1), u16::from_le_bytes([*h0, *h1]));
    let codes = std::array::from_fn(|i| q[i / 32 * 16 + i % 16] >> (i / 16 % 2 * 4) & 15);
    many::<32>(&looked_up(IQ4, 128, codes), see, |g| {
        let low = s[g / 2] >> (g % 2 * 4) & 15;
        let scale = low | ((h >> (2 * g) & 3) as u8) << 4;
        (d * (f32::from(scale) - 32.0), 0.0)
    });
}

fn mxfp4([e, q @ ..]: &[u8; 17], see: &mut See<'_>) {
    // Exact, even if subnormal.
    let scale = f64::from(i32::from(*e) - 128).exp2() as f32;
    see(one(scale, 0.0, &looked_up(FP4, 16, nibbles(q))));
}

fn tq1_0([q @ .., d0, d1]: &[u8; 54], see: &mut See<'_>) {
    // A byte is a fraction of five ternary digits, in 256ths and rounded up. Three times the fraction
    // has the first digit as its whole part; the rest gives the next digit in the same way.
    let codes = std::array::from_fn(|i| {
        let (byte, trit) = match i {
            0..160 => (i % 32, i / 32),
            160..240 => (32 + i % 16, (i - 160) / 16),
            _ => (48 + i % 4, (i - 240) / 4),
        };
        let rest = q[byte].wrapping_mul([1, 3, 9, 27, 81][trit]);
        1 + ((u16::from(rest) * 3) >> 8) as u8
    });
    let d = half(*d0, *d1);
    many::<128>(&codes, see, |_| (d, 0.0));
}

fn tq2_0([q @ .., d0, d1]: &[u8; 66], see: &mut See<'_>) {
    let codes = quarters(q).map(|q| q + 1);
    let d = half(*d0, *d1);
    many::<128>(&codes, see, |_| (d, 0.0));
}
