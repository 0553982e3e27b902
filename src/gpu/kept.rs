//! Compiled pipelines in a file, from one process to the next.
//!
//! ```text
//! 8 bytes   hash of the rest
//! the rest  what wgpu makes of the driver's data: a header with the device and the
//!           driver's build, then the data
//! ```
//!
//! Neither wgpu nor drivers check the data against a hash, and what a driver does with damaged
//! data is undefined: hence the first line. A file is replaced as a whole, so readers and
//! several writers at once see a complete one; the last writer's stays.

use super::Gpu;
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) cache: wgpu::PipelineCache,
    pub(super) file: PathBuf,
    /// What the file held.
    hash: Option<u64>,
    /// Whether a pipeline was made since.
    pub(super) more: AtomicBool,
}

impl Kept {
    /// What an earlier process left for this device in `folder`; `None` where wgpu or the driver
    /// keeps nothing.
    pub(super) fn open(gpu: &Gpu, folder: &Path) -> Option<Self> {
        let device = gpu.device();
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let info = device.adapter_info();
        let key = wgpu::util::pipeline_cache_key(&info)?;
        // Vendor and device are in the key; of one device, every driver has a file of its own.
        let driver = hash(format!("{} {}", info.driver, info.driver_info).as_bytes());
        let file = folder.join(format!("{key}_{driver:016x}"));
        let begin = |data: Option<&[u8]>| {
            let descriptor = wgpu::PipelineCacheDescriptor {
                label: Some("pipelines"),
                data,
                fallback: true,
            };
            // SAFETY: `data`, if there is any, has the hash that it had when wgpu gave it to an earlier process,
            // in `save`. wgpu checks that it is of this device and this build of the driver.
            let make = || unsafe { device.create_pipeline_cache(&descriptor) };
            gpu.scoped("compiled pipelines", 0, make)
        };
        let data = read(&file);
        // Data of another device is an error, data of another build of the driver is not.
        let cache = begin(data.as_deref()).or_else(|e| {
            log::warn!("{} is not used: {e}", file.display());
            begin(None)
        });
        Some(Self {
            cache: cache.ok()?,
            file,
            hash: data.as_deref().map(hash),
            more: AtomicBool::new(false),
        })
    }

    /// Writes what is new. If that fails, it costs the next process time, nothing else.
    pub(super) fn save(&self) {
        if !self.more.load(Ordering::Relaxed) {
            return;
        }
        let Some(data) = self.cache.get_data() else {
            return;
        };
        let hash = hash(&data);
        if self.hash == Some(hash) {
            return;
        }
        if let Err(e) = write(&self.file, hash, &data) {
            let file = self.file.display();
            log::warn!("compiled pipelines are not kept: {file}: {e}");
        }
    }
}

// The standard library may change this hash: the file is then refused, and written anew.
fn hash(data: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish()
}

/// The data in `file`, where it is whole.
fn read(file: &Path) -> Option<Vec<u8>> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(e) => {
            if e.kind() != io::ErrorKind::NotFound {
                log::warn!("compiled pipelines cannot be read: {}: {e}", file.display());
            }
            return None;
        }
    };
    let whole = bytes
        .split_first_chunk()
        .filter(|(expected, data)| u64::from_le_bytes(**expected) == hash(data))
        .map(|(_, data)| data.to_vec());
    if whole.is_none() {
        log::warn!("{} is damaged and not used", file.display());
    }
    whole
}

fn write(file: &Path, hash: u64, data: &[u8]) -> io::Result<()> {
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let (process, number) = (std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed));
    let draft = file.with_extension(format!("{process}-{number}"));
    let written = fs::write(&draft, [&hash.to_le_bytes(), data].concat())
        .and_then(|()| fs::rename(&draft, file));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::hash;
    use crate::{gpu::Gpu, kernel::Dispatch};
    use std::{fs, path::Path, thread};

    /// A device that keeps its pipelines in `folder`; `None` where there is none, or none is kept.
    fn open(folder: &Path) -> Option<Gpu> {
        let gpu = Gpu::of_tests()?.keep_pipelines(folder);
        gpu.inner.kept.get().is_some().then_some(gpu)
    }

    /// A pipeline, which has to be made whatever the file held.
    fn compile(gpu: &Gpu) {
        let dispatch = Dispatch {
            fragments: vec!["@compute @workgroup_size(1) fn main() {}".into()],
            ..Dispatch::default()
        };
        gpu.pipeline(&dispatch).expect("a pipeline");
    }

    fn files(folder: &Path) -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|e| e.expect("an entry").path()).collect()
    }

    #[test]
    fn damaged_and_foreign_files_are_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("not/there/yet");
        let Some(gpu) = open(&folder) else { return };
        compile(&gpu);
        drop(gpu);
        let [file] = &files(&folder)[..] else {
            panic!("one file: {:?}", files(&folder))
        };
        let whole = fs::read(file).expect("a file");
        let with_hash = |data: &[u8]| [&hash(data).to_le_bytes(), data].concat();
        let flipped = |bit: usize| {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        // The device's identity is in the header, from byte 8 + 17.
        let foreign = with_hash(&flipped(8 * 30)[8..]);
        for bad in [
            vec![],
            vec![1, 2, 3],
            whole[..whole.len() - 1].to_vec(),
            flipped(8 * whole.len() - 1),
            foreign,
            with_hash(b"a hash that fits is no header"),
        ] {
            fs::write(file, &bad).expect("a file");
            let gpu = open(&folder).expect("as before");
            compile(&gpu);
            drop(gpu);
            let now = fs::read(file).expect("a file");
            assert!(now != bad, "{} bytes were left as they were", bad.len());
            assert_eq!(now, with_hash(&now[8..]));
        }
        let gpu = open(&folder).expect("as before");
        let kept = gpu.inner.kept.get().expect("as before");
        assert!(kept.hash.is_some(), "a whole file is used");
    }

    #[test]
    fn a_folder_that_cannot_be_written_costs_nothing_but_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a file");
        fs::write(&file, "in the way").expect("a file");
        if let Some(gpu) = open(&file) {
            compile(&gpu);
        }
        assert_eq!(fs::read(&file).expect("a file"), b"in the way");
    }

    #[test]
    fn writers_at_once_leave_one_whole_file() {
        let folder = tempfile::tempdir().expect("a folder");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    if let Some(gpu) = open(folder.path()) {
                        compile(&gpu);
                    }
                });
            }
        });
        for file in files(folder.path()) {
            let bytes = fs::read(&file).expect("a file");
            assert_eq!(bytes[..8], hash(&bytes[8..]).to_le_bytes());
        }
        assert!(
            files(folder.path()).len() <= 1,
            "{:?}",
            files(folder.path())
        );
    }
}
