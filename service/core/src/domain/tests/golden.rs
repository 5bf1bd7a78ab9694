//! The bytes that disks and logs hold. They are pinned: whoever changes one decides to change a format.

use super::Store;
#[test]
fn placeholder() {
    let _ = Store::founded();
}
