//! The repository's chores as one program: `cargo xtask demo`, `test` and others needed more rarely.
//!
//! Those that run on an adapter need only a fresh clone and a Rust toolchain: they build the command
//! line, look for a graphics adapter, and install a software one or say what to install. The others say
//! which tools are missing.

mod adapters;
mod axis;
mod checks;
mod date;
mod demo;
mod drivers;
mod error;
mod fuzz;
mod install;
mod lacuna;
mod language;
mod lines;
mod pattern;
mod process;
mod product;
mod quality;
mod record;
mod release;
mod report;
mod roofline;
mod safetensors;
mod setup;
mod speed;
mod suites;
mod sweep;
mod table;
mod tables;
mod timings;
mod workspace;

use std::process::ExitCode;

use error::{Error, Result};

const USAGE: &str = "\
Chores of the Lacuna repository. `demo`, `record`, `sweep` and `test` do all set-up on a fresh
machine; the others say what they miss.

usage: cargo xtask demo [--no-install]
       cargo xtask record [--no-install]
       cargo xtask sweep [--no-install]
       cargo xtask test [--full] [--no-install]
       cargo xtask adapters [--if-reachable]
       cargo xtask tables
       cargo xtask release
       cargo xtask fuzz [--minutes N] [TARGET]

  demo          compress real trained weights, check them, write text with them, time
                them, write a report
  record        times products and a model on this adapter and writes the tables to
                benches/record, with date, driver and commit
  sweep         times products over sizes, batches, zeros and active shares, says where
                one costs more than its neighbours suggest, and draws them
  test          every suite that finishes within 15 minutes on two cores
    --full      the slow suites too
  adapters      `verify --quick` on SwiftShader and, of some formats, on a newer Mesa, under
                the validation layer and its detector of data races: downloads 110 MB of
                Debian packages to target/adapters and installs nothing
    --if-reachable
                warns and succeeds where they cannot be had
  tables        writes the README's tables of measurements anew, from the records they name
  release       builds every package from its archive, and with the oldest Rust it allows
  fuzz          looks for bytes that make a reader fail, 10 minutes a target unless told
                otherwise; needs a nightly compiler and cargo-fuzz, and says how to get them

  --no-install  never install a package: where no graphics adapter is found, `demo`
                runs on the processor and `test` says what to install and fails

Without a Vulkan, Metal or DirectX 12 adapter, and with root or passwordless sudo on
Debian or Ubuntu, they install the package mesa-vulkan-drivers, a software adapter.
WGPU_BACKEND and WGPU_ADAPTER_NAME choose among several adapters.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Usage(message)) => {
            eprintln!("error: {message}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Error::Failed(message)) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|a| a == "-h" || a == "--help") {
        print!("{USAGE}");
        return Ok(());
    }
    let Some((command, flags)) = arguments.split_first() else {
        return Err(Error::Usage("which command?".into()));
    };
    if command == "fuzz" {
        return fuzz::run(&fuzz::Options::parse(flags)?);
    }
    let allowed: &[&str] = match command.as_str() {
        "demo" | "record" | "sweep" => &["--no-install"],
        "test" => &["--no-install", "--full"],
        "adapters" => &["--if-reachable"],
        "tables" | "release" => &[],
        other => return Err(Error::Usage(format!("there is no command {other:?}"))),
    };
    if let Some(flag) = flags.iter().find(|flag| !allowed.contains(&flag.as_str())) {
        return Err(Error::Usage(format!("{command} does not know {flag:?}")));
    }
    let has = |flag: &str| flags.iter().any(|f| f == flag);
    let may_install = !has("--no-install");
    match command.as_str() {
        "demo" => demo::run(may_install),
        "record" => record::run(may_install),
        "sweep" => sweep::run(may_install),
        "adapters" => adapters::run(has("--if-reachable")),
        "tables" => tables::run(),
        "release" => release::run(),
        _ => suites::run(may_install, has("--full")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, run};

    #[test]
    fn unknown_words_are_usage_errors() {
        for line in [
            "",
            "dance",
            "demo --full",
            "test --fast",
            "adapters --full",
            "fuzz --fast",
        ] {
            let words: Vec<String> = line.split_whitespace().map(String::from).collect();
            assert!(matches!(run(&words), Err(Error::Usage(_))), "{line:?}");
        }
    }
}
