//! `cargo xtask test`: runs every suite, after making sure that there is an adapter.

use crate::{
    error::{Error, Result},
    process,
    setup::{self, Setup},
    workspace::Workspace,
};

/// Excludes gradient recovery, which builds Burn, which takes minutes. The full run has its tests, and
/// those of the modules for Burn.
pub const WITHOUT_BURN: [&str; 2] = ["--exclude", "lacuna-recover"];

/// Tests of the full run that need a file, and the variable that names it.
const NAMED: [(&str, &str); 2] = [
    ("LACUNA_ORACLE", "oracle_logits_agree"),
    ("LACUNA_GEMMA", "gemma_agrees_with_llama_cpp"),
];

pub fn run(may_install: bool, full: bool) -> Result<()> {
    let workspace = Workspace::find()?;
    // Builds the tests together with the command line, so that features are resolved once and the
    // dependencies built once. xtask is excluded: it is running, and Windows could not replace it.
    eprintln!("Building the command line and the tests; the first time takes minutes.");
    let targets = ["--lib", "--bins", "--tests", "--examples"];
    let built = [
        &["--release", "--workspace", "--exclude", "xtask"][..],
        &WITHOUT_BURN,
        &targets,
    ]
    .concat();
    let executable = workspace.build(&built, "lacuna")?;
    let lacuna = match setup::adapter(&executable, may_install)? {
        Setup::Ready(lacuna) => lacuna,
        Setup::NoAdapter { advice } => {
            return Err(Error::new(format!("the tests need an adapter.\n{advice}")));
        }
    };

    let cargo_test = |arguments: &[&str]| {
        let mut command = workspace.cargo();
        command.args(["test", "--release"]).args(arguments);
        command.env("WGPU_BACKEND", &lacuna.backend);
        // Makes tests that need an adapter fail rather than be skipped.
        command.env("LACUNA_TEST_ADAPTER", "1");
        process::stream(&mut command)
    };
    if full {
        // Its quick list is one of the engine's tests.
        process::stream(lacuna.command().arg("verify"))?;
        // Leaves out documentation examples marked `ignore`, which are not meant to run.
        let all = [&["--workspace"][..], &WITHOUT_BURN, &targets];
        let mut ignored = vec!["--", "--ignored"];
        for (variable, test) in NAMED {
            if std::env::var_os(variable).is_none() {
                eprintln!("{test} is left out: {variable} names nothing");
                ignored.extend(["--skip", test]);
            }
        }
        cargo_test(&[&all.concat()[..], &ignored].concat())?;
        let recovery = ["-p", "lacuna-recover", "-p", "lacuna-cli"];
        cargo_test(&[&recovery[..], &["--features", "lacuna-cli/recover"]].concat())?;
        // These are outside the workspace, to keep their dependencies out of its lock file.
        for package in ["burn/Cargo.toml", "candle/Cargo.toml"] {
            cargo_test(&["--locked", "--manifest-path", package])?;
        }
    }
    cargo_test(&[&["--workspace"][..], &WITHOUT_BURN].concat())
}
