//! What glommio must be kept from.
//!
//! When it opens a `DmaFile`, glommio 0.9 reads a dozen files about the block device below /sys and panics
//! if one is missing or odd; and it looks at minor number 0, which for a partition of an `NVMe` disk is
//! another device. A panic ends the process. So the same files are read here first, and where glommio would
//! panic a thread does the writes.
//!
//! It also moves to a polled ring where the device has poll queues, and then spins while a write is under
//! way. Nobody has measured that; such devices are left to the thread as well.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Whether glommio can open this file without a panic and without polling.
pub(super) fn suits_glommio(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    let device = metadata.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    device_suits(Path::new("/sys/dev/block"), major, minor)
}

fn device_suits(devices: &Path, major: u32, minor: u32) -> bool {
    // A partition has its queue in the directory of the disk above it.
    let own = devices.join(format!("{major}:{minor}"));
    let polls = ["queue/io_poll", "../queue/io_poll"]
        .iter()
        .any(|name| fs::read_to_string(own.join(name)).is_ok_and(|text| text.trim() == "1"));
    if polls {
        return false;
    }
    let directory = match fs::canonicalize(devices.join(format!("{major}:0"))) {
        Ok(directory) => directory,
        // Not a block device: memory, an overlay, a network. glommio then assumes harmless values.
        Err(error) => return error.kind() == ErrorKind::NotFound,
    };
    let queue = directory.join("queue");
    let is_number = |name: &&str| {
        let text = fs::read_to_string(queue.join(name));
        text.is_ok_and(|text| text.trim_matches('\n').parse::<isize>().is_ok())
    };
    let cache = fs::read_to_string(queue.join("write_cache")).unwrap_or_default();
    NUMBERS.iter().all(is_number)
        && matches!(cache.trim_matches('\n'), "write back" | "write through")
        && fs::read_dir(directory.join("slaves")).is_ok()
}

/// What glommio reads as numbers (`BlockDevice::new` in its sys/sysfs.rs).
const NUMBERS: [&str; 7] = [
    "rotational",
    "minimum_io_size",
    "optimal_io_size",
    "logical_block_size",
    "physical_block_size",
    "max_sectors_kb",
    "max_segment_size",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up /sys/dev/block with one disk.
    fn devices(name: &str) -> std::path::PathBuf {
        let devices = std::env::temp_dir().join(format!("cairn-{name}-{}", std::process::id()));
        let queue = devices.join("259:0/queue");
        fs::create_dir_all(&queue).unwrap();
        fs::create_dir_all(devices.join("259:0/slaves")).unwrap();
        for name in NUMBERS {
            fs::write(queue.join(name), "512\n").unwrap();
        }
        fs::write(queue.join("write_cache"), "write back\n").unwrap();
        devices
    }

    #[test]
    fn a_complete_description_suits() {
        let devices = devices("suits");
        assert!(device_suits(&devices, 259, 0));
        assert!(device_suits(&devices, 0, 33), "not a block device");
        fs::remove_dir_all(devices).unwrap();
    }

    #[test]
    fn what_would_panic_does_not_suit() {
        let devices = devices("panics");
        fs::write(devices.join("259:0/queue/rotational"), "yes\n").unwrap();
        assert!(!device_suits(&devices, 259, 0));
        fs::remove_dir_all(&devices).unwrap();
        // A partition has no queue of its own.
        fs::create_dir_all(devices.join("259:0")).unwrap();
        assert!(!device_suits(&devices, 259, 1));
        fs::remove_dir_all(devices).unwrap();
    }

    #[test]
    fn a_polled_device_does_not_suit() {
        let devices = devices("polled");
        fs::write(devices.join("259:0/queue/io_poll"), "1\n").unwrap();
        assert!(!device_suits(&devices, 259, 0));
        fs::remove_dir_all(devices).unwrap();
    }
}
