//! Directories for data that must survive a kill: on a real disk, removed at the end.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Cargo's own directory for such files, where it is set.
const SCRATCH_ENV: &str = "CARGO_TARGET_TMPDIR";
/// `f_type` of the file systems that live in memory (statfs(2)).
const IN_MEMORY: [(u64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];

/// A directory that is removed with its value.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
}

impl Scratch {
    /// A directory wherever there is room; for tests that do not rest on what fsync means.
    pub fn new() -> Result<Self> {
        let base = base();
        std::fs::create_dir_all(&base).with_context(|| format!("create {}", base.display()))?;
        let dir = tempfile::Builder::new().prefix("holdfast-").tempdir_in(&base);
        Ok(Self { dir: dir.with_context(|| format!("create a directory in {}", base.display()))? })
    }

    /// A directory on a disk. Refuses file systems in memory, where an fsync proves nothing.
    pub fn durable() -> Result<Self> {
        let scratch = Self::new()?;
        refuse_in_memory(scratch.path())?;
        Ok(scratch)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// `CARGO_TARGET_TMPDIR`, or `tmp` in the target directory of the running test, or the system's directory.
fn base() -> PathBuf {
    if let Some(dir) = std::env::var_os(SCRATCH_ENV) {
        return PathBuf::from(dir);
    }
    let test = std::env::current_exe().ok();
    test.as_deref().and_then(target_tmp).unwrap_or_else(std::env::temp_dir)
}

/// `<target>/tmp` for a test at `<target>/<profile>/deps/<test>`.
fn target_tmp(test: &Path) -> Option<PathBuf> {
    let deps = test.parent().filter(|dir| dir.ends_with("deps"))?;
    Some(deps.parent()?.parent()?.join("tmp"))
}

fn refuse_in_memory(path: &Path) -> Result<()> {
    let stat = rustix::fs::statfs(path).with_context(|| format!("statfs {}", path.display()))?;
    let kind = u64::try_from(stat.f_type).unwrap_or_default();
    if let Some((_, name)) = IN_MEMORY.iter().find(|(magic, _)| *magic == kind) {
        bail!("{} is on {name}: set {SCRATCH_ENV} to a directory on a disk", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_directory_is_removed_with_its_value() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        std::fs::write(path.join("file"), b"data").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn the_target_directory_is_found_from_the_test() {
        assert_eq!(target_tmp(Path::new("/t/debug/deps/blackbox-1")), Some(PathBuf::from("/t/tmp")));
        assert_eq!(target_tmp(Path::new("/usr/bin/blackbox")), None);
    }

    #[test]
    fn memory_is_no_disk() {
        // Linux always has a tmpfs mounted here, unless /dev is not set up at all.
        let Ok(stat) = rustix::fs::statfs("/dev/shm") else { return };
        if stat.f_type == 0x0102_1994 {
            let message = format!("{:#}", refuse_in_memory(Path::new("/dev/shm")).unwrap_err());
            assert!(message.contains("tmpfs"), "{message}");
        }
        assert!(refuse_in_memory(Path::new("/nonexistent")).is_err());
    }
}
