//! The repository as data: the tracked files with their texts, and the dependency graph.
//!
//! Only this module starts processes (`git`, `cargo`). Neither needs the network once the packages are fetched.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One tracked file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFile {
    /// Relative to the root of the repository, with `/`.
    pub(crate) path: String,
    /// Its text; bytes that are not UTF-8 are replaced.
    pub(crate) text: String,
}

impl SourceFile {
    /// A file made of its parts, as the samples of the checks are.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether it is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }
}

/// What `cargo metadata` says, as far as the checks read it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PackageGraph {
    /// All packages of the lock file, those of other platforms included.
    pub(crate) packages: Vec<Package>,
    /// The root of the workspace.
    pub(crate) workspace_root: PathBuf,
}

/// One package of the graph.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression.
    pub(crate) license: Option<String>,
    /// Absent for a package that is read from a path.
    pub(crate) source: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) targets: Vec<Target>,
}

/// One line of a `[dependencies]` table.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// The version requirement, such as `^1.2` or `=0.10.0`.
    pub(crate) req: String,
    pub(crate) features: Vec<String>,
}

/// One crate that a package builds.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Target {
    pub(crate) src_path: PathBuf,
}

impl PackageGraph {
    /// The packages of this workspace. A path outside it is none of them.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.is_member(package))
    }

    /// Whether a package is read from a path inside the workspace.
    pub(crate) fn is_member(&self, package: &Package) -> bool {
        package.source.is_none() && package.manifest_path.starts_with(&self.workspace_root)
    }
}

/// The repository that this test was compiled in.
pub(crate) struct Repository {
    /// The tracked files that exist.
    pub(crate) files: Vec<SourceFile>,
    /// The packages of `Cargo.lock`.
    pub(crate) package_graph: PackageGraph,
}

impl Repository {
    /// Reads the tracked files and the dependency graph.
    pub(crate) fn open() -> Self {
        // Asked for when it runs: a binary in a shared target directory may be another checkout's.
        let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&package).parent().expect("the package is in a folder of the root");
        Self { files: tracked_files(root), package_graph: package_graph(root) }
    }

    /// The tracked Rust files.
    pub(crate) fn rust_files(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// The root files of all crates of the workspace, relative to the root of the repository.
    pub(crate) fn crate_roots(&self) -> Vec<String> {
        let graph = &self.package_graph;
        let targets = graph.members().flat_map(|package| &package.targets);
        let inside = targets.filter_map(|target| target.src_path.strip_prefix(&graph.workspace_root).ok());
        inside.map(|path| path.to_string_lossy().into_owned()).collect()
    }
}

fn tracked_files(root: &Path) -> Vec<SourceFile> {
    // A clone made by another user is still read: only its file names are taken from git.
    let listing =
        output(Command::new("git").args(["-c", "safe.directory=*", "ls-files", "-z"]).current_dir(root));
    let paths = listing.split('\0').filter(|path| !path.is_empty());
    // A file that is deleted but not yet committed as such is still listed.
    let present = paths.filter(|path| root.join(path).is_file());
    present
        .map(|path| {
            let bytes = std::fs::read(root.join(path)).expect("a tracked file is readable");
            SourceFile::new(path, &String::from_utf8_lossy(&bytes))
        })
        .collect()
}

fn package_graph(root: &Path) -> PackageGraph {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    // `--locked` also fails when Cargo.lock does not fit the manifests.
    let json =
        output(Command::new(cargo).args(["metadata", "--locked", "--format-version", "1"]).current_dir(root));
    serde_json::from_str(&json).expect("cargo prints its documented format")
}

/// The standard output of a command that must succeed.
fn output(command: &mut Command) -> String {
    let result = command.output().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let errors = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success(), "{command:?} failed: {errors}");
    String::from_utf8(result.stdout).expect("git and cargo print UTF-8")
}
