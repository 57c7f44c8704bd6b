//! `checkind import`: reads the files, compares them with the stored directory, writes the changes, and prints them.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{print::pretty, progress::Progress};
use crate::{
    base::{clock::WallTime, plain::plain},
    directory::import::{
        ImportFaults,
        draft::{Changes, Draft, EntityChange, Replace},
    },
    store::{Store, StoreError},
};

/// The most entities listed as added, as changed and as archived. More would be unreadable; `--json` lists all.
const MAX_LISTED: usize = 50;

/// The largest file, in octets: several hundred thousand people with everything that the platform exports about them. A
/// larger file is rejected before it fills the memory.
const MAX_FILE: u64 = 1 << 30;

/// Why the import failed; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be opened or read.
    #[error("cannot read {0}")]
    Input(String, #[source] io::Error),
    /// The files have these faults, printed one per line.
    #[error("nothing was imported\n{0}")]
    Faults(ImportFaults),
    /// More people would be archived than is plausible.
    #[error(
        "nothing was imported: --replace would archive {archived} of {people} people, more than a tenth; list them with \
         --dry-run, then use --replace=all if that is intended"
    )]
    TooMany {
        /// How many people would be archived.
        archived: usize,
        /// How many people are not archived now.
        people: usize,
    },
    /// Another import ran at the same time.
    #[error("nothing was imported: another import ran at the same time; try again")]
    Overtaken,
    /// The database failed.
    #[error("nothing was imported")]
    Store(#[source] StoreError),
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => Self::Overtaken,
            StoreError::Unavailable(_)
            | StoreError::Refused { .. }
            | StoreError::Unfit(_)
            | StoreError::Unusable { .. } => Self::Store(error),
        }
    }
}

/// What to import and how.
#[derive(Debug)]
pub struct ImportOptions {
    /// JSON files and tables, told apart by their names (`is_table`).
    pub files: Vec<ImportFile>,
    /// Whether to archive what the files no longer contain.
    pub replace: Replace,
}

/// A file to import, open.
#[derive(Debug)]
pub struct ImportFile {
    path: PathBuf,
    file: File,
}

/// Opens the files, in their order.
///
/// # Errors
/// [`ImportError::Input`]
pub fn open_files(paths: &[PathBuf]) -> Result<Vec<ImportFile>, ImportError> {
    let open = |path: &PathBuf| match File::open(path) {
        Ok(file) => Ok(ImportFile { path: path.clone(), file }),
        Err(error) => Err(ImportError::Input(path.display().to_string(), error)),
    };
    paths.iter().map(open).collect()
}

/// Imports the files and returns the changes.
///
/// # Errors
/// [`ImportError`]; nothing was written then.
pub async fn import(store: &Store, options: ImportOptions, now: WallTime) -> Result<Changes, ImportError> {
    let progress = Progress::new();
    let key = store.pin_key().await?;
    let version = store.directory_version().await?;
    let draft = read(options, key, &progress)?;
    let changes = compare(store, draft, &progress).await?;
    if let Some((archived, people)) = changes.asks_for_all {
        return Err(ImportError::TooMany { archived, people });
    }
    // With `version` the write fails if another import ran since the comparison.
    if !changes.documents.is_empty() {
        let all = changes.documents.len();
        store
            .import(&changes.documents, version, now, |done| progress.say(|| format!("{done} of {all} written")))
            .await?;
    }
    Ok(changes)
}

/// Returns the changes that an import would make, and writes nothing. Without a database everything would be added.
///
/// # Errors
/// [`ImportError`]
pub async fn try_import(store: Option<&Store>, options: ImportOptions) -> Result<Changes, ImportError> {
    let progress = Progress::new();
    // Without a PIN key there are no stored digests to compare with.
    let key = match store {
        Some(store) => store.drawn_pin_key().await?.unwrap_or_default(),
        None => String::new(),
    };
    let draft = read(options, key, &progress)?;
    match store {
        Some(store) => compare(store, draft, &progress).await,
        None => draft.finish().map_err(ImportError::Faults),
    }
}

/// Reads the files.
fn read(options: ImportOptions, key: String, progress: &Progress) -> Result<Draft, ImportError> {
    let mut draft = Draft::new(options.replace, key);
    for file in options.files {
        progress.say(|| format!("reading {}", file.path.display()));
        add_file(&mut draft, file)?;
    }
    draft.read().map_err(ImportError::Faults)
}

/// Compares what was read with the stored directory.
async fn compare(store: &Store, mut draft: Draft, progress: &Progress) -> Result<Changes, ImportError> {
    let mut compared = 0;
    store
        .each_entity(|kind, stored| {
            draft.stored(kind, stored.id, stored.archived, &stored.document);
            compared += 1;
            progress.say(|| format!("{compared} stored entities compared"));
        })
        .await?;
    draft.finish().map_err(ImportError::Faults)
}

fn add_file(draft: &mut Draft, file: ImportFile) -> Result<(), ImportError> {
    let ImportFile { path, file } = file;
    let name = path.display().to_string();
    let unread = |error| ImportError::Input(name.clone(), error);
    let size = file.metadata().map_err(unread)?.len();
    if size > MAX_FILE {
        draft.unreadable(&name, &format!("the file has {size} octets, more than the limit; split it"));
        return Ok(());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(unread)?;
    let Some(text) = decoded(bytes) else {
        draft.unreadable(&name, "not UTF-8; save it as \"CSV UTF-8\" or JSON in UTF-8");
        return Ok(());
    };
    if is_table(&path) {
        draft.csv(&name, &text);
    } else {
        draft.json(&name, &text);
    }
    Ok(())
}

/// Whether the file is a table, judging by its name.
fn is_table(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["csv", "tsv", "tab", "txt"].into_iter().any(|table| table.eq_ignore_ascii_case(extension))
}

/// Decodes UTF-8, or UTF-16 with a byte order mark (spreadsheets call it "Unicode text").
fn decoded(bytes: Vec<u8>) -> Option<String> {
    let units = |from: fn([u8; 2]) -> u16| {
        let (units, rest) = bytes.as_chunks::<2>();
        let units: Vec<u16> = units.iter().map(|unit| from(*unit)).collect();
        String::from_utf16(&units).ok().filter(|_| rest.is_empty())
    };
    match bytes.get(..2) {
        Some([0xff, 0xfe]) => units(u16::from_le_bytes),
        Some([0xfe, 0xff]) => units(u16::from_be_bytes),
        Some(_) | None => String::from_utf8(bytes).ok(),
    }
}

/// The changes as JSON.
pub fn json(changes: &Changes, dry_run: bool) -> String {
    let mut value = serde_json::to_value(changes).expect("changes are plain data");
    if let Value::Object(fields) = &mut value {
        fields.insert("DryRun".to_owned(), dry_run.into());
    }
    pretty(&value)
}

/// The changes as text. An import prints only the counts; a dry run also lists the entities.
pub fn text(changes: &Changes, dry_run: bool) -> String {
    let Changes { added, changed, archived, unchanged, people_losing_credentials, .. } = changes;
    let mut text = String::new();
    if dry_run {
        for (sign, list) in [("add", added), ("change", changed), ("archive", archived)] {
            for change in list.iter().take(MAX_LISTED) {
                text.push_str(&line(sign, change));
            }
            if list.len() > MAX_LISTED {
                writeln!(text, "{sign:8}and {} more; --json lists them all", list.len() - MAX_LISTED)
                    .expect("writing to a String");
            }
        }
    }
    let would = if dry_run { "would be " } else { "" };
    write!(
        text,
        "{} {would}added, {} {would}changed, {} {would}archived, {unchanged} unchanged",
        added.len(),
        changed.len(),
        archived.len()
    )
    .expect("writing to a String");
    match people_losing_credentials {
        0 => {}
        1 => text.push_str("; 1 person loses a credential"),
        many => write!(text, "; {many} people lose a credential").expect("writing to a String"),
    }
    if let Some((some, people)) = changes.asks_for_all {
        write!(text, "; this archives {some} of {people} people, more than a tenth: it needs --replace=all")
            .expect("writing to a String");
    }
    text.push_str(match (dry_run, changes.documents.is_empty()) {
        (true, _) => "; nothing was written\n",
        (false, true) => "\n",
        (false, false) => "; a running daemon uses it within five seconds\n",
    });
    text
}

fn line(sign: &str, change: &EntityChange) -> String {
    let name = change.name.as_deref().map(plain).unwrap_or_default();
    let loses = if change.loses_credential { "loses a credential" } else { "" };
    let mut line = format!("{sign:8}{} {}", change.kind.noun(), change.id);
    for (before, part) in [(" ", name), (": ", plain(&change.fields.join(", "))), ("; ", loses.to_owned())] {
        if !part.is_empty() {
            line = line + before + &part;
        }
    }
    line + "\n"
}
