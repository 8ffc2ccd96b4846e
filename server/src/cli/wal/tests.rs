//! Three logs on disk, and what is said about them.
//!
//! The logs and the words are in server/testdata/wal. `UPDATE=1 cargo test -p cairn-server cli` writes both anew: the
//! bytes change only with docs/format.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use cairn_engine::api::etcdserverpb::request_op::Request;
use cairn_engine::api::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use cairn_engine::command::Command as Change;
use cairn_engine::lease::ClusterTime;
use cairn_engine::raft::{Entry, EntryKind, HardState, Term};
use cairn_engine::snapshot::{Position, SnapshotWriter};
use cairn_engine::state_machine::StateMachine;
use cairn_engine::wal::batch::HEADER_BYTES as BATCH_HEADER_BYTES;
use cairn_engine::wal::recover::Known;
use cairn_engine::wal::scan::Unreadable;
use cairn_engine::wal::segment::HEADER_BYTES;
use cairn_engine::wal::writer::Config;
use cairn_engine::wal::{IDLE_MARK, LogWrite, SegmentSeq, Writer};
use cairn_engine::{ClusterId, LeaseId, MemberId, Rng, Time};

use tempfile::TempDir;

use super::scan::SegmentFile;
use super::*;

const OWNER: Owner = Owner {
    cluster: ClusterId(0xcdf8_1819_4e3a_8c32),
    member: MemberId(0x8e9e_05c5_2164_694d),
    origin: data::Origin::Joined,
};

/// Segment files in memory.
#[derive(Clone, Default)]
struct Medium(BTreeMap<SegmentSeq, Vec<u8>>);

impl LogSource for Medium {
    fn segments(&mut self) -> Vec<SegmentFile> {
        let file = |(seq, bytes): (&SegmentSeq, &Vec<u8>)| SegmentFile {
            seq: *seq,
            bytes: bytes.len().try_into().unwrap(),
        };
        self.0.iter().map(file).collect()
    }

    fn read(&mut self, seq: SegmentSeq, offset: u64, len: usize) -> Result<Bytes, Unreadable> {
        let from = usize::try_from(offset).unwrap();
        let found = self.0[&seq].get(from..from + len).ok_or(Unreadable)?;
        Ok(Bytes::copy_from_slice(found))
    }
}

/// A log in the making.
struct Log {
    medium: Medium,
    writer: Writer,
    now: Time,
    last: u64,
}

impl Log {
    /// Goes on where a medium ends; `life` counts how often.
    fn open(mut medium: Medium, life: u64) -> Self {
        let known = Known { cluster: OWNER.cluster, member: OWNER.member, ..Known::default() };
        let found = wal::recover(&mut medium, known).unwrap();
        let config = Config {
            cluster: OWNER.cluster,
            member: OWNER.member,
            segment_bytes: 16384,
            first_segment_bytes: 16384,
        };
        let last = found.entries.last().map_or((Index(0), Term(0)), |it| (it.index, it.term));
        let writer = Writer::new(config, &found, last, Rng::new(life));
        Self { medium, writer, now: Time::default(), last: last.0.0 }
    }

    fn entry(&mut self, term: u64, kind: EntryKind, data: Bytes) -> &mut Self {
        self.last += 1;
        self.writer.append(&[Entry::new(Index(self.last), Term(term), kind, data)]);
        self
    }

    fn command(&mut self, change: &Change) -> &mut Self {
        let time = ClusterTime(self.last * 1000);
        self.entry(2, EntryKind::Command, change.encode(time))
    }

    /// Writes what is queued, as one batch.
    fn write(&mut self) -> LogWrite {
        let write = self.writer.poll(self.now).unwrap();
        self.writer.written(self.now, write.end);
        let file = self.medium.0.entry(write.segment).or_default();
        file.resize(write.capacity.try_into().unwrap(), 0);
        let offset = usize::try_from(write.offset).unwrap();
        file[offset..offset + write.bytes.len()].copy_from_slice(&write.bytes);
        write
    }

    /// Lets the log rest until it vouches for itself.
    fn mark(&mut self) {
        self.now = self.now + IDLE_MARK;
        self.write();
    }

    /// Changes the first byte of the first record of a batch.
    fn damage(&mut self, write: &LogWrite) {
        let headers = if write.offset == 0 { HEADER_BYTES } else { 0 };
        let at = usize::try_from(write.offset).unwrap() + headers + BATCH_HEADER_BYTES;
        self.medium.0.get_mut(&write.segment).unwrap()[at] ^= 1;
    }
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn txn() -> TxnRequest {
    let is_new = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key: "a".into(),
        target_union: Some(TargetUnion::Version(0)),
        ..Compare::default()
    };
    let is_secret = Compare {
        result: CompareResult::NotEqual.into(),
        target: CompareTarget::Value.into(),
        target_union: Some(TargetUnion::Value("swordfish".into())),
        ..is_new.clone()
    };
    let operation = |request| RequestOp { request: Some(request) };
    let all = Bytes::from_static(b"\0");
    let range =
        RangeRequest { range_end: all.clone(), key: all, revision: 3, ..Default::default() };
    TxnRequest {
        compare: vec![is_new, is_secret],
        success: vec![
            operation(Request::RequestPut(put("a", "swordfish"))),
            operation(Request::RequestRange(range)),
        ],
        failure: vec![operation(Request::RequestTxn(TxnRequest::default()))],
    }
}

/// Some of everything, in two lives: the first ended in the middle of a write.
fn log() -> (Log, LogWrite) {
    let mut log = Log::open(Medium::default(), 1);
    log.writer.save(HardState { term: Term(2), vote: OWNER.member, commit: Index(0) });
    log.entry(2, EntryKind::Empty, Bytes::new()).write();
    let leased = PutRequest { lease: 0xbeef, ..put("secret/\n\u{e4}", "swordfish") };
    log.command(&Change::LeaseGrant(LeaseGrantRequest { ttl: 60, id: 0xbeef }));
    log.command(&Change::Put(leased)).write();
    log.command(&Change::Txn(txn())).write();
    let torn = log.command(&Change::Tick).write();
    log.damage(&torn);

    let mut log = Log::open(log.medium, 2);
    log.writer.note_commit(Index(4));
    let kept = PutRequest { ignore_value: true, ignore_lease: true, ..put("a", "") };
    log.command(&Change::Put(kept));
    let (key, range_end) = (Bytes::from_static(b"b"), Bytes::from_static(b"c"));
    log.command(&Change::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv: true }));
    log.command(&Change::LeaseRenew(vec![LeaseId(0xbeef), LeaseId(7)]));
    log.command(&Change::LeaseExpire(vec![LeaseId(7)]));
    log.command(&Change::LeaseRevoke(LeaseRevokeRequest { id: 0xbeef }));
    log.command(&Change::Compact(CompactionRequest { revision: 3, physical: true }));
    let alarm = AlarmType::Nospace.into();
    log.command(&Change::Alarm(AlarmRequest { action: 1, member_id: 7, alarm }));
    let last = log.write();
    (log, last)
}

/// The logs by name: whole, ending in a torn write, damaged below a promise, and with a header gone.
fn logs() -> Vec<(&'static str, Medium)> {
    let (mut clean, _) = log();
    clean.mark();
    let (mut torn, last) = log();
    torn.damage(&last);
    let (mut corrupt, last) = log();
    corrupt.mark();
    corrupt.damage(&last);
    let (mut hole, _) = log();
    hole.medium.0.get_mut(&SegmentSeq(1)).unwrap()[HEADER_BYTES + 4096 + 8] ^= 1;
    [("clean", clean), ("torn", torn), ("corrupt", corrupt), ("hole", hole)]
        .map(|(name, log)| (name, log.medium))
        .into()
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/wal")
}

fn is_update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// Writes a member's directory.
fn write_directory(data: &Path, medium: &Medium) {
    let directory = Directory::new(data, None);
    fs::create_dir_all(directory.log()).unwrap();
    let Owner { cluster, member, .. } = OWNER;
    let format = format!("cairn 0.1.0\nformat 1\ncluster {cluster}\nmember {member}\n");
    fs::write(data.join("FORMAT"), format).unwrap();
    for (seq, bytes) in &medium.0 {
        fs::write(directory.segment(*seq), bytes).unwrap();
    }
}

/// A member's directory that a test may change.
fn scratch(medium: &Medium) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_directory(directory.path(), medium);
    directory
}

fn subject(directory: &Path) -> Subject {
    Subject::find(&Place { directory: directory.into(), wal_dir: None }).unwrap()
}

fn dumped(directory: &Path, options: &dump::Options) -> String {
    let mut out = Vec::new();
    assert_eq!(dump_subject(&subject(directory), options, &mut out).unwrap(), 0);
    String::from_utf8(out).unwrap()
}

fn verified(directory: &Path) -> String {
    let mut out = Vec::new();
    let code = verify_subject(&subject(directory), &mut out).unwrap();
    format!("{}exit code {code}\n", String::from_utf8(out).unwrap())
}

#[test]
fn the_logs_are_what_is_written_today() {
    for (name, medium) in logs() {
        let data = testdata().join(name);
        if is_update() {
            write_directory(&data, &medium);
        }
        for (seq, bytes) in &medium.0 {
            let golden = fs::read(Directory::new(&data, None).segment(*seq)).unwrap();
            assert!(
                golden == *bytes,
                "{name}: {seq}.wal has other bytes; is its format's number new?"
            );
        }
    }
}

#[test]
fn what_is_said_about_them_is_golden() {
    for (name, _) in logs() {
        let data = testdata().join(name);
        let whole = dump::Options::default();
        let some = dump::Options { values: true, from: Some(3), to: Some(4), json: true };
        let said = format!(
            "$ cairn wal verify {name}\n{}\n$ cairn wal verify {name}/wal, without FORMAT\n{}\n\
             $ cairn wal dump {name}\n{}\n$ cairn wal dump {name} --values --from 3 --to 4 --json\n{}",
            verified(&data),
            verified(without_format(&data).path()),
            dumped(&data, &whole),
            dumped(&data, &some),
        );
        let golden = testdata().join(format!("{name}.txt"));
        if is_update() {
            fs::write(&golden, &said).unwrap();
        }
        assert_eq!(
            said,
            fs::read_to_string(&golden).unwrap(),
            "UPDATE=1 writes the new words down"
        );
    }
}

/// The segments of a directory, and nothing that says whose they are.
fn without_format(data: &Path) -> TempDir {
    let segments = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(data.join("wal")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), segments.path().join(entry.file_name())).unwrap();
    }
    segments
}

#[test]
fn a_snapshot_says_from_where_the_log_counts() {
    let (log, _) = log();
    let scratch = scratch(&log.medium);
    let data = scratch.path();
    let directory = Directory::new(data, None);
    fs::create_dir_all(directory.snapshots()).unwrap();
    let log_start = log.writer.start_of(Index(3));
    let position = Position {
        index: Index(3),
        term: Term(2),
        log_start,
        log_promise: log_start,
        ..Position::default()
    };
    let mut writer = SnapshotWriter::new(OWNER.cluster, position, &StateMachine::default());
    let bytes: Vec<u8> = core::iter::from_fn(|| writer.next_chunk()).flatten().collect();
    fs::write(directory.snapshot(position.index), &bytes).unwrap();
    fs::remove_file(directory.segment(SegmentSeq(1))).unwrap();

    let whole = verified(data);
    assert!(whole.starts_with("snapshot: whole, up to index 3\nlog: entries 4-11; "), "{whole}");
    assert!(whole.ends_with("exit code 0\n"), "{whole}");

    fs::write(directory.snapshot(position.index), &bytes[..bytes.len() - 1]).unwrap();
    let torn = verified(data);
    assert!(torn.starts_with("damaged: 0000000000000000.wal is corrupt"), "{torn}");
    assert!(torn.ends_with("exit code 2\n"), "{torn}");
}

#[test]
fn a_directory_in_use_is_shown_and_not_judged() {
    let (log, _) = log();
    let scratch = scratch(&log.medium);
    let data = scratch.path();
    let held = datadir::DataDir::open(data).unwrap();
    for path in [data.to_path_buf(), data.join("wal")] {
        let refused = verify_subject(&subject(&path), &mut Vec::new()).unwrap_err();
        let by = format!("is in use by process {}", std::process::id());
        assert!(refused.to_string().contains(&by), "{refused}");
        assert!(dumped(&path, &dump::Options::default()).contains("entry index=11 "));
    }
    drop(held);
    assert!(verified(data).ends_with("exit code 0\n"));
    datadir::DataDir::open(data).expect("looking leaves no lock behind");
}

#[test]
fn nothing_is_written() {
    let (log, _) = log();
    let scratch = scratch(&log.medium);
    let data = scratch.path();
    let listing = || -> Vec<_> {
        let mut files: Vec<PathBuf> = [data.to_path_buf(), data.join("wal")]
            .iter()
            .flat_map(|path| fs::read_dir(path).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files.into_iter().map(|path| (fs::read(&path).unwrap_or_default(), path)).collect()
    };
    let before = listing();
    verified(data);
    dumped(data, &dump::Options::default());
    assert!(before == listing(), "files come, go or change");
}

#[test]
fn an_empty_log_is_clean_and_a_missing_one_is_trouble() {
    let scratch = scratch(&Medium::default());
    let data = scratch.path();
    assert!(verified(data).ends_with("exit code 0\n"));
    assert!(verified(without_format(data).path()).contains("the log is empty"));
    let missing = Place { directory: data.join("nothing"), wal_dir: None };
    assert!(matches!(Subject::find(&missing), Err(Trouble::NoLog(_))));
}

#[test]
fn a_command_of_another_version_is_damage() {
    let (mut log, _) = log();
    log.entry(2, EntryKind::Command, Bytes::from_static(&[99, 0])).write();
    let scratch = scratch(&log.medium);
    let data = scratch.path();
    let said = verified(data);
    assert!(said.contains("damaged: entry 12 holds no command of this version"), "{said}");
    assert!(said.ends_with("exit code 2\n"), "{said}");
}
