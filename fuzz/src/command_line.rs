//! Arguments, variables and files: whatever they are, they are understood or refused in words.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use cairn_server::flags::{self, Invocation};

/// Reads arguments, one on each line; behind an empty line, variables.
pub fn command_line(data: &[u8]) {
    // Would open files of any name.
    let lower = data.to_ascii_lowercase();
    if lower.windows(6).any(|word| word == b"config" || word == b"output") {
        return;
    }
    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut arguments = vec![text(b"cairn")];
    arguments.extend(lines.by_ref().take_while(|line| !line.is_empty()).map(text));
    let variables = lines.filter_map(|line| {
        let equals = line.iter().position(|byte| *byte == b'=')?;
        Some((text(&line[..equals]), text(&line[equals + 1..])))
    });
    let variables: Vec<_> = variables.collect();
    read(arguments, variables);
}

/// Reads a configuration file.
pub fn config_file(data: &[u8]) {
    thread_local! {
        static FILE: PathBuf = {
            let thread = format!("{:?}", std::thread::current().id());
            let number: String = thread.chars().filter(char::is_ascii_digit).collect();
            std::env::temp_dir().join(format!("cairn-fuzz-{}-{number}.yaml", std::process::id()))
        };
    }
    let path = FILE.with(PathBuf::clone);
    std::fs::write(&path, data).expect("there is room for a file");
    let mut flag = OsString::from("--config-file=");
    flag.push(&path);
    read(vec!["cairn".into(), flag], Vec::new());
    std::fs::remove_file(path).ok();
}

fn read(arguments: Vec<OsString>, variables: Vec<(OsString, OsString)>) {
    let words = match flags::read(arguments, variables) {
        Invocation::Usage(words) => words,
        Invocation::Invalid(_, invalid) => invalid.to_string(),
        Invocation::Help | Invocation::Version | Invocation::Serve(..) => return,
    };
    assert!(!words.is_empty(), "whoever is refused is told why");
}
