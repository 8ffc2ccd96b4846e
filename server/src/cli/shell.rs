//! What makes a shell know the commands: completions, and the man page. Packages put them where they belong:
//!
//! ```sh
//! cairn completion bash > /usr/share/bash-completion/completions/cairn
//! cairn man > /usr/share/man/man1/cairn.1
//! ```

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Tool;
use crate::{flags, version};

/// Everything that can be said, the flags of a member included.
fn everything() -> clap::Command {
    // A member's own --version and --help are flags like others.
    let command = flags::described(Tool::command().disable_version_flag(true));
    command.version(version::CAIRN_VERSION).about("A key-value store that speaks etcd's API")
}

/// Shows the completions of a shell.
pub(super) fn complete(shell: Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut everything(), "cairn", &mut text);
    show(&text)
}

/// Shows the man page.
pub(super) fn man() -> ExitCode {
    let mut text = Vec::new();
    match clap_mangen::Man::new(everything()).render(&mut text) {
        Ok(()) => show(&text),
        Err(_) => unreachable!("memory takes whatever is written"),
    }
}

/// Whoever does not read it does not want it.
fn show(text: &[u8]) -> ExitCode {
    io::stdout().write_all(text).ok();
    ExitCode::SUCCESS
}
