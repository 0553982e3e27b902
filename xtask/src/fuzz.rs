//! `cargo xtask fuzz`: searches for bytes that make a target fail, for a given time.
//!
//! cargo-fuzz builds the targets with the coverage instrumentation of libFuzzer, which needs a nightly
//! compiler. Inputs that a run finds stay in the target folder; the committed corpus is only read.

use std::{fs, process::Command};

use crate::{
    error::{Error, Result},
    process,
    workspace::Workspace,
};

/// Largest input: small files reach all code of the readers, and larger ones only take longer.
const MOST_BYTES: usize = 16 << 10;

/// How long to fuzz, and which target; without a name, each in turn.
pub struct Options {
    pub minutes: u64,
    pub target: Option<String>,
}

impl Options {
    /// Parses the arguments after `fuzz`.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            minutes: 10,
            target: None,
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            if word == "--minutes" {
                let given = words.next().and_then(|n| n.parse().ok());
                options.minutes =
                    given
                        .filter(|&n| (1..=100_000).contains(&n))
                        .ok_or_else(|| {
                            Error::Usage("--minutes needs a whole number from 1 to 100000".into())
                        })?;
            } else if word.starts_with('-') || options.target.is_some() {
                return Err(Error::Usage(format!("fuzz does not know {word:?}")));
            } else {
                options.target = Some(word.clone());
            }
        }
        Ok(options)
    }
}

pub fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    let corpus = workspace.root.join("fuzz").join("corpus");
    let mut targets = vec![];
    for entry in fs::read_dir(&corpus).map_err(Error::at(&corpus))? {
        let entry = entry.map_err(Error::at(&corpus))?;
        targets.push(entry.file_name().to_string_lossy().into_owned());
    }
    targets.sort();
    if let Some(wanted) = &options.target {
        if !targets.contains(wanted) {
            let all = targets.join(", ");
            return Err(Error::Usage(format!(
                "no target {wanted:?}; they are {all}"
            )));
        }
        targets.retain(|target| target == wanted);
    }
    check_tools()?;

    let build = workspace.target.join("fuzz");
    for target in targets {
        // libFuzzer writes new inputs to the first of the folders that it reads.
        let learnt = build.join("corpus").join(&target);
        let found = build.join("found").join(&target);
        for folder in [&learnt, &found] {
            fs::create_dir_all(folder).map_err(Error::at(folder))?;
        }
        eprintln!("\n{target}, {} minutes", options.minutes);
        let mut command = nightly();
        command.current_dir(&workspace.root);
        command.args(["fuzz", "run", "--features", "libfuzzer", "--target-dir"]);
        command.arg(&build).arg(&target);
        command.arg(&learnt).arg(corpus.join(&target)).arg("--");
        command.args([
            format!("-max_total_time={}", 60 * options.minutes),
            format!("-max_len={MOST_BYTES}"),
            format!("-artifact_prefix={}/", found.display()),
            "-timeout=10".into(),
            "-rss_limit_mb=2048".into(),
            "-print_final_stats=1".into(),
        ]);
        process::stream(&mut command).map_err(|error| {
            Error::new(format!(
                "{error}\nWhat failed is in {}; once fixed it belongs into {}.",
                found.display(),
                corpus.join(&target).display()
            ))
        })?;
    }
    Ok(())
}

/// A nightly cargo, whatever toolchain runs this program.
fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]);
    command
}

/// Fails if a tool is missing, with a message that says how to get it.
fn check_tools() -> Result<()> {
    if process::ask(Command::new("rustup").arg("--version")).is_none() {
        return Err(Error::new(
            "fuzzing needs a nightly compiler beside the stable one, and rustup to choose it:\n\n    \
             see https://rustup.rs\n",
        ));
    }
    if process::ask(nightly().arg("--version")).is_none() {
        return Err(Error::new(
            "fuzzing needs a nightly compiler:\n\n    \
             rustup toolchain install nightly --profile minimal\n",
        ));
    }
    if process::ask(nightly().args(["fuzz", "--version"])).is_none() {
        return Err(Error::new(
            "fuzzing needs cargo-fuzz, and a C++ compiler for libFuzzer:\n\n    \
             cargo install cargo-fuzz\n",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn parse(line: &str) -> Option<(u64, Option<String>)> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        let options = Options::parse(&words).ok()?;
        Some((options.minutes, options.target))
    }

    #[test]
    fn minutes_and_a_target_in_any_order() {
        let gguf = || Some("gguf".to_owned());
        assert_eq!(parse(""), Some((10, None)));
        assert_eq!(parse("gguf"), Some((10, gguf())));
        assert_eq!(parse("--minutes 3 gguf"), Some((3, gguf())));
        assert_eq!(parse("gguf --minutes 3"), Some((3, gguf())));
        for line in ["--minutes", "--minutes 0", "--minutes x", "--fast", "a b"] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }
}
