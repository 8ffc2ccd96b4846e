//! A directory that etcd 3.7.3 left when it was killed (`--backend-batch-interval 1h`), with a database that had not seen
//! the last eleven entries of its log. The zeros with which etcd's files end are left out. What is expected is what etcd
//! said when it was started on a copy. (Frames are multiples of eight bytes, and the last one is whole.)

use std::ffi::OsString;
use std::fs;

use cairn_engine::api::KeyRange;
use cairn_engine::recovery::{Recovery, recover};
use cairn_engine::{ClusterId, LeaseId, MemberId};
use cairn_io::disk::{Disk as _, ThreadDisk};
use cairn_io::driver::BootDisk;

use super::*;
use crate::flags::{self, Invocation};

const DB: &[u8] = include_bytes!("../../testdata/etcd-3.7.3/db");
const WAL: &[u8] = include_bytes!("../../testdata/etcd-3.7.3/wal");
const WAL_NAME: &str = "0000000000000000-0000000000000000.wal";

/// etcd's directory, with these files.
fn directory(db: &[u8], wal: &[u8]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let member = directory.path().join("member");
    fs::create_dir_all(member.join("snap")).unwrap();
    fs::create_dir_all(member.join("wal")).unwrap();
    fs::write(member.join("snap").join("db"), db).unwrap();
    fs::write(member.join("wal").join(WAL_NAME), wal).unwrap();
    fs::write(member.join("wal").join("0.tmp"), "").unwrap();
    directory
}

fn config(directory: &Path, more: &[&str]) -> Config {
    let path = directory.to_str().unwrap();
    let words = ["cairn", "--data-dir", path].into_iter().chain(more.iter().copied());
    let words = words.map(OsString::from);
    let Invocation::Serve(_, config) = flags::read(words, []) else { panic!("it is valid") };
    *config
}

fn taken(directory: &Path, more: &[&str]) -> Result<Owner, Trouble> {
    take_over(&config(directory, more), &mut |_| {})
}

fn started(directory: &Path, owner: &Owner) -> Recovery {
    let directory = Directory::new(directory, None);
    directory.create().unwrap();
    let disk = ThreadDisk::start().unwrap();
    let mut disk = BootDisk::open(&disk, &directory).unwrap();
    recover(&mut disk, owner.cluster, owner.member, false).unwrap()
}

#[test]
fn nothing_of_what_etcd_had_is_lost() {
    let mut padded = WAL.to_vec();
    padded.resize(100_000, 0);
    for wal in [WAL, &padded] {
        let directory = directory(DB, wal);
        let path = directory.path();
        // What an import that was interrupted leaves behind.
        fs::create_dir(path.join("snap")).unwrap();
        fs::write(path.join("snap/00000000ffffffff.snap"), "half").unwrap();
        let owner = taken(path, &[]).unwrap();
        assert_eq!(owner.cluster, ClusterId(324_952_591_200_643_719));
        assert_eq!(owner.member, MemberId(0x2e12_59d4_15f2_a040));
        assert_eq!(data::owner(path).unwrap().as_ref(), Some(&owner));
        let Recovery { newest, state, .. } = started(path, &owner);
        assert_eq!((newest.vote.1, newest.restarts), (owner.member, true));
        state.check();
        assert_eq!((state.store.revision(), state.store.compacted()), (19, 8));
        let hashes =
            [9, 11, 19].map(|at| state.store.hash(at, state.store.sweeping()).unwrap().hash);
        assert_eq!(hashes, [391_482_565, 184_656_316, 4_161_364_877]);
        let all = KeyRange::prefix(bytes::Bytes::new());
        let keys: Vec<_> = state.store.current(&all).map(|record| record.key().to_vec()).collect();
        assert_eq!(keys, [b"big".as_slice(), b"later", b"leased", b"tail"]);
        let leases: Vec<LeaseId> = state.lessor.leases().iter().map(|lease| lease.id).collect();
        assert_eq!(leases, [LeaseId(0x2040_a21e_1faa_3908), LeaseId(0x2040_a21e_1fb2_b80a)]);
        assert_eq!(state.lessor.keys_of(leases[0]).collect::<Vec<_>>(), ["leased"]);
        let users: Vec<_> = state.auth.users().map(|(user, _)| (user.name, user.roles)).collect();
        assert_eq!(users[0].1, ["reader", "root"]);
        assert_eq!((users.len(), state.auth.roles().count()), (2, 2));
        let member = state.cluster.message_of(owner.member).unwrap();
        assert_eq!(member.name, "default");
        assert_eq!(member.peer_urls, ["http://127.0.0.1:23800"]);
        assert_eq!(member.client_urls, ["http://127.0.0.1:23790"]);
        // etcd's files are as they were.
        assert_eq!(fs::read(path.join("member/snap/db")).unwrap(), DB);
        assert_eq!(fs::read(path.join("member/wal").join(WAL_NAME)).unwrap(), wal);
    }
}

#[test]
fn what_is_not_whole_is_refused_and_nothing_becomes_of_it() {
    let mut rotten_page = DB.to_vec();
    // All pages but the metas.
    rotten_page[8192..].iter_mut().for_each(|byte| *byte ^= 0x55);
    let mut rotten_record = WAL.to_vec();
    rotten_record[WAL.len() / 2] ^= 1;
    for (db, wal, why) in [
        (&DB[..20_000], WAL, "it ends before its last page"),
        (&rotten_page, WAL, "is damaged"),
        (DB, &rotten_record, "its checksum is wrong"),
        (DB, &WAL[..200], "and the database has more"),
        (b"", WAL, "this is no database of etcd's"),
    ] {
        let directory = directory(db, wal);
        let refused = taken(directory.path(), &[]).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
        assert!(matches!(data::owner(directory.path()), Err(data::Unusable::Etcd(_))));
    }
    for missing in ["member/snap/db", "member/wal/0000000000000000-0000000000000000.wal"] {
        let directory = directory(DB, WAL);
        fs::remove_file(directory.path().join(missing)).unwrap();
        let refused = taken(directory.path(), &[]).unwrap_err();
        assert!(matches!(refused, Trouble::Missing(_)), "{refused}");
    }
}

#[test]
fn a_directory_that_etcd_uses_is_refused() {
    let directory = directory(DB, WAL);
    let db = File::open(directory.path().join("member/snap/db")).unwrap();
    db.lock().unwrap();
    assert!(matches!(taken(directory.path(), &[]), Err(Trouble::InUse(_))));
    drop(db);
    assert!(taken(directory.path(), &["--force-new-cluster"]).is_ok());
}

#[test]
fn files_of_the_log_must_follow_each_other() {
    let directory = directory(DB, WAL);
    let log = directory.path().join("member/wal");
    fs::write(log.join("0000000000000002-0000000000000099.wal"), "").unwrap();
    let refused = taken(directory.path(), &[]).unwrap_err();
    assert!(refused.to_string().contains("0000000000000001-"), "{refused}");
}
