//! `cargo xtask demo`: from a fresh clone to checked products, timings and a report.

use std::{fs, path::Path};

use crate::{
    checks::Checks,
    date,
    error::{Error, Result},
    lacuna::Lacuna,
    language, quality, report,
    setup::{self, Setup},
    speed,
    table::wrap,
    workspace::Workspace,
};

pub fn run(may_install: bool) -> Result<()> {
    let workspace = Workspace::find()?;
    eprintln!("Building the command line; the first time takes a minute or two.");
    let executable = workspace.build(&["--release", "--package", "lacuna-cli"], "lacuna")?;
    let (lacuna, missing) = match setup::adapter(&executable, may_install)? {
        Setup::Ready(lacuna) => (lacuna, None),
        Setup::NoAdapter { advice } => {
            eprintln!(
                "\n{advice}\nUntil then the reference computes on the processor: slowly, and without timings."
            );
            (
                Lacuna::new(executable, setup::BACKENDS.into()),
                Some(advice),
            )
        }
    };

    let mut checks = Checks::default();
    let assets = workspace.root.join("assets").join("shakespeare");
    eprintln!("\nCompressing a trained model and checking products with it.");
    let folder = workspace.target.join("demo");
    let quality = quality::run(&lacuna, missing.is_none(), &assets, &folder, &mut checks)?;
    print!("{}", quality.weights.to_text());
    print!("{}", quality.products.to_text());

    eprintln!("\nWriting text with the whole model and measuring how well it predicts.");
    let language = language::run(&lacuna, missing.is_none(), &assets, &folder, &mut checks)?;
    println!("\n{}\n", language.title());
    for line in language.sample.lines() {
        println!("{}", format!("    {line}").trim_end());
    }
    print!("{}", language.table.to_text());

    let speed = match &missing {
        None => {
            eprintln!("\nTiming large products; this takes a minute or two.");
            let speed = speed::run(&lacuna, &mut checks)?;
            println!("\nSpeed on {}\n({})", speed.adapter, speed.bandwidth());
            for table in speed.tables() {
                print!("{}", table.to_text());
            }
            println!();
            for note in speed.notes() {
                print!("{}", wrap(&note, 88));
            }
            Ok(speed)
        }
        Some(advice) => {
            let reason =
                format!("No graphics adapter was found, so there is nothing to time. {advice}");
            println!("\n{reason}");
            Err(reason)
        }
    };

    let report = report::Report {
        quality: &quality,
        language: &language,
        speed: speed.as_ref().map_err(String::as_str),
        checks: &checks,
        date: date::now(),
    };
    let path = workspace.target.join("lacuna-demo.html");
    write_report(&path, &report.to_html())?;
    println!("\n{}; report: {}", checks.verdict(), path.display());
    if checks.failures().is_empty() {
        Ok(())
    } else {
        Err(Error::new(checks.verdict()))
    }
}

fn write_report(path: &Path, html: &str) -> Result<()> {
    fs::write(path, html).map_err(Error::at(path))
}
