//! The time since the last frame counts as silence only once the next frame has been seen.

use std::time::Duration;

use super::{gateway::Gateway, scenario::Dice};

/// A site with a phone that is seen at 12:00 and again 46 minutes later, while coverage is proven only until 12:44: the
/// other capture has seen no frame since then.
async fn presence_before_its_coverage_is_proven() -> Gateway {
    let mut site = Gateway::new("2026-03-02T12:00:00Z").await;
    site.see_phone().await;
    site.pass(Duration::from_mins(44)).await;
    site.clock.advance(Duration::from_mins(2));
    site.see_phone().await;
    assert_eq!(site.records().await, ["2 12:00- last 12:46"], "a silence of 45 minutes is not proven");
    site
}

#[tokio::test]
async fn a_silence_that_is_proven_later_changes_what_was_decided_after_it() {
    let mut site = presence_before_its_coverage_is_proven().await;
    site.pass(Duration::from_mins(1)).await;
    assert_eq!(site.records().await, ["2 12:00-12:00 auto", "2 12:46- last 12:46"]);
    assert!(site.pipeline.unproven.is_empty());
}

#[tokio::test]
async fn time_that_turns_out_not_to_be_covered_is_no_silence() {
    let mut site = presence_before_its_coverage_is_proven().await;
    site.capture.lost();
    site.settle(Vec::new(), Vec::new()).await;
    site.pass(Duration::from_mins(1)).await;
    assert_eq!(site.records().await, ["2 12:00- last 12:46"]);
    assert!(site.pipeline.unproven.is_empty());
}

#[tokio::test]
async fn a_silence_ends_no_visit_before_a_frame_proves_the_coverage() {
    let mut site = Gateway::new("2026-03-02T12:00:00Z").await;
    site.see_phone().await;
    site.pass(Duration::from_mins(40)).await;
    for _ in 0..15 {
        site.clock.advance(Duration::from_mins(1));
        site.settle(Vec::new(), Vec::new()).await;
    }
    assert_eq!(site.records().await, ["2 12:00- last 12:00"], "the mirror may have failed at 12:40");
    site.pass(Duration::from_mins(1)).await;
    assert_eq!(site.records().await, ["2 12:00-12:00 auto"]);
}

#[tokio::test]
async fn deciding_at_once_comes_to_the_same_as_deciding_when_the_coverage_is_proven() {
    for seed in 0..16 {
        let dice = &mut Dice(seed);
        let mut at_once = Gateway::new("2026-03-02T08:00:00Z").await;
        let mut afterwards = Gateway::new("2026-03-02T08:00:00Z").await;
        let mut presences = Vec::new();
        for _ in 0..240 {
            let (frame, lost, seen) = (dice.one_in(10), dice.one_in(100), dice.one_in(20));
            for site in [&mut at_once, &mut afterwards] {
                site.clock.advance(Duration::from_mins(1));
                if frame {
                    site.capture.frame_seen(site.clock.now().boot);
                } else if lost {
                    site.capture.lost();
                }
            }
            let presence: Vec<_> = seen.then(|| at_once.presence()).into_iter().collect();
            presences.extend(presence.clone());
            at_once.settle(Vec::new(), presence).await;
            afterwards.settle(Vec::new(), Vec::new()).await;
        }
        for site in [&mut at_once, &mut afterwards] {
            site.capture.frame_seen(site.clock.now().boot);
        }
        afterwards.settle(Vec::new(), presences).await;
        for site in [&mut at_once, &mut afterwards] {
            site.pass(Duration::from_hours(2)).await;
        }
        assert_eq!(at_once.records().await, afterwards.records().await, "seed {seed}");
    }
}
