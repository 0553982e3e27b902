//! What holds for every weight and for every byte sequence.

mod common;

use common::{Folder, gguf, message_of, read_all, sparse, write_weight};
use lacuna::format::{Dense, Dtype, Format, Matrix, Pattern, Values};
use lacuna_io::{Kind, Output, WeightFile, stored_bytes};
use proptest::{collection::vec, prelude::*, sample::Index};
use std::fs;

fn pattern() -> impl Strategy<Value = Pattern> {
    (1..=32usize, prop_oneof![Just(1usize), 2..=9usize])
        .prop_flat_map(|(m, v)| (1..=m, Just(m), Just(v)))
        .prop_map(|(n, m, v)| Pattern::vector(n, m, v).unwrap())
}

fn dtype() -> impl Strategy<Value = Dtype> {
    prop::sample::select(Dtype::ALL.to_vec())
}

/// Every quantised format, with small groups.
fn coded_format() -> impl Strategy<Value = Format> {
    let zeros = || prop::sample::select(vec!["", "-sym", "-real"]);
    let quant = || (2..=8u32, 1..=5usize, zeros());
    let dense = quant().prop_map(|(b, g, z)| format!("w{b}g{}{z}", 8 * g));
    let row = (2..=8u32, zeros()).prop_map(|(b, z)| format!("w{b}row{z}"));
    let windows = prop::sample::select(vec!["2:4", "1:8x3", "1:2", "4:8x2", "3:4", "8:8"]);
    let both = (windows, quant()).prop_map(|(p, (b, g, z))| format!("{p}+w{b}g{}{z}", 8 * g));
    let pruned = (quant(), 1..=99u32, any::<bool>()).prop_map(|((b, g, z), percent, r)| {
        let ragged = if r { "-ragged" } else { "" };
        let sym = if z == "-sym" { z } else { "" };
        format!("w{b}g{}s{percent}{sym}{ragged}", 8 * g)
    });
    prop_oneof![dense, row, both, pruned].prop_map(|name| name.parse().unwrap())
}

/// A weight of `format` whose values are of about `size`, some of them zero.
fn coded(format: Format, rows: usize, cols: usize, size: f32, seed: u64) -> Matrix {
    let mut state = seed | 1;
    let values = (0..rows * cols).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let value = (state >> 40) as f32 / 8_388_608.0 - 1.0;
        if state % 5 == 0 { 0.0 } else { value * size }
    });
    let dense = Dense::from_f32(rows, cols, values.collect()).unwrap();
    lacuna::compress::compress(&dense, format).unwrap()
}

/// A file of one sparse weight, as bytes.
fn container() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![of_values(), of_codes()]
}

fn of_codes() -> impl Strategy<Value = Vec<u8>> {
    (coded_format(), 1..6usize, 1..60usize).prop_map(|(format, rows, cols)| {
        let folder = Folder::new();
        write_weight(&folder.path("x"), &coded(format, rows, cols, 1e-6, 3));
        fs::read(folder.path("x")).unwrap()
    })
}

fn of_values() -> impl Strategy<Value = Vec<u8>> {
    (pattern(), dtype(), 1..6usize, 1..40usize).prop_map(|(pattern, dtype, rows, cols)| {
        let folder = Folder::new();
        write_weight(
            &folder.path("x"),
            &sparse(pattern, dtype, rows, cols, 3).into(),
        );
        fs::read(folder.path("x")).unwrap()
    })
}

/// One change of a file.
#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Copy(Index, Index, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        // Digits and punctuation keep the header JSON more often than not.
        (
            any::<Index>(),
            prop::sample::select(b"0123456789-.,:\"{}[]FU ".to_vec())
        )
            .prop_map(|(i, b)| Mutation::Set(i, b)),
        (any::<Index>(), any::<u8>()).prop_map(|(i, b)| Mutation::Set(i, b)),
        (any::<Index>(), 0..8u8).prop_map(|(i, bit)| Mutation::Flip(i, bit)),
        any::<Index>().prop_map(Mutation::Cut),
        (any::<Index>(), vec(any::<u8>(), 1..9)).prop_map(|(i, b)| Mutation::Insert(i, b)),
        (any::<Index>(), any::<Index>(), 1..16usize).prop_map(|(i, j, n)| Mutation::Copy(i, j, n)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: Mutation) {
    let len = bytes.len();
    if len == 0 {
        return;
    }
    match mutation {
        Mutation::Set(at, byte) => bytes[at.index(len)] = byte,
        Mutation::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
        Mutation::Cut(at) => bytes.truncate(at.index(len)),
        Mutation::Insert(at, new) => {
            bytes.splice(at.index(len)..at.index(len), new);
        }
        Mutation::Copy(from, to, n) => {
            let (from, to) = (from.index(len), to.index(len));
            let n = n.min(len - from.max(to));
            bytes.copy_within(from..from + n, to);
        }
    }
}

/// Reads `bytes`. A refusal must be an input error and say so on one clean line.
fn check(bytes: &[u8]) {
    if let Err(error) = read_all(bytes) {
        assert_eq!(error.kind(), Kind::Input, "{error}");
        assert!(
            !error.to_string().chars().any(char::is_control),
            "{error:?}"
        );
    } else {
        // Whatever is accepted here, the `safetensors` crate accepts too.
        safetensors::SafeTensors::deserialize(bytes).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn sparse_weights_come_back_as_they_were(
        pattern in pattern(), dtype in dtype(),
        rows in 1..20usize, cols in 1..80usize, seed: u64,
    ) {
        let weight = Matrix::from(sparse(pattern, dtype, rows, cols, seed));
        let folder = Folder::new();
        write_weight(&folder.path("x"), &weight);
        let file = WeightFile::open(folder.path("x")).unwrap();
        let module = file.module("P").unwrap();
        prop_assert_eq!((module.format(), module.rows(), module.cols()), (weight.format(), rows, cols));
        prop_assert_eq!(Some(module.bytes()), stored_bytes(weight.format(), rows, cols));
        prop_assert_eq!(module.bytes(), weight.stored_bytes() as u64);
        prop_assert_eq!(file.plain_tensors().count(), 0);
        prop_assert_eq!(file.weight("P").unwrap(), weight);
        safetensors::SafeTensors::deserialize(&fs::read(folder.path("x")).unwrap()).unwrap();
    }

    #[test]
    fn coded_weights_come_back_as_they_were(
        format in coded_format(), rows in 1..12usize, cols in 1..100usize, seed: u64,
        size in prop::sample::select(vec![1e-20f32, 1e-4, 1.0, 1e15]),
    ) {
        let weight = coded(format, rows, cols, size, seed);
        let folder = Folder::new();
        write_weight(&folder.path("x"), &weight);
        let file = WeightFile::open(folder.path("x")).unwrap();
        let module = file.module("P").unwrap();
        prop_assert_eq!((module.format(), module.rows(), module.cols()), (format, rows, cols));
        prop_assert_eq!(Some(module.bytes()), stored_bytes(format, rows, cols));
        prop_assert_eq!(module.bytes(), weight.stored_bytes() as u64);
        prop_assert_eq!(file.plain_tensors().count(), 0);
        let back = file.weight("P").unwrap();
        prop_assert_eq!(&back, &weight);
        safetensors::SafeTensors::deserialize(&fs::read(folder.path("x")).unwrap()).unwrap();

        // Unpacked to dense, it holds the values that the codes stand for.
        let mut plan = Output::new();
        plan.weight("P", Format::Dense(Dtype::F32), rows, cols).unwrap();
        let mut writer = plan.create(folder.path("y")).unwrap();
        writer.weight("P", &back.to_dense().into()).unwrap();
        writer.finish().unwrap();
        let unpacked = WeightFile::open(folder.path("y")).unwrap().weight("P").unwrap();
        prop_assert_eq!(unpacked, Matrix::from(weight.to_dense()));
    }

    #[test]
    fn dense_weights_come_back_bit_for_bit(
        dtype in dtype(), rows in 1..9usize, cols in 1..9usize, bits in vec(any::<u32>(), 64),
    ) {
        let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        let values = Values::from_le_bytes(dtype, &bytes[..rows * cols * dtype.size()]).unwrap();
        let dense = Dense::new(rows, cols, values).unwrap();
        let folder = Folder::new();
        write_weight(&folder.path("x"), &dense.clone().into());
        let file = WeightFile::open(folder.path("x")).unwrap();
        let Matrix::Dense(back) = file.weight("P").unwrap() else { panic!("it was dense") };
        prop_assert_eq!(back.values().to_le_bytes(), dense.values().to_le_bytes());
    }

    #[test]
    fn mutated_files_are_read_or_refused(
        bytes in container(), mutations in vec(mutation(), 1..6),
    ) {
        let mut bytes = bytes;
        for mutation in mutations {
            mutate(&mut bytes, mutation);
        }
        check(&bytes);
    }

    #[test]
    fn mutated_gguf_files_are_read_or_refused(
        version in 2..=3u32, mutations in vec(mutation(), 1..6), header_only: bool,
    ) {
        let mut bytes = gguf::sample(version).bytes();
        // Tensors are most of the file, but mutations of the header find more.
        let data = if header_only { bytes.split_off(gguf::sample(version).data_start()) } else { Vec::new() };
        for mutation in mutations {
            mutate(&mut bytes, mutation);
        }
        bytes.extend(data);
        if let Err(error) = gguf::read_all(&bytes) {
            message_of(&error);
        }
    }

    #[test]
    fn random_gguf_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200), version in 2..=3u32) {
        let bytes = [&b"GGUF"[..], &version.to_le_bytes(), &bytes].concat();
        if let Err(error) = gguf::read_all(&bytes) {
            message_of(&error);
        }
    }

    #[test]
    fn random_headers_and_bytes_are_refused(
        header in vec(any::<u8>(), 0..64), data in vec(any::<u8>(), 0..64), framed: bool,
    ) {
        let len = (header.len() as u64).to_le_bytes();
        check(&if framed { [&len[..], &header, &data].concat() } else { data });
    }

    #[test]
    fn random_entries_are_read_or_refused(
        n in 0..40usize, m in 0..40usize, v in 0..4usize, dtype in "f32|f16|bf16|f8",
        rows: u64, cols: u64, small: bool, words in vec(any::<u32>(), 0..8),
    ) {
        let (rows, cols) = if small { (rows % 4, cols % 12) } else { (rows, cols) };
        let data: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let header = format!(
            r#"{{"__metadata__":{{"lacuna.version":"1",
            "lacuna.P":"{{\"format\":\"{n}:{m}x{v}@{dtype}\",\"rows\":{rows},\"cols\":{cols}}}"}},
            "P.values":{{"dtype":"F32","shape":[0,{cols}],"data_offsets":[0,0]}},
            "P.indices":{{"dtype":"U32","shape":[1,{}],"data_offsets":[0,{}]}}}}"#,
            words.len(), data.len(),
        );
        check(&common::file_with(&header, &data));
    }
}

/// A small file of each layout of other programs.
fn of_layouts() -> impl Strategy<Value = Vec<u8>> {
    use common::layouts::{Coded, bitmask, stream, two_of_four, whole};
    let coded = |bits| Coded::random(32, 32, bits, 16, 5);
    let kept = two_of_four(2, 12, 77);
    let files = [
        coded(4).gptq(1),
        coded(3).symmetric().gptq(0),
        coded(4).awq(),
        coded(4).pack_quantized(stream),
        Coded::random(3, 64, 3, 16, 5).pack_quantized(whole),
        bitmask(2, 12, &[1.5; 24], &kept, false),
        bitmask(2, 12, &[1.5; 24], &kept, true).long_names(),
    ];
    prop::sample::select(files.map(|file| file.bytes()).to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn mutated_layouts_are_read_or_refused(
        bytes in of_layouts(), mutations in vec(mutation(), 1..5), data_only: bool,
    ) {
        // The header is most of such a file, but what is packed decides more.
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut kept = bytes;
        let mut changed = kept.split_off(if data_only { header } else { 0 });
        let len = changed.len();
        for mutation in mutations {
            mutate(&mut changed, mutation);
        }
        if data_only {
            changed.resize(len, 0);
        }
        let bytes = [kept, changed].concat();
        check(&bytes);
    }
}
