//! `tune`, and how other commands use its table. Needs an adapter.

mod common;

use common::{Folder, code, json, lacuna, stdout};
use lacuna::Tuning;
use std::{fs, path::Path};

const TUNE: [&str; 9] = [
    "tune", "--op", "masked", "--shape", "96x64", "--batch", "1", "--rounds", "3",
];

#[test]
fn formats_that_cannot_skip_end_nothing() {
    let folder = Folder::new();
    let table = &folder.path("t.txt");
    let args = ["tune", "--shape", "64x32", "--batch", "1", "--rounds", "1"];
    let printed = stdout(&lacuna(&[&args[..], &["-o", table]].concat()));
    let line = |start| printed.lines().find(|line| line.starts_with(start));
    let columns = line("2:4x8@f16 64x32 in bands batch 1, active columns");
    assert!(
        columns.is_some_and(|line| line.trim_end().ends_with("none")),
        "{printed}"
    );
    assert!(fs::read_to_string(table).unwrap().contains("in bands"));
}

#[test]
fn a_table_is_written_read_and_refused_elsewhere() {
    let folder = Folder::new();
    let table = &folder.path("tables/here.txt");
    let path = Path::new(table);
    let tune = |format| {
        stdout(&lacuna(
            &[&TUNE[..], &["--format", format, "-o", table]].concat(),
        ))
    };
    let product = "f32 96x64 batch 1, active rows";
    let printed = tune("f32");
    assert!(printed.contains(product), "{printed}");
    let text = fs::read_to_string(path).unwrap();
    let tuning = Tuning::parse(&text).unwrap();
    assert!(text.contains(&format!("{product} < ")), "{text}");

    // Another run extends the table.
    tune("f16");
    let now = Tuning::parse(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(now.len() > tuning.len());

    // Products with another precision of activations have lines of their own.
    let asked = [
        "--format",
        "w4g32",
        "--activations",
        "f32,i8,i24",
        "-o",
        table,
    ];
    let linear = [&["tune", "--op", "linear"], &TUNE[3..], &asked].concat();
    let printed = stdout(&lacuna(&linear));
    for activations in ["", ", x in 8 bits", ", x in 24 bits"] {
        let product = format!("w4g32 96x64 batch 1{activations} ");
        assert!(printed.contains(&product), "{printed}");
    }

    let info = json(&["info", "--untuned", "--json"]);
    let product = &info["selected"]["products"][0];
    let others = product["others"].as_array().unwrap();
    let (problem, other) = (&product["problem"], others.last().unwrap());
    let line = format!(
        "{} = {}",
        problem.as_str().unwrap(),
        other.as_str().unwrap()
    );
    let head = Tuning::new(&now.adapter, &now.driver).to_string();
    fs::write(path, head + &line).unwrap();
    let info = json(&["info", "--json", "--tuning", table]);
    let product = &info["selected"]["products"][0];
    assert_eq!(
        (&product["default"], &product["tuned"]),
        (other, &true.into())
    );

    fs::write(path, text.replace(&now.adapter, "another adapter")).unwrap();
    assert_eq!(code(&lacuna(&["info", "--tuning", table])), 2);
    fs::write(path, text.lines().next().unwrap()).unwrap();
    let output = lacuna(&["info", "--tuning", table]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        code(&output) == 4 && said.contains("does not name the adapter"),
        "{said}"
    );
    fs::write(path, "no table").unwrap();
    assert_eq!(code(&lacuna(&["info", "--tuning", table])), 4);
    assert_eq!(code(&lacuna(&["info", "--tuning", "/nowhere/at/all"])), 4);
}

#[test]
fn candidates_of_a_product_that_skips_do_not_share_a_result() {
    let report = json(&[
        "bench",
        "--op",
        "masked",
        "--shape",
        "96x64",
        "--batch",
        "1",
        "--rounds",
        "3",
        "--format",
        "f32",
        "--active",
        "50",
        "--all-candidates",
        "--json",
    ]);
    let rows = report["rows"].as_array().unwrap();
    assert!(rows.len() > 4, "{report:#}");
    for row in rows {
        assert!(row["reason"].is_null(), "{row:#}");
        assert!(row["median_us"].is_number(), "{row:#}");
    }
}
