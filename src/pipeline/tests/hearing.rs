//! What follows the last frame is silence only when the next frame has come.

use std::time::Duration;

use super::{gateway::Gateway, scenario::Dice};

/// A phone that speaks at 12:00 and, 46 minutes later, at a moment when the captures have heard until 12:44: another one
/// of them has not.
async fn heard_before_it_is_known_that_we_hear() -> Gateway {
    let mut site = Gateway::new("2026-03-02T12:00:00Z").await;
    site.hear().await;
    site.pass(Duration::from_mins(44)).await;
    site.clock.advance(Duration::from_mins(2));
    site.hear().await;
    assert_eq!(site.records().await, ["2 12:00- last 12:46"], "no silence of 45 minutes is known");
    site
}

#[tokio::test]
async fn a_silence_that_becomes_known_changes_what_was_decided_after_it() {
    let mut site = heard_before_it_is_known_that_we_hear().await;
    site.pass(Duration::from_mins(1)).await;
    assert_eq!(site.records().await, ["2 12:00-12:00 auto", "2 12:46- last 12:46"]);
    assert!(site.pipeline.unproven.is_empty());
}

#[tokio::test]
async fn time_that_turns_out_to_be_deaf_is_no_silence() {
    let mut site = heard_before_it_is_known_that_we_hear().await;
    site.capture.lost();
    site.settle(Vec::new(), Vec::new()).await;
    site.pass(Duration::from_mins(1)).await;
    assert_eq!(site.records().await, ["2 12:00- last 12:46"]);
    assert!(site.pipeline.unproven.is_empty());
}

#[tokio::test]
async fn nobody_is_out_before_a_frame_shows_that_the_silence_was_heard() {
    let mut site = Gateway::new("2026-03-02T12:00:00Z").await;
    site.hear().await;
    site.pass(Duration::from_mins(40)).await;
    for _ in 0..15 {
        site.clock.advance(Duration::from_mins(1));
        site.settle(Vec::new(), Vec::new()).await;
    }
    assert_eq!(site.records().await, ["2 12:00- last 12:00"], "the mirror may have died at 12:40");
    site.pass(Duration::from_mins(1)).await;
    assert_eq!(site.records().await, ["2 12:00-12:00 auto"]);
}

#[tokio::test]
async fn what_is_decided_at_once_is_as_if_it_were_decided_when_it_is_known_what_was_heard() {
    for seed in 0..16 {
        let dice = &mut Dice(seed);
        let mut at_once = Gateway::new("2026-03-02T08:00:00Z").await;
        let mut afterwards = Gateway::new("2026-03-02T08:00:00Z").await;
        let mut said = Vec::new();
        for _ in 0..240 {
            let (frame, deaf, speaks) = (dice.one_in(10), dice.one_in(100), dice.one_in(20));
            for site in [&mut at_once, &mut afterwards] {
                site.clock.advance(Duration::from_mins(1));
                if frame {
                    site.capture.frame_seen(site.clock.now().boot);
                } else if deaf {
                    site.capture.lost();
                }
            }
            let heard: Vec<_> = speaks.then(|| at_once.presence()).into_iter().collect();
            said.extend(heard.clone());
            at_once.settle(Vec::new(), heard).await;
            afterwards.settle(Vec::new(), Vec::new()).await;
        }
        for site in [&mut at_once, &mut afterwards] {
            site.capture.frame_seen(site.clock.now().boot);
        }
        afterwards.settle(Vec::new(), said).await;
        for site in [&mut at_once, &mut afterwards] {
            site.pass(Duration::from_hours(2)).await;
        }
        assert_eq!(at_once.records().await, afterwards.records().await, "seed {seed}");
    }
}
