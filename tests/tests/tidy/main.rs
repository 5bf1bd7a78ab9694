//! The tidy test: what the project promises about its own shape, checked over the tracked files and the
//! dependency graph.
//!
//! Each check is a function from texts to violations, so that each is also fed a sample that breaks it: a check
//! that cannot fail would only look like one. The last module runs all of them over the repository itself.

mod architecture;
mod bounds;
mod configuration;
mod modules;
mod naming;
mod packages;
mod references;
mod repository;
mod tokens;

use repository::Repository;

/// Fails with one line per violation.
fn refuse(violations: &[String]) {
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn the_repository_has_files_to_check() {
    let repository = Repository::open();
    assert!(repository.rust_files().count() >= 8, "the list of tracked files is not the repository's");
    assert!(repository.package_graph.packages.len() >= 50, "the dependency graph is not the repository's");
}

#[test]
fn every_folder_imports_only_what_it_may() {
    refuse(&architecture::violations(&Repository::open().files));
}

#[test]
fn every_rust_file_is_part_of_a_crate() {
    let repository = Repository::open();
    refuse(&modules::violations(&repository.files, &repository.crate_roots()));
}

#[test]
fn every_rust_file_says_what_it_owns() {
    refuse(&modules::undocumented(&Repository::open().files));
}

#[test]
fn no_file_or_module_has_a_name_that_says_nothing() {
    refuse(&naming::violations(&Repository::open().files));
}

#[test]
fn every_configuration_field_is_read_outside_its_own_file() {
    refuse(&configuration::unread_fields(&Repository::open().files));
}

#[test]
fn every_bound_that_the_guarantees_name_is_the_one_in_the_source() {
    refuse(&bounds::violations(&Repository::open().files));
}

#[test]
fn every_document_and_path_named_is_one_that_a_reader_has() {
    refuse(&references::violations(&Repository::open().files, references::PRIVATE_NAMES));
}

#[test]
fn every_dependency_has_a_licence_that_the_project_may_use() {
    refuse(&packages::unlicensed(&Repository::open().package_graph));
}

#[test]
fn no_banned_package_is_in_the_dependency_graph() {
    refuse(&packages::banned(&Repository::open().package_graph));
}

#[test]
fn every_package_comes_from_the_registry_or_the_workspace() {
    refuse(&packages::foreign(&Repository::open().package_graph));
}

#[test]
fn the_packages_of_the_workspace_depend_in_one_direction() {
    refuse(&packages::wrong_direction(&Repository::open().package_graph));
}

#[test]
fn all_four_openraft_crates_are_pinned_to_one_version() {
    refuse(&packages::unpinned_openraft(&Repository::open().package_graph));
}

#[test]
fn no_build_has_the_seeded_bugs_unless_it_asks_for_them() {
    refuse(&packages::seeded_bugs_leaks(&Repository::open().package_graph));
}

#[test]
fn the_lock_file_is_tracked() {
    assert!(
        Repository::open().files.iter().any(|file| file.path == "Cargo.lock"),
        "Cargo.lock is not tracked"
    );
}
