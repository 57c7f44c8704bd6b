//! Edits of check-ins whose facts are deleted: nothing is folded again, but everything that was counted follows.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    gateway::at,
    hub::{Act, Hub},
};
use crate::{
    access::Reach,
    base::{clock::WallTime, record::CheckinId},
    directory::entity::EntityKind,
    pipeline::{EditAnswer, EditRequest, WantedEdit, WantedTimes},
    store::tests::{Fresh, contract},
};

/// Twelve hours a month, and a time pass that lasts the whole test.
fn hub(fresh: &Fresh) -> Hub {
    use EntityKind::{Coworker, CoworkerTimePass, Tariff, TimePass};
    Hub::on(
        fresh,
        vec![
            (Tariff, json!({"Id": 5, "Name": "Part time", "HoursMonthLimit": 12, "CheckinMonthLimit": 4})),
            (Coworker, json!({"Id": 7, "FullName": "Ada", "AccessCardId": "700", "TariffId": 5})),
            (TimePass, json!({"Id": 1, "Name": "Hours", "MinutesIncluded": 60_000, "CountsTowardsPlanLimits": true})),
            (CoworkerTimePass, json!({"Id": 1, "CoworkerId": 7, "TimePassId": 1, "RemainingMinutes": 1200})),
        ],
    )
}

async fn ask(hub: &mut Hub, wanted: WantedEdit) -> EditAnswer {
    let (reply, answer) = oneshot::channel();
    let by = Arc::from("desk@example.com");
    let request = EditRequest { wanted, by, reach: Reach::All, system_id: None, reply };
    let (_sender, mut waiting) = mpsc::channel(1);
    let never = CancellationToken::new();
    hub.gateway.pipeline.decide_edits(Some(request), &mut waiting, &never).await.expect("decides");
    answer.await.expect("an answer")
}

/// A visit of two hours on the 2nd, one of three hours on the 3rd and on the 4th, and the beginning of one on the 16th.
async fn a_month(fresh: &Fresh) -> (Hub, CheckinId) {
    let mut hub = hub(fresh);
    let mut first = None;
    for (hours, pause) in [(2, 22), (3, 21), (3, 285)] {
        hub.act(&Act::Tap("700")).await;
        hub.act(&Act::Wait(hours * 60)).await;
        hub.act(&Act::Out("700")).await;
        let now = hub.gateway.clock.now().wall;
        let (known, _) = hub
            .gateway
            .pipeline
            .context
            .store
            .overlapping_checkins(crate::base::record::CoworkerId(7), (now.minus(Duration::from_hours(1)), now))
            .await
            .expect("read")
            .remove(0);
        first.get_or_insert(known.id);
        hub.gateway.clock.advance(Duration::from_hours(pause));
        hub.gateway.settle(Vec::new(), Vec::new()).await;
    }
    (hub, first.expect("a visit"))
}

/// When the limit of the plan ends a visit that begins now.
async fn until(hub: &mut Hub) -> WallTime {
    hub.act(&Act::Tap("700")).await;
    let visits = hub.gateway.visits_of(7).await;
    let pass = visits.last().and_then(|visit| visit.pass.as_ref()).expect("a pass");
    pass.ends.expect("an end").0
}

async fn old_edits_change_what_was_counted(fresh: Fresh) {
    // Eight of twelve hours are used: four are left.
    let (mut hub, _) = a_month(&fresh).await;
    assert_eq!(until(&mut hub).await, at("2026-03-16T13:00:00Z"));
}

async fn a_shorter_visit_gives_hours_back(fresh: Fresh) {
    let (mut hub, first) = a_month(&fresh).await;
    let times = WantedTimes { from: at("2026-03-02T09:00:00Z"), to: Some(at("2026-03-02T10:00:00Z")) };
    let answer = ask(&mut hub, WantedEdit::Change { id: first, times }).await;
    let EditAnswer::Done(checkin) = answer else { panic!("{answer:?}") };
    assert_eq!((checkin.id, checkin.to_time, checkin.updated_by.as_str()), (first, times.to, "desk@example.com"));
    assert_eq!(until(&mut hub).await, at("2026-03-16T14:00:00Z"));
    // A late fact of the last days is folded from a checkpoint: it must know of the change too.
    hub.late_exit(14 * 1440 + 60).await;
    assert_eq!(until(&mut hub).await, at("2026-03-16T14:00:00Z"));
}

async fn a_deleted_visit_gives_its_day_back(fresh: Fresh) {
    let (mut hub, first) = a_month(&fresh).await;
    let answer = ask(&mut hub, WantedEdit::Remove { id: first }).await;
    assert!(matches!(answer, EditAnswer::Done(_)), "{answer:?}");
    assert_eq!(until(&mut hub).await, at("2026-03-16T15:00:00Z"));
    assert_eq!(hub.gateway.visits_of(7).await.len(), 3);
    // Two days of access are used, and today: one is left.
    for _ in 0..2 {
        hub.act(&Act::Out("700")).await;
        hub.gateway.clock.advance(Duration::from_hours(24));
        hub.gateway.settle(Vec::new(), Vec::new()).await;
        hub.act(&Act::Tap("700")).await;
    }
    let visits = hub.gateway.visits_of(7).await;
    assert_eq!(visits.len(), 4, "the fifth day is refused: {visits:?}");
}

contract!(old_edits_change_what_was_counted, a_shorter_visit_gives_hours_back, a_deleted_visit_gives_its_day_back);
