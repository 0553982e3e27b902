//! `cargo xtask release`: checks what must hold before packages are published.
//!
//! Every package must compile with the oldest Rust that it declares, and build from the archive of
//! `cargo package`, in which files outside of `include` are missing and relative paths lead nowhere.

use std::process::Command;

use serde_json::Value;

use crate::{
    error::{Error, Result},
    process,
    workspace::Workspace,
};

/// The package that depends on Burn, which needs a newer Rust than the others.
const YOUNGER: &str = "lacuna-recover";

pub fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    let packages = packages(&workspace)?;
    let unpublished = packages.iter().filter(|package| !package.published);
    let unpublished: Vec<&str> = unpublished
        .flat_map(|package| ["--exclude", &package.name])
        .collect();

    let oldest = packages.iter().find(|package| package.name == "lacuna");
    let oldest = oldest.map(|package| package.rust.as_str());
    let oldest = oldest.ok_or_else(|| Error::new("there is no package lacuna"))?;
    let toolchain = format!("+{oldest}");
    if process::ask(Command::new("cargo").args([&toolchain, "--version"])).is_none() {
        return Err(Error::new(format!(
            "Rust {oldest} is not here: rustup toolchain install {oldest} --profile minimal"
        )));
    }
    // Each compiler has its own target folder, or each would replace the other's products. rustup
    // obeys the toolchain argument only if the environment does not choose one already.
    let mut check = Command::new("cargo");
    check
        .current_dir(&workspace.root)
        .env_remove("RUSTUP_TOOLCHAIN");
    check.env("CARGO_TARGET_DIR", workspace.target.join("oldest"));
    check.args([&toolchain, "check", "--workspace", "--exclude", YOUNGER]);
    process::stream(check.args(&unpublished))?;

    let mut package = workspace.cargo();
    package.args(["package", "--workspace"]);
    process::stream(package.args(&unpublished))?;
    println!(
        "Rust {oldest} compiles every package but {YOUNGER}, and each builds from its archive"
    );
    Ok(())
}

struct Package {
    name: String,
    /// The oldest Rust that it declares to support.
    rust: String,
    published: bool,
}

fn packages(workspace: &Workspace) -> Result<Vec<Package>> {
    let mut command = workspace.cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = process::capture(&mut command)?;
    let metadata: Value = serde_json::from_str(&output.stdout)
        .map_err(|_| Error::new(format!("cargo metadata failed:\n{}", output.stderr)))?;
    let packages = metadata["packages"].as_array();
    let packages = packages.map_or(&[][..], Vec::as_slice).iter();
    Ok(packages
        .map(|package| Package {
            name: package["name"].as_str().unwrap_or_default().into(),
            rust: package["rust_version"].as_str().unwrap_or_default().into(),
            published: package["publish"].is_null(),
        })
        .collect())
}
