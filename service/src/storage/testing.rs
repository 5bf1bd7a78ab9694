//! What tests of crashes share.

use std::fs;
use std::path::Path;

/// Copies a directory with all it holds. Of an open database this is what a crash at this moment would leave: buffers in
/// memory are not in it.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
