use super::*;
use crate::{Accumulator, Error, Inputs};
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

    /// A sound file: `a` and `b` share an input, `c` has its own.
    fn written(&self, hessian: bool) -> PathBuf {
        let plan = [shared(&["a", "b"]), shared(&["c"])];
        let mut writer = StatisticsWriter::create(self.file(), 9, hessian, &plan).unwrap();
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
    let create =
        |samples, plan: &[Shared]| StatisticsWriter::create(folder.file(), samples, true, plan);
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

/// A file with these text entries and F32 tensors of these lengths, filled with ones.
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

/// Text entries, tensors with their lengths, and what the error says.
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
