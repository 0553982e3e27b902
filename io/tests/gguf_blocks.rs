//! What blocks of each type decode to.

// Values are determined to the bit.
#![allow(clippy::float_cmp)]

mod common;

use common::gguf::Gguf;
use lacuna::format::{Dtype, Matrix, Quant, Quantized, ZeroPoint};

/// Decodes `blocks` as one row of `values` values.
fn decode(code: u32, values: usize, blocks: &[u8]) -> Vec<f32> {
    let file = Gguf::new().tensor("t", &[values as u64], code, blocks);
    file.open().unwrap().read_f32("t").unwrap()
}

/// Sixteen bytes of the low codes 0 to 15 and the high codes 15 to 0.
fn nibbles() -> Vec<u8> {
    (0..16).map(|i| i | (15 - i) << 4).collect()
}

const HALF: [u8; 2] = [0x00, 0x38];
const MINUS_TWO: [u8; 2] = [0x00, 0xc0];

#[test]
fn four_bits() {
    let y: Vec<f32> = (0..16u8).chain((0..16).rev()).map(f32::from).collect();
    let shifted: Vec<f32> = y.iter().map(|q| 0.5 * (q - 8.0)).collect();
    let block = [&HALF[..], &nibbles()].concat();
    assert_eq!(decode(2, 32, &block), shifted);
    assert_eq!((shifted[0], shifted[15], shifted[16]), (-4.0, 3.5, 3.5));

    let affine: Vec<f32> = y.iter().map(|q| 0.5 * q - 2.0).collect();
    let block = [&HALF[..], &MINUS_TWO, &nibbles()].concat();
    assert_eq!(decode(3, 32, &block), affine);
}

#[test]
fn five_bits() {
    // The fifth bit is set in values 0 to 7, 20 and 31.
    let high = [0xff, 0x00, 0x10, 0x80];
    let mut codes: Vec<f32> = (0..16u8).chain((0..16).rev()).map(f32::from).collect();
    for i in (0..8).chain([20, 31]) {
        codes[i] += 16.0;
    }
    let block = [&HALF[..], &high, &nibbles()].concat();
    let shifted: Vec<f32> = codes.iter().map(|q| 0.5 * (q - 16.0)).collect();
    assert_eq!(decode(6, 32, &block), shifted);
    assert_eq!((shifted[0], shifted[8], shifted[31]), (0.0, -4.0, 0.0));

    let block = [&HALF[..], &MINUS_TWO, &high, &nibbles()].concat();
    let affine: Vec<f32> = codes.iter().map(|q| 0.5 * q - 2.0).collect();
    assert_eq!(decode(7, 32, &block), affine);
}

#[test]
fn eight_bits() {
    let mut codes = vec![0u8; 32];
    codes[..5].copy_from_slice(&[1, 255, 127, 128, 64]);
    let y = decode(8, 32, &[&HALF[..], &codes].concat());
    assert_eq!(y[..6], [0.5, -0.5, 63.5, -64.0, 32.0, 0.0]);
    assert_eq!(y[5..], [0.0; 27]);
}

/// Six-bit scales `[1, 2, 3, 4, 17, 34, 51, 63]` and `[5, 6, 7, 8, 20, 33, 50, 60]`.
const SCALES: [u8; 12] = [
    0b01_000001,
    0b10_000010,
    0b11_000011,
    0b11_000100,
    0b01_000101,
    0b10_000110,
    0b11_000111,
    0b11_001000,
    0b0100_0001,
    0b0001_0010,
    0b0010_0011,
    0b1100_1111,
];
const S: [f32; 8] = [1., 2., 3., 4., 17., 34., 51., 63.];
const T: [f32; 8] = [5., 6., 7., 8., 20., 33., 50., 60.];

/// The low code of value `l` in group `g` of the blocks below.
fn code(g: usize, l: usize) -> u8 {
    ((3 * g + l) % 16) as u8
}

fn grouped_nibbles() -> Vec<u8> {
    (0..128)
        .map(|i| (i / 32 * 2, i % 32))
        .map(|(g, l)| code(g, l) | code(g + 1, l) << 4)
        .collect()
}

#[test]
fn four_bits_with_scales_of_scales() {
    let block = [&HALF[..], &MINUS_TWO, &SCALES, &grouped_nibbles()].concat();
    let expected: Vec<f32> = (0..256)
        .map(|i| (i / 32, i % 32))
        .map(|(g, l)| 0.5 * S[g] * f32::from(code(g, l)) + 2.0 * T[g])
        .collect();
    assert_eq!(decode(12, 256, &block), expected);
}

#[test]
fn five_bits_with_scales_of_scales() {
    // Byte l holds the fifth bits of value l of every group; they are set where l + g is odd.
    let bit = |g: usize, l: usize| (l + g) % 2;
    let high: Vec<u8> = (0..32)
        .map(|l| (0..8).map(|g| (bit(g, l) << g) as u8).sum())
        .collect();
    let block = [&HALF[..], &MINUS_TWO, &SCALES, &high, &grouped_nibbles()].concat();
    let expected: Vec<f32> = (0..256)
        .map(|i| (i / 32, i % 32))
        .map(|(g, l)| (g, f32::from(code(g, l)) + 16.0 * bit(g, l) as f32))
        .map(|(g, q)| 0.5 * S[g] * q + 2.0 * T[g])
        .collect();
    assert_eq!(decode(13, 256, &block), expected);
}

#[test]
fn six_bits_with_signed_scales() {
    // All codes are 32, which stands for 0, except for four.
    let mut low = [0u8; 128];
    let mut high = [0b10_10_10_10u8; 64];
    low[3] = 0x01; // value 3: code 33
    low[64 + 32 + 31] = 0xf0; // value 128 + 96 + 31: code 47
    high[5] = 0b10_10_00_10; // value 32 + 5: code 0
    high[32 + 9] = 0b10_11_10_10; // value 128 + 64 + 9: code 48
    let scales: Vec<u8> = (0..16u8).map(|s| s.wrapping_sub(4)).collect();
    let mut expected = [0.0; 256];
    expected[3] = 0.5 * -4.0;
    expected[37] = 0.5 * -2.0 * -32.0;
    expected[201] = 0.5 * 8.0 * 16.0;
    expected[255] = 0.5 * 11.0 * 15.0;
    let y = decode(14, 256, &[&low[..], &high, &scales, &HALF].concat());
    assert_eq!(y, expected);
}

#[test]
fn floats_are_widened_and_kept_in_their_type() {
    let file = Gguf::new()
        .tensor("f32", &[2, 1], 0, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0])
        .tensor("f16", &[2, 1], 1, &[&HALF[..], &MINUS_TWO].concat())
        .tensor("bf16", &[2, 1], 30, &[0x80, 0x3f, 0x00, 0xc0])
        .tensor("q8", &[32, 1], 8, &[0; 34])
        .open()
        .unwrap();
    assert_eq!(file.read_f32("f32").unwrap(), [1.0, -2.0]);
    assert_eq!(file.read_f32("f16").unwrap(), [0.5, -2.0]);
    assert_eq!(file.read_f32("bf16").unwrap(), [1.0, -2.0]);
    for (name, stored, read) in [
        ("f32", Some(Dtype::F32), Dtype::F32),
        ("f16", Some(Dtype::F16), Dtype::F16),
        ("bf16", Some(Dtype::Bf16), Dtype::Bf16),
        ("q8", None, Dtype::F32),
    ] {
        assert_eq!(file.tensor(name).unwrap().ggml_type.dtype(), stored);
        let values = file.read_values(name).unwrap();
        assert_eq!(values.dtype(), read);
        assert_eq!(values.to_f32(), file.read_f32(name).unwrap());
    }
}

/// Types whose zero is in the middle: type, bits, bytes of a block.
const CODES: [(u32, u32, usize); 3] = [(2, 4, 18), (6, 5, 22), (8, 8, 34)];

#[test]
fn codes_stand_for_what_blocks_decode_to() {
    for (code, bits, bytes) in CODES {
        // 2⁻²⁴, which is subnormal, beside 0.5, −2, and 0, which makes every code stand for 0.
        let scales = [[0x01, 0x00], HALF, MINUS_TWO, [0, 0]];
        let mut blocks = noise(4 * bytes);
        for (block, scale) in blocks.chunks_mut(bytes).zip(scales) {
            block[..2].copy_from_slice(&scale);
        }
        let file = Gguf::new()
            .tensor("t", &[64, 2], code, &blocks)
            .tensor("f32", &[1], 0, &[0; 4])
            .open()
            .unwrap();
        let quant = Quant::new(bits, Some(32), ZeroPoint::Middle).unwrap();
        assert_eq!(file.quant("t").unwrap(), Some(quant));
        let codes = file.read_codes("t").unwrap().unwrap();
        assert_eq!(codes.quant(), quant);
        let weight = Matrix::from(Quantized::new(2, 64, None, codes).unwrap());
        let values = weight.to_dense().values().to_f32();
        let decoded = file.read_f32("t").unwrap();
        assert!(decoded[..96].iter().any(|&y| y != 0.0));
        assert_eq!(values, decoded);

        assert!(file.read_codes("f32").unwrap().is_none());
        assert!(file.quant("nothing").is_err() && file.read_codes("nothing").is_err());
    }
}

#[test]
fn scales_too_far_apart_or_no_numbers_are_no_codes() {
    for (code, _, bytes) in CODES {
        for scales in [[[0x01, 0x00], [0xff, 0x7b]], [HALF, [0x00, 0x7e]]] {
            let mut blocks = vec![1; 2 * bytes];
            for (block, scale) in blocks.chunks_mut(bytes).zip(scales) {
                block[..2].copy_from_slice(&scale);
            }
            let file = Gguf::new().tensor("t", &[32, 2], code, &blocks);
            let file = file.open().unwrap();
            assert_eq!(file.quant("t").unwrap(), None);
            assert!(file.read_codes("t").unwrap().is_none());
            assert_eq!(file.read_f32("t").unwrap().len(), 64);
        }
    }
}

/// Types whose scales or zeros are rounded: type, format, bytes and values of a block, offsets of its
/// f16.
const ROUNDED: [(u32, &str, usize, usize, &[usize]); 8] = [
    (3, "w4g32-real", 20, 32, &[0, 2]),
    (7, "w5g32-real", 24, 32, &[0, 2]),
    (10, "w2g16-real", 84, 256, &[80, 82]),
    (11, "w3g16-sym", 110, 256, &[108]),
    (12, "w4g32-real", 144, 256, &[0, 2]),
    (13, "w5g32-real", 176, 256, &[0, 2]),
    (14, "w6g16-sym", 210, 256, &[208]),
    (23, "w8g32-sym", 136, 256, &[0]),
];

/// For blocks that are written out, codes stand for exactly what the blocks decode to.
#[test]
fn sixteen_numbers_and_trits_are_codes_of_more_bits() {
    let read = |code: u32, values: u64, block: &[u8]| {
        let file = Gguf::new()
            .tensor("t", &[values], code, block)
            .open()
            .unwrap();
        let codes = file.read_codes("t").unwrap().unwrap();
        let weight = Matrix::from(Quantized::new(1, values as usize, None, codes).unwrap());
        assert_eq!(
            weight.to_dense().values().to_f32(),
            file.read_f32("t").unwrap()
        );
        weight
    };
    let table = read(20, 32, &[&HALF[..], &nibbles()].concat());
    assert_eq!(table.format().to_string(), "w8g32-sym");
    let values = table.to_dense();
    assert_eq!(
        [0, 7, 8, 15, 16].map(|col| values.get(0, col)),
        [-63.5, -5.0, 0.5, 56.5, 56.5]
    );

    let floats = read(39, 32, &[&[129][..], &nibbles()].concat());
    assert_eq!(floats.format().to_string(), "w5g32-sym");
    let values = floats.to_dense();
    assert_eq!(
        [1, 5, 7, 9, 15].map(|col| values.get(0, col)),
        [2.0, 12.0, 24.0, -2.0, -24.0]
    );

    // A block of zeros has the smallest scale, 2⁻¹²⁸, which is no half beside others.
    let zeros = read(39, 64, &[&[129][..], &nibbles(), &[0; 17]].concat());
    assert_eq!(zeros.format().to_string(), "w5g32-sym");

    // The ternary digits 2 1 0 2 1 as a fraction of 243, in 256ths rounded up; below, quarters 2, 1, 0, 2.
    let trits = (((2 * 81 + 27 + 2 * 3 + 1) * 256 + 242) / 243) as u8;
    let ternary = read(34, 256, &[&[trits; 52][..], &MINUS_TWO].concat());
    assert_eq!(ternary.format().to_string(), "w2g128-sym");
    let values = ternary.to_dense();
    assert_eq!(
        [0, 32, 64, 96, 128, 160, 255].map(|col| values.get(0, col)),
        [-2.0, 0.0, 2.0, -2.0, 0.0, -2.0, -2.0]
    );
    let ternary = read(35, 256, &[&[0b10_00_01_10; 64][..], &MINUS_TWO].concat());
    let values = ternary.to_dense();
    // One of the four codes of two bits is no trit: what it decodes to needs a code of more bits.
    let file = Gguf::new().tensor("t", &[256], 35, &[&[3; 64][..], &HALF].concat());
    let file = file.open().unwrap();
    assert_eq!(file.quant("t").unwrap(), None);
    assert!(file.read_codes("t").unwrap().is_none());
    assert_eq!(file.read_f32("t").unwrap()[0], 1.0);
    assert_eq!(
        [0, 32, 64, 96, 128].map(|col| values.get(0, col)),
        [-2.0, 0.0, 2.0, -2.0, -2.0]
    );
}

#[test]
fn codes_come_as_near_to_blocks_as_halves_do() {
    for (code, format, bytes, values, halves) in ROUNDED {
        // The last block has a scale of 0; if it has a minimum, that is not 0.
        let mut blocks = noise(8 * bytes);
        for (b, block) in blocks.chunks_mut(bytes).enumerate() {
            for (i, &at) in halves.iter().enumerate() {
                // From 2⁻⁹ to 2⁻³, as the scales of weights are.
                let half = (0x1800 + 0x0333 * b as u16) & if b == 7 && i == 0 { 0 } else { 0xffff };
                block[at..at + 2].copy_from_slice(&half.to_le_bytes());
            }
        }
        let file = Gguf::new()
            .tensor("t", &[8 * values as u64], code, &blocks)
            .open()
            .unwrap();
        let quant = file.quant("t").unwrap().unwrap();
        let codes = file.read_codes("t").unwrap().unwrap();
        let weight = Matrix::from(Quantized::new(1, 8 * values, None, codes).unwrap());
        assert_eq!(weight.format().to_string(), format);
        assert_eq!(weight.codes().unwrap().quant(), quant);
        let given = weight.to_dense().values().to_f32();
        let exact = file.read_f32("t").unwrap();
        assert!(exact[..values].iter().any(|&y| y != 0.0));
        let group = quant.group().unwrap();
        for (given, exact) in given.chunks(group).zip(exact.chunks(group)) {
            // Half an ulp of the scale and of the zero, each of at most the largest magnitude that the
            // codes of the group span.
            let bound = {
                let most = exact.iter().fold(0f32, |m, y| m.max(y.abs()));
                let span = exact.iter().fold(f32::MIN, |m, &y| m.max(y))
                    - exact.iter().fold(f32::MAX, |m, &y| m.min(y));
                (most + span + most) / 2048.0
            };
            for (given, exact) in given.iter().zip(exact) {
                assert!(
                    (given - exact).abs() <= bound,
                    "{format}: {given} for {exact}"
                );
            }
        }
    }
}

/// FNV-1a hashes of the f32 bytes to which gguf-py 0.19.0 decodes eight blocks of [`noise`]:
/// type, bytes and values of a block, offsets of its f16, hash.
const REFERENCE: [(u32, usize, usize, &[usize], u64); 15] = [
    (2, 18, 32, &[0], 0x25d6_8a8d_4f19_efa5),
    (3, 20, 32, &[0, 2], 0x6d2a_fc87_1453_a12f),
    (6, 22, 32, &[0], 0x066b_fb3b_b959_5f64),
    (7, 24, 32, &[0, 2], 0x011a_350e_a341_f1ec),
    (8, 34, 32, &[0], 0xfc85_ce30_c51d_bcc5),
    (10, 84, 256, &[80, 82], 0xaa70_52c4_19e9_4ad0),
    (11, 110, 256, &[108], 0x0461_370a_bf4c_9c8b),
    (12, 144, 256, &[0, 2], 0xb85e_8353_eb28_10b6),
    (13, 176, 256, &[0, 2], 0x8fe8_237c_2626_ffeb),
    (14, 210, 256, &[208], 0x5fae_3d58_bf3b_9444),
    (20, 18, 32, &[0], 0x545a_afce_b989_6db6),
    (23, 136, 256, &[0], 0x16b9_0dc3_82df_0a4d),
    (34, 54, 256, &[52], 0x9a3f_b70d_245a_e33e),
    (35, 66, 256, &[64], 0x317c_81a8_aa9e_81c7),
    (39, 17, 32, &[], 0x75c4_4034_a903_2ce6),
];

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

#[test]
fn noise_decodes_to_the_bits_of_the_reference() {
    for (code, bytes, values, halves, expected) in REFERENCE {
        let mut blocks = noise(8 * bytes);
        for block in blocks.chunks_mut(bytes) {
            // Clears the top bit of the exponent, so that no half is infinite or NaN.
            for at in halves {
                block[at + 1] &= 0xbf;
            }
        }
        let decoded = decode(code, 8 * values, &blocks);
        let hash = decoded
            .iter()
            .flat_map(|y| y.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        assert_eq!(hash, expected, "type {code}");
    }
}
