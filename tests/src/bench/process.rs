//! What processes cost, as the kernel counts it.

use std::path::Path;

use anyhow::{Context, Result};

/// The processor time of a process so far, user and system, in seconds.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("{path} is {stat:?}"))?;
    let ticks_per_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(f64::from(u32::try_from(ticks)?) / f64::from(ticks_per_second))
}

/// `utime` and `stime` of proc_pid_stat(5). The name before them is in parentheses and may contain anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The memory of a process in megabytes (10⁶ bytes): what it has resident.
pub(super) fn resident_mb(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("a line VmRSS")?;
    let kib: u32 = kib.trim().parse().with_context(|| format!("VmRSS is {kib:?}"))?;
    Ok(f64::from(kib) * 1_024.0 / 1e6)
}

/// What the files below a directory take on the disk, in megabytes. A file with several links counts once.
pub(super) fn disk_mb(dir: &Path) -> Result<f64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut waiting = vec![dir.to_owned()];
    let mut counted = std::collections::BTreeSet::new();
    let mut blocks = 0_u64;
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let entry = entry?;
            // A file that goes away meanwhile takes nothing.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else if counted.insert(metadata.ino()) {
                blocks += metadata.blocks();
            }
        }
    }
    Ok(f64::from(u32::try_from(blocks)?) * 512.0 / 1e6)
}

/// Lets this process, and those that it starts, open as many files as the machine allows.
pub(super) fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it the scenarios with thousands of connections fail and say so.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_takes_memory_and_time() {
        assert!(0.1 < resident_mb(std::process::id()).unwrap());
        assert!(0.0 <= cpu_seconds(std::process::id()).unwrap());
    }

    #[test]
    fn links_to_a_file_count_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::fs::write(dir.path().join("file"), vec![1; 1 << 20]).unwrap();
        let once = disk_mb(dir.path()).unwrap();
        std::fs::hard_link(dir.path().join("file"), dir.path().join("below/link")).unwrap();
        assert!((disk_mb(dir.path()).unwrap() - once).abs() < 0.5);
    }
}
