//! Blocks of quantised values, to f32.
//!
//! A row is cut into blocks of 32 or 256 values that share scales: d and m are f16,
//! s and t integers. A value is a code q; one of four bits is half a byte, and of longer
//! codes the bits above the fourth are in h. Lengths are in bytes:
//!
//! ```text
//! Q8_0   d:2 | q:32, signed                                y = d · q
//! Q4_0   d:2 | q:16                                        y = d · (q − 8)
//! Q4_1   d:2 | m:2 | q:16                                  y = d · q + m
//! Q5_0   d:2 | h:4 | q:16                                  y = d · (q − 16)
//! Q5_1   d:2 | m:2 | h:4 | q:16                            y = d · q + m
//! Q4_K   d:2 | m:2 | s:12 | q:128                          y = d·s · q − m·t
//! Q5_K   d:2 | m:2 | s:12 | h:32 | q:128                   y = d·s · q − m·t
//! Q6_K   q:128 | h:64 | s:16, signed | d:2                 y = d·s · (q − 32)
//!
//! codes of 32 values:    byte l  = value l, low | value 16 + l, high
//! Q4_K, Q5_K:            byte 32p + l = value 64p + l, low | value 64p + 32 + l, high
//! Q6_K, each half:       byte l < 64 = value l, low | value 64 + l, high
//! high bits of 32:       bit i of h, a u32, = value i
//! Q5_K:                  bit g of h[l] = value 32g + l
//! Q6_K, each half:       bits 2g and 2g + 1 of h[l] = value 32g + l
//!
//! scales s and t of the groups of 32, six bits each:
//!   bytes 0..4    s0..s3, above them the top bits of s4..s7
//!   bytes 4..8    t0..t3, above them the top bits of t4..t7
//!   bytes 8..12   the low bits of s4..s7, above them those of t4..t7
//! ```
//!
//! Each product and sum is rounded to f32 in the order written above, as ggml's
//! reference does, so that values agree with it bit for bit. Layouts and formulas are
//! `block_*` and `dequantize_row_*` of <https://github.com/ggml-org/ggml>.

use half::{bf16, f16};

/// Decodes whole blocks; the slices hold the same number of them.
pub(super) type Decode = fn(&[u8], &mut [f32]);

/// The decoder of the type of this name, if there is one.
pub(super) fn decoder(name: &str) -> Option<Decode> {
    Some(match name {
        "F32" => |b, y| each(b, y, |b, y| *y = [f32::from_le_bytes(*b)]),
        "F16" => |b, y| each(b, y, |b, y| *y = [f16::from_le_bytes(*b).to_f32()]),
        "BF16" => |b, y| each(b, y, |b, y| *y = [bf16::from_le_bytes(*b).to_f32()]),
        "Q4_0" => |b, y| each(b, y, q4_0),
        "Q4_1" => |b, y| each(b, y, q4_1),
        "Q5_0" => |b, y| each(b, y, q5_0),
        "Q5_1" => |b, y| each(b, y, q5_1),
        "Q8_0" => |b, y| each(b, y, q8_0),
        "Q4_K" => |b, y| each(b, y, q4_k),
        "Q5_K" => |b, y| each(b, y, q5_k),
        "Q6_K" => |b, y| each(b, y, q6_k),
        _ => return None,
    })
}

/// Sees the scale of a block, and its codes from 0 on.
pub(super) type Sees<'a> = dyn FnMut(f32, [u8; 32]) + 'a;

/// Takes whole blocks apart.
pub(super) type Split = fn(&[u8], &mut Sees<'_>);

/// Bits of a code, and how blocks come apart, of the types whose values are
/// d · (code − 2^(bits − 1)).
pub(super) fn splitter(name: &str) -> Option<(u32, Split)> {
    Some(match name {
        "Q4_0" => (4, |b, see| {
            apart(b, |[d0, d1, q @ ..]: &[u8; 18]| {
                see(scale(*d0, *d1), nibbles(q));
            });
        }),
        "Q5_0" => (5, |b, see| {
            apart(b, |[d0, d1, h0, h1, h2, h3, q @ ..]: &[u8; 22]| {
                see(scale(*d0, *d1), five_bits([*h0, *h1, *h2, *h3], q));
            });
        }),
        "Q8_0" => (8, |b, see| {
            // −128 is code 0: the other sign bit.
            apart(b, |[d0, d1, q @ ..]: &[u8; 34]| {
                see(scale(*d0, *d1), q.map(|q| q ^ 0x80));
            });
        }),
        _ => return None,
    })
}

fn apart<const BYTES: usize>(bytes: &[u8], see: impl FnMut(&[u8; BYTES])) {
    bytes.as_chunks().0.iter().for_each(see);
}

fn each<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    values: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let (blocks, _) = bytes.as_chunks();
    let (values, _) = values.as_chunks_mut();
    for (block, y) in blocks.iter().zip(values) {
        decode(block, y);
    }
}

fn scale(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
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

fn q4_0([d0, d1, q @ ..]: &[u8; 18], y: &mut [f32; 32]) {
    let d = scale(*d0, *d1);
    for (y, q) in y.iter_mut().zip(nibbles(q)) {
        *y = d * (f32::from(q) - 8.0);
    }
}

fn q4_1([d0, d1, m0, m1, q @ ..]: &[u8; 20], y: &mut [f32; 32]) {
    let (d, m) = (scale(*d0, *d1), scale(*m0, *m1));
    for (y, q) in y.iter_mut().zip(nibbles(q)) {
        *y = d * f32::from(q) + m;
    }
}

fn q5_0([d0, d1, h0, h1, h2, h3, q @ ..]: &[u8; 22], y: &mut [f32; 32]) {
    let d = scale(*d0, *d1);
    for (y, q) in y.iter_mut().zip(five_bits([*h0, *h1, *h2, *h3], q)) {
        *y = d * (f32::from(q) - 16.0);
    }
}

fn q5_1([d0, d1, m0, m1, h0, h1, h2, h3, q @ ..]: &[u8; 24], y: &mut [f32; 32]) {
    let (d, m) = (scale(*d0, *d1), scale(*m0, *m1));
    for (y, q) in y.iter_mut().zip(five_bits([*h0, *h1, *h2, *h3], q)) {
        *y = d * f32::from(q) + m;
    }
}

fn q8_0([d0, d1, q @ ..]: &[u8; 34], y: &mut [f32; 32]) {
    let d = scale(*d0, *d1);
    for (y, &q) in y.iter_mut().zip(q) {
        *y = d * f32::from(q.cast_signed());
    }
}

fn q4_k([d0, d1, m0, m1, rest @ ..]: &[u8; 144], y: &mut [f32; 256]) {
    let (s, q) = rest.split_at(12);
    for (g, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (s, t) = six_bits(s, g);
        let (d, m) = (scale(*d0, *d1) * s, scale(*m0, *m1) * t);
        for (y, q) in y.iter_mut().zip(&q[g / 2 * 32..]) {
            *y = d * f32::from(q >> (g % 2 * 4) & 15) - m;
        }
    }
}

fn q5_k([d0, d1, m0, m1, rest @ ..]: &[u8; 176], y: &mut [f32; 256]) {
    let (s, rest) = rest.split_at(12);
    let (h, q) = rest.split_at(32);
    for (g, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (s, t) = six_bits(s, g);
        let (d, m) = (scale(*d0, *d1) * s, scale(*m0, *m1) * t);
        for ((y, q), h) in y.iter_mut().zip(&q[g / 2 * 32..]).zip(h) {
            let q = q >> (g % 2 * 4) & 15 | (h >> g & 1) << 4;
            *y = d * f32::from(q) - m;
        }
    }
}

/// The scales s and t of group `g` of `Q4_K` and `Q5_K`.
fn six_bits(s: &[u8], g: usize) -> (f32, f32) {
    let (s, t) = if g < 4 {
        (s[g] & 63, s[g + 4] & 63)
    } else {
        let low = s[g + 4];
        (low & 15 | s[g - 4] >> 6 << 4, low >> 4 | s[g] >> 6 << 4)
    };
    (s.into(), t.into())
}

fn q6_k([rest @ .., d0, d1]: &[u8; 210], y: &mut [f32; 256]) {
    let (q, rest) = rest.split_at(128);
    let (h, s) = rest.split_at(64);
    for (run, (y, s)) in y.as_chunks_mut::<16>().0.iter_mut().zip(s).enumerate() {
        let d = scale(*d0, *d1) * f32::from(s.cast_signed());
        // A run of 16 is half of a group of 32, of which each half block has four.
        let (half, group, from) = (run / 8, run / 2 % 4, run % 2 * 16);
        let q = &q[64 * half + 32 * (group % 2) + from..];
        let h = &h[32 * half + from..];
        for ((y, q), h) in y.iter_mut().zip(q).zip(h) {
            let q = q >> (group / 2 * 4) & 15 | (h >> (group * 2) & 3) << 4;
            *y = d * (f32::from(q) - 32.0);
        }
    }
}
