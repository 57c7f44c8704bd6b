//! What the pipeline remembers, when the database has lost it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    base::{health::ConditionKind, sighting::Direction},
    pipeline::tests::gateway::Gateway,
    source::{Delivery, Receipt, SpoolPlace},
    spool::SpoolLink,
};

async fn gateway() -> Gateway {
    let mut gateway = Gateway::after("2026-03-02T09:00:00Z", Duration::from_hours(1)).await;
    gateway.pipeline.context.spool = Some(SpoolLink::new("x".to_owned(), 0, 0, 10));
    gateway.crash().await;
    gateway
}

fn went_back(gateway: &Gateway) -> bool {
    gateway.pipeline.context.health.is_raised(ConditionKind::DatabaseWentBack, "")
}

fn at_place(delivery: Delivery, round: u32, seq: i64) -> Delivery {
    Delivery::new(delivery.source, delivery.content, Receipt::new(|| {}).at(SpoolPlace { round, seq }))
}

#[tokio::test]
async fn a_visit_that_the_database_lost_is_not_continued_in_memory() {
    let mut gateway = gateway().await;
    gateway.see_phone().await;
    gateway.pass(Duration::from_mins(5)).await;
    gateway.see_phone().await;
    assert_eq!(gateway.pipeline.present.len(), 1);
    gateway.lose_everything().await;
    assert!(!went_back(&gateway));
    // Nothing arrives, and nothing is written.
    gateway.pass(Duration::from_secs(11)).await;
    assert!(went_back(&gateway));
    assert_eq!(gateway.pipeline.present.len(), 0);
    gateway.pass(Duration::from_mins(5)).await;
    gateway.see_phone().await;
    assert_eq!(gateway.records().await, ["2 09:10- last 09:10"]);
    gateway.pass(Duration::from_hours(25)).await;
    assert!(!went_back(&gateway), "it is told for a day");
}

#[tokio::test]
async fn a_transaction_after_which_the_database_went_back_is_decided_again() {
    let mut gateway = gateway().await;
    let never = CancellationToken::new();
    let link = gateway.pipeline.context.spool.clone().expect("a spool");
    let taps: Vec<Delivery> = [1, 3].map(|person| gateway.door(person, Direction::In)).into();
    let taps = taps.into_iter().zip(1..).map(|(tap, seq)| at_place(tap, 0, seq)).collect();
    gateway.settle(taps, Vec::new()).await;
    assert_eq!((link.marked(), gateway.records().await.len()), (2, 2));

    gateway.lose_everything().await;
    let tap = at_place(gateway.door(1, Direction::In), 0, 3);
    gateway.settle(vec![tap], Vec::new()).await;
    assert!(went_back(&gateway));
    assert_eq!(gateway.records().await, ["1 09:00- last 09:00"], "the tap that showed it is decided");
    assert_eq!(link.marked(), 0, "what the spool delivered before does not count");
    // The spool delivers them again.
    let again = at_place(gateway.door(3, Direction::In), 1, 1);
    gateway.settle(vec![again], Vec::new()).await;
    assert_eq!((link.marked(), gateway.records().await.len()), (1, 2));
    gateway.pipeline.compare_mark(&never).await.expect("compares");
}
