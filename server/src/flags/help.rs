//! What people read.

use core::fmt::Write;

use crate::config::gates;
use crate::flags::program::Program;
use crate::flags::table::{Flag, GROUPS, Treatment};
use crate::version;

/// What follows an error.
pub fn usage(program: Program) -> String {
    let subcommands = match program {
        Program::Cairn => SUBCOMMANDS,
        Program::Etcd => "",
    };
    MEMBER.replace("PROGRAM", program.name()) + subcommands
}

const MEMBER: &str = "Usage:

  PROGRAM [flags]
    Start a member of a cluster; without flags, of a cluster of its own.

  PROGRAM --config-file <file>
    Start a member with what a YAML or JSON file says.

  PROGRAM --version
    Show the version.

  PROGRAM -h | --help
    Show all flags.
";

const SUBCOMMANDS: &str = "
  cairn get|put|del|watch <key> …
  cairn member list
  cairn endpoint status|health
    Ask members; see cairn get --help. For everything else there is etcdctl.

  cairn snapshot save|status|restore <file>
    Backups in etcd's format, as etcdctl and etcdutl make them; see cairn snapshot --help.

  cairn local-cluster [members]
    Run a cluster on this machine, and watch it; see cairn local-cluster --help.

  cairn wal dump|verify <dir>
    Look into a write-ahead log, without changing anything; see cairn wal --help.

  cairn fsck <dir>
    Look at a member's whole data directory, without changing anything.

  cairn bench
    Make load for an endpoint, ours or etcd's, and measure it; see cairn bench --help.

  cairn sim run|fleet
    Run the engine in a simulated, hostile world; see cairn sim --help.

  cairn completion <shell>, cairn man
    Show completions for a shell; the man page.
";

/// All flags, with what they mean without being given.
pub fn help(program: Program) -> String {
    let mut text = usage(program);
    text.push_str(
        "\nFlags are etcd's. Each can be a variable (ETCD_DATA_DIR is --data-dir) or a key of the file.\n",
    );
    for group in &GROUPS {
        let shown = group.flags.iter().filter(|flag| is_shown(flag));
        let lines: String = shown.map(described).collect();
        if !lines.is_empty() {
            write!(text, "\n{}:\n{lines}", group.title).expect("writing to a String succeeds");
        }
    }
    for (title, others) in [
        (
            "Taken, and without effect in this version",
            names_of(|it| matches!(it, Treatment::NotYet(_))),
        ),
        (
            "Taken for etcd's sake, and without effect",
            names_of(|it| matches!(it, Treatment::WithoutEffect(_))),
        ),
        (
            "Not supported; a member that is told so does not start",
            names_of(|it| matches!(it, Treatment::Refused(_))),
        ),
    ] {
        write!(text, "\n{title}:\n").expect("writing to a String succeeds");
        push_wrapped(&mut text, &others);
    }
    text.push_str(
        "\nFlags that etcd had earlier (--experimental-…) are taken for their successors.\n",
    );
    text.push_str("\nFeature gates:\n");
    for gate in gates::described() {
        writeln!(text, "  {gate}").expect("writing to a String succeeds");
    }
    text
}

/// The version, as etcd shows its own, and Cairn's. Scripts that ask `etcd` look for Go's lines.
pub fn version(program: Program) -> String {
    let (language, compiler) = match program {
        Program::Cairn => ("Rust", format!("{} or later", version::RUST_VERSION)),
        Program::Etcd => ("Go", format!("none (Rust {} or later)", version::RUST_VERSION)),
    };
    format!(
        "etcd Version: {}\nGit SHA: {}\n{language} Version: {compiler}\n{language} OS/Arch: {}/{}\nCairn Version: {}\n",
        version::ETCD_VERSION,
        version::GIT_SHA,
        std::env::consts::OS,
        version::architecture(),
        version::CAIRN_VERSION,
    )
}

/// Whether a flag is worth reading about.
fn is_shown(flag: &Flag) -> bool {
    flag.treatment == Treatment::Obeyed
}

/// The names of today's flags that are treated so.
fn names_of(is_so: impl Fn(Treatment) -> bool) -> Vec<&'static str> {
    let flags = GROUPS.iter().flat_map(|group| group.flags).filter(|flag| is_so(flag.treatment));
    let mut names: Vec<_> = flags.map(|flag| flag.name).collect();
    names.sort_unstable();
    names
}

/// The flag with its default, and what it is about beside or below it.
fn described(flag: &Flag) -> String {
    let name = format!("  --{} '{}'", flag.name, flag.default);
    let gap = if name.len() < COLUMN {
        " ".repeat(COLUMN - name.len())
    } else {
        format!("\n{}", " ".repeat(COLUMN))
    };
    format!("{name}{gap}{}\n", flag.help)
}

/// Appends names with commas, in lines that fit a terminal.
fn push_wrapped(text: &mut String, names: &[&str]) {
    let mut line = String::from(" ");
    for name in names {
        if WIDTH < line.len() + name.len() + 2 {
            text.push_str(&line);
            text.push('\n');
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(name);
    }
    text.push_str(&line);
    text.push('\n');
}

/// Where the second column begins.
const COLUMN: usize = 44;
/// Of a terminal.
const WIDTH: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_today_is_in_the_help() {
        let help = help(Program::Cairn);
        for flag in GROUPS.iter().flat_map(|group| group.flags) {
            assert!(
                help.contains(&format!(" --{} '", flag.name))
                    || help.contains(&format!(" {}", flag.name))
            );
        }
        assert!(help.contains("InitialCorruptCheck=true|false (alpha, default false)"));
    }
}
