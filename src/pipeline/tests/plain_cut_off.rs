//! Open check-ins without a coworker end at the daily cut-off.

use std::time::Duration;

use super::gateway::{Gateway, at};
use crate::{
    base::record::{BusinessId, CheckinSource},
    store::PlainCheckin,
};

/// Opens a check-in of no one now.
async fn open(site: &Gateway, business: i64) {
    let calendar = site.pipeline.policy().calendar();
    let now = site.clock.now().wall;
    let plain = PlainCheckin {
        business: BusinessId(business),
        source: CheckinSource::Manual,
        times: (now, None),
        calendar: &calendar,
    };
    site.pipeline.context.store.add_plain_checkin(plain, "desk", None, now).await.expect("written");
}

/// How many check-ins are open.
async fn still_open(site: &Gateway) -> usize {
    site.pipeline.context.store.open_checkins().await.expect("read").len()
}

#[tokio::test]
async fn an_open_check_in_of_no_one_ends_when_the_pass_day_turns_or_at_the_next_start() {
    let mut site = Gateway::new("2026-03-02T22:00:00Z").await;
    open(&site, 1).await;
    open(&site, 2).await;
    site.pass(Duration::from_mins(119)).await;
    assert_eq!(still_open(&site).await, 2);
    site.pass(Duration::from_mins(2)).await;
    assert_eq!(still_open(&site).await, 1, "the gateway of the other business ends its own");
    let day = (at("2026-03-02T00:00:00Z"), at("2026-03-03T00:00:00Z"));
    let ended = site.pipeline.context.store.checkins_between(BusinessId(1), day.0, day.1).await.expect("read");
    assert_eq!((ended[0].to_time, ended[0].auto_checkout), (Some(day.1), true));

    // The daemon is off over the next cut-off.
    open(&site, 1).await;
    site.clock.advance(Duration::from_hours(30));
    site.restart().await;
    site.settle(Vec::new(), Vec::new()).await;
    assert_eq!(still_open(&site).await, 1);
    let next = site.pipeline.context.store.checkins_between(BusinessId(1), day.1, at("2026-03-04T00:00:00Z")).await;
    assert_eq!(next.expect("read")[0].to_time, Some(at("2026-03-04T00:00:00Z")));
}
