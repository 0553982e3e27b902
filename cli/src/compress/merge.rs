//! `merge`: joins the layers that several machines compressed to one output.

use super::{
    join::{self, Place},
    shards::Shards,
};
use crate::{error::Result, interrupt};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// The folder that `compress --layers` wrote to; put the files of several machines together in
    /// one
    folder: PathBuf,
    /// The file, or for a model the folder, to write; it appears complete or not at all
    #[arg(short, long)]
    output: PathBuf,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let shards = Shards::open(&args.folder)?;
    let place = Place::new(&args.output, shards.is_model())?;
    interrupt::defer();
    let report = join::check(&shards)?;
    place.join(&shards, beside(&args.output))?;
    report.print(args.json)
}

/// The folder that `path` is in.
fn beside(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}
