//! Files of thresholds, and files that are refused.

use lacuna::format::Thresholds;
use lacuna_io::{Error, Origin, Output, RawTensor, TensorDtype, ThresholdFile, WeightFile, save};
use std::{collections::BTreeMap, fs, path::Path};

const MLP: &str = "model.layers.0.mlp";

fn sound() -> ThresholdFile {
    let many = Thresholds::new(vec![0.0, 0.25, f32::INFINITY]).unwrap();
    ThresholdFile {
        origin: Origin {
            method: "chess".into(),
            sparsity: Some(0.5),
            attention: true,
            ..Origin::default()
        },
        modules: BTreeMap::from([
            (MLP.into(), many),
            (
                "model.layers.0.self_attn.q_proj".into(),
                Thresholds::scalar(0.125).unwrap(),
            ),
        ]),
    }
}

/// Writes a file with this header and these tensors.
fn raw(path: &Path, metadata: &[(&str, &str)], tensors: &[(&str, &[usize], &[f32])]) {
    let (mut entries, mut data) = (serde_json::Map::new(), vec![]);
    entries.insert("__metadata__".into(), metadata.iter().copied().collect());
    for (name, shape, values) in tensors {
        let from = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let entry = serde_json::json!({
            "dtype": "F32", "shape": shape, "data_offsets": [from, data.len()]
        });
        entries.insert((*name).into(), entry);
    }
    let mut header = serde_json::to_string(&entries).unwrap();
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    let len = (header.len() as u64).to_le_bytes();
    fs::write(path, [&len[..], header.as_bytes(), &data].concat()).unwrap();
}

#[test]
fn what_was_saved_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    sound().save(&path).unwrap();
    assert_eq!(ThresholdFile::open(&path).unwrap(), sound());
    // Other tools see a container without weights.
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(file.modules().count(), 0);
    assert_eq!(file.metadata()["lacuna.version"], "1");
    assert_eq!(
        file.metadata()["lacuna.thresholds"],
        r#"{"method":"chess","sparsity":0.5,"attention":true}"#
    );
    assert!(sound().save(folder.path()).is_err(), "a folder is there");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_is_no_file_of_thresholds_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    let version = ("lacuna.version", "1");
    let origin = ("lacuna.thresholds", r#"{"method":"cats","new":1}"#);
    let (name, one) = ("p.thresholds", [1.0]);
    let open = |metadata: &[(&str, &str)], tensors: &[(&str, &[usize], &[f32])]| {
        raw(&path, metadata, tensors);
        ThresholdFile::open(&path)
    };
    let read = open(&[version, origin], &[(name, &[1], &one)]).unwrap();
    assert_eq!(read.modules["p"], Thresholds::scalar(1.0).unwrap());

    for metadata in [
        &[][..],
        &[version],
        &[origin],
        &[version, ("lacuna.thresholds", "{}")],
        &[version, ("lacuna.thresholds", "no JSON")],
    ] {
        let refused = open(metadata, &[(name, &[1], &one)]);
        assert!(
            matches!(refused, Err(Error::Malformed { .. })),
            "{metadata:?}"
        );
    }
    let newer = open(&[("lacuna.version", "2"), origin], &[]);
    assert!(matches!(newer, Err(Error::Version { .. })));
    for (name, shape, values) in [
        ("p.threshold", &[1][..], &one[..]),
        (".thresholds", &[1], &one),
        (name, &[], &one),
        (name, &[1, 1], &one),
    ] {
        let refused = open(&[version, origin], &[(name, shape, values)]);
        assert!(
            matches!(refused, Err(Error::Tensor { .. })),
            "{name} {shape:?}"
        );
    }
    for values in [&[][..], &[1.0, f32::NAN], &[-0.5], &[f32::NEG_INFINITY]] {
        let refused = open(&[version, origin], &[(name, &[values.len()], values)]);
        assert!(matches!(refused, Err(Error::Weight { .. })), "{values:?}");
    }
    let half = RawTensor {
        dtype: TensorDtype::F16,
        shape: vec![1],
        bytes: vec![0; 2],
    };
    save(&path, [(name, half)]).unwrap();
    assert!(ThresholdFile::open(&path).is_err());
    assert!(matches!(
        ThresholdFile::open(folder.path().join("nowhere")),
        Err(Error::Read { .. })
    ));
}

#[test]
fn no_sparse_weight_is_called_thresholds() {
    let mut output = Output::new();
    let format = "2:4@f32".parse().unwrap();
    assert!(output.weight("thresholds", format, 4, 4).is_err());
    assert!(output.weight("a.thresholds", format, 4, 4).is_ok());
}

#[test]
fn no_byte_makes_a_reader_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    sound().save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for at in 0..bytes.len() {
        for change in [0x01, 0x20, 0x80] {
            let mut broken = bytes.clone();
            broken[at] ^= change;
            fs::write(&path, broken).unwrap();
            match ThresholdFile::open(&path) {
                // A file that is accepted holds valid thresholds.
                Ok(file) => {
                    let all = file.modules.values().flat_map(Thresholds::values);
                    assert!(all.into_iter().all(|&t| t >= 0.0), "{at} {change}");
                    taken += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
        fs::write(&path, &bytes[..at]).unwrap();
        assert!(ThresholdFile::open(&path).is_err(), "cut at {at}");
    }
    assert!(taken > 0 && refused > 0);
}
