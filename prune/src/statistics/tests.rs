use super::*;
use crate::{
    Accumulator, ChannelSums, Error, GateQuantiles, GateStatistics, Inputs, QuantileTable,
    Quantiles,
};
use lacuna_io::{Output, RawTensor, TensorDtype};
use std::{collections::BTreeMap, path::PathBuf};

const COLS: usize = 6;

fn inputs(seed: usize, samples: usize, hessian: bool) -> Inputs {
    let x: Vec<f32> = (0..samples * COLS)
        .map(|i| ((i * 31 + seed * 17) % 23) as f32 / 8.0 - 1.0)
        .collect();
    let mut sums = Accumulator::new(COLS, hessian);
    sums.add(&x).unwrap();
    sums.finish().unwrap()
}

fn shared(modules: &[&str]) -> Shared {
    Shared {
        modules: modules.iter().map(|&m| m.into()).collect(),
        cols: COLS,
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("stats.safetensors")
    }

    /// A valid file: `a` and `b` share an input, `c` has its own.
    fn written(&self, hessian: bool) -> PathBuf {
        let plan = [shared(&["a", "b"]), shared(&["c"])];
        let mut writer = StatisticsWriter::create(self.file(), 9, hessian, &plan, None).unwrap();
        writer.inputs("c", &inputs(2, 9, hessian)).unwrap();
        writer.inputs("a", &inputs(1, 9, true)).unwrap();
        writer.finish().unwrap();
        self.file()
    }
}

#[test]
fn what_was_written_is_read_by_any_name_of_an_input() {
    let folder = Folder::new();
    for hessian in [true, false] {
        let file = Statistics::open(folder.written(hessian)).unwrap();
        assert_eq!(file.modules().collect::<Vec<_>>(), ["a", "b", "c"]);
        for (module, seed) in [("a", 1), ("b", 1), ("c", 2)] {
            assert_eq!(file.inputs(module).unwrap(), inputs(seed, 9, hessian));
            assert_eq!(file.check(module, COLS).unwrap(), hessian);
            assert!(matches!(
                file.check(module, 7),
                Err(Error::Columns {
                    got: COLS,
                    expected: 7,
                    ..
                })
            ));
        }
        assert!(matches!(
            file.inputs("d"),
            Err(Error::NoModule { module, .. }) if module == "d"
        ));
    }
}

#[test]
fn what_contradicts_the_plan_is_not_written() {
    let folder = Folder::new();
    let create = |samples, plan: &[Shared]| {
        StatisticsWriter::create(folder.file(), samples, true, plan, None)
    };
    for (samples, plan) in [
        (0, vec![shared(&["a"])]),
        (1, vec![shared(&[])]),
        (1, vec![shared(&["a", "a"])]),
        (1, vec![shared(&["a"]), shared(&["b", "a"])]),
        (1, vec![shared(&[""])]),
        (1, vec![shared(&["version"])]),
        (
            1,
            vec![Shared {
                modules: vec!["a".into()],
                cols: 0,
            }],
        ),
        (
            1,
            vec![Shared {
                modules: vec!["a".into()],
                cols: usize::MAX,
            }],
        ),
    ] {
        assert!(create(samples, &plan).is_err(), "{samples} {plan:?}");
    }
    let mut writer = create(9, &[shared(&["a"])]).unwrap();
    assert!(writer.inputs("b", &inputs(1, 9, true)).is_err());
    assert!(writer.inputs("a", &inputs(1, 8, true)).is_err());
    assert!(writer.inputs("a", &inputs(1, 9, false)).is_err());
    let narrow = Inputs::new(9, vec![0.0], vec![1.0], Some(vec![1.0])).unwrap();
    assert!(writer.inputs("a", &narrow).is_err());
    assert!(writer.finish().is_err(), "an input is missing");
    assert!(!folder.file().exists());
}

/// The error of a file with these text entries and F32 tensors of these lengths, filled with ones.
fn forged(folder: &Folder, entries: &[(&str, &str)], tensors: &[(&str, usize)]) -> Error {
    let mut output = Output::new();
    let text = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
    output.metadata(&entries.iter().map(text).collect::<BTreeMap<_, _>>());
    for (name, len) in tensors {
        output.tensor(name, TensorDtype::F32, &[*len]).unwrap();
    }
    let mut writer = output.create(folder.file()).unwrap();
    for (name, len) in tensors {
        let ones = RawTensor::from_f32(&[*len], &vec![1.0; *len]);
        writer.tensor(name, &ones.bytes).unwrap();
    }
    writer.finish().unwrap();
    Statistics::open(folder.file()).expect_err("it is malformed")
}

/// Text entries, tensors with their lengths, and what the error must say.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [(&'a str, usize)], &'a str);

#[test]
fn malformed_files_are_refused_when_they_are_opened() {
    let folder = Folder::new();
    let version = ("lacuna_statistics.version", "1");
    let (good, both) = (
        r#"{"samples":2,"modules":["a"]}"#,
        [("a.mean", 2), ("a.mean_square", 2)],
    );
    let cases: [Case; 11] = [
        (&[], &both, "no file of statistics"),
        (&[("lacuna_statistics.version", "one")], &both, "\"one\""),
        (&[("lacuna_statistics.version", "0")], &both, "is 0"),
        (&[version, ("lacuna_statistics.a", "{")], &both, "\"a\""),
        (
            &[
                version,
                ("lacuna_statistics.a", r#"{"samples":0,"modules":["a"]}"#),
            ],
            &both,
            "0 samples",
        ),
        (
            &[
                version,
                ("lacuna_statistics.a", r#"{"samples":2,"modules":["b"]}"#),
            ],
            &both,
            "not the first",
        ),
        (
            &[
                version,
                (
                    "lacuna_statistics.a",
                    r#"{"samples":2,"modules":["a","a"]}"#,
                ),
            ],
            &both,
            "twice",
        ),
        (
            &[version, ("lacuna_statistics.a", good)],
            &both[..1],
            ".mean_square is absent",
        ),
        (
            &[version, ("lacuna_statistics.a", good)],
            &both[1..],
            "no tensor .mean",
        ),
        (
            &[version, ("lacuna_statistics.a", good)],
            &[both[0], ("a.mean_square", 3)],
            "is 3, expected 2",
        ),
        (
            &[version, ("lacuna_statistics.a", good)],
            &[both[0], both[1], ("a.hessian", 4)],
            "is 4, expected 3",
        ),
    ];
    for (entries, tensors, text) in cases {
        let error = forged(&folder, entries, tensors);
        assert!(matches!(error, Error::Statistics { .. }), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    for newer in ["2", "99999999999999999999999"] {
        let error = forged(&folder, &[("lacuna_statistics.version", newer)], &both);
        assert!(matches!(error, Error::Version { .. }), "{error}");
        assert!(error.to_string().contains(newer), "{error}");
    }
}

#[test]
fn numbers_that_cannot_be_are_refused_when_they_are_read() {
    let folder = Folder::new();
    let path = folder.written(true);
    let mut bytes = std::fs::read(&path).unwrap();
    // The last tensor by name is the mean square of c.
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let file = Statistics::open(&path).unwrap();
    let error = file.inputs("c").unwrap_err().to_string();
    assert!(
        error.contains("\"c\"") && error.contains("mean square"),
        "{error}"
    );
    file.inputs("a").unwrap();
    std::fs::write(&path, &bytes[..last]).unwrap();
    assert!(
        matches!(Statistics::open(&path), Err(Error::File(_))),
        "it is cut"
    );
}

#[test]
fn triangles_do_not_overflow() {
    for (cols, len) in [(0, 0), (1, 1), (2, 3), (5, 15), (6, 21)] {
        assert_eq!(triangle(cols), Some(len));
    }
    assert_eq!(triangle(usize::MAX), None);
    assert_eq!(triangle(1 << 40), None);
}

/// Writes a file with what thresholds are chosen by, and returns its content.
fn with_gate(folder: &Folder) -> (QuantileTable, GateStatistics) {
    let x: Vec<f32> = (0..9 * COLS).map(|i| (i * 7 % 31) as f32 - 15.0).collect();
    let mut quantiles = Quantiles::default();
    quantiles.extend(x.iter().copied());
    let table = quantiles.finish().unwrap();
    let mut sums = ChannelSums::new(COLS);
    sums.add(&x);
    let mut gate = GateQuantiles::new(sums.finish(vec![2.0; COLS]).unwrap());
    gate.add(&x);
    let gate = gate.finish().unwrap();
    let gated = Gated {
        module: "m".into(),
        channels: COLS,
    };
    let plan = [shared(&["a", "b"])];
    let mut writer =
        StatisticsWriter::create(folder.file(), 9, false, &plan, Some(&[gated])).unwrap();
    writer.inputs("a", &inputs(1, 9, false)).unwrap();
    writer.quantiles("a", &table).unwrap();
    writer.gate("m", &gate).unwrap();
    writer.finish().unwrap();
    (table, gate)
}

#[test]
fn what_thresholds_are_chosen_by_is_read_as_it_was_written() {
    let folder = Folder::new();
    let (table, gate) = with_gate(&folder);
    let file = Statistics::open(folder.file()).unwrap();
    assert_eq!(file.gates().collect::<Vec<_>>(), ["m"]);
    assert_eq!(file.gate("m").unwrap(), gate);
    assert_eq!(file.quantiles("a").unwrap(), table);
    assert_eq!(file.quantiles("b").unwrap(), table);
    assert!(matches!(file.gate("a"), Err(Error::NoThresholds { .. })));
    assert!(matches!(file.quantiles("m"), Err(Error::NoModule { .. })));
    let without = Statistics::open(folder.written(false)).unwrap();
    assert_eq!(without.gates().count(), 0);
    let refused = without.quantiles("a");
    assert!(matches!(refused, Err(Error::NoThresholds { .. })));
}

#[test]
fn quantiles_that_contradict_themselves_are_refused() {
    let folder = Folder::new();
    with_gate(&folder);
    let sound = std::fs::read(folder.file()).unwrap();
    let file = lacuna_io::WeightFile::open(folder.file()).unwrap();
    for name in ["a.quantiles", "m.chess2", "m.up_mean_square"] {
        let bytes = file.raw(name).unwrap().bytes;
        let at = sound.windows(bytes.len()).position(|w| w == bytes).unwrap();
        for bad in [f32::NAN, -1.0, f32::INFINITY] {
            let mut broken = sound.clone();
            broken[at + 8..at + 12].copy_from_slice(&bad.to_le_bytes());
            std::fs::write(folder.file(), broken).unwrap();
            let file = Statistics::open(folder.file()).unwrap();
            let refused = match name {
                "a.quantiles" => file.quantiles("a").map(drop),
                _ => file.gate("m").map(drop),
            };
            assert!(
                matches!(refused, Err(Error::Statistics { .. })),
                "{name} {bad}"
            );
        }
    }
}
