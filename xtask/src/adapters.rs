//! `cargo xtask adapters`: runs every kernel on other drivers and under tools that check memory.
//!
//! SwiftShader has subgroups of four, another compiler and bindings of exactly their size. Debian
//! testing has a Mesa with cooperative matrices and a validation layer for current SPIR-V. The layer
//! also finds data races in workgroup memory; a kernel without its barriers tests that it does.

use std::{collections::BTreeMap, process::Command};

use crate::{
    drivers::{Driver, Drivers},
    error::{Error, Result},
    process,
    suites::WITHOUT_BURN,
    workspace::Workspace,
};

/// An expected finding: naga gives every array a stride, even one that is in no buffer and must have
/// none. No WGSL avoids it: <https://github.com/gfx-rs/wgpu/issues/7696>.
const OF_NAGA: &str = "VUID-StandaloneSpirv-None-10684";

/// Formats that meet every kernel. What the layer judges, shaders and calls, other formats hardly change, and Mesa takes
/// a second or more to compile a shader; what they compute is checked on the other adapters.
const OF_EVERY_KERNEL: &str =
    "f32,f16,2:4,2:4x8@f16,4:8x32,w4g128,1:8x16+w3g16-sym,w3g40s50-ragged,w4g64s50";

const RACE: &str = "SharedMemoryDataRace";

pub fn run(if_reachable: bool) -> Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(Error::new(
            "the drivers are Debian's for Linux on x86-64: `cargo xtask test` is what runs here",
        ));
    }
    let workspace = Workspace::find()?;
    let drivers = match Drivers::get(&workspace.target.join("adapters")) {
        Ok(drivers) => drivers,
        Err(error) if if_reachable => {
            eprintln!("\nwarning: NOT CHECKED on other drivers, they cannot be had: {error}");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let built = ["--release", "--workspace", "--exclude", "xtask"];
    let targets = ["--lib", "--bins", "--tests", "--examples"];
    let built = [&built[..], &WITHOUT_BURN, &targets].concat();
    let lacuna = workspace.build(&built, "lacuna")?;
    let races = workspace.build_test(&built, "races")?;
    let matrices = workspace.build_test(&built, "matrices")?;

    let verify = |driver: Driver, options: &[&str]| {
        let mut command = drivers.command(driver, &lacuna);
        command.args(options).args(["verify", "--quick"]);
        command
    };
    watched(&mut verify(Driver::SwiftShader, &[]), &[])?;
    let mut validated = verify(Driver::Mesa, &["--cooperative"]);
    validated.args(["--format", OF_EVERY_KERNEL]);
    watched(validated.env("WGPU_VALIDATION", "1"), &[OF_NAGA])?;

    let mut odd = drivers.command(Driver::Mesa, &matrices);
    watched(odd.env("LACUNA_TEST_MATRICES", "1"), &[])?;

    let settings = workspace.target.join("adapters/vk_layer_settings.txt");
    std::fs::write(
        &settings,
        "khronos_validation.gpuav_enable = true\n\
         khronos_validation.gpuav_shared_memory_data_race = true\n\
         khronos_validation.validate_core = false\n",
    )
    .map_err(Error::at(&settings))?;
    let detect = |command: &mut Command| {
        command.env("WGPU_VALIDATION", "1");
        command.env("VK_LAYER_SETTINGS_PATH", &settings);
        command.env("LACUNA_TEST_ADAPTER", "1");
    };
    let test = |name: &str| {
        let mut command = drivers.command(Driver::Mesa, &races);
        command.args(["--ignored", "--exact", name]);
        detect(&mut command);
        command
    };
    // First tests the detector itself: if it misses a known race, a clean run proves nothing.
    let found = findings(&mut test("without_barriers"))?;
    if !found.keys().any(|name| name.starts_with(RACE)) {
        return Err(Error::new(format!(
            "a kernel without barriers passes for free of races: {found:?}"
        )));
    }
    watched(&mut test("with_barriers"), &[])?;
    // Elsewhere there is nothing to detect, and instrumented shaders take minutes to compile.
    let mut detected = verify(Driver::Mesa, &["--cooperative"]);
    detected.args(["--sharing", "--format", OF_EVERY_KERNEL]);
    detect(&mut detected);
    watched(&mut detected, &[])?;
    eprintln!("\nEvery kernel is right on SwiftShader and on Mesa of Debian testing; neither its");
    eprintln!("validation layer nor its detector of races has more to say than is known.");
    Ok(())
}

/// Runs a command that must succeed and log no other errors than `known`.
fn watched(command: &mut Command, known: &[&str]) -> Result<()> {
    let mut found = findings(command)?;
    found.retain(|name, _| !known.contains(&name.as_str()));
    match found.first_key_value() {
        None => Ok(()),
        Some((name, text)) => Err(Error::new(format!(
            "the validation layer says {name}, and {} more:\n{text}",
            found.len() - 1
        ))),
    }
}

/// The errors that the validation layer reports while a command, which must succeed, runs: the first
/// message by name.
fn findings(command: &mut Command) -> Result<BTreeMap<String, String>> {
    eprintln!("\n$ {}", process::line(command));
    command.env("RUST_LOG", "wgpu_hal::vulkan=warn");
    let output = process::capture(command)?;
    let log = output.stdout + &output.stderr;
    if output.code != Some(0) {
        return Err(Error::new(format!("it failed:\n{log}")));
    }
    let adapter = log.lines().find(|line| line.contains("vulkan, "));
    let last = log.lines().rev().find(|line| line.contains("checks"));
    for line in adapter.into_iter().chain(last) {
        eprintln!("{line}");
    }
    Ok(errors(&log))
}

fn errors(log: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for report in log.split("Validation Error: [ ").skip(1) {
        let name = report.split(' ').next().unwrap_or_default();
        let text = report.lines().take(8).collect::<Vec<_>>().join("\n");
        found.entry(name.to_owned()).or_insert(text);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::errors;

    #[test]
    fn a_log_is_read_by_the_names_of_its_errors() {
        let log = "Validation Warning: [ W ] | MessageID = 1\n\
                   Validation Error: [ VUID-a-1 ] | MessageID = 2\nfirst\n\
                   Validation Error: [ VUID-a-1 ] | MessageID = 2\nsecond\n\
                   Validation Error: [ Race-b ] | MessageID = 3\n";
        let found = errors(log);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["Race-b", "VUID-a-1"]);
        assert!(found["VUID-a-1"].contains("first"));
        assert!(errors("all is well\n").is_empty());
    }
}
