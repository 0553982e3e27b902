//! Finds an adapter to run on, or installs a software one.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    error::{Error, Result},
    install,
    lacuna::Lacuna,
    process,
    workspace::Workspace,
};

/// The backends that Lacuna is made for. OpenGL, which many machines without these drivers still
/// offer, is left out, as it has fewer features.
pub const BACKENDS: &str = "vulkan,metal,dx12";

/// The exit status with which `lacuna` says that there is no adapter.
const NO_ADAPTER: i32 = 3;

pub enum Setup {
    /// `lacuna`, set to use the adapter that was found.
    Ready(Lacuna),
    /// There is no adapter and no way to install one; the text says what a person can do.
    NoAdapter { advice: String },
}

/// Builds `lacuna` and finds an adapter for it; fails without one.
pub fn lacuna(workspace: &Workspace, may_install: bool) -> Result<Lacuna> {
    let executable = workspace.build(&["--release", "--package", "lacuna-cli"], "lacuna")?;
    match adapter(&executable, may_install)? {
        Setup::Ready(lacuna) => Ok(lacuna),
        Setup::NoAdapter { advice } => Err(Error::new(advice)),
    }
}

/// Finds an adapter; installs a software one if that is needed and possible.
pub fn adapter(executable: &Path, may_install: bool) -> Result<Setup> {
    if let Some(lacuna) = find(executable)? {
        return Ok(Setup::Ready(lacuna));
    }
    // The software adapter is a Vulkan driver, which helps only if Vulkan may be used.
    if let Some(wanted) = wanted().filter(|wanted| !wanted.to_lowercase().contains('v')) {
        let advice = format!("WGPU_BACKEND={wanted} finds no adapter; unset it to look for all.");
        return Ok(Setup::NoAdapter { advice });
    }
    eprintln!("\nNo Vulkan, Metal or DirectX 12 adapter was found.");
    match install::software_adapter(may_install) {
        install::Outcome::Installed => {}
        install::Outcome::Advice(advice) => return Ok(Setup::NoAdapter { advice }),
    }
    match find(executable)? {
        Some(lacuna) => Ok(Setup::Ready(lacuna)),
        None => Ok(Setup::NoAdapter {
            advice: "A software Vulkan driver is installed, yet it offers no adapter.\n\
                     `vulkaninfo --summary` (package vulkan-tools) may say why; so does \
                     `RUST_LOG=debug lacuna info`."
                .into(),
        }),
    }
}

/// Asks `lacuna info` whether there is an adapter, and restricts later runs to its backend.
fn find(executable: &Path) -> Result<Option<Lacuna>> {
    let backends = wanted().unwrap_or_else(|| BACKENDS.into());
    let lacuna = Lacuna::new(PathBuf::from(executable), backends);
    let output = process::capture(lacuna.command().args(["info", "--json"]))?;
    match output.code {
        Some(0) => {}
        Some(NO_ADAPTER) => return Ok(None),
        _ => {
            return Err(Error::new(format!(
                "`lacuna info --json` failed:\n{}",
                output.stderr
            )));
        }
    }
    let info: Value = serde_json::from_str(&output.stdout)
        .map_err(|e| Error::new(format!("`lacuna info --json` printed no JSON: {e}")))?;
    let adapter = &info["selected"]["adapter"];
    eprintln!("\nAdapter: {}", describe(adapter));
    // One backend from here on, so that all programs and tests use the same adapter.
    let family = adapter["backend"]
        .as_str()
        .unwrap_or_default()
        .to_lowercase();
    let known = BACKENDS.split(',').any(|backend| backend == family);
    let lacuna = if known && wanted().is_none() {
        Lacuna::new(lacuna.executable, family)
    } else {
        lacuna
    };
    Ok(Some(lacuna))
}

/// The backends that the user asks for.
fn wanted() -> Option<String> {
    let wanted = std::env::var("WGPU_BACKEND").ok();
    wanted.filter(|backends| !backends.is_empty())
}

/// Name, driver, backend and type of an adapter as `lacuna` describes it in JSON.
pub fn describe(adapter: &Value) -> String {
    let text = |key: &str| adapter[key].as_str().unwrap_or_default();
    let driver = format!("{} {}", text("driver"), text("driver_info"));
    let parts = [text("name"), driver.trim(), text("backend"), text("type")];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::describe;
    use serde_json::json;

    #[test]
    fn an_adapter_in_a_line_without_what_is_not_known() {
        let adapter = json!({"name": "a", "driver": "d", "driver_info": "1", "backend": "vulkan"});
        assert_eq!(describe(&adapter), "a, d 1, vulkan");
    }
}
