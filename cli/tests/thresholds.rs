//! `thresholds`, and models that run with them. Only tests that say so need an adapter.

mod common;

use common::{Folder, adapter, code, json, lacuna, stdout};
use lacuna::format::Thresholds;
use lacuna_io::{Origin, RawTensor, ThresholdFile, WeightFile, save};
use std::{collections::BTreeMap, fs, path::Path, process::Output};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/shakespeare");
const TEXT: &str = "What's in a name? That which we call a rose by any other name would smell as \
                    sweet; so Romeo would, were he not Romeo call'd, retain that dear perfection \
                    which he owes without that title.";

/// A text and the statistics of calibrating on it.
struct Calibrated {
    folder: Folder,
    text: String,
    stats: String,
}

impl Calibrated {
    fn new(more: &[&str]) -> Self {
        let folder = Folder::new();
        let (text, stats) = (folder.path("text.txt"), folder.path("stats"));
        fs::write(&text, TEXT).expect("writable");
        let args = [
            "calibrate",
            MODEL,
            "--text",
            &text,
            "-o",
            &stats,
            "--no-hessian",
        ];
        let place = ["--context", "64", "--device", "cpu"];
        stdout(&lacuna(&[&args[..], &place, more].concat()));
        Self {
            folder,
            text,
            stats,
        }
    }

    fn thresholds(&self, more: &[&str]) -> Output {
        let out = self.folder.path("t");
        lacuna(&[&["thresholds", &self.stats, "-o", &out], more].concat())
    }

    fn eval(&self, device: &str) -> serde_json::Value {
        let t = self.folder.path("t");
        json(&[
            "eval",
            MODEL,
            "--text",
            &self.text,
            "--ctx",
            "64",
            "--json",
            "--device",
            device,
            "--thresholds",
            &t,
        ])
    }
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_sparsity_asked_for_is_met_where_it_was_calibrated() {
    let calibrated = Calibrated::new(&[]);
    let dense = json(&[
        "eval",
        MODEL,
        "--text",
        &calibrated.text,
        "--ctx",
        "64",
        "--json",
        "--device",
        "cpu",
    ]);
    assert_eq!(dense["weights_needed"], 1.0);
    assert_eq!(dense["gates"].as_array().unwrap().len(), 0);
    for (method, gates, needed) in [
        (&["cats"][..], 4, 0.75),
        (&["chess"], 4, 0.75),
        (&["chess2"], 4, 0.75),
        (&["chess-down", "--attention"], 12, 0.667),
        (&["teal"], 28, 0.5),
    ] {
        let args = [&["--sparsity", "0.5", "--method"], method].concat();
        stdout(&calibrated.thresholds(&args));
        let report = calibrated.eval("cpu");
        let met = report["gates"].as_array().unwrap();
        assert_eq!(met.len(), gates);
        for gate in met {
            // Not exact: the last token is not run, and later layers see the output of sparse ones.
            let sparsity = gate["sparsity"].as_f64().unwrap();
            assert!((sparsity - 0.5).abs() < 0.06, "{method:?}: {gate}");
        }
        let got = report["weights_needed"].as_f64().unwrap();
        assert!((got - needed).abs() < 0.03, "{method:?}: {got}");
        assert_ne!(report["perplexity"], dense["perplexity"]);
        if adapter() {
            let device = calibrated.eval("gpu");
            let [cpu, gpu] = [&report, &device].map(|r| r["perplexity"].as_f64().unwrap());
            assert!((cpu / gpu - 1.0).abs() < 2e-3, "{method:?}: {cpu} {gpu}");
        }
    }
    // The report as text says the same.
    let t = calibrated.folder.path("t");
    let args = [
        "eval",
        MODEL,
        "--text",
        &calibrated.text,
        "--ctx",
        "64",
        "--device",
        "cpu",
    ];
    let text = stdout(&lacuna(&[&args[..], &["--thresholds", &t]].concat()));
    assert!(
        text.contains("sparsity met") && text.contains("weights needed"),
        "{text}"
    );
    // And so does a table of several.
    let share = text.split("weights needed ").nth(1).unwrap();
    let share = share.split(" of").next().unwrap();
    let formats = ["--thresholds", &t, "--format", "dense,w8g64"];
    let table = stdout(&lacuna(&[&args[..], &formats].concat()));
    assert!(
        table.contains("weights needed") && table.contains(share),
        "{share}: {table}"
    );
    let args = [
        "generate",
        MODEL,
        "--prompt",
        "What",
        "--max-tokens",
        "3",
        "--device",
        "cpu",
    ];
    stdout(&lacuna(&[&args[..], &["--thresholds", &t]].concat()));
}

#[test]
fn one_knob_raises_the_perplexity_by_what_is_asked_for() {
    let calibrated = Calibrated::new(&[]);
    let output = calibrated.thresholds(&[
        "--method",
        "chess",
        "--ppl-increase",
        "5%",
        "--model",
        MODEL,
        "--text",
        &calibrated.text,
        "--heldout",
        &calibrated.text,
        "--ctx",
        "64",
        "--device",
        "cpu",
        "--json",
    ]);
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let increase = report["increase"].as_f64().unwrap();
    assert!((increase - 0.05).abs() <= 0.005, "{increase}");
    assert_eq!(report["heldout"], report["perplexity"]);
    let [dense, sparse] = [0, 1].map(|i| report["perplexity"][i].as_f64().unwrap());
    assert!((sparse / dense - 1.0 - increase).abs() < 1e-9);
    let again = calibrated.eval("cpu")["perplexity"].as_f64().unwrap();
    assert!((again / sparse - 1.0).abs() < 1e-9, "{again} {sparse}");
    let file = ThresholdFile::open(calibrated.folder.path("t")).unwrap();
    assert_eq!(file.origin.cett, report["cett"].as_f64());
}

#[test]
fn greedy_shares_add_up_to_the_sparsity() {
    let calibrated = Calibrated::new(&[]);
    let output = calibrated.thresholds(&[
        "--method",
        "teal",
        "--allocate",
        "greedy",
        "--sparsity",
        "0.3",
        "--model",
        MODEL,
        "--text",
        &calibrated.text,
        "--ctx",
        "32",
        "--tokens",
        "32",
        "--device",
        "cpu",
        "--json",
    ]);
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let size = |name: &str| match name.rsplit('.').next().unwrap() {
        "q_proj" | "o_proj" => 256.0 * 256.0,
        "k_proj" | "v_proj" => 128.0 * 256.0,
        _ => 768.0 * 256.0,
    };
    let (mut sum, mut all, mut differ) = (0.0, 0.0, false);
    for gate in report["gates"].as_array().unwrap() {
        let size = size(gate["module"].as_str().unwrap());
        let share = gate["sparsity"].as_f64().unwrap();
        sum += size * share;
        all += size;
        differ |= (share - 0.3).abs() > 0.05;
    }
    assert!((sum / all - 0.3).abs() < 1e-6, "{sum} of {all}");
    assert!(differ, "{report}");
}

#[test]
fn activations_are_written_down_as_they_were_seen() {
    let folder = Folder::new();
    let dump = folder.path("dump");
    let calibrated = Calibrated::new(&["--dump", &dump]);
    let samples = TEXT.len();
    for layer in 0..4 {
        let file = WeightFile::open(format!("{dump}/layer-{layer:05}.safetensors")).unwrap();
        assert_eq!(file.tensors().count(), 6);
        let tensor = |name: &str| {
            let tensor = file
                .f32_tensor(&format!("model.layers.{layer}.{name}"))
                .unwrap();
            assert_eq!(tensor.shape[0], samples);
            tensor.values
        };
        let [gate, up] = ["mlp.gate", "mlp.up"].map(tensor);
        let product = tensor("mlp.down_proj.input");
        let pairs = gate.iter().zip(&up).zip(&product);
        for ((g, u), p) in pairs {
            assert!((g * u - p).abs() <= 1e-5 * p.abs().max(1e-3), "{g} {u} {p}");
        }
        // A quantile by hand.
        let mut magnitudes: Vec<f32> = gate.iter().map(|g| g.abs()).collect();
        magnitudes.sort_by(f32::total_cmp);
        let expected = magnitudes[(magnitudes.len() * 7).div_ceil(10) - 1];
        stdout(&calibrated.thresholds(&["--method", "cats", "--sparsity", "0.7"]));
        let t = ThresholdFile::open(calibrated.folder.path("t")).unwrap();
        assert_eq!(
            t.modules[&format!("model.layers.{layer}.mlp")].values(),
            [expected]
        );
    }
}

#[test]
fn what_makes_no_sense_is_said() {
    let without = Calibrated::new(&["--no-thresholds"]);
    let refused = without.thresholds(&["--method", "chess", "--sparsity", "0.5"]);
    assert_eq!(code(&refused), 2);
    assert!(
        error(&refused).contains("--no-thresholds"),
        "{}",
        error(&refused)
    );

    let calibrated = Calibrated::new(&[]);
    for more in [
        &["--method", "chess"][..],
        &["--method", "chess", "--sparsity", "1.5"],
        &["--method", "chess", "--sparsity", "NaN"],
        &["--method", "chess", "--sparsity", "-0.1"],
        &["--method", "magic", "--sparsity", "0.5"],
        &[
            "--method",
            "chess",
            "--sparsity",
            "0.5",
            "--ppl-increase",
            "1%",
        ],
        &[
            "--method",
            "chess",
            "--sparsity",
            "0.5",
            "--allocate",
            "greedy",
        ],
        &[
            "--method",
            "teal",
            "--sparsity",
            "0.5",
            "--allocate",
            "greedy",
        ],
        &["--method", "chess", "--ppl-increase", "1%"],
        &[
            "--method",
            "chess",
            "--ppl-increase",
            "0",
            "--model",
            MODEL,
            "--text",
            "x",
        ],
    ] {
        assert_eq!(code(&calibrated.thresholds(more)), 2, "{more:?}");
    }
    let none = calibrated.folder.path("nowhere");
    for more in [
        ["--model", MODEL, "--text", &none],
        ["--model", &none, "--text", &none],
    ] {
        let args = [&["--method", "chess", "--ppl-increase", "1%"], &more[..]].concat();
        assert_eq!(code(&calibrated.thresholds(&args)), 4, "{more:?}");
    }
    let empty = calibrated.folder.path("empty");
    fs::write(&empty, "").unwrap();
    let text = [
        "--method",
        "chess",
        "--ppl-increase",
        "1%",
        "--model",
        MODEL,
    ];
    let refused = calibrated.thresholds(&[&text[..], &["--text", &empty]].concat());
    let said = error(&refused);
    assert!(
        code(&refused) == 4 && said.contains(&empty) && said.contains("at least 2"),
        "{said}"
    );
    let t = calibrated.folder.path("t");
    assert!(!Path::new(&t).exists());
    for stats in [&none, &format!("{MODEL}/model.safetensors")] {
        let args = [
            "thresholds",
            stats,
            "--method",
            "cats",
            "--sparsity",
            "0.5",
            "-o",
            &t,
        ];
        assert_eq!(code(&lacuna(&args)), 4);
    }
    fs::create_dir(&t).unwrap();
    let refused = calibrated.thresholds(&["--method", "cats", "--sparsity", "0.5"]);
    assert_eq!(code(&refused), 2, "a folder is there");
}

#[test]
fn files_that_hold_no_thresholds_of_the_model_are_refused() {
    let folder = Folder::new();
    let (text, t) = (folder.path("text.txt"), folder.path("t"));
    fs::write(&text, TEXT).unwrap();
    let run = || {
        let args = [
            "eval", MODEL, "--text", &text, "--ctx", "64", "--device", "cpu",
        ];
        let output = lacuna(&[&args[..], &["--thresholds", &t]].concat());
        assert_eq!(code(&output), 4, "{}", error(&output));
        error(&output)
    };
    run();
    fs::write(&t, "no safetensors").unwrap();
    run();
    save(&t, [("a.thresholds", RawTensor::from_f32(&[1], &[1.0]))]).unwrap();
    assert!(run().contains("lacuna.thresholds"));
    let of = |module: &str, len: usize| {
        let thresholds = Thresholds::new(vec![0.5; len]).unwrap();
        let file = ThresholdFile {
            origin: Origin::default(),
            modules: BTreeMap::from([(module.into(), thresholds)]),
        };
        file.save(&t).unwrap();
    };
    of("model.layers.0.mlp", 767);
    let message = run();
    assert!(
        message.contains("767") && message.contains("768"),
        "{message}"
    );
    of("model.layers.4.mlp", 768);
    assert!(run().contains("model.layers.4.mlp"));
}
