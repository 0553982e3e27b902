//! The files that hold the measurements of adapters.

use crate::error::{Error, Result};
use lacuna::{Gpu, Tuning};
use lacuna_io::printable;
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The file of an adapter and driver in the user's data folder.
pub fn path(gpu: &Gpu) -> Result<PathBuf> {
    let Some(data) = dirs::data_dir() else {
        let reason = "this system names no data folder: say where with --output or --tuning FILE";
        return Err(Error::Usage(reason.into()));
    };
    let Tuning {
        adapter, driver, ..
    } = new(gpu);
    let name: String = format!("{adapter} {driver}")
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    Ok(data.join("lacuna/tuning").join(name + ".txt"))
}

/// An empty table of an adapter.
pub fn new(gpu: &Gpu) -> Tuning {
    let info = gpu.info();
    let line = |text: &str| {
        text.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace('#', "")
    };
    Tuning::new(
        line(&info.name),
        line(&format!("{} {}", info.driver, info.driver_info)),
    )
}

/// Whether a table was measured on this adapter, with this driver.
pub fn is_of(tuning: &Tuning, gpu: &Gpu) -> bool {
    let own = new(gpu);
    (&tuning.adapter, &tuning.driver) == (&own.adapter, &own.driver)
}

/// The device's tuning in words, for `info`.
pub fn describe(gpu: &Gpu) -> String {
    let file = match path(gpu) {
        Ok(path) => printable(&path.to_string_lossy()),
        Err(e) => e.to_string(),
    };
    match gpu.tuning().len() {
        0 => format!("none; `lacuna tune` writes {file}"),
        lines => format!("{lines} measurements"),
    }
}

/// The table in a file, if there is one.
pub fn read(path: &Path) -> Result<Option<Tuning>> {
    let name = || printable(&path.to_string_lossy());
    match fs::read_to_string(path) {
        Ok(text) => match Tuning::parse(&text) {
            Ok(tuning) => Ok(Some(tuning)),
            Err(e) => Err(Error::Input(format!("{}: {e}", name()))),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::Input(format!("{}: {e}", name()))),
    }
}

/// Writes a table, which appears complete or not at all.
pub fn write(path: &Path, tuning: &Tuning) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let written = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(tuning.to_string().as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    written().map_err(|e| Error::Write {
        file: printable(&path.to_string_lossy()),
        reason: e,
    })
}

/// The device with its measurements, from the file `asked` for, or else from the user's data folder,
/// where a missing or unusable table is no error.
pub fn apply(gpu: Gpu, asked: Option<&Path>) -> Result<Gpu> {
    if let Some(path) = asked {
        let file = printable(&path.to_string_lossy());
        let Some(tuning) = read(path)? else {
            return Err(Error::Input(format!("{file}: there is no such file")));
        };
        if tuning.adapter.is_empty() || tuning.driver.is_empty() {
            let reason = format!("{file}: it does not name the adapter and driver it is for");
            return Err(Error::Input(reason));
        }
        if !is_of(&tuning, &gpu) {
            let (
                Tuning {
                    adapter, driver, ..
                },
                own,
            ) = (&tuning, new(&gpu));
            return Err(Error::Usage(format!(
                "{file} was measured on {adapter}, {driver}; this is {}, {}",
                own.adapter, own.driver
            )));
        }
        return Ok(gpu.tuned(tuning));
    }
    let Ok(path) = path(&gpu) else {
        return Ok(gpu);
    };
    match read(&path) {
        Ok(Some(tuning)) if is_of(&tuning, &gpu) => Ok(gpu.tuned(tuning)),
        Ok(_) => Ok(gpu),
        Err(e) => {
            log::warn!("untuned: {e}");
            Ok(gpu)
        }
    }
}
