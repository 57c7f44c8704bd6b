//! Shows the progress of long work on a terminal.

use std::io::{self, IsTerminal, Write as _};

/// A progress line on the terminal. Each text overwrites the last; dropping removes it.
pub(super) struct Progress {
    terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal() }
    }

    pub(super) fn say(&self, line: impl FnOnce() -> String) {
        if self.terminal {
            // The work continues if a progress line cannot be written.
            drop(write!(io::stderr(), "\r\x1b[K{}", line()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            drop(write!(io::stderr(), "\r\x1b[K"));
        }
    }
}
