//! A snapshot from a member, over the JSON gateway.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufWriter, Write as _};
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::{CHECKSUM_BYTES, Failed, Progress, Save, Snapshot};
use crate::takeover::Trouble;

/// Downloads, checks, and names the file only then, as etcdctl does.
pub(super) fn run(Save { file: path, common }: &Save) -> Result<(), Failed> {
    let mut client = common.client().map_err(Failed)?;
    // A large store takes its time before the first byte.
    client.patience = None;
    let answers = client.lines("/v3/maintenance/snapshot", &json!({}))?;
    let part = PathBuf::from(format!("{}.part", path.display()));
    let mut file = BufWriter::new(File::create(&part).map_err(Trouble::io("make", &part))?);
    let progress = Progress::new("saving", 0);
    let mut bytes = 0;
    let mut version = String::new();
    for line in answers.lines() {
        let mut answer: Value = serde_json::from_str(&line?)?;
        if let Some(error) = answer.get("error") {
            let why = error["message"].as_str().unwrap_or("the member gave up").to_owned();
            return Err(Failed(why));
        }
        let answer = answer["result"].take();
        let blob = answer["blob"].as_str().unwrap_or_default();
        let blob = BASE64_STANDARD.decode(blob)?;
        file.write_all(&blob).map_err(Trouble::io("write", &part))?;
        let left = answer["remaining_bytes"].as_str().and_then(|left| left.parse::<u64>().ok());
        if bytes == 0 {
            progress.expect(left.unwrap_or(0) + u64::try_from(blob.len())? + CHECKSUM_BYTES);
        }
        bytes += u64::try_from(blob.len())?;
        progress.set(bytes);
        if let Some(told) = answer["version"].as_str().filter(|told| !told.is_empty()) {
            told.clone_into(&mut version);
        }
    }
    progress.end();
    let file = file.into_inner().map_err(io::IntoInnerError::into_error);
    let written = file.and_then(|file| file.sync_all());
    written.map_err(Trouble::io("write", &part))?;
    let mut snapshot = Snapshot::open(&part)?;
    if !snapshot.has_checksum {
        let why = "sha256 checksum not found [bytes: ";
        return Err(Failed(format!("{why}{bytes}]: the member stopped before the end")));
    }
    snapshot.verify(&part)?;
    fs::rename(&part, path).map_err(Trouble::io("name", path))?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or_else(|| ".".as_ref());
    File::open(above).and_then(|above| above.sync_all()).map_err(Trouble::io("sync", above))?;
    let mut out = io::stdout();
    writeln!(out, "Snapshot saved at {}", path.display())?;
    if !version.is_empty() {
        writeln!(out, "Server version {version}")?;
    }
    Ok(())
}
