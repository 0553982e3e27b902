//! Completions and manual pages.

mod common;

use common::{Folder, code, lacuna, stdout};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    process::{Command, Stdio},
};

/// The commands that `--help` lists.
fn commands() -> BTreeSet<String> {
    let help = stdout(&lacuna(&["--help"]));
    let listed = help.split("Commands:\n").nth(1).expect("a list");
    let listed = listed.lines().take_while(|line| !line.is_empty());
    let names = listed.map(|line| line.split_whitespace().next().expect("a name").to_owned());
    names.filter(|name| name != "help").collect()
}

#[test]
fn scripts_complete_every_command_and_a_shell_reads_them() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = stdout(&lacuna(&["completions", shell]));
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
        }
    }
    let script = stdout(&lacuna(&["completions", "bash"]));
    let shell = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn();
    let Ok(mut shell) = shell else { return };
    let mut input = shell.stdin.take().expect("a pipe");
    input.write_all(script.as_bytes()).expect("a reader");
    drop(input);
    assert!(shell.wait().expect("it ends").success());
}

#[test]
fn every_command_has_a_page() {
    let folder = Folder::new();
    let pages = folder.path("man/man1");
    stdout(&lacuna(&["man", "-o", &pages]));
    let page = |name: &str| fs::read_to_string(format!("{pages}/{name}")).expect("a page");
    assert_eq!(page("lacuna.1"), stdout(&lacuna(&["man"])));
    for command in commands() {
        let text = page(&format!("lacuna-{command}.1"));
        assert!(text.contains(".SH SYNOPSIS"), "{command}: {text}");
    }
}

#[test]
fn pages_that_cannot_be_written_are_an_error() {
    let folder = Folder::new();
    let file = folder.path("a file");
    fs::write(&file, "in the way").expect("a file");
    assert_eq!(code(&lacuna(&["man", "-o", &file])), 6);
    assert_eq!(code(&lacuna(&["completions", "abacus"])), 2);
    let pages = folder.path("man");
    fs::create_dir_all(format!("{pages}/lacuna-eval.1")).expect("a folder");
    let output = lacuna(&["man", "-o", &pages]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        code(&output) == 6 && said.contains("lacuna-eval.1"),
        "{said}"
    );
}
