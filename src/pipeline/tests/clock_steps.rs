//! The effect of a step of the wall clock on check-ins.

use std::time::Duration;

use super::gateway::{Gateway, at};
use crate::base::zone::test_zone;
use crate::base::{clock::CONFIRMED_AFTER, sighting::Direction};

const DAY: i64 = 86_400_000;

#[tokio::test]
async fn a_step_that_is_taken_back_leaves_no_trace() {
    for by in [10 * DAY, -10 * DAY, -20_000 * DAY, 3_600_000, -3_600_000] {
        let mut site = Gateway::new("2026-03-02T12:00:00Z").await;
        site.tap(1, Direction::In).await;
        site.see_phone().await;
        site.step(by);
        for _ in 0..30 {
            site.pass(Duration::from_mins(1)).await;
            site.see_phone().await;
        }
        site.tap(3, Direction::In).await;
        site.tap(1, Direction::In).await;
        site.step_back();
        site.pass(Duration::from_mins(30)).await;
        site.tap(1, Direction::Out).await;
        let expected = ["1 12:00-13:00", "2 12:00- last 12:30", "3 12:30- last 12:30"];
        assert_eq!(site.records().await, expected, "{by}");
    }
}

#[tokio::test]
async fn open_check_ins_move_with_a_step_that_lasts_and_end_at_the_right_time() {
    for (by, date) in [(10 * DAY, "2026-03-12"), (-10 * DAY, "2026-02-20")] {
        let mut site = Gateway::new("2026-03-02T12:00:00Z").await;
        site.tap(1, Direction::In).await;
        site.see_phone().await;
        site.tap(3, Direction::In).await;
        site.step(by);
        site.pass(Duration::from_mins(30)).await;
        site.see_phone().await;
        site.pass(CONFIRMED_AFTER).await;
        site.tap(1, Direction::In).await;
        assert_eq!(site.pipeline.present.len(), 2, "the phone was silent for an hour; the others are still in, {by}");
        site.tap(3, Direction::Out).await;
        assert_eq!(site.records().await, ["1 12:00- last 13:30", "2 12:00-12:30 auto", "3 12:00-13:30"], "{by}");
        let visits = site.visits().await;
        assert!(visits.iter().all(|visit| visit.from.to_rfc3339_seconds().starts_with(date)), "{visits:?}");
        site.pass(Duration::from_hours(11)).await;
        assert_eq!(site.records().await[0], "1 12:00-00:00 auto", "{by}");
    }
}

#[tokio::test]
async fn a_tap_from_before_the_clock_was_set_gets_the_time_that_it_had() {
    let mut site = Gateway::new("1970-01-01T00:00:20Z").await;
    let tap = site.door(1, Direction::In);
    let presence = site.presence();
    site.clock.advance(Duration::from_secs(40));
    site.clock.step_wall(at("2026-03-02T12:00:40Z"));
    site.settle(vec![tap], vec![presence]).await;
    site.pass(Duration::from_mins(5)).await;
    assert_eq!(site.records().await, ["1 12:00- last 12:00", "2 12:00- last 12:00"]);
}

#[tokio::test]
async fn at_the_first_synchronisation_what_was_open_before_keeps_its_times_and_what_came_since_moves() {
    // Switched off on the evening of the 1st. At noon the next day the machine boots with its clock still at that
    // evening.
    let mut site = Gateway::after("2026-03-01T20:00:00Z", Duration::from_secs(30)).await;
    site.tap(1, Direction::In).await;
    site.restart().await;
    site.pass(Duration::from_mins(1)).await;
    site.tap(3, Direction::In).await;
    site.step(DAY / 24 * 16);
    site.pass(Duration::from_mins(1)).await;
    assert_eq!(site.records().await, ["1 20:00-00:00 auto", "3 12:01- last 12:01"]);
}

#[tokio::test]
async fn the_cut_off_comes_once_where_the_clocks_change() {
    let zone = test_zone("Europe/London");
    for (start, until) in [
        ("2026-03-28T22:30:00Z", "2026-03-29T00:00:00Z"),
        ("2026-03-29T00:30:00Z", "2026-03-29T23:00:00Z"),
        ("2026-10-24T22:30:00Z", "2026-10-24T23:00:00Z"),
        ("2026-10-24T23:30:00Z", "2026-10-26T00:00:00Z"),
    ] {
        let mut site = Gateway::in_zone(start, Duration::from_secs(5000), zone.clone()).await;
        site.tap(1, Direction::In).await;
        let left = at(until).since(at(start));
        site.pass(left.saturating_sub(Duration::from_mins(1))).await;
        assert_eq!(site.pipeline.present.len(), 1, "{start}");
        site.pass(Duration::from_mins(2)).await;
        let visits = site.visits().await;
        assert_eq!(visits.iter().map(|visit| visit.to).collect::<Vec<_>>(), [Some(at(until))], "{start}");
    }
}
