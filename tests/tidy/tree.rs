//! The files of the tree as text, and their imports.

use std::{
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

/// One file of the tree.
pub(super) struct Source {
    /// The path from the top level, with slashes.
    pub(super) name: String,
    pub(super) text: String,
}

impl Source {
    /// The numbered lines of code, without comments and tests (which are at the end).
    pub(super) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line))
            .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Every imported path: `use a::{b, c::d}` gives `a::b` and `a::c::d`.
    pub(super) fn imports(&self) -> Vec<String> {
        let code: String = self.code().map(|(_, line)| line).collect::<Vec<_>>().join(" ");
        let statement = Regex::new(r"\buse ((?:[A-Za-z_0-9]+::|\{)[^;]*);").expect("a pattern");
        statement.captures_iter(&code).flat_map(|found| spread("", &found[1])).collect()
    }
}

/// Splits a tree of imports into paths.
fn spread(prefix: &str, tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((head, inner)) = tree.split_once('{') else {
        return match tree.split(" as ").next().unwrap_or_default().trim() {
            "" => Vec::new(),
            "self" => vec![prefix.trim_end_matches("::").to_owned()],
            path => vec![format!("{prefix}{path}")],
        };
    };
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    let prefix = format!("{prefix}{}", head.trim());
    branches(inner).iter().flat_map(|branch| spread(&prefix, branch)).collect()
}

/// The parts between commas outside inner braces.
fn branches(inner: &str) -> Vec<String> {
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in inner.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

/// Whether the line uses this path or crate, as a separate word.
pub(super) fn mentions(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let alone = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':' && c != '"');
        alone && line[at + word.len()..].starts_with("::")
    })
}

pub(super) fn sources(folder: &str) -> Vec<Source> {
    files(folder)
        .into_iter()
        .filter(|file| Path::new(&file.name).extension().is_some_and(|kind| kind == "rs"))
        .collect()
}

/// Every text file below a folder, sorted by name.
pub(super) fn files(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                // Skip the build results of the fuzz targets, and inputs that are not text.
                let skipped = path.ends_with("target") || path.ends_with("corpus");
                folders.extend((!skipped).then_some(path));
            } else if let Ok(text) = fs::read_to_string(&path) {
                let name = path.strip_prefix(root()).expect("it is below the root").to_str().expect("UTF-8").to_owned();
                found.push(Source { name, text });
            }
        }
    }
    found.sort_by(|left, right| left.name.cmp(&right.name));
    assert!(!found.is_empty(), "nothing in {folder}");
    found
}

pub(super) fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn imports_are_taken_apart() {
    let source = Source {
        name: String::new(),
        text: "use std::{\n    fs::{self, File},\n    time::Duration,\n};\npub use crate::mac::MacAddr;\n".to_owned(),
    };
    assert_eq!(source.imports(), ["std::fs", "std::fs::File", "std::time::Duration", "crate::mac::MacAddr"]);
}
