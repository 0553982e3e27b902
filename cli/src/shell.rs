//! `completions` and `man`: completion scripts and manual pages.

use crate::{
    error::{Error, Result},
    out,
};
use clap_complete::Shell;
use lacuna_io::printable;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Completions {
    /// The shell; the script goes to stdout
    shell: Shell,
}

#[derive(clap::Args)]
pub struct Man {
    /// Folder for one page per command; without it the page of the program goes to stdout
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn completions(args: &Completions, mut program: clap::Command) -> Result<()> {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut program, "lacuna", &mut script);
    out::write(&String::from_utf8_lossy(&script))
}

pub fn man(args: &Man, program: clap::Command) -> Result<()> {
    if let Some(folder) = &args.output {
        return pages(folder, program);
    }
    let mut page = vec![];
    // Pages in a folder have none for `help` either.
    clap_mangen::Man::new(program.disable_help_subcommand(true))
        .render(&mut page)
        .map_err(Error::Stdout)?;
    out::write(&String::from_utf8_lossy(&page))
}

fn pages(folder: &Path, program: clap::Command) -> Result<()> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(program, folder))
        .map_err(|reason| Error::Write {
            file: printable(&folder.to_string_lossy()),
            reason,
        })
}
