//! `completions` and `man`: completion scripts and manual pages.

use crate::{
    error::{Error, Result},
    interrupt, out,
};
use clap_complete::Shell;
use lacuna_io::{printable, write_file};
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
    std::fs::create_dir_all(folder).map_err(|reason| Error::Write {
        file: printable(&folder.to_string_lossy()),
        reason,
    })?;
    interrupt::defer();
    // Gives commands and options the names that pages show, as `clap_mangen::generate_to` does.
    let mut program = program.disable_help_subcommand(true);
    program.build();
    write_pages(folder, program)
}

/// The pages of the commands of `program`, then its own.
fn write_pages(folder: &Path, program: clap::Command) -> Result<()> {
    interrupt::check()?;
    for command in program.get_subcommands().filter(|c| !c.is_hide_set()) {
        write_pages(folder, command.clone())?;
    }
    let page = clap_mangen::Man::new(program);
    let file = folder.join(page.get_filename());
    let mut text = vec![];
    page.render(&mut text).map_err(|reason| Error::Write {
        file: printable(&file.to_string_lossy()),
        reason,
    })?;
    Ok(write_file(file, &text)?)
}
