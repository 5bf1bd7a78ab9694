//! Where the `holdfast` binary under test is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Names the binary to test; otherwise the one beside the test's own build is taken.
const BINARY_ENV: &str = "HOLDFAST_BIN";
/// Names the binary that was built with the feature `seeded-bugs`. It has no default: a default build must never
/// contain the bugs, so nothing is built beside the test.
const SEEDED_BINARY_ENV: &str = "HOLDFAST_SEEDED_BIN";

/// The `holdfast` binary under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    path: PathBuf,
}

impl Binary {
    /// Takes `HOLDFAST_BIN`, or `holdfast` in the profile's directory of the running test.
    pub fn locate() -> Result<Self> {
        if let Some(path) = std::env::var_os(BINARY_ENV) {
            return Self::at(PathBuf::from(path))
                .with_context(|| format!("take the binary that {BINARY_ENV} names"));
        }
        let test = std::env::current_exe().context("find the running test")?;
        Self::beside(&test)
    }

    /// Takes `HOLDFAST_SEEDED_BIN`, a build in which known bugs can be put back.
    pub fn locate_seeded() -> Result<Self> {
        let Some(path) = std::env::var_os(SEEDED_BINARY_ENV) else {
            bail!(
                "{SEEDED_BINARY_ENV} is not set: build with `cargo build -p holdfast --features seeded-bugs` into a \
                 target directory of its own and set it to that binary"
            );
        };
        Self::at(PathBuf::from(path))
            .with_context(|| format!("take the binary that {SEEDED_BINARY_ENV} names"))
    }

    /// The binary of the build that made `test`, a file in `<profile>/deps`.
    fn beside(test: &Path) -> Result<Self> {
        let profile = test.parent().and_then(Path::parent).context("find the profile's directory")?;
        Self::at(profile.join("holdfast"))
            .with_context(|| format!("build it with `cargo build -p holdfast`, or set {BINARY_ENV}"))
    }

    /// The binary at `path`, which must exist.
    pub fn at(path: PathBuf) -> Result<Self> {
        if !path.is_file() {
            bail!("no holdfast binary at {}", path.display());
        }
        Ok(Self { path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_beside_the_directory_of_the_test() {
        let target = tempfile::tempdir().unwrap();
        let deps = target.path().join("debug/deps");
        std::fs::create_dir_all(&deps).unwrap();
        let error = Binary::beside(&deps.join("blackbox-1")).unwrap_err();
        assert!(format!("{error:#}").contains("cargo build -p holdfast"), "{error:#}");
        std::fs::write(target.path().join("debug/holdfast"), b"").unwrap();
        let binary = Binary::beside(&deps.join("blackbox-1")).unwrap();
        assert_eq!(binary.path(), target.path().join("debug/holdfast"));
    }
}
