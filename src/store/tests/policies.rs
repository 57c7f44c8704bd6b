//! The settings with which a site decides.

use std::time::Duration;

use crate::{
    base::record::BusinessId,
    policy::{HISTORY, SitePolicy, site::Site},
    store::{
        statement::{Arg, Statement},
        tests::{
            examples::{PASSES, at},
            fresh::{Fresh, contract},
        },
    },
};

contract!(
    settings_are_written_when_they_differ,
    settings_from_a_clock_that_was_ahead_are_in_force_at_once,
    old_settings_are_forgotten_but_for_the_last,
);

async fn settings_are_written_when_they_differ(fresh: Fresh) {
    let policy = |business, minutes| SitePolicy {
        site: Site {
            business: BusinessId(business),
            idle_limit: Duration::from_mins(minutes),
            ..crate::policy::site::test_site()
        },
        doors: Vec::new(),
    };
    let store = &fresh.store;
    assert_eq!(store.newest().await.expect("answered").1.number, 0);
    assert_eq!(store.read_policies().await.expect("answered").newest.number, 0);
    let put = async |business, minutes, now| {
        let history = store.policies(&policy(business, minutes), at(now)).await.expect("written");
        assert_eq!(store.read_policies().await.expect("answered"), history);
        assert_eq!(store.newest().await.expect("answered").1, history.newest);
        history
    };
    assert_eq!(put(1, 10, 1000).await.newest.number, 1);
    assert_eq!(put(1, 10, 2000).await.newest.number, 1, "unchanged");
    assert_eq!(put(2, 20, 3000).await.newest.number, 2);
    assert_eq!(put(1, 30, 4000).await.newest.number, 3);
    let history = put(1, 10, 5000).await;
    assert_eq!(history.newest.number, 4, "equal to an earlier version, but not to the current one");
    let minutes = |business, millis| {
        let policy = history.at(BusinessId(business), at(millis)).expect("is known");
        policy.site.idle_limit.as_secs() / 60
    };
    let asked = [(1, 500), (1, 3999), (1, 4000), (1, 9000), (2, 9000)];
    assert_eq!(asked.map(|(business, millis)| minutes(business, millis)), [10, 10, 30, 10, 20]);
    assert_eq!(history.latest(BusinessId(1)).map(|latest| (**latest).clone()), Some(policy(1, 10)));

    let number = history.newest.number + 1;
    let damaged = "INSERT INTO site_policies (number, business_id, in_force, policy) VALUES ($1, 1, 6000, '{}')";
    let put_damaged = Statement { columns: &[], sqlite: damaged, postgres: damaged };
    store.sql.change(put_damaged, &[Arg::Int(number)]).await.expect("written");
    let left = store.read_policies().await.expect("answered");
    assert_eq!((left.newest.number, left.latest(BusinessId(1))), (number, history.latest(BusinessId(1))));
}

async fn settings_from_a_clock_that_was_ahead_are_in_force_at_once(fresh: Fresh) {
    let policy = |minutes| SitePolicy {
        site: Site { idle_limit: Duration::from_mins(minutes), ..crate::policy::site::test_site() },
        doors: Vec::new(),
    };
    for (minutes, now, newest) in
        [(1, 1000, 1), (2, 90_000, 2), (2, 3000, 3), (2, 4000, 3), (3, 90_000, 4), (2, 5000, 5)]
    {
        let history = fresh.store.policies(&policy(minutes), at(now)).await.expect("written");
        assert_eq!(history.newest.number, newest, "{minutes} {now}");
        for known in [history.at(BusinessId(1), at(now)), history.latest(BusinessId(1))] {
            assert_eq!(known.map(|known| (**known).clone()), Some(policy(minutes)), "{now}");
        }
    }
    fresh.imports(PASSES, 90_000).await;
    fresh.imports(r#"{"Coworkers": [{"Id": 1, "FullName": "Eve"}]}"#, 5000).await;
    fresh.imports(r#"{"Coworkers": [{"Id": 1, "FullName": "Ida"}]}"#, 6000).await;
    let versions = fresh.versions().await;
    assert_eq!(versions, [(1, at(5000)), (2, at(5000)), (3, at(6000))]);
    let history = fresh.store.load_directories().await.expect("loaded");
    assert_eq!((history.at(at(6000)).version, history.missing(at(5500))), (3, vec![2]));
}

async fn old_settings_are_forgotten_but_for_the_last(fresh: Fresh) {
    let history = i64::try_from(HISTORY.as_millis()).expect("some days");
    let policy = |business, minutes| SitePolicy {
        site: Site {
            business: BusinessId(business),
            idle_limit: Duration::from_mins(minutes),
            ..crate::policy::site::test_site()
        },
        doors: Vec::new(),
    };
    for (business, minutes, now) in
        [(1, 1, 1000), (2, 9, 1000), (2, 8, 1100), (1, 2, 2000), (1, 3, 3000), (1, 4, history + 2500)]
    {
        fresh.store.policies(&policy(business, minutes), at(now)).await.expect("written");
    }
    let kept = fresh.store.read_policies().await.expect("answered");
    let minutes = |business, millis| {
        kept.at(BusinessId(business), at(millis)).map_or(0, |policy| policy.site.idle_limit.as_secs() / 60)
    };
    assert_eq!([500, 2999, 3000, history + 2500].map(|millis| minutes(1, millis)), [2, 2, 3, 4]);
    assert_eq!(minutes(2, 500), 9, "forgetting affects only one business");
    assert_eq!(fresh.count("site_policies").await, 5);
}
