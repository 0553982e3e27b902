//! Opens weights, with options for what their files leave open.

use crate::error::Result;
use lacuna_io::{Reading, WeightFile, ZeroPoints, printable};
use lacuna_llm::Checkpoint;
use std::path::Path;

#[derive(clap::Args, Clone, Copy, Default)]
// The group would have the name of the command's own, which a debug build of clap refuses.
#[group(skip)]
pub struct Args {
    /// How a GPTQ file stores zero points, v1 (less one) or v2 (unchanged)
    /// [default: as its symmetric weights show, else as its configuration says]
    #[arg(long, value_name = "v1|v2")]
    gptq_zeros: Option<ZeroPoints>,
}

impl Args {
    fn reading(self) -> Reading {
        Reading::default().with_gptq_zeros(self.gptq_zeros)
    }

    /// Opens a model.
    pub fn model(self, path: &Path) -> Result<Checkpoint> {
        Ok(Checkpoint::open_as(path, self.reading())?)
    }

    /// Opens a file of weights, all of which must be readable, and logs warnings about them.
    pub fn file(self, path: &Path) -> Result<WeightFile> {
        let file = self.any_file(path)?;
        file.check_readable()?;
        for module in file.modules() {
            for warning in module.warnings() {
                log::warn!("weight \"{}\": {warning}", printable(module.name()));
            }
        }
        Ok(file)
    }

    /// Opens a file of weights, some of which may be unreadable.
    pub fn any_file(self, path: &Path) -> Result<WeightFile> {
        Ok(WeightFile::open_as(path, self.reading())?)
    }
}
