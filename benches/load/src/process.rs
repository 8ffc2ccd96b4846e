//! What a process has used, from `/proc` (proc(5)).

use std::fs;

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All that is resident.
    pub(crate) resident: u64,
    /// What of it belongs to no file.
    pub(crate) anonymous: u64,
}

/// Microseconds of CPU time that these processes have used, their threads included; `None`: one of them is gone.
pub(crate) fn cpu_us(processes: &[u32]) -> Option<u64> {
    let ticks = rustix::param::clock_ticks_per_second();
    processes.iter().map(|process| cpu_of(*process, ticks)).sum()
}

fn cpu_of(process: u32, ticks_per_second: u64) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(cpu_ticks(&text)? * 1_000_000 / ticks_per_second.max(1))
}

/// User and system time, fields 14 and 15. The second field is a name that may hold anything, so counting begins
/// behind its last parenthesis.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The memory of these processes together; 0 for those that are gone.
pub(crate) fn memory(processes: &[u32]) -> Memory {
    let read = |process: &u32| fs::read_to_string(format!("/proc/{process}/status"));
    let each = processes.iter().filter_map(|process| read(process).ok());
    each.fold(Memory::default(), |sum, status| Memory {
        resident: sum.resident + kib(&status, "VmRSS:") * 1024,
        anonymous: sum.anonymous + kib(&status, "RssAnon:") * 1024,
    })
}

fn kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_and_parentheses_do_not_confuse() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 300 45 0 0 20 0";
        assert_eq!(cpu_ticks(stat), Some(345));
        assert_eq!(cpu_ticks("42 (a) S 1"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn this_process_is_there_and_number_0_is_not() {
        let me = std::process::id();
        assert!(cpu_us(&[me]).is_some());
        assert!(memory(&[me]).resident > 0);
        assert_eq!((cpu_us(&[0]), memory(&[0])), (None, Memory::default()));
    }

    #[test]
    fn memory_is_read_by_name() {
        let status = "VmHWM:\t  9 kB\nVmRSS:\t    8 kB\nRssAnon:\t 3 kB\n";
        assert_eq!((kib(status, "VmRSS:"), kib(status, "RssAnon:"), kib(status, "No:")), (8, 3, 0));
    }
}
