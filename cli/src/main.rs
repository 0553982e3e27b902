//! `lacuna`: inspect, compress, run, verify and bench sparse weights.
//!
//! Data goes to stdout, log and progress to stderr; [`error::Error::code`] lists the exit codes.

// A closed stderr must not end a command: `note!` writes there.
#![warn(clippy::print_stderr)]

mod activations;
mod bench;
mod calibrate;
mod compress;
mod device;
mod error;
mod info;
mod inspect;
mod interrupt;
mod matmul;
mod model;
mod out;
mod progress;
#[cfg(feature = "recover")]
mod recover;
mod shell;
mod table;
mod unpack;
mod verify;
mod weights;

use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// Sparse neural-network weights on any GPU.
///
/// Weight formats are f32, f16, bf16 or N:M[xV][@f32|@f16|@bf16]: N kept of every M columns, one
/// choice for V rows, values of the type after the @ (default: the input's own). Formats of codes
/// are wBgG and wBrow (B bits, a scale for G columns or the row), N:M+wBgG, and wBgGsPP (PP % of the
/// groups dropped), with the suffixes -sym (no zeros), -real (any f16 as zero) and -ragged (rows
/// keep different numbers of groups).
///
/// Exit codes: 0 ok, 1 a check failed, 2 usage, 3 no adapter or feature, 4 bad input file,
/// 5 device lost, timeout or out of memory, 6 output failed, 130 interrupted.
#[derive(Parser)]
#[command(name = "lacuna", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    device: device::Args,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints adapters, their limits, and which kernels they would run
    Info(info::Args),
    /// Lists the tensors of a weight file, their zeros and the patterns they obey
    Inspect(inspect::Args),
    /// Runs a model over text and stores statistics of the inputs of its weights
    Calibrate(calibrate::Args),
    /// Chooses thresholds below which activations are dropped, from what `calibrate` stored
    Thresholds(model::thresholds::Args),
    /// Prunes and quantises the weights of a file or model and stores them compressed
    Compress(compress::Args),
    /// Joins the layers that `compress --layers` wrote
    Merge(compress::merge::Args),
    /// Trains a compressed model's kept weights against the dense model
    #[cfg(feature = "recover")]
    Recover(recover::Args),
    /// Trains a compressed model's kept weights against the dense model (not in this build)
    #[cfg(not(feature = "recover"))]
    Recover(Unbuilt),
    /// Writes every weight of a file in a form that other programs read: dense or pack-quantized
    Unpack(unpack::Args),
    /// Multiplies vectors by one weight of a file
    Matmul(matmul::Args),
    /// Checks every kernel against the reference on this adapter
    Verify(verify::Args),
    /// Checks products, then times them, with cold weights and against the fastest dense kernel
    Bench(bench::Args),
    /// Times every candidate kernel of products and stores the fastest for all later commands
    Tune(bench::tune::Args),
    /// Measures how well a language model predicts a text
    Eval(model::eval::Args),
    /// Continues a prompt
    Generate(model::generate::Args),
    /// Times prefill and decoding of a language model, formats side by side
    BenchModel(model::bench::Args),
    /// Prints a completion script for a shell
    Completions(shell::Completions),
    /// Prints or writes manual pages
    Man(shell::Man),
}

/// What a command of another build would be given.
#[cfg(not(feature = "recover"))]
#[derive(clap::Args)]
struct Unbuilt {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<String>,
}

fn main() -> ExitCode {
    // wgpu's own warnings concern drivers or repeat what our errors say.
    let log = env_logger::Env::default()
        .default_filter_or("warn,wgpu_core=error,wgpu_hal=off,naga=error");
    env_logger::Builder::from_env(log)
        .format_timestamp(None)
        .init();
    interrupt::install();

    let result = match Cli::try_parse() {
        Ok(cli) => run(cli),
        // What `--help` and `--version` say goes to stdout.
        Err(said) if !said.use_stderr() => out::said(&said),
        Err(error) => error.exit(),
    };
    match result {
        // A reader that closed the pipe has seen all it wanted.
        Ok(()) | Err(error::Error::Pipe) => ExitCode::SUCCESS,
        Err(error) => {
            error::print(&error);
            ExitCode::from(error.code())
        }
    }
}

fn run(Cli { device, command }: Cli) -> error::Result<()> {
    match command {
        Command::Info(args) => info::run(&args, &device),
        Command::Inspect(args) => inspect::run(&args),
        Command::Calibrate(args) => calibrate::run(&args, &device),
        Command::Thresholds(args) => model::thresholds::run(&args, &device),
        Command::Compress(args) => compress::run(&args),
        Command::Merge(args) => compress::merge::run(&args),
        #[cfg(feature = "recover")]
        Command::Recover(args) => recover::run(&args),
        #[cfg(not(feature = "recover"))]
        Command::Recover(_) => Err(error::Error::Usage(
            "this build has no `recover`: build it with --features recover".into(),
        )),
        Command::Unpack(args) => unpack::run(&args),
        Command::Matmul(args) => matmul::run(&args, &device),
        Command::Verify(args) => verify::run(&args, &device),
        Command::Bench(args) => bench::run(&args, &device),
        Command::Tune(args) => bench::tune::run(&args, &device),
        Command::Eval(args) => model::eval::run(&args, &device),
        Command::Generate(args) => model::generate::run(&args, &device),
        Command::BenchModel(args) => model::bench::run(&args, &device),
        Command::Completions(args) => shell::completions(&args, Cli::command()),
        Command::Man(args) => shell::man(&args, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{Command, CommandFactory};
    use std::collections::HashSet;

    fn check(command: &Command) {
        let mut names = HashSet::new();
        for group in command.get_groups() {
            let name = group.get_id();
            assert!(names.insert(name), "{}: {name}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }

    /// Debug builds of clap refuse others when they start.
    #[test]
    fn groups_of_arguments_have_names_of_their_own() {
        check(&Cli::command());
    }
}
