//! Recipes.

use crate::files::assert_names;
use lacuna::format::{Dense, Format, Matrix};
use lacuna_llm::{Error, Recipe, apply};

fn format(text: &str) -> Format {
    text.parse().unwrap()
}

#[test]
fn the_last_match_wins() {
    let text = "# all\n*=1:4\n\nmodel.layers.* = 2:4@f16 # blocks\n *.down_proj=dense\n";
    let recipe = Recipe::parse(text).unwrap();
    assert_eq!(recipe.format_for("lm_head"), Some(format("1:4")));
    assert_eq!(
        recipe.format_for("model.layers.0.x"),
        Some(format("2:4@f16"))
    );
    assert_eq!(recipe.format_for("model.layers.0.mlp.down_proj"), None);
    assert_eq!(
        recipe.to_string(),
        "* = 1:4\nmodel.layers.* = 2:4@f16\n*.down_proj = dense\n"
    );
    let again = Recipe::parse(&recipe.to_string()).unwrap();
    assert_eq!(again.to_string(), recipe.to_string());
    assert_eq!(Recipe::parse("").unwrap().format_for("x"), None);
}

#[test]
fn one_format_is_for_the_blocks() {
    for recipe in [
        Recipe::uniform("2:4x8".parse().unwrap()),
        Recipe::from_arg("2:4x8").unwrap(),
    ] {
        assert_eq!(
            recipe.format_for("model.layers.3.mlp.up_proj"),
            Some(format("2:4x8"))
        );
        assert_eq!(recipe.format_for("model.embed_tokens"), None);
        assert_eq!(recipe.format_for("lm_head"), None);
    }
    let dense = Recipe::from_arg("dense").unwrap();
    assert_eq!(dense.format_for("model.layers.3.mlp.up_proj"), None);
    assert_names(Recipe::from_arg("2:0"), &["2:0"]);
    assert_names(Recipe::from_arg(""), &["format"]);
}

#[test]
fn recipes_come_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recipe");
    let arg = format!("@{}", path.display());
    // In the system's words, as for every other file.
    let missing = std::fs::metadata(&path).unwrap_err().to_string();
    assert_names(Recipe::from_arg(&arg), &["recipe", &missing]);
    assert_names(Recipe::from_arg("@"), &["format is @", "@FILE"]);
    std::fs::write(&path, "lm_head = bf16").unwrap();
    assert_eq!(
        Recipe::from_arg(&arg).unwrap().format_for("lm_head"),
        Some(format("bf16"))
    );
    std::fs::write(&path, [0xff]).unwrap();
    assert_names(Recipe::from_arg(&arg), &["recipe"]);
    assert_names(
        Recipe::from_arg(&format!("@{}", dir.path().display())),
        &["regular"],
    );
}

#[test]
fn lines_that_do_not_parse_are_numbered() {
    for (text, parts) in [
        ("*=f32\nx 2:4", ["line 2", "x 2:4"]),
        ("*=f33", ["line 1", "f33"]),
        ("\n\n[=f32", ["line 3", "[=f32"]),
        ("=f32", ["line 1", "empty"]),
        ("!x = f32", ["line 1", "!"]),
    ] {
        let result = Recipe::parse(text);
        assert!(matches!(result, Err(Error::RecipeSyntax { .. })), "{text}");
        assert_names(result, &parts);
    }
}

#[test]
fn matrices_are_brought_into_formats() {
    let dense: Matrix = Dense::from_f32(1, 4, vec![1.0, -4.0, 3.0, 0.5])
        .unwrap()
        .into();
    let values = |m: &Matrix| m.to_dense().values().to_f32();
    assert_eq!(apply(dense.clone(), None).unwrap(), dense);
    assert_eq!(apply(dense.clone(), Some(format("f32"))).unwrap(), dense);
    let half = apply(dense.clone(), Some(format("2:4"))).unwrap();
    assert_eq!(values(&half), [0.0, -4.0, 3.0, 0.0]);
    assert_eq!(half.format(), format("2:4@f32"));
    assert_eq!(apply(half.clone(), Some(format("2:4"))).unwrap(), half);
    let quarter = apply(half.clone(), Some(format("1:4@bf16"))).unwrap();
    assert_eq!(
        (values(&quarter), quarter.format()),
        (vec![0.0, -4.0, 0.0, 0.0], format("1:4@bf16"))
    );
    let back = apply(half, Some(format("f16"))).unwrap();
    assert_eq!(
        (values(&back), back.format()),
        (vec![0.0, -4.0, 3.0, 0.0], format("f16"))
    );
    let nan: Matrix = Dense::from_f32(1, 4, vec![f32::NAN; 4]).unwrap().into();
    let recipe = Recipe::parse("* = 2:4").unwrap();
    assert_names(recipe.compress("fc", nan), &["fc", "NaN"]);
}
