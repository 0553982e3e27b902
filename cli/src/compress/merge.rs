//! `merge`: joins the layers that several machines compressed to one output.

use super::{
    join::{self, Place},
    shards::Shards,
};
use crate::{error::Result, interrupt};
use std::path::PathBuf;

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
    place.join(&shards, join::folder(&args.output))?;
    report.print(args.json)
}
