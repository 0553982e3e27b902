//! `cargo xtask record`: runs the whole bench on this machine's adapter and writes a dated record.

use std::{
    fmt::Write,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    date,
    error::{Error, Result},
    lacuna::Lacuna,
    process, setup,
    workspace::Workspace,
};

/// What is timed: decoding and prefill by format, then products that skip, then a model.
const RUNS: [&str; 8] = [
    "bench --rounds 25 --shape 4096x4096 --format f32,2:4,2:4x4,2:4x8,1:8,f16,2:4@f16,2:4x8@f16,1:8@f16",
    "bench --rounds 15 --shape 4096x4096,11008x4096 --format f16,2:4@f16,2:4x4@f16,w8g128,w4g128,w3g64,w2g64",
    "bench --rounds 15 --shape 4096x4096,11008x4096 --format f16,w4g16s50,w4g32s50,w4g64s50,w4g128s50",
    "bench --rounds 15 --shape 4096x14336 --format f16,w4g128,w4g64s50",
    "bench --rounds 11 --shape 2048x2048 --batch 128 --format f32,2:4x16,2:4x32,1:8x16,1:8x32,f16,1:8x16@f16,w4g128,w4g64s50",
    "bench --rounds 11 --shape 4096x11008 --op masked --active 10,50,100 --format f32,f16,w4g128",
    "bench --rounds 11 --shape 4096x11008 --op input_sparse --active 10,50,100 --format f32,f16,w4g128",
    "bench-model --random --config benches/models/llama-0.5b.json --format dense,w4g128 \
     --drawn chess-attention@50,teal@50 --tokens 4 --prompt-tokens 16",
];

pub fn run(may_install: bool) -> Result<()> {
    let workspace = Workspace::find()?;
    let lacuna = setup::lacuna(&workspace, may_install)?;
    let adapter = Adapter::of(&lacuna)?;
    let date = date::now();
    let day = &date[..10];
    let about = adapter.about("cargo xtask record", &commit(&workspace));
    let mut text = format!("# {day}, {}\n\n{about}\n", adapter.name());
    for run in RUNS {
        let mut command = lacuna.command();
        command
            .args(run.split_whitespace())
            .current_dir(&workspace.root)
            .stderr(Stdio::inherit());
        let printed = process::capture_stdout(&mut command)?;
        let run = run.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "\n## `{run}`\n\n{}", printed.trim());
    }
    let path = adapter.file(&workspace, day);
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, &text)
    };
    write().map_err(|e| Error::new(format!("{}: {e}", path.display())))?;
    println!("written to {}", path.display());
    Ok(())
}

/// The commit of the working tree, as `git describe` names it.
pub fn commit(workspace: &Workspace) -> String {
    let mut git = Command::new("git");
    let git = git.args(["describe", "--always", "--dirty"]);
    let commit = process::ask(git.current_dir(&workspace.root));
    commit.map_or_else(|| "unknown".into(), |c| c.trim().to_owned())
}

pub struct Adapter {
    name: String,
    driver: String,
    driver_info: String,
}

impl Adapter {
    pub fn of(lacuna: &Lacuna) -> Result<Self> {
        let text = process::capture_stdout(lacuna.command().args(["info", "--json"]))?;
        let info: Value = serde_json::from_str(&text)
            .map_err(|e| Error::new(format!("`lacuna info` printed no JSON: {e}")))?;
        let of = |key: &str| {
            let value = info["selected"]["adapter"][key].as_str();
            value.unwrap_or_default().to_owned()
        };
        Ok(Self {
            name: of("name"),
            driver: of("driver"),
            driver_info: of("driver_info"),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The line under the title of a record.
    pub fn about(&self, command: &str, commit: &str) -> String {
        format!(
            "`{command}`, {} {}, commit {commit}, {} cores, {}.",
            self.driver,
            self.driver_info,
            std::thread::available_parallelism().map_or(0, usize::from),
            std::env::consts::ARCH,
        )
    }

    /// A file name for `day` in the adapter's folder that is not used yet.
    pub fn file(&self, workspace: &Workspace, day: &str) -> PathBuf {
        let folder = workspace.root.join("benches/record").join(self.slug());
        let names = std::iter::once(format!("{day}.md"));
        let mut names = names.chain((2..).map(|n| format!("{day}-{n}.md")));
        let free = names.find_map(|name| Some(folder.join(name)).filter(|path| !path.exists()));
        free.unwrap_or(folder)
    }

    /// The adapter's name and driver version without what is in brackets, as `llvmpipe-mesa-25.0.7`.
    fn slug(&self) -> String {
        let plain = |text: &str| {
            let text = text.split(['(', '~']).next().unwrap_or_default();
            text.trim().to_lowercase()
        };
        let driver = plain(&self.driver_info);
        // Drops Debian's revision.
        let driver = driver.split('-').next().unwrap_or_default();
        let words = format!("{} {driver}", plain(&self.name));
        let words: Vec<String> = words
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
            .filter(|word| !word.is_empty())
            .map(String::from)
            .collect();
        words.join("-")
    }
}

#[cfg(test)]
mod tests {
    use super::Adapter;

    #[test]
    fn folders_are_named_by_adapter_and_driver() {
        let slug = |name: &str, driver_info: &str| {
            let [name, driver_info] = [name, driver_info].map(String::from);
            let driver = String::new();
            Adapter {
                name,
                driver,
                driver_info,
            }
            .slug()
        };
        let mesa = "Mesa 25.0.7-2~bpo12+1 (LLVM 15.0.6)";
        assert_eq!(
            slug("llvmpipe (LLVM 15.0.6, 256 bits)", mesa),
            "llvmpipe-mesa-25.0.7"
        );
        assert_eq!(
            slug("NVIDIA H100 80GB HBM3", "580.159.04"),
            "nvidia-h100-80gb-hbm3-580.159.04"
        );
    }
}
