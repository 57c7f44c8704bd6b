//! What the database does not take is set aside, and nothing else waits for it.

use std::time::Duration;

use super::gateway::Gateway;
use crate::{
    base::{health::ConditionKind, record::BusinessId, sighting::Direction},
    store::SetAsideFact,
};

/// The person with card 8165601, and the one with the phone.
const REFUSED: [&str; 2] = [
    "CREATE TRIGGER poison_state BEFORE UPDATE ON standings WHEN NEW.subject = 1 BEGIN SELECT RAISE(ABORT, 'poison'); END",
    "CREATE TRIGGER poison_phone BEFORE INSERT ON presences WHEN NEW.subject = 2 BEGIN SELECT RAISE(ABORT, 'poison'); END",
];

impl Gateway {
    async fn execute(&self, statement: &'static str) {
        self.pipeline.context.store.execute(statement).await.expect("a statement");
    }

    async fn set_aside(&self) -> Vec<SetAsideFact> {
        self.pipeline.context.store.set_aside_at(BusinessId(1)).await.expect("read")
    }

    fn named(&self) -> Option<String> {
        let conditions = self.pipeline.context.health.conditions();
        conditions.into_iter().find(|condition| condition.kind == ConditionKind::SetAside).map(|found| found.detail)
    }
}

#[tokio::test]
async fn a_person_whose_state_cannot_be_written_holds_up_no_one_else() {
    let mut site = Gateway::new("2026-03-02T23:00:00Z").await;
    site.tap(1, Direction::In).await;
    site.tap(3, Direction::In).await;
    site.see_phone().await;
    site.pass(Duration::from_mins(3)).await;
    for statement in REFUSED {
        site.execute(statement).await;
    }
    // A presence that only continues the visit, and the timers of the cut-off at midnight.
    site.see_phone().await;
    site.pass(Duration::from_mins(62)).await;
    assert_eq!(
        site.records().await,
        ["1 23:00- last 23:00", "2 23:00-23:03 auto", "3 23:00-00:00 auto"],
        "the others are checked out"
    );
    let detail = site.named().expect("a condition");
    assert!(detail.contains("the state of 1 person"), "{detail}");
    assert!(!site.pipeline.context.health.is_raised(ConditionKind::DatabaseUnavailable, ""));
    // Their own taps are set aside, and those of others decided, in one batch too.
    let taps = vec![site.door(1, Direction::Out), site.door(3, Direction::In)];
    site.settle(taps, Vec::new()).await;
    assert_eq!(site.set_aside().await.len(), 1);
    assert!(site.records().await.contains(&"3 00:05- last 00:05".to_owned()), "{:?}", site.records().await);
    // When the cause is gone, they are checked out as of then.
    for name in ["DROP TRIGGER poison_state", "DROP TRIGGER poison_phone"] {
        site.execute(name).await;
    }
    site.pass(Duration::from_mins(11)).await;
    assert_eq!(site.records().await[0], "1 23:00-00:00 auto");
    let detail = site.named().expect("it names the fact for a day");
    assert!(detail.contains("1 fact of") && !detail.contains("person"), "{detail}");
    site.pass(Duration::from_hours(25)).await;
    assert_eq!(site.named(), None);
    assert_eq!(site.set_aside().await.len(), 1, "it is still in the table");
}

#[tokio::test]
async fn the_condition_names_exactly_what_is_set_aside_at_once() {
    let mut site = Gateway::new("2026-03-02T12:00:00Z").await;
    site.execute(
        "CREATE TRIGGER poison BEFORE INSERT ON facts BEGIN SELECT RAISE(ABORT, 'poison') WHERE NEW.subject = 1; END",
    )
    .await;
    for facts in 1..=4_usize {
        // One by one, and two in one batch.
        let taps = (0..facts).map(|_| site.door(1, Direction::In)).collect();
        site.settle(taps, Vec::new()).await;
        site.pass(Duration::from_secs(7)).await;
        let there = site.set_aside().await.len();
        let detail = site.named().expect("a condition");
        let words =
            if there == 1 { "did not take 1 fact of".to_owned() } else { format!("did not take {there} facts") };
        assert!(detail.contains(&words), "{there}: {detail}");
    }
    // Those of this hour are no longer named a day later, and the others are.
    site.pass(Duration::from_hours(23)).await;
    let one = vec![site.door(1, Direction::Out)];
    site.settle(one, Vec::new()).await;
    site.pass(Duration::from_hours(2)).await;
    let detail = site.named().expect("a condition");
    assert!(detail.contains("did not take 1 fact of"), "{detail}");
}

#[tokio::test]
async fn a_conflict_that_never_ends_is_set_aside() {
    let mut site = Gateway::new("2026-03-02T12:00:00Z").await;
    // An index that is not ours: with a check-in of one person it refuses every check-in of the other.
    site.tap(3, Direction::In).await;
    site.execute("CREATE UNIQUE INDEX poison ON checkins (business_id) WHERE coworker_id IN (1, 3)").await;
    let taps = vec![site.door(1, Direction::In)];
    site.settle(taps, Vec::new()).await;
    assert_eq!(site.set_aside().await.len(), 1);
    assert!(site.records().await.contains(&"3 12:00- last 12:00".to_owned()), "{:?}", site.records().await);
}
