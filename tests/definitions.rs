//! The definitions that hangproof ships load clean.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use hangproof::spec::load;

#[test]
fn shipped_definitions_load() {
    let definitions = load(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert_eq!(definitions.kernels.len(), 4);
}
