//! A power cut: undoes the writes of a killed process that no sync had made durable (`c/powercut.c`).

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::compiled;

/// The library and its log.
#[derive(Debug)]
pub(crate) struct PowerCut {
    library: PathBuf,
    log: PathBuf,
    /// Whether the library only pretends to sync commits, as with SQLite's `synchronous=NORMAL`.
    normal: bool,
}

/// What a disk with a cache does with unsynced writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsynced {
    /// It loses all of them.
    Lost,
    /// It has written every second one, in any order: those whose number differs in parity from this number.
    Some(usize),
}

#[derive(Debug)]
struct Write {
    offset: u64,
    size: u64,
    old: Vec<u8>,
    /// `None` for a truncation to `offset`.
    new: Option<Vec<u8>>,
}

impl PowerCut {
    /// Compiles the library into this folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { library: compiled::library("powercut", folder), log: folder.join("powercut"), normal: false }
    }

    /// The same, for a program that commits without syncing.
    pub(crate) fn without_synced_commits(self) -> Self {
        Self { normal: true, ..self }
    }

    /// The environment for the program.
    pub(crate) fn environment(&self) -> Vec<(&str, &str)> {
        let mut environment = vec![
            ("LD_PRELOAD", self.library.to_str().expect("a path of ours")),
            ("POWERCUT_LOG", self.log.to_str().expect("a path of ours")),
        ];
        if self.normal {
            environment.push(("POWERCUT_NORMAL", "1"));
        }
        environment
    }

    /// Cuts the power, after the program has been killed. Returns how many writes were lost.
    pub(crate) fn cut(&self, unsynced: Unsynced) -> usize {
        let log = fs::read(&self.log).expect("the program has written");
        fs::remove_file(&self.log).expect("the log is ours");
        let mut lost = 0;
        for (path, writes) in pending(&log) {
            let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else { continue };
            for write in writes.iter().rev() {
                file.write_all_at(&write.old, write.offset).expect("the file is restored");
                file.set_len(write.size).expect("the file is restored");
            }
            for (number, write) in writes.iter().enumerate() {
                match (unsynced, &write.new) {
                    (Unsynced::Some(parity), Some(new)) if number % 2 != parity % 2 => {
                        file.write_all_at(new, write.offset).expect("the file is restored");
                    }
                    (Unsynced::Some(parity), None) if number % 2 != parity % 2 => {
                        file.set_len(write.offset).expect("the file is restored");
                    }
                    (Unsynced::Lost | Unsynced::Some(_), _) => lost += 1,
                }
            }
            // The `-shm` file is really shared memory, so it is lost.
            if let Some(database) = path.strip_suffix("-wal") {
                let _gone = fs::remove_file(format!("{database}-shm"));
            }
        }
        lost
    }
}

/// The writes to each file since its last sync.
fn pending(mut log: &[u8]) -> BTreeMap<String, Vec<Write>> {
    let mut pending = BTreeMap::<String, Vec<Write>>::new();
    // The last record may be incomplete: then its write never began.
    while let Some((kind, path, write, rest)) = record(log) {
        let writes = pending.entry(path).or_default();
        match kind {
            2 => writes.clear(),
            _ => writes.push(write),
        }
        log = rest;
    }
    pending
}

fn record(log: &[u8]) -> Option<(u8, String, Write, &[u8])> {
    let (head, rest) = log.split_at_checked(27)?;
    let number = |from: usize, to: usize| {
        let mut bytes = [0; 8];
        bytes[..to - from].copy_from_slice(&head[from..to]);
        u64::from_le_bytes(bytes)
    };
    let length = |from: usize, to: usize| usize::try_from(number(from, to)).expect("a length");
    let (path, rest) = rest.split_at_checked(length(1, 3))?;
    let (old, rest) = rest.split_at_checked(length(19, 23))?;
    let (new, rest) = rest.split_at_checked(length(23, 27))?;
    let new = (head[0] == 0).then(|| new.to_vec());
    let write = Write { offset: number(3, 11), size: number(11, 19), old: old.to_vec(), new };
    Some((head[0], String::from_utf8(path.to_vec()).expect("a path of ours"), write, rest))
}
