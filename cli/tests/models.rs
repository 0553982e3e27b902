//! `eval`, `generate` and `bench-model` on the shipped model, by the CPU reference.

mod common;

use common::{code, json, lacuna, stdout};
use lacuna_io::WeightFile;
use std::{fs, path::Path};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/shakespeare");

/// A piece of the held-out text in a file of its own.
fn text(folder: &Path, bytes: usize) -> String {
    let all = fs::read_to_string(format!("{MODEL}/heldout.txt")).expect("it is shipped");
    let file = folder.join("text.txt");
    fs::write(&file, &all[..bytes]).expect("a writable folder");
    file.to_str().expect("UTF-8").to_owned()
}

#[test]
fn eval_scores_every_token_but_the_first_of_a_window_and_pruning_hurts() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = text(folder.path(), 700);
    let eval = |format| {
        let args = [
            "eval", MODEL, "--text", &text, "--ctx", "256", "--device", "cpu",
        ];
        json(&[&args[..], &["--json", "--format", format]].concat())
    };
    let dense = eval("bf16");
    assert_eq!(dense["scored_tokens"], 700 - 3);
    let bits = dense["bits_per_byte"].as_f64().expect("bytes decode");
    let perplexity = dense["perplexity"].as_f64().expect("a number");
    assert!((perplexity.log2() - bits).abs() < 1e-9, "a token is a byte");
    assert!((1.5..3.5).contains(&bits), "{bits}");
    assert!(eval("2:4")["bits_per_byte"].as_f64() > Some(bits));
    let recipe = folder.path().join("recipe");
    fs::write(
        &recipe,
        "* = 1:8 # all\n*self_attn* = dense\n*embed* = dense\n",
    )
    .expect("writable");
    let mixed = eval(&format!("@{}", recipe.display()));
    assert!(mixed["bits_per_byte"].as_f64() > Some(bits));
}

#[test]
fn several_models_or_formats_make_a_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = text(folder.path(), 300);
    let packed = folder.path().join("packed");
    let packed = packed.to_str().expect("UTF-8");
    stdout(&lacuna(&[
        "compress", MODEL, "-o", packed, "--format", "w4g32",
    ]));
    let eval = |model: &str, more: &[&str]| {
        let args = ["--text", &text, "--ctx", "128", "--device", "cpu"];
        lacuna(&[&["eval", model], &args[..], more].concat())
    };
    let parsed = |model, more: &[&str]| -> serde_json::Value {
        serde_json::from_str(&stdout(&eval(model, more))).expect("JSON")
    };
    let formats = ["--format", "dense,w4g32,w4g16s50", "--json"];
    let table = parsed(MODEL, &formats);
    let rows = table["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 3);
    let bits: Vec<f64> = rows
        .iter()
        .map(|row| row["bits_per_weight"].as_f64().expect("a number"))
        .collect();
    assert!((bits[0] - 16.0).abs() < 1e-9, "{bits:?}");
    // Codes of 4 bits, and 20 bits of scale and zero for 32 columns.
    assert!((bits[1] - (4.0 + 20.0 / 32.0)).abs() < 1e-9, "{bits:?}");
    assert!(bits[2] < bits[1]);
    assert!(rows[2]["perplexity"].as_f64() > rows[0]["perplexity"].as_f64());
    assert!(
        rows[0]["decode_tokens_per_s"].is_null(),
        "not of the reference"
    );

    // A folder of compressed weights gives the same as compressing while loading.
    let one = parsed(packed, &["--json", "--speed", "2"]);
    assert_eq!(one["perplexity"], rows[1]["perplexity"]);
    assert_eq!(one["bits_per_weight"], rows[1]["bits_per_weight"]);
    assert_eq!(one["bytes"], rows[1]["bytes"]);
    assert!(one["decode_tokens_per_s"].as_f64() > Some(0.0));
    let lines = stdout(&eval(MODEL, &[packed]));
    assert!(
        lines.contains("as stored") && lines.contains("n/a"),
        "{lines}"
    );
    let wrong = eval(MODEL, &["--format", "dense,5:4"]);
    assert_eq!(code(&wrong), 2);
}

#[test]
fn tokens_are_taken_as_they_are_and_logits_can_be_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (text, tokens, logits) = (text(folder.path(), 60), file("ids.u32"), file("logits"));
    let ids = fs::read(&text).expect("just written");
    let words: Vec<u8> = ids
        .iter()
        .flat_map(|&b| u32::from(b).to_le_bytes())
        .collect();
    fs::write(&tokens, words).expect("writable");
    let run = |from: &str, file: &str, more: &[&str]| {
        let args = ["eval", MODEL, from, file, "--device", "cpu", "--json"];
        json(&[&args[..], more].concat())["perplexity"].as_f64()
    };
    let dump = ["--dump-logits", &logits, "--positions", "0,59"];
    assert_eq!(run("--text", &text, &[]), run("--tokens", &tokens, &dump));
    let logits = WeightFile::open(&logits).and_then(|f| f.f32_tensor("logits"));
    assert_eq!(logits.expect("it was written").shape, [2, 256]);
    let outside = ["--dump-logits", "x", "--positions", "60"];
    let args = ["eval", MODEL, "--tokens", &tokens, "--device", "cpu"];
    assert_eq!(code(&lacuna(&[&args[..], &outside].concat())), 2);
}

#[test]
fn generation_is_reproducible_and_ends_where_it_must() {
    let run = |more: &[&str]| {
        let args = ["generate", MODEL, "--device", "cpu", "--prompt", "ROMEO:\n"];
        lacuna(&[&args[..], more].concat())
    };
    let sampled = [
        "--max-tokens",
        "40",
        "--temperature",
        "0.8",
        "--top-k",
        "40",
    ];
    let seeded = |seed| stdout(&run(&[&sampled[..], &["--seed", seed]].concat()));
    let text = seeded("1");
    assert!(text.starts_with("ROMEO:\n"));
    assert_eq!(text, seeded("1"));
    assert_ne!(text, seeded("2"));
    // A context of 10 holds the 7 tokens of the prompt and 3 more; the token after them is printed too.
    let short = stdout(&run(&["--ctx", "10"]));
    assert_eq!(short.len(), 7 + 4 + 1, "{short:?}");
    // So is one after the last position of the model, and no number of tokens is too large.
    let whole = stdout(&run(&["--max-tokens", "18446744073709551615"]));
    assert_eq!(whole.len(), 256 + 1 + 1, "{whole:?}");
}

#[test]
fn a_recipe_line_that_matches_nothing_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = folder.path().join("recipe");
    let lines = "model.layer.* = 2:4\n*.down_proj = 2:4\nlm_head = f16\n";
    fs::write(&recipe, lines).expect("writable");
    let recipe = format!("@{}", recipe.display());
    let args = ["--prompt", "a", "--max-tokens", "1", "--device", "cpu"];
    let output = lacuna(&[&["generate", MODEL, "--format", &recipe][..], &args].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    let idle = |glob: &str| said.contains(&format!("{glob} in the recipe matches no weight"));
    assert!(idle("model.layer.*") && !idle("*.down_proj"), "{said}");
}

#[test]
fn what_makes_no_sense_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().to_str().expect("UTF-8");
    let generate = |more: &[&str]| code(&lacuna(&[&["generate", MODEL], more].concat()));
    assert_eq!(code(&lacuna(&["generate", missing, "--prompt", "a"])), 4);
    assert_eq!(generate(&["--prompt", ""]), 2);
    assert_eq!(generate(&["--prompt", "a", "--temperature", "-1"]), 2);
    for format in ["5:4", "w9g64", "w4g100", "w4g16s100", "w4g16s50-real"] {
        assert_eq!(
            generate(&["--prompt", "a", "--format", format]),
            2,
            "{format}"
        );
    }
    let of_nothing = lacuna(&["generate", "nothing", "--prompt", "a"]);
    let said = String::from_utf8_lossy(&of_nothing.stderr);
    assert!(
        code(&of_nothing) == 4 && said.starts_with("error: nothing: "),
        "{said}"
    );
    // Who names an adapter does not mean the reference.
    assert_eq!(
        generate(&["--prompt", "a", "--adapter", "no such adapter"]),
        3
    );
    assert_eq!(generate(&["--prompt", "abc", "--ctx", "2"]), 2);
    for ctx in ["0", "257"] {
        let args = ["--prompt", "a", "--device", "cpu", "--ctx", ctx];
        assert_eq!(generate(&args), 2, "{ctx}");
    }
    assert_eq!(code(&lacuna(&["eval", MODEL])), 2);
    assert_eq!(code(&lacuna(&["bench-model"])), 2);
    #[cfg(not(feature = "recover"))]
    {
        let unbuilt = lacuna(&["recover", "a", "b", "--text", "c"]);
        let said = String::from_utf8_lossy(&unbuilt.stderr);
        assert!(
            code(&unbuilt) == 2 && said.contains("--features recover"),
            "{said}"
        );
    }
}
