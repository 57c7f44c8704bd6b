//! The documents of the directory: imported as a whole, loaded as a whole.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Deserializer;

use super::{
    batch::Batch,
    error::StoreError,
    handle::Store,
    limits::IMPORT,
    rows::row,
    statement::{Arg, Statement, statement},
    stored::Row,
};
use crate::{
    base::{clock::WallTime, record::CoworkerId, version::VersionId},
    directory::{Builder, Directory, entity::EntityKind, history::DirectoryHistory, import::Document},
    policy::HISTORY,
};

/// The number of documents sent to the database at once: roughly a megabyte of JSON, whatever the size of the import.
const CHUNK: usize = 1000;

/// One entity as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntity {
    /// Its id, unique among its kind.
    pub id: i64,
    /// Whether it is no longer in use.
    pub archived: bool,
    /// The document as JSON.
    pub document: String,
    /// When it last changed.
    pub updated_on: WallTime,
}

/// By the primary keys.
const VERSION: Statement = statement!(
    "SELECT n.version, n.pin_key, coalesce(v.id, '') AS id
     FROM directory_version n LEFT JOIN directory_versions v ON v.version = n.version"
);
/// The same, with the newest policy of any business.
pub(super) const NEWEST: Statement = statement!(
    "SELECT n.version, coalesce(v.id, '') AS id, coalesce((SELECT max(number) FROM site_policies), 0) AS policy,
       coalesce((SELECT p.id FROM site_policies p WHERE p.number = (SELECT max(number) FROM site_policies)), '') AS policy_id
     FROM directory_version n LEFT JOIN directory_versions v ON v.version = n.version"
);
/// Entities that people refer to; the next two read the people, and what they hold. All are in the order of the primary
/// key, so nothing is sorted. An archived plan's limits still apply, and an archived kind of pass must be recognised as
/// archived.
const REFERRED_TO: Statement = statement!(
    "SELECT kind, document, updated_on AS said_on FROM directory
     WHERE kind IN ('business', 'tariff', 'team', 'time_pass') AND (archived = FALSE OR kind IN ('tariff', 'time_pass'))
     ORDER BY kind, id"
);
const PEOPLE: Statement =
    statement!("SELECT kind, document, updated_on AS said_on FROM directory WHERE kind = 'coworker' ORDER BY kind, id");
const HELD: Statement = statement!(
    "SELECT kind, document, coalesce(basis_at, updated_on) AS said_on FROM directory
     WHERE kind = 'coworker_time_pass' AND archived = FALSE ORDER BY kind, id"
);
const DRAW_PIN_KEY: Statement = statement!("UPDATE directory_version SET pin_key = $1 WHERE pin_key = ''");
const PAGE: Statement = statement!(
    "SELECT id, document, archived, updated_on FROM directory WHERE kind = $1 AND id > $2 ORDER BY id LIMIT 1000"
);
/// By the primary key.
const HIGHEST: Statement = statement!("SELECT coalesce(max(id), 0) AS id FROM directory WHERE kind = $1");
/// The same for an earlier version: entities in force then, whether they still are or have been replaced since.
macro_rules! of_version {
    ($version:literal, $which:expr) => {
        concat!(
            "SELECT kind, document, said_on FROM (
               SELECT kind, id, document, archived, holder, coalesce(basis_at, updated_on) AS said_on FROM directory
                 WHERE since <= ",
            $version,
            "
               UNION ALL
               SELECT kind, id, document, archived, holder, said_on FROM directory_past
                 WHERE since <= ",
            $version,
            " AND until > ",
            $version,
            "
             ) AS d WHERE ",
            $which,
            " ORDER BY kind, id"
        )
    };
}
const REFERRED_TO_THEN: Statement = statement!(of_version!(
    "$1",
    "kind IN ('business', 'tariff', 'team', 'time_pass') AND (archived = FALSE OR kind IN ('tariff', 'time_pass'))"
));
const PEOPLE_THEN: Statement = statement!(of_version!("$1", "kind = 'coworker'"));
const HELD_THEN: Statement = statement!(of_version!("$1", "kind = 'coworker_time_pass' AND archived = FALSE"));
/// The same for some people and what they hold, by the primary keys and the indexes of holders.
macro_rules! of_people {
    ($which:expr) => {
        concat!(
            "SELECT d.kind, d.document, coalesce(d.basis_at, d.updated_on) AS said_on FROM r CROSS JOIN directory d
               WHERE ",
            $which,
            " AND d.since <= $2
             UNION ALL
             SELECT d.kind, d.document, d.said_on FROM r CROSS JOIN directory_past d
               WHERE ",
            $which,
            " AND d.since <= $2 AND d.until > $2"
        )
    };
}
const THESE_PEOPLE_THEN: Statement =
    statement!(rows(CoworkerRow) of_people!("d.kind = 'coworker' AND d.id = r.coworker_id"));
const HELD_BY_THEM_THEN: Statement =
    statement!(rows(CoworkerRow) of_people!("d.holder = r.coworker_id AND d.archived = FALSE"));
/// The versions after a given one that changed anything about some people; a pass may have moved from one person to
/// another. By the primary keys and the indexes of holders.
const ABOUT_PEOPLE: Statement = statement!(
    rows(CoworkerRow)
    "SELECT d.since AS version FROM r CROSS JOIN directory d
       WHERE d.kind = 'coworker' AND d.id = r.coworker_id AND d.since > $2
     UNION SELECT d.since FROM r CROSS JOIN directory d WHERE d.holder = r.coworker_id AND d.since > $2
     UNION SELECT d.since FROM r CROSS JOIN directory_past d
       WHERE d.kind = 'coworker' AND d.id = r.coworker_id AND d.since > $2
     UNION SELECT d.since FROM r CROSS JOIN directory_past d WHERE d.holder = r.coworker_id AND d.since > $2
     UNION SELECT d.until FROM r CROSS JOIN directory_past d WHERE d.holder = r.coworker_id AND d.until > $2"
);
/// The same for entities that all people refer to.
const ABOUT_REFERRED_TO: Statement = statement!(
    "SELECT d.since AS version FROM directory d
       WHERE d.kind IN ('business', 'tariff', 'team', 'time_pass') AND d.since > $1
     UNION SELECT d.since FROM directory_past d
       WHERE d.kind IN ('business', 'tariff', 'team', 'time_pass') AND d.since > $1"
);
/// A version imported while the clock was ahead came into force no later than those after it.
const VERSIONS: Statement = statement!(
    "SELECT v.version, v.id, (SELECT min(l.in_force) FROM directory_versions l WHERE l.version >= v.version) AS in_force
     FROM directory_versions v ORDER BY v.version"
);
const BRING_INTO_FORCE: Statement =
    statement!("INSERT INTO directory_versions (version, in_force, id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING");
/// Versions that no late fact can need any more; the one in force at `$1` is kept.
const FORGET_VERSIONS: Statement = statement!(
    "DELETE FROM directory_versions WHERE version < (SELECT max(v.version) FROM directory_versions v WHERE v.in_force <= $1)"
);
const FORGET_PAST: Statement =
    statement!("DELETE FROM directory_past WHERE until <= (SELECT min(version) FROM directory_versions)");
/// Saves the documents that [`PUT`] is about to replace, if they differ. By the primary key.
const REPLACED: Statement = statement!(
    rows(DocumentRow<'_>)
    "INSERT INTO directory_past (kind, id, since, until, document, archived, holder, said_on)
     SELECT d.kind, d.id, d.since, $2, d.document, d.archived, d.holder, coalesce(d.basis_at, d.updated_on)
     FROM r JOIN directory d ON d.kind = r.kind AND d.id = r.id WHERE d.document <> r.document OR d.archived <> r.archived"
);
/// Changes nothing if the version has changed by now.
const COUNT_UP: Statement = statement!("UPDATE directory_version SET version = version + 1 WHERE version = $1");
/// The primary key finds the row that is replaced. `since` and `basis_at` stay as they are if nothing they date
/// changes.
const PUT: Statement = statement!(
    rows(DocumentRow<'_>)
    "INSERT INTO directory (kind, id, document, archived, holder, updated_on, basis, basis_at, since)
     SELECT kind, id, document, archived, holder, updated_on, basis, updated_on, $2 FROM r WHERE true
     ON CONFLICT (kind, id) DO UPDATE SET
       since = CASE WHEN directory.document <> excluded.document OR directory.archived <> excluded.archived
                    THEN excluded.since ELSE directory.since END,
       document = excluded.document, archived = excluded.archived, holder = excluded.holder, updated_on = excluded.updated_on,
       basis = excluded.basis,
       basis_at = CASE WHEN directory.basis IS DISTINCT FROM excluded.basis OR directory.holder <> excluded.holder
                       THEN excluded.basis_at ELSE directory.basis_at END"
);

row! {
    pub(super) struct CoworkerRow {
        coworker_id: CoworkerId,
    }
}

const NOTHING: &[Arg] = &[];

row! {
    struct DocumentRow<'a> {
        kind: &'a str,
        id: i64,
        document: &'a str,
        archived: bool,
        holder: Option<i64>,
        updated_on: WallTime,
        basis: Option<&'a str>,
    }
}

impl Store {
    /// The number of the version, which every import increments.
    pub async fn directory_version(&self) -> Result<i64, StoreError> {
        Ok(self.newest_directory().await?.number)
    }

    /// The version, with its random id.
    pub async fn newest_directory(&self) -> Result<VersionId, StoreError> {
        self.sql.read(VERSION, &[]).await?.first().map_or(Ok(VersionId::default()), version_id)
    }

    /// The newest version of the directory and the newest policy of any business.
    pub async fn newest(&self) -> Result<(VersionId, VersionId), StoreError> {
        let rows = self.sql.read(NEWEST, &[]).await?;
        rows.first().map_or(Ok(Default::default()), newest)
    }

    /// The stored entities of a kind, by id: the first thousand after the id `after`. Empty at the end.
    pub async fn directory_page(&self, kind: EntityKind, after: i64) -> Result<Vec<StoredEntity>, StoreError> {
        let rows = self.sql.read(PAGE, &[Arg::Text(kind.word().to_owned()), Arg::Int(after)]).await?;
        let stored = |row: Row| {
            Ok(StoredEntity {
                id: row.int("id")?,
                archived: row.bool("archived")?,
                document: row.text("document")?,
                updated_on: row.time("updated_on")?,
            })
        };
        rows.into_iter().map(stored).collect()
    }

    /// Visits every stored entity, kind by kind in the order of [`EntityKind::ALL`], by id. Reads page by page: the stored
    /// directory may be larger than what it is compared with.
    pub async fn each_entity(&self, mut each: impl FnMut(EntityKind, &StoredEntity)) -> Result<(), StoreError> {
        for kind in EntityKind::ALL {
            let mut after = 0;
            loop {
                let page = self.directory_page(kind, after).await?;
                let Some(last) = page.last() else { break };
                after = last.id;
                for stored in &page {
                    each(kind, stored);
                }
            }
        }
        Ok(())
    }

    /// The highest id of a kind; 0 if there is none.
    pub async fn highest_id(&self, kind: EntityKind) -> Result<i64, StoreError> {
        let rows = self.sql.read(HIGHEST, &[Arg::Text(kind.word().to_owned())]).await?;
        rows.first().map_or(Ok(0), |row| row.int("id"))
    }

    /// One stored entity.
    pub async fn directory_entity(&self, kind: EntityKind, id: i64) -> Result<Option<StoredEntity>, StoreError> {
        // The first one after the number before it.
        let Some(before) = id.checked_sub(1) else { return Ok(None) };
        Ok(self.directory_page(kind, before).await?.into_iter().next().filter(|entity| entity.id == id))
    }

    /// The key with which PINs are digested; `None` if none has been drawn yet.
    pub async fn drawn_pin_key(&self) -> Result<Option<String>, StoreError> {
        let key = self.sql.read(VERSION, &[]).await?.first().map(|row| row.text("pin_key")).transpose()?;
        Ok(key.filter(|key| !key.is_empty()))
    }

    /// The key with which PINs are digested; the first caller draws it.
    pub async fn pin_key(&self) -> Result<String, StoreError> {
        let drawn = crate::base::random::uuid().simple().to_string();
        self.sql.change(DRAW_PIN_KEY, &[Arg::Text(drawn)]).await?;
        self.sql.read(VERSION, &[]).await?.first().map_or(Ok(String::new()), |row| row.text("pin_key"))
    }

    /// Builds the snapshot. A document that cannot be read any more (written by another version) is skipped with a
    /// warning.
    pub async fn load_directory(&self) -> Result<Directory, StoreError> {
        let version = self.newest_directory().await?;
        build(&mut ReadFrom::Store(self), version, [REFERRED_TO, PEOPLE, HELD].map(|statement| (statement, NOTHING)))
            .await
    }

    /// Builds the snapshot of an earlier version.
    pub async fn load_directory_of(&self, version: i64) -> Result<Directory, StoreError> {
        let args = [Arg::Int(version)];
        let statements = [REFERRED_TO_THEN, PEOPLE_THEN, HELD_THEN].map(|statement| (statement, args.as_slice()));
        build(&mut ReadFrom::Store(self), VersionId { number: version, ..VersionId::default() }, statements).await
    }

    /// The snapshot, and the times when it and earlier ones came into force.
    pub async fn load_directories(&self) -> Result<DirectoryHistory, StoreError> {
        let newest = Arc::new(self.load_directory().await?);
        Ok(DirectoryHistory::new(&self.directory_versions().await?, newest))
    }

    /// When each version that a late fact may need came into force.
    pub async fn directory_versions(&self) -> Result<Vec<(VersionId, WallTime)>, StoreError> {
        let version = |row: &Row| Ok((version_id(row)?, WallTime::from_millis(row.int("in_force")?)));
        self.sql.read(VERSIONS, &[]).await?.iter().map(version).collect()
    }

    /// Stores the documents of an import, all or none; a running daemon notices the new version. `over` is the version
    /// with which they were compared. `progress` gets the number of documents stored so far.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there has been another import meanwhile.
    pub async fn import(
        &self,
        documents: &[Document],
        over: i64,
        now: WallTime,
        mut progress: impl FnMut(usize),
    ) -> Result<(), StoreError> {
        let mut transaction = self.sql.begin_within(IMPORT).await?;
        // First: on PostgreSQL a second import waits here for the row lock, and then finds another version.
        if transaction.change(COUNT_UP, &[Arg::Int(over)]).await? == 0 {
            return Err(StoreError::Conflict);
        }
        let version = over + 1;
        let id = crate::base::random::uuid().to_string();
        transaction.change(BRING_INTO_FORCE, &[Arg::Int(version), Arg::Int(now.millis()), Arg::Text(id)]).await?;
        let old = Arg::Int(now.minus(HISTORY).millis());
        transaction.change(FORGET_VERSIONS, &[old]).await?;
        transaction.change(FORGET_PAST, &[]).await?;
        let mut done = 0;
        // In the order in which a batch locks them, so an import and a batch wait for each other and never deadlock.
        let mut ordered: Vec<&Document> = documents.iter().collect();
        ordered.sort_by_key(|document| (document.kind.word(), document.id));
        for chunk in ordered.chunks(CHUNK) {
            let rows: Vec<DocumentRow<'_>> = chunk.iter().map(|document| row(document, now)).collect();
            let args = [Arg::rows(&rows), Arg::Int(version)];
            transaction.change(REPLACED, &args).await?;
            transaction.change(PUT, &args).await?;
            done += chunk.len();
            progress(done);
        }
        transaction.commit().await
    }
}

impl Batch {
    /// An earlier version of the directory, with only some people and the entities that all people refer to.
    pub(crate) async fn people_of_then(
        &mut self,
        version: i64,
        people: &BTreeSet<CoworkerId>,
    ) -> Result<Directory, StoreError> {
        let about = [coworker_rows(people), Arg::Int(version)];
        let version_only = [Arg::Int(version)];
        let statements: [(Statement, &[Arg]); 3] =
            [(REFERRED_TO_THEN, &version_only), (THESE_PEOPLE_THEN, &about), (HELD_BY_THEM_THEN, &about)];
        build(&mut ReadFrom::Batch(self), VersionId { number: version, ..VersionId::default() }, statements).await
    }

    /// The versions after `after` that changed anything about these people, or about entities that all people refer to.
    pub(crate) async fn versions_about(
        &mut self,
        people: &BTreeSet<CoworkerId>,
        after: i64,
    ) -> Result<BTreeSet<i64>, StoreError> {
        let mut rows = self.transaction.rows(ABOUT_PEOPLE, &[coworker_rows(people), Arg::Int(after)]).await?;
        rows.extend(self.transaction.rows(ABOUT_REFERRED_TO, &[Arg::Int(after)]).await?);
        rows.iter().map(|row| row.int("version")).collect()
    }
}

pub(super) fn coworker_rows<'a>(people: impl IntoIterator<Item = &'a CoworkerId>) -> Arg {
    Arg::rows(&people.into_iter().map(|&coworker_id| CoworkerRow { coworker_id }).collect::<Vec<_>>())
}

/// Where a directory is read from. A task that has begun a batch must use its connection.
enum ReadFrom<'a> {
    Store(&'a Store),
    Batch(&'a mut Batch),
}

impl ReadFrom<'_> {
    async fn each(
        &mut self,
        statement: Statement,
        args: &[Arg],
        mut each: impl FnMut(&Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Store(store) => store.sql.read_each(statement, args, each).await,
            Self::Batch(batch) => batch.transaction.rows_each(statement, args, |row| each(&row)).await,
        }
    }
}

/// The versions in a row of [`NEWEST`].
pub(super) fn newest(row: &Row) -> Result<(VersionId, VersionId), StoreError> {
    Ok((version_id(row)?, VersionId::read(row.int("policy")?, &row.text("policy_id")?)))
}

fn version_id(row: &Row) -> Result<VersionId, StoreError> {
    Ok(VersionId::read(row.int("version")?, &row.text("id")?))
}

async fn build(
    source: &mut ReadFrom<'_>,
    version: VersionId,
    statements: [(Statement, &[Arg]); 3],
) -> Result<Directory, StoreError> {
    let mut pin_key = String::new();
    let head = |row: &Row| {
        pin_key = row.text("pin_key")?;
        Ok(())
    };
    source.each(VERSION, &[], head).await?;
    let mut builder = Builder::new(version.number, &pin_key).with_id(version.id);
    for (statement, args) in statements {
        let each = |row: &Row| {
            let (kind, document, said_on) = (row.text("kind")?, row.text("document")?, row.time("said_on")?);
            match EntityKind::from_word(&kind).map(|kind| kind.read(&mut Deserializer::from_str(&document))) {
                Some(Ok(entity)) => builder.add_as_of(entity, said_on),
                Some(Err(_)) | None => {
                    tracing::warn!(kind, "an entity of the directory cannot be read; import it again");
                }
            }
            Ok(())
        };
        source.each(statement, args, each).await?;
    }
    Ok(builder.build())
}

fn row(document: &Document, now: WallTime) -> DocumentRow<'_> {
    DocumentRow {
        kind: document.kind.word(),
        id: document.id,
        document: &document.body,
        archived: document.archived,
        holder: document.holder,
        updated_on: now,
        basis: document.basis.as_deref(),
    }
}
