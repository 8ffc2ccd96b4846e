//! What this machine can do at best, without a server: what stands beside a figure to say how near it is.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;

use hdrhistogram::Histogram;
use serde_json::json;

use crate::clock::{Clock, SECOND};
use crate::record::{histogram, note};

/// What was tried, and how long it took each time.
pub(crate) struct Probe {
    name: &'static str,
    nanoseconds: Histogram<u64>,
}

/// Tries everything; writes to a file in `directory`, which is removed again.
///
/// # Errors
/// If there can be no such file, or no connection within this machine.
pub(crate) fn run(directory: &Path) -> Result<Vec<Probe>, String> {
    let clock = Clock::start();
    let mut probes = durable(clock, directory)?;
    probes.push(loopback(clock).map_err(|error| format!("no loopback: {error}"))?);
    probes.push(copies(clock));
    probes.push(lookups(clock));
    Ok(probes)
}

/// Writes that are durable when they return, over blocks that were written before, as a log does it.
fn durable(clock: Clock, directory: &Path) -> Result<Vec<Probe>, String> {
    let path = directory.join(format!("cairn-probe-{}", std::process::id()));
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let bytes_max = 64 << 10;
    fs::write(&path, vec![0; FILE_BYTES])
        .and_then(|()| fs::File::open(&path)?.sync_all())
        .map_err(failed)?;
    let flags = rustix::fs::OFlags::DIRECT | rustix::fs::OFlags::DSYNC;
    let direct = flags.bits().cast_signed();
    let dsync = rustix::fs::OFlags::DSYNC.bits().cast_signed();
    let open = |flags| OpenOptions::new().write(true).custom_flags(flags).open(&path);
    let file = open(direct).or_else(|_| open(dsync)).map_err(failed)?;
    // Direct writes come from memory that begins at a block.
    let memory = vec![b'x'; bytes_max + BLOCK];
    let from = memory.as_ptr().align_offset(BLOCK);
    let mut probes = Vec::new();
    for (name, bytes) in [
        ("durable write, 4 KiB", 4 << 10),
        ("durable write, 16 KiB", 16 << 10),
        ("durable write, 64 KiB", bytes_max),
    ] {
        let mut nanoseconds = histogram(3);
        let mut at = 0;
        let until = clock.now() + SECOND;
        while clock.now() < until {
            let begin = clock.now();
            let written = rustix::io::pwrite(&file, &memory[from..from + bytes], at as u64);
            if written.map_err(|error| failed(error.into()))? != bytes {
                return Err(format!("{}: a write was cut short", path.display()));
            }
            note(&mut nanoseconds, clock.now() - begin);
            at = (at + bytes) % FILE_BYTES;
        }
        probes.push(Probe { name, nanoseconds });
    }
    fs::remove_file(&path).map_err(failed)?;
    Ok(probes)
}

/// A byte to another thread and back.
fn loopback(clock: Clock) -> std::io::Result<Probe> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let other = thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut byte = [0];
        while stream.read(&mut byte)? > 0 {
            stream.write_all(&byte)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut nanoseconds = histogram(3);
    let until = clock.now() + SECOND;
    while clock.now() < until {
        let begin = clock.now();
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        note(&mut nanoseconds, clock.now() - begin);
    }
    drop(stream);
    // It ends with its stream, and what it says does not matter any more.
    other.join().ok();
    Ok(Probe { name: "byte over loopback and back", nanoseconds })
}

/// Copies that no cache holds.
fn copies(clock: Clock) -> Probe {
    let bytes = 64 << 20;
    let (from, mut to) = (vec![1_u8; bytes], vec![0_u8; bytes]);
    let mut nanoseconds = histogram(3);
    for _ in 0..20 {
        let begin = clock.now();
        core::hint::black_box(&mut to).copy_from_slice(core::hint::black_box(&from));
        note(&mut nanoseconds, (clock.now() - begin) / 64);
    }
    Probe { name: "copy of 1 MiB", nanoseconds }
}

/// Lookups of any of a million keys in a tree of the standard library.
fn lookups(clock: Clock) -> Probe {
    let tree: std::collections::BTreeMap<u64, u64> =
        (0..1_000_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n)).collect();
    let mut nanoseconds = histogram(3);
    let mut key = 0_u64;
    for _ in 0..200 {
        let begin = clock.now();
        for _ in 0..1000 {
            key = (key + 7919) % 1_000_000;
            core::hint::black_box(tree.get(&key.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        }
        note(&mut nanoseconds, (clock.now() - begin) / 1000);
    }
    Probe { name: "lookup of one of a million keys", nanoseconds }
}

pub(crate) fn json(probes: &[Probe]) -> String {
    let each = probes.iter().map(|Probe { name, nanoseconds }| {
        let us = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1e3;
        json!({"name": name, "count": nanoseconds.len(), "p50_us": us(0.5), "p99_us": us(0.99), "mean_us": nanoseconds.mean() / 1e3})
    });
    format!("{}\n", json!({"probes": each.collect::<Vec<_>>()}))
}

pub(crate) fn table(probes: &[Probe]) -> String {
    let line = |Probe { name, nanoseconds }: &Probe| {
        let us = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1e3;
        format!("{name:<34} p50 {:>10.3} us   p99 {:>10.3} us\n", us(0.5), us(0.99))
    };
    probes.iter().map(line).collect()
}

/// Bytes of a block of a disk, at most.
const BLOCK: usize = 4096;
/// Bytes of the file that is written over and over.
const FILE_BYTES: usize = 16 << 20;
