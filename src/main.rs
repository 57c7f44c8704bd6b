//! Arguments to library to exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    checkind::cli::main(std::env::args_os())
}
