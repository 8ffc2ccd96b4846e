//! The two disks do the same: one script runs on both, and its transcripts are compared.
#![expect(clippy::unwrap_used, reason = "the linter does not see that helpers of tests are tests")]

use core::future::Future;
use core::time::Duration;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use cairn_io::disk::{
    ALIGNMENT, Cause, Disk, DurableFile as _, Error, FileStream as _, Operation, Pace, PathTaken,
};
use cairn_io::runtime::{Executor, Glommio, Plan, Runtime, Tokio, run};

/// A directory of its own for a test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(base: &Path, name: &str) -> Self {
        let path = base.join(format!("cairn-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The build's own directory is on a real disk; /tmp may not be.
fn on_disk(name: &str) -> Scratch {
    Scratch::new(Path::new(env!("CARGO_TARGET_TMPDIR")), name)
}

fn block_on<R: Executor, F>(entry: impl FnOnce() -> F + Send + 'static) -> F::Output
where
    F: Future<Output: Send> + 'static,
{
    run::<R, _, _, _>(Plan::default(), vec![entry], |_, entry| entry()).unwrap().pop().unwrap()
}

/// Does everything once and says what it saw; paths are shown without their directory.
async fn script<D: Disk>(directory: PathBuf) -> String {
    let mut seen = String::new();
    let mut say = |text: &str| {
        seen.push_str(&text.replace(directory.to_str().unwrap(), ""));
        seen.push('\n');
    };
    let disk = D::start().unwrap();
    let length = 64 * 4096;
    let (spare, segment) = (directory.join("spare"), directory.join("segment"));
    disk.create_zeroed(&spare, length, Pace::Urgent).await.unwrap();
    disk.rename(&spare, &segment).await.unwrap();
    disk.sync_directory(&directory).await.unwrap();
    say(&format!("{:?}", disk.list_blocking(&directory).unwrap()));
    say(&format!("{} bytes", disk.length_blocking(&segment).unwrap()));

    let file = disk.open(&segment).await.unwrap();
    for (at, blocks, fill) in [(0u64, 1, 1u8), (1, 3, 2), (63, 1, 3), (2, 1, 4)] {
        let mut buffer = disk.buffer(blocks * ALIGNMENT);
        assert!(buffer.as_ref().iter().all(|&byte| byte == 0), "buffers are zeroed");
        buffer.as_mut().fill(fill);
        file.write_durable(at * 4096, buffer).await.unwrap();
    }
    let mut blocks = Vec::new();
    let mut buffer = disk.buffer(8 * ALIGNMENT);
    for offset in (0..length).step_by(8 * ALIGNMENT) {
        assert_eq!(disk.read_blocking(&segment, offset, &mut buffer).unwrap(), 8 * ALIGNMENT);
        blocks.extend(buffer.as_ref().chunks(ALIGNMENT).map(|block| {
            assert!(block.iter().all(|byte| *byte == block[0]));
            block[0]
        }));
    }
    say(&format!("{blocks:?}"));
    assert_eq!(disk.read_blocking(&segment, length, &mut buffer).unwrap(), 0);
    assert_eq!(disk.read_blocking(&segment, length - 4096, &mut buffer).unwrap(), 4096);

    let late = file.read(4096, 4 * ALIGNMENT).await.unwrap();
    say(&format!("{:?}", late.chunks(ALIGNMENT).map(|block| block[0]).collect::<Vec<_>>()));
    let beyond = file.read(length - 4096, 4 * ALIGNMENT).await.unwrap();
    say(&format!("{} bytes before the end", beyond.len()));
    file.close().await.unwrap();

    let snapshot = directory.join("snapshot");
    let mut stream = disk.create_stream(&snapshot).await.unwrap();
    for part in 0..10u8 {
        stream.append(vec![part; 1000 + usize::from(part)]).await.unwrap();
    }
    stream.finish().await.unwrap();
    let content = fs::read(&snapshot).unwrap();
    say(&format!("{} bytes, the last {:?}", content.len(), content.last()));

    // A name that is taken is replaced; a leftover of a crash too.
    fs::write(directory.join("segment.tmp"), b"half made").unwrap();
    disk.create_zeroed(&segment, 4096, Pace::Background).await.unwrap();
    say(&format!("{} bytes", disk.length_blocking(&segment).unwrap()));

    disk.unlink(&snapshot).await.unwrap();
    let missing = directory.join("missing");
    let errors: [Error; 6] = [
        disk.unlink(&snapshot).await.unwrap_err(),
        disk.open(&missing).await.err().unwrap(),
        disk.rename(&missing, &segment).await.unwrap_err(),
        disk.sync_directory(&missing).await.unwrap_err(),
        disk.create_zeroed(&missing.join("x"), 4096, Pace::Urgent).await.unwrap_err(),
        disk.read_blocking(&missing, 0, &mut buffer).unwrap_err(),
    ];
    errors.iter().for_each(|error| say(&error.to_string()));
    say(&format!("{:?}", disk.list_blocking(&directory).unwrap()));
    seen
}

fn transcript<R: Executor>(base: &Path) -> String {
    let directory = Scratch::new(base, core::any::type_name::<R>());
    let path = directory.0.clone();
    block_on::<R, _>(move || script::<R::Disk>(path))
}

const EXPECTED: &str = r#"["segment"]
262144 bytes
[1, 2, 4, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]
[2, 4, 2, 0]
4096 bytes before the end
10045 bytes, the last Some(9)
4096 bytes
cannot remove /snapshot: No such file or directory (os error 2)
cannot open /missing: No such file or directory (os error 2)
cannot rename /missing: No such file or directory (os error 2)
cannot sync /missing: No such file or directory (os error 2)
cannot create /missing/x.tmp: No such file or directory (os error 2)
cannot open /missing: No such file or directory (os error 2)
["segment"]
"#;

#[test]
fn glommio_follows_the_script() {
    assert_eq!(transcript::<Glommio>(Path::new(env!("CARGO_TARGET_TMPDIR"))), EXPECTED);
}

#[test]
fn tokio_follows_the_script() {
    assert_eq!(transcript::<Tokio>(Path::new(env!("CARGO_TARGET_TMPDIR"))), EXPECTED);
}

/// On memory there is no `O_DIRECT`; the script does not notice.
#[test]
fn both_follow_the_script_in_memory() {
    let memory = Path::new("/dev/shm");
    assert_eq!(transcript::<Glommio>(memory), EXPECTED);
    assert_eq!(transcript::<Tokio>(memory), EXPECTED);
}

fn path_taken<R: Executor>(base: &Path) -> PathTaken {
    let directory = Scratch::new(base, &format!("path-{}", core::any::type_name::<R>()));
    let path = directory.0.join("file");
    block_on::<R, _>(move || async move {
        let disk = R::Disk::start().unwrap();
        disk.create_zeroed(&path, 4096, Pace::Urgent).await.unwrap();
        disk.open(&path).await.unwrap().path_taken()
    })
}

#[test]
fn direct_writes_are_used_where_they_exist() {
    let disk = Path::new(env!("CARGO_TARGET_TMPDIR"));
    println!("{:?} {:?}", path_taken::<Glommio>(disk), path_taken::<Tokio>(disk));
    // Which filesystem the build is on is not ours to say, but a thread and the ring agree on O_DIRECT.
    let direct = path_taken::<Tokio>(disk) == PathTaken::ThreadDirect;
    assert_eq!(path_taken::<Glommio>(disk) != PathTaken::ThreadBuffered, direct);
}

#[test]
#[should_panic(expected = "Panicked")]
fn a_misaligned_write_is_a_bug() {
    let directory = on_disk("misaligned");
    let path = directory.0.join("file");
    block_on::<Tokio, _>(move || async move {
        let disk = <Tokio as Runtime>::Disk::start().unwrap();
        disk.create_zeroed(&path, 8192, Pace::Urgent).await.unwrap();
        let file = disk.open(&path).await.unwrap();
        drop(file.write_durable(512, disk.buffer(4096)).await);
    });
}

/// While a segment is zeroed in the background, nothing else waits for it.
#[test]
fn zeroing_does_not_hold_up_writes_and_renames() {
    fn check<R: Executor>() {
        let directory = on_disk(&format!("zeroing-{}", core::any::type_name::<R>()));
        let path = directory.0.clone();
        block_on::<R, _>(move || async move {
            let disk = R::Disk::start().unwrap();
            let segment = path.join("segment");
            disk.create_zeroed(&segment, 4096, Pace::Urgent).await.unwrap();
            let made = Rc::new(core::cell::Cell::new(false));
            let (background, spare) = (disk.clone(), path.join("spare"));
            let done = Rc::clone(&made);
            R::spawn(async move {
                background.create_zeroed(&spare, 64 << 20, Pace::Background).await.unwrap();
                done.set(true);
            });
            R::sleep(Duration::from_millis(2)).await;
            let file = disk.open(&segment).await.unwrap();
            file.write_durable(0, disk.buffer(4096)).await.unwrap();
            disk.rename(&segment, &path.join("renamed")).await.unwrap();
            assert!(!made.get(), "a 64 MiB file takes at least 128 ms in the background");
            while !made.get() {
                R::sleep(Duration::from_millis(10)).await;
            }
        });
    }
    check::<Glommio>();
    check::<Tokio>();
}

/// What a full disk looks like. `/dev/full` is one that everybody has.
#[test]
fn a_full_disk_is_a_typed_error() {
    fn check<R: Executor>() {
        block_on::<R, _>(|| async {
            let disk = R::Disk::start().unwrap();
            let mut stream = disk.create_stream(Path::new("/dev/full")).await.unwrap();
            let error = stream.append(vec![1; 100]).await.unwrap_err();
            assert!(matches!(error.cause, Cause::NoSpace(_)), "{error:?}");
            assert_eq!(error.operation, Operation::Write);
            assert_eq!(
                error.to_string(),
                "cannot write /dev/full at offset 0: No space left on device (os error 28)"
            );
            // What is in the file now is anybody's guess, so it takes no more.
            assert!(stream.append(vec![1; 100]).await.is_err());
            assert!(stream.finish().await.is_err());
        });
    }
    check::<Glommio>();
    check::<Tokio>();
}

/// A segment that does not fit leaves nothing behind. Needs a small filesystem, so it runs itself again in
/// a mount namespace of its own; where that is not allowed, it says so.
#[test]
fn a_segment_that_does_not_fit_leaves_nothing_behind() {
    const INSIDE: &str = "CAIRN_SMALL_DISK";
    if let Some(small) = std::env::var_os(INSIDE) {
        let check = |directory: PathBuf| async move {
            let disk = <Tokio as Runtime>::Disk::start().unwrap();
            let path = directory.join("segment");
            let error = disk.create_zeroed(&path, 4 << 20, Pace::Urgent).await.unwrap_err();
            assert!(matches!(error.cause, Cause::NoSpace(_)), "{error:?}");
            assert_eq!(error.path, directory.join("segment.tmp"));
            assert!(disk.list_blocking(&directory).unwrap().is_empty());
            disk.create_zeroed(&path, 1 << 19, Pace::Urgent).await.unwrap();
        };
        let directory = PathBuf::from(small);
        block_on::<Tokio, _>(move || check(directory));
        return;
    }
    let directory = on_disk("small");
    let small = directory.0.to_str().unwrap();
    let script = format!("mount -t tmpfs -o size=1m none {small} || exit 77; exec \"$0\" \"$@\"");
    let name = "a_segment_that_does_not_fit_leaves_nothing_behind";
    let outcome = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, small)
        .output();
    match outcome {
        Ok(output) if output.status.success() => {}
        Ok(output) if output.status.code() == Some(77) || output.status.code() == Some(1) => {
            println!(
                "not checked: no mount namespace here: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => println!("not checked: {error}"),
    }
}

/// Bytes that `write_durable` has returned for are on the medium, not in the page cache: a direct read
/// sees them, and so does a buffered one.
#[test]
fn durable_bytes_are_seen_by_everybody() {
    let directory = on_disk("seen");
    let path = directory.0.join("file");
    let seen = path.clone();
    block_on::<Glommio, _>(move || async move {
        let disk = <Glommio as Runtime>::Disk::start().unwrap();
        disk.create_zeroed(&path, 1 << 20, Pace::Urgent).await.unwrap();
        let file = disk.open(&path).await.unwrap();
        // Larger than the registered memory: it comes from elsewhere then.
        for blocks in [1, 16, 100, 256] {
            let mut buffer = disk.buffer(blocks * ALIGNMENT);
            buffer.as_mut().fill(u8::try_from(blocks - 1).unwrap());
            file.write_durable(0, buffer).await.unwrap();
        }
    });
    let file = fs::File::open(seen).unwrap();
    let mut bytes = vec![0; 1 << 20];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 255));
}
