//! The published schema.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

#[test]
fn p1_the_committed_schema_is_what_the_types_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/manifest.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == packages::Manifest::json_schema(), "run `cargo xtask schema`");
}
