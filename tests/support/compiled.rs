//! Small C programs and libraries of `tests/support/c`, compiled when a test needs them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Compiles `NAME.c` to a program at `to`.
pub(crate) fn program(name: &str, to: &Path) {
    compile(name, to, &[]);
}

/// Compiles `NAME.c` to a library for `LD_PRELOAD` in this folder.
pub(crate) fn library(name: &str, folder: &Path) -> PathBuf {
    let to = folder.join(format!("{name}.so"));
    compile(name, &to, &["-shared", "-fPIC", "-ldl", "-lpthread"]);
    to
}

fn compile(name: &str, to: &Path, more: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/c").join(format!("{name}.c"));
    let mut command = Command::new("cc");
    command.args(["-O1", "-Wall", "-Werror", "-o"]).arg(to).arg(source).args(more);
    let output = command.output().unwrap_or_else(|fault| panic!("cc: {fault}; install gcc and libc6-dev"));
    assert!(output.status.success(), "{name}.c: {}", String::from_utf8_lossy(&output.stderr));
}
