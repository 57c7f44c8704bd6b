//! Imports, versions of the directory, and what is left of passes.

use crate::{
    base::{
        clock::WallTime,
        record::{BusinessId, CoworkerId},
    },
    directory::{
        entity::EntityKind,
        import::{self, Document, EntryPlace},
    },
    policy::HISTORY,
    store::{
        StoreError,
        statement::Statement,
        tests::{
            examples::{at, said},
            fresh::{Fresh, contract},
        },
    },
};

contract!(
    an_import_is_loaded_and_counted,
    an_import_after_a_restore_is_another_version_with_the_same_number,
    a_directory_of_many_is_read_in_pages,
    what_an_import_replaces_is_still_there_for_its_time,
    versions_that_nothing_late_can_ask_for_are_forgotten,
    what_is_left_of_a_pass_counts_from_the_import_that_said_it,
);

async fn an_import_is_loaded_and_counted(fresh: Fresh) {
    let key = fresh.store.pin_key().await.expect("drawn");
    assert_eq!(fresh.store.pin_key().await.expect("kept"), key);
    let text = r#"{"Businesses": [{"Id": 1, "Name": "Hub One"}],
        "Coworkers": [{"Id": 7, "FullName": "Ada", "AccessCardId": "8165538", "AccessPincode": "4711"}]}"#;
    let documents = import::read_json(text, &key).expect("reads").documents;
    let before = fresh.store.directory_version().await.expect("answered");
    let mut seen = 0;
    fresh.store.import(&documents, before, at(1), |done| seen = done).await.expect("imported");
    let late = fresh.store.import(&documents, before, at(2), |_| {}).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "compared with a version that was replaced: {late:?}");
    fresh.store.import(&documents, before + 1, at(2), |_| {}).await.expect("again");
    assert_eq!(seen, 2);
    let directory = fresh.store.load_directory().await.expect("loaded");
    assert_eq!((directory.version, directory.coworkers()), (before + 2, 1));
    assert_eq!(directory.business(BusinessId(1)), Some("Hub One"));
    let page = fresh.store.directory_page(EntityKind::Coworker, 0).await.expect("a page");
    assert_eq!(page.iter().map(|stored| (stored.id, stored.archived)).collect::<Vec<_>>(), [(7, false)]);
    // The digest of the PIN may contain its digits by chance, so look for the PIN as a value.
    assert!(page[0].document.contains("8165538") && !page[0].document.contains("\"4711\""), "{page:?}");
    assert_eq!(fresh.store.directory_page(EntityKind::Coworker, 7).await.expect("a page"), []);
    assert_eq!(fresh.store.drawn_pin_key().await.expect("answered"), Some(key));
}

async fn an_import_after_a_restore_is_another_version_with_the_same_number(fresh: Fresh) {
    let ada = r#"{"Coworkers": [{"Id": 1, "FullName": "Ada"}]}"#;
    let before = fresh.imports(ada, 1000).await.version_id();
    assert_eq!(fresh.store.newest_directory().await.expect("answered"), before);
    let loaded = fresh.batch_versions().await;
    // As a restore of a database from before this import does.
    for undo in ["UPDATE directory_version SET version = version - 1", "DELETE FROM directory_versions"] {
        fresh.store.sql.change(Statement { columns: &[], sqlite: undo, postgres: undo }, &[]).await.expect("undone");
    }
    let after = fresh.imports(ada, 1000).await.version_id();
    assert_eq!(before.number, after.number);
    assert_ne!(before.id, after.id);
    assert_eq!(fresh.store.newest_directory().await.expect("answered"), after);
    assert_eq!((loaded, fresh.batch_versions().await), (before, after), "a batch sees the difference");
    // A program that does not know the column.
    let old = "INSERT INTO directory_versions (version, in_force) VALUES (9, 1)";
    fresh.store.sql.change(Statement { columns: &[], sqlite: old, postgres: old }, &[]).await.expect("written");
    let known = fresh.store.directory_versions().await.expect("answered").pop().map(|(version, _)| version);
    assert_eq!(known.map(|version| (version.number, version.id.is_nil())), Some((9, !fresh.store.is_shared())));
}

async fn a_directory_of_many_is_read_in_pages(fresh: Fresh) {
    let document = |id| Document {
        kind: EntityKind::Coworker,
        id,
        archived: id % 2 == 0,
        body: format!("{{\"Id\":{id},\"FullName\":\"Member\"}}"),
        holder: None,
        basis: None,
        place: EntryPlace::Stored,
    };
    let documents: Vec<Document> = (1..=2500).map(document).collect();
    assert_eq!(fresh.store.drawn_pin_key().await.expect("answered"), None);
    let before = fresh.store.directory_version().await.expect("answered");
    fresh.store.import(&documents, before, at(1), |_| {}).await.expect("imported");
    let mut ids = Vec::new();
    loop {
        let page = fresh.store.directory_page(EntityKind::Coworker, ids.last().copied().unwrap_or(0)).await;
        let page = page.expect("a page");
        if page.is_empty() {
            break;
        }
        assert!(page.iter().all(|stored| stored.archived == (stored.id % 2 == 0)));
        ids.extend(page.iter().map(|stored| stored.id));
    }
    assert_eq!(ids, (1..=2500).collect::<Vec<_>>());
}

async fn what_an_import_replaces_is_still_there_for_its_time(fresh: Fresh) {
    let site = |name: &str, also: &str| {
        format!(
            r#"{{"Businesses": [{{"Id": 1, "Name": "Hub One"}}],
                "TimePasses": [{{"Id": 3, "Name": "10 hours", "MinutesIncluded": 600}}],
                "CoworkerTimePasses": [{{"Id": 51, "CoworkerId": 1, "TimePassId": 3, "RemainingUses": 5}}],
                "Coworkers": [{{"Id": 1, "FullName": "{name}"}}{also}]}}"#
        )
    };
    let expected = |version, people, name: &str| (version, people, Some(name.to_owned()), Some("Hub One".to_owned()));
    let first = fresh.imports(&site("Ada", ""), 1000).await;
    assert_eq!(said(&first), expected(1, 1, "Ada"));
    fresh.imports(&site("Ada", r#", {"Id": 2, "FullName": "Bob"}"#), 2000).await;
    fresh.imports(&site("Ada Lovelace", ""), 3000).await;
    // Imports only Bob; whatever is not in an import stays.
    fresh.imports(r#"{"Coworkers": [{"Id": 2, "FullName": "Bob", "Archived": true}]}"#, 4000).await;
    let versions = fresh.versions().await;
    assert_eq!(versions, [(1, at(1000)), (2, at(2000)), (3, at(3000)), (4, at(4000))]);
    let mut found = Vec::new();
    for version in 1..=4 {
        let directory = fresh.store.load_directory_of(version).await.expect("loaded");
        let basis: Vec<WallTime> = directory.usable(CoworkerId(1)).map(|held| held.basis_at).collect();
        assert_eq!(basis, [at(1000)], "{version}: what is left of the pass is what the first import said");
        found.push(said(&directory));
    }
    let bob = async |version| {
        let directory = fresh.store.load_directory_of(version).await.expect("loaded");
        directory.coworker(CoworkerId(2)).map(|coworker| coworker.archived)
    };
    assert_eq!(found[0], expected(1, 1, "Ada"), "unchanged");
    assert_eq!(found[1], expected(2, 2, "Ada"));
    assert_eq!(found[2], expected(3, 2, "Ada Lovelace"));
    assert_eq!((bob(1).await, bob(2).await, bob(3).await), (None, Some(false), Some(false)));
    assert_ne!(bob(4).await, Some(false));

    let newest = fresh.store.load_directory().await.expect("loaded");
    assert_eq!(said(&newest), found[3]);
    let history = fresh.store.load_directories().await.expect("loaded");
    assert_eq!(said(history.latest()), found[3]);
    assert_eq!(history.missing(at(2500)), [2, 3], "those only in the database");
    assert_eq!(history.between(None, at(9000)), [at(2000), at(3000), at(4000)]);
    assert_eq!(fresh.count("directory_past").await, 2, "an unchanged entity is kept once");
}

async fn versions_that_nothing_late_can_ask_for_are_forgotten(fresh: Fresh) {
    let history = i64::try_from(HISTORY.as_millis()).expect("some days");
    let site = |name: &str| format!(r#"{{"Coworkers": [{{"Id": 1, "FullName": "{name}"}}]}}"#);
    for (name, now) in [("A", 1000), ("B", 2000), ("C", 3000)] {
        fresh.imports(&site(name), now).await;
    }
    // The second was in force ten days before this.
    fresh.imports(&site("D"), history + 2500).await;
    let versions = fresh.versions().await;
    assert_eq!(versions.iter().map(|(version, _)| *version).collect::<Vec<_>>(), [2, 3, 4]);
    let mut names = Vec::new();
    for version in 2..=4 {
        let directory = fresh.store.load_directory_of(version).await.expect("loaded");
        names.push(said(&directory).2.expect("a name"));
    }
    assert_eq!(names, ["B", "C", "D"]);
    assert_eq!(fresh.count("directory_past").await, 2);
}

async fn what_is_left_of_a_pass_counts_from_the_import_that_said_it(fresh: Fresh) {
    let pass = |name: &str, left: u32| {
        format!(
            r#"{{"TimePasses": [{{"Id": 3, "Name": "10 hours", "MinutesIncluded": 600}}],
                "Coworkers": [{{"Id": 1, "FullName": "Ada"}}],
                "CoworkerTimePasses": [{{"Id": 51, "CoworkerId": 1, "TimePassId": 3, "RemainingUses": {left},
                                         "TimePassName": "{name}"}}]}}"#
        )
    };
    for (said, now, since) in
        [(pass("10 hours", 600), 1, 1), (pass("Ten hours", 600), 2, 1), (pass("Ten hours", 540), 3, 3)]
    {
        let directory = fresh.imports(&said, now).await;
        let basis: Vec<WallTime> = directory.usable(CoworkerId(1)).map(|held| held.basis_at).collect();
        assert_eq!(basis, [at(since)], "{said}");
    }
    let other = pass("Ten hours", 540)
        .replace("\"CoworkerId\": 1", "\"CoworkerId\": 2")
        .replace("\"Id\": 1, \"Full", "\"Id\": 2, \"Full");
    let directory = fresh.imports(&other, 4).await;
    let basis: Vec<WallTime> = directory.usable(CoworkerId(2)).map(|held| held.basis_at).collect();
    assert_eq!(basis, [at(4)], "the new holder starts with the new import's figures");
}
