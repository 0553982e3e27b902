//! Software drivers beside the system's own: Debian testing's Mesa with its loader, validation
//! layer and C library, and Chromium's SwiftShader. They are unpacked, not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::{Error, Result},
    process::{ask, capture, stream_as_progress},
};

const SUITE: &str = "testing";
const PACKAGES: [&str; 3] = [
    "mesa-vulkan-drivers",
    "libvulkan1",
    "vulkan-validationlayers",
];
/// The package that contains SwiftShader, which needs none of the package's dependencies.
const SWIFTSHADER: &str = "chromium-common";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// A folder with the unpacked packages.
pub struct Drivers {
    root: PathBuf,
}

/// Which driver.
#[derive(Clone, Copy)]
pub enum Driver {
    Mesa,
    SwiftShader,
}

impl Drivers {
    /// The drivers under `folder`, downloaded if they are not there yet.
    pub fn get(folder: &Path) -> Result<Self> {
        let drivers = Self {
            root: folder.join("root"),
        };
        let complete = folder.join("complete");
        if !complete.exists() {
            let _ = fs::remove_dir_all(folder);
            download(folder)?;
            unpack(folder, &drivers.root)?;
            drivers.describe()?;
            fs::write(&complete, "").map_err(Error::at(&complete))?;
        }
        Ok(drivers)
    }

    /// A command that runs `program` with the driver. The driver's C library may be newer than the
    /// system's, so its own loader starts the program.
    pub fn command(&self, driver: Driver, program: &Path) -> Command {
        let libraries = self.root.join(LIBRARIES);
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(format!(
            "{}:{}",
            libraries.display(),
            libraries.join("mesa").display()
        ));
        let file = match driver {
            Driver::Mesa => self.mesa(),
            Driver::SwiftShader => self.root.join("usr/lib/chromium/vk_swiftshader_icd.json"),
        };
        command
            .arg(program)
            .env("WGPU_BACKEND", "vulkan")
            .env("VK_DRIVER_FILES", file)
            .env(
                "VK_LAYER_PATH",
                self.root.join("usr/share/vulkan/explicit_layer.d"),
            );
        command
    }

    fn mesa(&self) -> PathBuf {
        self.root.join("lavapipe.json")
    }

    /// Writes a driver description for the unpacked Mesa, as Mesa's own names a library of the system.
    fn describe(&self) -> Result<()> {
        let library = self.root.join(LIBRARIES).join("libvulkan_lvp.so");
        let text = format!(
            "{{\"file_format_version\": \"1.0.1\", \"ICD\": {{\"api_version\": \"1.4.0\", \
             \"library_path\": {:?}}}}}\n",
            library.display().to_string()
        );
        fs::write(self.mesa(), text).map_err(Error::at(&self.mesa()))
    }
}

/// Downloads packages of another suite, with package lists and state apart from the system's.
fn download(folder: &Path) -> Result<()> {
    let mirror = mirror()?;
    for made in ["lists/partial", "archives/partial"] {
        let made = folder.join(made);
        fs::create_dir_all(&made).map_err(Error::at(&made))?;
    }
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(Error::at(&path))?;
        Ok::<_, Error>(path.display().to_string())
    };
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let sources = file(
        "sources.list",
        &format!("deb [signed-by={keys}] {mirror} {SUITE} main\n"),
    )?;
    let status = file("status", "")?;
    let folder = folder.display();
    let options = [
        format!("Dir::Etc::sourcelist={sources}"),
        "Dir::Etc::sourceparts=/dev/null".into(),
        format!("Dir::State={folder}"),
        format!("Dir::State::lists={folder}/lists"),
        format!("Dir::State::status={status}"),
        format!("Dir::Cache={folder}"),
        format!("Dir::Cache::archives={folder}/archives"),
        "Acquire::Languages=none".into(),
        "APT::Sandbox::User=root".into(),
        "APT::Architecture=amd64".into(),
        "Debug::NoLocking=1".into(),
    ];
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        for option in &options {
            command.args(["-o", option]);
        }
        command.arg("-q").args(arguments);
        command.current_dir(format!("{folder}/archives"));
        stream_as_progress(&mut command)
    };
    apt(&["update"])?;
    let install = [
        "install",
        "-y",
        "--download-only",
        "--no-install-recommends",
    ];
    apt(&[&install[..], &PACKAGES].concat())?;
    apt(&["download", SWIFTSHADER])
}

/// The mirror that the system uses.
fn mirror() -> Result<String> {
    let targets = [
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ];
    let listed = ask(Command::new("apt-get").args(targets)).unwrap_or_default();
    listed
        .lines()
        .find(|uri| uri.trim_end_matches('/').ends_with("/debian"))
        .map(str::to_owned)
        .ok_or_else(|| Error::new("apt-get names no Debian mirror to take drivers from"))
}

fn unpack(folder: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root).map_err(Error::at(root))?;
    let archives = folder.join("archives");
    for entry in fs::read_dir(&archives).map_err(Error::at(&archives))? {
        let package = entry.map_err(Error::at(&archives))?.path();
        if package.extension().is_none_or(|e| e != "deb") {
            continue;
        }
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        let only = if name.starts_with(SWIFTSHADER) {
            "*swiftshader*"
        } else {
            "*"
        };
        let script = "dpkg-deb --fsys-tarfile \"$1\" | tar -x -C \"$2\" --wildcards \"$3\"";
        let mut command = Command::new("sh");
        command.args(["-ec", script, "unpack"]).arg(&package);
        let output = capture(command.arg(root).arg(only))?;
        if output.code != Some(0) {
            return Err(Error::new(format!("{name}: {}", output.stderr)));
        }
    }
    Ok(())
}
