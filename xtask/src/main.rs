//! Chores of Cairn's developers.
//!
//! `cargo xtask proto` turns `engine/proto/*.proto` into Rust: the messages into `engine/src/api`,
//! where the whole product uses them, a tonic client into `server/tests/client`, where only
//! tests do, and a table of all fields into `server/src/gateway`, for JSON. The result is committed, so that nobody needs a protobuf compiler to build Cairn;
//! running the command again must change nothing, and CI checks that.

mod schema;

use prost_build::{Config, Module};
use prost_types::FileDescriptorSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = match (arguments.next().as_deref(), arguments.next()) {
        (Some("proto"), None) => proto(),
        _ => Err(io::Error::other("usage: cargo xtask proto")),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    // Where even standard error fails there is nobody left to tell.
    writeln!(io::stderr(), "xtask: {error}").ok();
    ExitCode::FAILURE
}

/// A protobuf package: its name, and the name of its source file and of its Rust module.
struct Package {
    name: &'static str,
    module: &'static str,
}

const PACKAGES: [Package; 6] = [
    Package { name: "etcdserverpb", module: "etcdserverpb" },
    Package { name: "mvccpb", module: "mvccpb" },
    Package { name: "authpb", module: "authpb" },
    Package { name: "v3lockpb", module: "v3lockpb" },
    Package { name: "v3electionpb", module: "v3electionpb" },
    Package { name: "grpc.health.v1", module: "health" },
];

/// Fields whose names would come out mangled (`peer_ur_ls`), and what Rust calls them instead.
///
/// Names of fields are not part of the binary encoding, so only Rust sees the difference.
const RENAMED: [(&str, &str); 2] = [("peerURLs", "peer_urls"), ("clientURLs", "client_urls")];

/// Messages that hold passwords or tokens: what they show of themselves is written by hand.
const SECRET: [&str; 5] = [
    ".etcdserverpb.AuthenticateRequest",
    ".etcdserverpb.AuthenticateResponse",
    ".etcdserverpb.AuthUserAddRequest",
    ".etcdserverpb.AuthUserChangePasswordRequest",
    ".authpb.User",
];

fn proto() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let messages = root.join("engine/src/api");
    let clients = root.join("server/tests/client");

    let mut written = generate(&root, &messages, message_config(), "Messages")?;
    written.extend(generate(&root, &clients, client_config(), "A client of the services")?);
    written.push(root.join("server/src/gateway/schema.rs"));
    fs::write(&written[written.len() - 1], schema::generate(&compile(&root)?)?)?;
    format(&root, &written)
}

/// Reads all sources.
fn compile(root: &Path) -> io::Result<FileDescriptorSet> {
    let sources = PACKAGES.map(|package| format!("{}.proto", package.module));
    protox::compile(sources, [root.join("engine/proto")]).map_err(io::Error::other)
}

/// How the engine's messages look: no standard library, shared byte strings, ordered maps.
fn message_config() -> Config {
    let mut config = Config::new();
    config.bytes(["."]).btree_map(["."]).skip_debug(SECRET);
    config
}

/// Clients only: their messages are the engine's.
fn client_config() -> Config {
    let mut config = Config::new();
    for Package { name, module } in &PACKAGES {
        config.extern_path(format!(".{name}"), format!("::cairn_engine::api::{module}"));
    }
    let builder = tonic_prost_build::configure().build_client(true).build_server(false);
    config.service_generator(builder.service_generator());
    config
}

/// Writes one file per package that has something to say; `what` begins each file's first sentence.
fn generate(
    root: &Path,
    folder: &Path,
    mut config: Config,
    what: &str,
) -> io::Result<Vec<PathBuf>> {
    let mut descriptors = compile(root)?;
    for message in descriptors.file.iter_mut().flat_map(|file| &mut file.message_type) {
        for field in &mut message.field {
            let renamed = RENAMED.iter().find(|(from, _)| field.name() == *from);
            if let Some((_, to)) = renamed {
                field.name = Some((*to).to_owned());
            }
        }
    }

    let files = descriptors.file.into_iter();
    let requests = files.map(|file| (Module::from_protobuf_package_name(file.package()), file));
    let mut modules = config.generate(requests.collect())?;

    fs::create_dir_all(folder)?;
    let mut written = Vec::new();
    for Package { name, module } in &PACKAGES {
        let Some(code) = modules.remove(&Module::from_protobuf_package_name(name)) else {
            continue;
        };
        let path = folder.join(module).with_extension("rs");
        let header = format!(
            "//! {what} of protobuf package `{name}`.\n\
             //!\n\
             //! @generated from `engine/proto/{module}.proto` by `cargo xtask proto`.\n\n"
        );
        fs::write(&path, header + &code)?;
        written.push(path);
    }
    Ok(written)
}

/// Gives the files the layout that `cargo fmt --check` demands.
fn format(root: &Path, files: &[PathBuf]) -> io::Result<()> {
    let status = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root.join("rustfmt.toml"))
        .args(files)
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("rustfmt: {status}"))) }
}
