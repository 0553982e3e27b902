//! The software adapter (Mesa's lavapipe): installed with apt, or named for other systems.

use std::{env::consts::OS, fs, path::Path, process::Command};

use crate::{
    error::{Error, Result},
    process::{ask, stream_as_progress},
};

const PACKAGE: &str = "mesa-vulkan-drivers";

pub enum Outcome {
    Installed,
    /// Nothing was installed; this is what a person can do.
    Advice(String),
}

pub fn software_adapter(may_install: bool) -> Outcome {
    let system = System::read();
    let advice = advice(OS, &system);
    if !may_install || !system.has_apt {
        return Outcome::Advice(advice);
    }
    let Some(sudo) = become_root() else {
        return Outcome::Advice(format!("This needs root or passwordless sudo.\n{advice}"));
    };
    eprintln!("Installing {PACKAGE}, a Vulkan driver that runs on the processor.");
    match install(&system.codename, &sudo) {
        Ok(version) => {
            eprintln!("\nInstalled {PACKAGE} {version}.");
            Outcome::Installed
        }
        Err(error) => Outcome::Advice(format!("{error}\n{advice}")),
    }
}

/// The part of /etc/os-release that decides what to do.
#[derive(Default)]
struct System {
    /// The distribution's own name and those of its ancestors.
    family: Vec<String>,
    codename: String,
    /// Debian, Ubuntu or a descendant, with apt at hand.
    has_apt: bool,
}

impl System {
    fn read() -> Self {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let mut system = Self::parse(&release);
        let debian = ["debian", "ubuntu"].iter().any(|name| system.is(name));
        system.has_apt = debian && ask(Command::new("apt-get").arg("--version")).is_some();
        system
    }

    fn parse(release: &str) -> Self {
        let field = |key: &str| {
            let mut fields = release.lines().filter_map(|line| line.split_once('='));
            let value = fields
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value);
            value
                .unwrap_or_default()
                .trim_matches(['"', '\''])
                .to_string()
        };
        let family = format!("{} {}", field("ID"), field("ID_LIKE"));
        let family = family.split_whitespace().map(String::from).collect();
        Self {
            family,
            codename: field("VERSION_CODENAME"),
            has_apt: false,
        }
    }

    fn is(&self, name: &str) -> bool {
        self.family.iter().any(|member| member == name)
    }
}

/// The words to put before a command that needs root; `None` if root cannot be had without a
/// password.
fn become_root() -> Option<Vec<&'static str>> {
    if ask(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0") {
        return Some(Vec::new());
    }
    let sudo = ["sudo", "--non-interactive"];
    ask(Command::new(sudo[0]).args([sudo[1], "true"])).map(|_| sudo.to_vec())
}

/// Installs the driver and its loader; returns the version.
fn install(codename: &str, sudo: &[&str]) -> Result<String> {
    let apt = |arguments: &[&str]| {
        // sudo clears the environment, so `env` sets it after sudo. A fresh machine may still be
        // running its first updates, so apt waits for the lock.
        let fixed = [
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-o",
            "DPkg::Lock::Timeout=300",
        ];
        let words: Vec<&str> = sudo
            .iter()
            .chain(&fixed)
            .chain(arguments)
            .copied()
            .collect();
        stream_as_progress(Command::new(words[0]).args(&words[1..]))
    };
    // A single unreachable repository fails the whole update, so a failure here is not fatal.
    if let Err(error) = apt(&["update", "-q"]) {
        eprintln!("warning: {error}; trying with the package lists at hand");
    }
    let backports = format!("{codename}-backports");
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    if has_backport(
        &ask(Command::new("apt-cache").args(["madison", PACKAGE])).unwrap_or_default(),
        &backports,
    ) {
        eprintln!("\n{backports} is configured: its newer driver is taken.");
        arguments.extend(["-t", &backports]);
    }
    arguments.extend([PACKAGE, "libvulkan1"]);
    apt(&arguments)?;
    ask(Command::new("dpkg-query").args(["-W", "-f=${Version}", PACKAGE])).ok_or_else(|| {
        Error::new(format!(
            "{PACKAGE} is not installed, though apt-get reported success"
        ))
    })
}

/// Whether a line of `apt-cache madison` (package | version | source) is of that suite.
fn has_backport(madison: &str, suite: &str) -> bool {
    let component = format!(" {suite}/");
    madison
        .lines()
        .filter_map(|line| line.rsplit('|').next())
        .any(|source| source.contains(&component))
}

/// What to install on systems where xtask does not install it.
fn advice(os: &str, system: &System) -> String {
    let command = match os {
        "linux" if system.is("debian") || system.is("ubuntu") => {
            "sudo apt-get install mesa-vulkan-drivers libvulkan1"
        }
        "linux" if system.is("fedora") || system.is("rhel") => {
            "sudo dnf install mesa-vulkan-drivers vulkan-loader"
        }
        "linux" if system.is("arch") => "sudo pacman -S vulkan-swrast vulkan-icd-loader",
        "linux" if system.is("suse") || system.is("opensuse") => {
            "sudo zypper install libvulkan_lvp libvulkan1"
        }
        "linux" if system.is("alpine") => "doas apk add mesa-vulkan-swrast vulkan-loader",
        "macos" => {
            return "Metal is part of macOS, but this session sees no device: run it on the Mac \
                    itself, not in a virtual machine without graphics."
                .into();
        }
        "windows" => {
            return "DirectX 12 and its software adapter WARP are part of Windows 10 and later: \
                    update Windows, and the driver of the graphics card if there is one."
                .into();
        }
        _ if Path::new("/nix/store").exists() => {
            return "On NixOS set `hardware.graphics.enable = true;`, elsewhere with Nix install \
                    Mesa's lavapipe driver and the Vulkan loader with the system's packages."
                .into();
        }
        _ => {
            return "Install the Vulkan loader (libvulkan.so.1) and a Vulkan driver: the one of \
                    the graphics card, or Mesa's lavapipe, which runs on the processor."
                .into();
        }
    };
    format!(
        "With a graphics card, install its maker's Vulkan driver; without one, install the \
         software driver:\n\n    {command}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::{System, advice, has_backport};

    #[test]
    fn each_family_gets_its_own_command() {
        let said = |release: &str| advice("linux", &System::parse(release));
        assert!(said("ID=debian\nVERSION_CODENAME=bookworm\n").contains("apt-get install mesa"));
        assert!(said("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n").contains("apt-get install mesa"));
        assert!(said("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n").contains("dnf"));
        assert!(said("ID=manjaro\nID_LIKE=arch\n").contains("pacman"));
        assert!(said("ID='opensuse-leap'\nID_LIKE='suse opensuse'\n").contains("zypper"));
        assert!(said("ID=alpine\n").contains("apk"));
        assert!(said("").contains("lavapipe") || said("").contains("Nix"));
        assert!(advice("windows", &System::default()).contains("WARP"));
    }

    #[test]
    fn backports_are_told_from_the_release() {
        let release = "mesa-vulkan-drivers | 22.3.6 | http://deb.debian.org/debian bookworm/main amd64 Packages\n";
        let newer = "mesa-vulkan-drivers | 25.0.7 | http://deb.debian.org/debian bookworm-backports/main amd64 Packages\n";
        assert!(!has_backport(release, "bookworm-backports"));
        assert!(has_backport(
            &format!("{newer}{release}"),
            "bookworm-backports"
        ));
        assert!(!has_backport(newer, "trixie-backports"));
    }
}
