//! The single statement with which an ordinary batch reads its state; also used without a transaction by read-only
//! commands.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{
    base::{
        fact::{FactKey, LogDay, Subject},
        version::VersionId,
    },
    engine::{passes::Used, person::PersonState},
    store::{
        batch::{
            log::{DecidedFact, FACTS, day_rows, decided_fact},
            people::{CHECKPOINTS, PersonRow, StoredPerson, checkpoint},
            presences::{PresenceRow, UnloggedPresence},
            transaction::Batch,
            usage::{PASS_USERS, pass_rows, pass_user},
        },
        columns::sql,
        error::StoreError,
        handle::Store,
        hex::hex,
        rows::row,
        statement::{Arg, Statement, statement},
        stored::Row,
    },
};

row! {
    /// A fact that may be in the log. Its digest is hexadecimal text, and `arrived` is 1 if its time is the time of
    /// arrival.
    struct FactToLookUp {
        position: i64,
        day: LogDay,
        subject: Subject,
        at: i64,
        digest: String,
        arrived: u8,
    }
}

/// Everything that an ordinary batch needs, in one row, because passing a row between threads costs SQLite more than
/// finding it: the person states and the presences of the subjects in `$1`; which of the facts in `$2` are in the log;
/// and the newest versions of directory and settings.
///
/// Everything is found by primary keys, except facts that arrived without a time, by the unique index `facts_arrived`.
const LOAD: Statement = statement!(
    sqlite: sql!(
        "SELECT
           (SELECT version FROM directory_version) AS version,
           (SELECT v.id FROM directory_versions v WHERE v.version = (SELECT version FROM directory_version)) AS version_id,
           (SELECT max(number) FROM site_policies) AS policies,
           (SELECT p.id FROM site_policies p WHERE p.number = (SELECT max(number) FROM site_policies)) AS policies_id,
           (SELECT json_group_array(json_array(", [PersonRow, json Sqlite: "s.*"], ")) FROM json_each($1) r
              CROSS JOIN standings s WHERE s.subject = r.value) AS standings,
           (SELECT json_group_array(json_array(", [PresenceRow, json Sqlite: "p.*"], ")) FROM json_each($1) r
              CROSS JOIN presences p WHERE p.subject = r.value) AS presences,
           (SELECT json_group_array(r.value->>'position') FROM json_each($2) r WHERE EXISTS (SELECT 1 FROM facts f
                WHERE f.day = r.value->>'day' AND f.subject = r.value->>'subject' AND f.at = r.value->>'at'
                  AND f.digest = unhex(r.value->>'digest'))
              OR r.value->>'arrived' = 1 AND EXISTS (SELECT 1 FROM facts f
                WHERE f.digest = unhex(r.value->>'digest') AND f.arrived = TRUE)) AS known",
    ),
    postgres: sql!(
        "SELECT
           (SELECT version FROM directory_version) AS version,
           (SELECT v.id FROM directory_versions v WHERE v.version = (SELECT version FROM directory_version)) AS version_id,
           (SELECT max(number) FROM site_policies) AS policies,
           (SELECT p.id FROM site_policies p WHERE p.number = (SELECT max(number) FROM site_policies)) AS policies_id,
           (SELECT coalesce(CAST(json_agg(json_build_array(", [PersonRow, json Postgres: "s.*"], ")) AS text), '[]')
              FROM jsonb_array_elements_text($1::jsonb) AS r(value) JOIN standings s ON s.subject = CAST(r.value AS bigint)
           ) AS standings,
           (SELECT coalesce(CAST(json_agg(json_build_array(", [PresenceRow, json Postgres: "p.*"], ")) AS text), '[]')
              FROM jsonb_array_elements_text($1::jsonb) AS r(value) JOIN presences p ON p.subject = CAST(r.value AS bigint)
           ) AS presences,
           (SELECT coalesce(CAST(json_agg(CAST(r.value->>'position' AS bigint)) AS text), '[]')
              FROM jsonb_array_elements($2::jsonb) AS r(value) WHERE EXISTS (SELECT 1 FROM facts f
                WHERE f.day = CAST(r.value->>'day' AS bigint) AND f.subject = CAST(r.value->>'subject' AS bigint)
                  AND f.at = CAST(r.value->>'at' AS bigint) AND f.digest = decode(r.value->>'digest', 'hex'))
              OR r.value->>'arrived' = '1' AND EXISTS (SELECT 1 FROM facts f
                WHERE f.digest = decode(r.value->>'digest', 'hex') AND f.arrived = TRUE)) AS known",
    )
);

/// The result of [`Batch::load`].
#[derive(Debug, Default)]
pub(crate) struct BatchRows {
    /// The newest version of the directory.
    pub(crate) directory: VersionId,
    /// The newest version of any site's settings.
    pub(crate) policies: VersionId,
    pub(crate) people: BTreeMap<Subject, StoredPerson>,
    /// Presences that are not in a fact yet.
    pub(crate) unlogged: BTreeMap<Subject, Vec<UnloggedPresence>>,
    /// Which of the facts are in the log, by index.
    pub(crate) known: BTreeSet<usize>,
}

impl BatchRows {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let version = |number, id| {
            let (number, id) = (row.opt_int(number)?.unwrap_or_default(), row.opt_text(id)?.unwrap_or_default());
            Ok::<_, StoreError>(VersionId::read(number, &id))
        };
        let mut loaded = Self {
            directory: version("version", "version_id")?,
            policies: version("policies", "policies_id")?,
            known: row.json("known")?,
            ..Self::default()
        };
        for person in row.json::<Vec<PersonRow>>("standings")? {
            loaded.people.insert(person.subject, person.try_into()?);
        }
        for presence in row.json::<Vec<PresenceRow>>("presences")? {
            let presence = UnloggedPresence::try_from(presence)?;
            loaded.unlogged.entry(presence.subject).or_default().push(presence);
        }
        Ok(loaded)
    }
}

impl Store {
    /// Person states, and everyone's usage of some passes, without a transaction: for commands that write nothing.
    pub(crate) async fn people(
        &self,
        people: &BTreeSet<Subject>,
        passes: &BTreeSet<Uuid>,
    ) -> Result<(BatchRows, Vec<(Uuid, Subject, Used)>), StoreError> {
        let people: Vec<&Subject> = people.iter().collect();
        let rows = self.sql.read(LOAD, &[Arg::json(&people), Arg::Json("[]".to_owned())]).await?;
        let loaded = rows.first().map(BatchRows::read).transpose()?.unwrap_or_default();
        if passes.is_empty() {
            return Ok((loaded, Vec::new()));
        }
        let rows = self.sql.read(PASS_USERS, &[pass_rows(passes)]).await?;
        Ok((loaded, rows.iter().map(pass_user).collect::<Result<_, _>>()?))
    }

    /// The checkpoints and the facts of these people on these days, without a transaction: for commands that write
    /// nothing.
    pub(crate) async fn past(
        &self,
        days: &[(Subject, LogDay)],
    ) -> Result<(Vec<(Subject, LogDay, PersonState)>, Vec<DecidedFact>), StoreError> {
        let days = [Arg::rows(&day_rows(days))];
        let checkpoints = self.sql.read(CHECKPOINTS, &days).await?.iter().map(checkpoint).collect::<Result<_, _>>()?;
        let facts = self.sql.read(FACTS, &days).await?.iter().map(decided_fact).collect::<Result<_, _>>()?;
        Ok((checkpoints, facts))
    }
}

impl Batch {
    /// Loads what an ordinary batch needs about these subjects and facts.
    pub(crate) async fn load(
        &mut self,
        subjects: &BTreeSet<Subject>,
        facts: &[FactKey],
    ) -> Result<BatchRows, StoreError> {
        let sought = facts.iter().zip(0..).map(|(fact, position)| FactToLookUp {
            position,
            day: fact.day,
            subject: fact.subject,
            at: fact.at.millis(),
            digest: hex(&fact.digest.0),
            arrived: u8::from(fact.arrived),
        });
        let subjects: Vec<&Subject> = subjects.iter().collect();
        let args = [Arg::json(&subjects), Arg::json_rows(&sought.collect::<Vec<_>>())];
        let rows = self.transaction.rows(LOAD, &args).await?;
        rows.first().map(BatchRows::read).transpose().map(Option::unwrap_or_default)
    }
}

#[cfg(test)]
pub(super) fn statements() -> Vec<(Statement, usize)> {
    vec![(LOAD, 2)]
}

#[cfg(test)]
pub(super) fn indexed() -> Vec<(Statement, usize, &'static [&'static str])> {
    vec![(
        LOAD,
        2,
        &[
            "SEARCH s USING INTEGER PRIMARY KEY (rowid=?)",
            "SEARCH p USING PRIMARY KEY (subject=?)",
            "SEARCH f USING PRIMARY KEY (day=? AND subject=? AND at=? AND digest=?)",
            "SEARCH f USING INDEX facts_arrived (digest=?)",
        ],
    )]
}
