//! `cargo xtask release`: what must hold before packages are published.
//!
//! Their oldest Rust compiles them, and each builds from what `cargo package` puts into its
//! archive, where files outside of `include` are missing and paths lead nowhere.

use std::process::Command;

use serde_json::Value;

use crate::{
    error::{Error, Result},
    process,
    workspace::Workspace,
};

/// Burn asks for a younger Rust than the rest.
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
    // Another compiler's products lie apart, or each would drive out the other's. rustup chooses
    // the compiler by the argument only if none is chosen yet.
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
    /// The least Rust that it declares.
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
