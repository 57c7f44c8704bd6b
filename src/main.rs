//! Arguments to library to exit code; nothing else.

fn main() {}
