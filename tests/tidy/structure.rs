//! Files and folders build on each other: no circles of imports, and one declaration for each type name.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::tree::{Source, sources};

/// The module path (`source::mqtt`) of a file of `src`, from the crate's root.
fn module(name: &str) -> String {
    let path = name.trim_start_matches("src/").trim_end_matches(".rs");
    if path == "lib" { String::new() } else { path.replace('/', "::") }
}

/// The files of `src`, except tests.
fn product() -> Vec<Source> {
    sources("src").into_iter().filter(|source| !source.name.contains("/tests")).collect()
}

/// The top-level folders: each imports only from those before it.
const ORDER: [&str; 17] = [
    "base",
    "access",
    "mapping",
    "directory",
    "policy",
    "engine",
    "settings",
    "source",
    "store",
    "spool",
    "metrics",
    "pipeline",
    "api",
    "daemon",
    "demo",
    "cli",
    "main",
];

const PUBLIC_USE: &str = r"\bpub(?:\([a-z]+\))? use ([^;]*);";

/// What each file imports from which other file. Re-exports are followed to the file that declares the name.
struct Imports {
    /// The files by module.
    files: BTreeMap<String, Source>,
    /// From a module and a name that it re-exports, to the path of the original.
    exports: BTreeMap<(String, String), String>,
}

impl Imports {
    fn read() -> Self {
        let files: BTreeMap<String, Source> =
            product().into_iter().map(|source| (module(&source.name), source)).collect();
        let mut imports = Self { files, exports: BTreeMap::new() };
        let public = Regex::new(PUBLIC_USE).expect("a pattern");
        let mut exports = BTreeMap::new();
        for (module, source) in &imports.files {
            let code: String = source.code().map(|(_, line)| line).collect::<Vec<_>>().join(" ");
            for found in public.captures_iter(&code) {
                let statement = Source { name: String::new(), text: format!("use {};", &found[1]) };
                for path in statement.imports() {
                    let name = path.rsplit("::").next().unwrap_or_default().to_owned();
                    exports.insert((module.clone(), name), imports.absolute(module, &path));
                }
            }
        }
        imports.exports = exports;
        imports
    }

    /// Turns a path written in a module into one from the root of the crate; empty if it leads out of the crate.
    fn absolute(&self, module: &str, path: &str) -> String {
        let mut base: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
        let mut parts: Vec<&str> = path.split("::").collect();
        match parts.first().copied() {
            Some("crate") => {
                base.clear();
                parts.remove(0);
            }
            Some("self") => {
                parts.remove(0);
            }
            Some("super") => {
                while parts.first() == Some(&"super") {
                    parts.remove(0);
                    base.pop();
                }
            }
            // A child of this module; anything else is another crate.
            Some(first) if self.files.contains_key(&join(&[module, first])) => {}
            _ => return String::new(),
        }
        base.extend(parts);
        base.join("::")
    }

    /// The module that declares the item with this path from the root.
    fn declares(&self, path: &str) -> Option<&str> {
        let mut path = path.to_owned();
        // A name may be re-exported several times.
        for _ in 0..8 {
            let (module, rest) = self.longest_module(&path)?;
            let name = rest.split("::").next().unwrap_or_default().to_owned();
            let module = self.files.get_key_value(module)?.0.as_str();
            match self.exports.get(&(module.to_owned(), name)) {
                Some(other) if !other.is_empty() => path.clone_from(other),
                _ => return Some(module),
            }
        }
        None
    }

    fn longest_module<'a>(&self, path: &'a str) -> Option<(&'a str, &'a str)> {
        let mut end = path.len();
        loop {
            if self.files.contains_key(&path[..end]) {
                return Some((&path[..end], path[end..].trim_start_matches("::")));
            }
            end = path[..end].rfind("::")?;
        }
    }

    /// From each module to the modules from which it imports, with the paths.
    fn edges(&self) -> BTreeMap<&str, BTreeMap<&str, BTreeSet<String>>> {
        let public = Regex::new(PUBLIC_USE).expect("a pattern");
        let inline = Regex::new(r"\b(?:crate|super)::[A-Za-z_0-9:]+").expect("a pattern");
        let mut edges: BTreeMap<&str, BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
        for (module, source) in &self.files {
            // A module does not use what it only re-exports.
            let code = source.code().map(|(_, line)| line).collect::<Vec<_>>().join(" ");
            let used = Source { name: String::new(), text: public.replace_all(&code, "").into_owned() };
            // Add paths in the code itself, except `pub(in crate::…)`, which only restricts visibility.
            let lines = source.code().filter(|(_, line)| !line.contains("use ") && !line.contains("(in crate::"));
            let paths = used
                .imports()
                .into_iter()
                .chain(lines.flat_map(|(_, line)| inline.find_iter(line).map(|found| found.as_str().to_owned())));
            for path in paths {
                let Some(target) = self.declares(&self.absolute(module, &path)) else { continue };
                if target != module && !target.is_empty() && !module.is_empty() {
                    edges.entry(module).or_default().entry(target).or_default().insert(path);
                }
            }
        }
        edges
    }
}

fn join(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("::")
}

/// Every pair of nodes that can be reached from each other.
fn circles<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<(&'a str, &'a str)> {
    let reached = |from: &'a str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(at) = next.pop() {
            next.extend(edges.get(at).into_iter().flatten().copied().filter(|to| seen.insert(*to)));
        }
        seen
    };
    let from_each: BTreeMap<&str, BTreeSet<&str>> = edges.keys().map(|from| (*from, reached(from))).collect();
    let leads = |from: &str, to: &str| from_each.get(from).is_some_and(|seen| seen.contains(to));
    let pairs = edges.iter().flat_map(|(from, all)| all.iter().map(move |to| (*from, *to)));
    pairs.filter(|(from, to)| leads(to, from)).collect()
}

#[test]
fn folders_and_files_have_no_circles() {
    let imports = Imports::read();
    let edges = imports.edges();
    assert!(edges.len() > 50, "only {} files import something", edges.len());

    let files: BTreeMap<&str, BTreeSet<&str>> =
        edges.iter().map(|(from, to)| (*from, to.keys().copied().collect())).collect();
    let found: Vec<String> =
        circles(&files).iter().map(|(from, to)| format!("{from} -> {to}: {:?}", edges[from][to])).collect();
    assert!(found.is_empty(), "files that import each other:\n{}", found.join("\n"));

    let mut folders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, all) in &files {
        for to in all {
            let top = |module: &'_ str| module.find("::").unwrap_or(module.len());
            let (from, to) = (&from[..top(from)], &to[..top(to)]);
            if from != to {
                folders.entry(from).or_default().insert(to);
            }
        }
    }
    let place = |folder: &str| {
        ORDER
            .iter()
            .position(|known| *known == folder)
            .unwrap_or_else(|| panic!("{folder} is not in the order of folders"))
    };
    let upwards: Vec<String> = folders
        .iter()
        .flat_map(|(from, all)| all.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| place(from) <= place(to))
        .map(|(from, to)| format!("{from} imports {to}"))
        .collect();
    assert!(upwards.is_empty(), "folders that import from one above them: {upwards:?}");
}

#[test]
fn a_type_name_is_declared_once() {
    let declaration =
        Regex::new(r"^\s*(?:pub(?:\([a-z: ]+\))? )?(?:struct|enum|trait|type|union) ([A-Z]\w*)").expect("a pattern");
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in product() {
        // An associated type belongs to its trait, so its name is not ours.
        for (_, line) in source.code().filter(|(_, line)| !line.starts_with("    type ")) {
            if let Some(found) = declaration.captures(line) {
                places.entry(found[1].to_owned()).or_default().insert(source.name.clone());
            }
        }
    }
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "the same type name is declared more than once: {places:#?}");
}
