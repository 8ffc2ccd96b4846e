//! The bytes of a small file, for ever.

extern crate std;

use alloc::format;
use alloc::string::String;
use std::path::Path;

use super::*;
use crate::raft::{HardState, Term};

fn facts() -> Facts {
    let membership = crate::raft::membership::Membership::new([1, 2].map(MemberId));
    Facts {
        applied: Index(0x11),
        applied_term: Term(0x12),
        revision: 0x13,
        compacted: 0x14,
        sweep: meta::SweepMark { main: 0x15, sub: 0x16, end: 0x17 },
        log_start: 0x18,
        log_promise: 0x19,
        hard_state: HardState { term: Term(0x1a), vote: MemberId(0x1b), commit: Index(0x1c) },
        cluster_time_ms: 0x1d,
        members: meta::Members::new(&membership),
    }
}

/// Three checkpoints: leaves under a branch, a long key, a long value, an empty one of each, and what was deleted.
fn small_file() -> File {
    let (mut db, mut file) = create(SMALL);
    let mut long = vec![b'k'; 70];
    long.extend_from_slice(b" goes on");
    let mut first = Batch::new();
    for number in 0..24 {
        let key = format!("/registry/pods/default/pod-{number:02}").into_bytes();
        first.insert((TreeId::Keys, key), Some(vec![b'0' + number; 12]));
    }
    let second = Batch::from([
        ((TreeId::Keys, b"/registry/pods/default/pod-07".to_vec()), None),
        ((TreeId::Leased, vec![]), Some(vec![])),
        ((TreeId::Leased, long), Some(b"a long key".to_vec())),
        ((TreeId::Rest, b"\x01value".to_vec()), Some(vec![b'v'; 200])),
    ]);
    apply(&mut db, &mut file, &first);
    apply(&mut db, &mut file, &second);
    let mut checkpoint = db.begin(Fill::Merge);
    checkpoint.seal(&mut db, &file, facts()).unwrap();
    carry_out(&mut db, &mut file, checkpoint);
    file
}

/// The bytes as text, lines of zeros left out.
fn to_text(file: &File) -> String {
    let mut text = format!("# db, {} bytes, pages of {}\n", file.bytes.len(), file.size.bytes());
    for (number, page) in file.bytes.chunks(file.size.bytes()).enumerate() {
        if page.iter().all(|byte| *byte == 0) {
            continue;
        }
        text += &format!("# page {number}\n");
        for (line, bytes) in page.chunks(16).enumerate() {
            if bytes.iter().any(|byte| *byte != 0) {
                text += &format!("{:08x}", number * file.size.bytes() + line * 16);
                bytes.iter().for_each(|byte| text += &format!(" {byte:02x}"));
                text += "\n";
            }
        }
    }
    text
}

fn from_text(text: &str) -> File {
    let length = text.split_whitespace().nth(2).unwrap().parse().unwrap();
    let mut file = File { bytes: vec![0; length], size: SMALL };
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split_whitespace();
        let offset = u64::from_str_radix(fields.next().unwrap(), 16).unwrap();
        let bytes: Vec<u8> = fields.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        file.write(offset, &bytes);
    }
    file
}

#[test]
fn a_file_has_these_bytes_for_ever() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/db.txt");
    let written = to_text(&small_file());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, golden, "UPDATE=1 writes the new bytes down; is the format's number new?");

    let file = from_text(&golden);
    assert_eq!(file.check(), []);
    let db = file.open().unwrap();
    assert_eq!((db.meta().seq, db.meta().facts), (CheckpointSeq(3), facts()));
    let sums = |tree| db.tree(&file, tree).sums().count;
    assert_eq!(TreeId::ALL.map(sums), [23, 0, 0, 2, 1, db.space().used_pages()]);
    let value = db.tree(&file, TreeId::Rest).get(b"\x01value").unwrap();
    assert_eq!(value, Some(&[b'v'; 200][..]));
}
