//! What frames mean, held against captures made by others, an independent parser, and the kernel's filter.

use std::{
    fs,
    path::{Path, PathBuf},
};

use checkind::replay;

/// Captures made by others; they are not part of the project.
fn captures() -> PathBuf {
    let near = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/captures");
    assert!(near.join("expected.tsv").exists(), "the shared captures are missing: expected them in {}", near.display());
    near
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(captures())
        .expect("the folder of captures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "pcap" || kind == "pcapng"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no captures in {}", captures().display());
    files
}

#[test]
fn every_frame_of_the_shared_captures_means_what_the_oracle_says() {
    let mut printed = Vec::new();
    replay::print_frames(&files(), &mut printed).expect("all captures are whole");
    let printed = String::from_utf8(printed).expect("UTF-8");
    let expected = fs::read_to_string(captures().join("expected.tsv")).expect("expected.tsv");
    for (got, want) in printed.lines().zip(expected.lines()) {
        assert_eq!(got, want);
    }
    assert_eq!(printed, expected);
}
