//! API users and their tokens.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    access::{Reach, Right, Rights, Role, RoleEntity, TokenKind, User},
    store::{
        Rotation, TokenPair,
        tests::{
            examples::{at, pair, password, user},
            fresh::{Fresh, contract},
        },
    },
};

contract!(
    a_token_is_held_until_it_ends_or_its_user_goes,
    a_refresh_token_is_taken_once,
    a_new_password_leaves_no_token_of_the_old_one,
);

async fn a_token_is_held_until_it_ends_or_its_user_goes(fresh: Fresh) {
    let (ada, pair) = (user("ada"), pair("first"));
    let rights = Rights::Roles(BTreeSet::from([
        Role::of(RoleEntity::Checkin, Right::Read),
        Role::of(RoleEntity::FailedCheckin, Right::List),
    ]));
    assert!(fresh.store.add_user(&ada, &password("old"), &rights, &Reach::All, at(1)).await.expect("written"));
    assert!(
        !fresh
            .store
            .add_user(&ada, &password("new"), &Rights::Administrator, &Reach::All, at(2))
            .await
            .expect("answered")
    );
    assert!(
        !fresh.store.put_tokens(&ada, &password("new"), &pair, at(3)).await.expect("answered"),
        "not this password"
    );
    assert!(fresh.store.put_tokens(&ada, &password("old"), &pair, at(3)).await.expect("written"));
    let end = at(3).plus(TokenKind::Access.lifetime());
    let holder = fresh.store.token_holder(&pair.access, end.minus(Duration::from_millis(1))).await.expect("answered");
    assert_eq!(
        holder,
        Some(User { name: ada.clone(), rights, reach: Reach::All, created_on: at(1), updated_on: at(1) })
    );
    assert_eq!(fresh.store.token_holder(&pair.access, end).await.expect("answered"), None);
    assert!(fresh.store.set_rights(&ada, &Rights::Administrator, &Reach::All, at(4)).await.expect("written"));
    let holder = fresh.store.token_holder(&pair.access, at(4)).await.expect("answered").expect("still held");
    assert_eq!((holder.rights, holder.updated_on), (Rights::Administrator, at(4)));
    assert!(fresh.store.remove_user(&ada).await.expect("written"));
    assert_eq!(fresh.store.token_holder(&pair.access, at(5)).await.expect("answered"), None);
    assert!(!fresh.store.remove_user(&ada).await.expect("answered"));
    assert_eq!(fresh.store.users().await.expect("answered"), vec![]);
}

async fn a_refresh_token_is_taken_once(fresh: Fresh) {
    let (ada, first, next) = (user("ada"), pair("first"), ["a", "b", "c", "d"].map(pair));
    let exchanged = Rotation::Exchanged(ada.clone());
    assert!(
        fresh
            .store
            .add_user(&ada, &password("old"), &Rights::Administrator, &Reach::All, at(1))
            .await
            .expect("written")
    );
    assert!(fresh.store.put_tokens(&ada, &password("old"), &first, at(1)).await.expect("written"));
    let take = async |token: &TokenPair, next: &TokenPair, millis| {
        fresh.store.rotate_tokens(&token.refresh, next, at(millis)).await.expect("answered")
    };
    let holds =
        async |pair: &TokenPair| fresh.store.token_holder(&pair.access, at(70_000)).await.expect("answered").is_some();
    assert_eq!(take(&pair("unknown"), &next[0], 2).await, Rotation::Unknown);
    let access = fresh.store.rotate_tokens(&first.access, &next[0], at(2)).await.expect("answered");
    assert_eq!(access, Rotation::Unknown, "not a refresh token");
    // The answer was lost: once, and the pair in it is of no use to anyone.
    assert_eq!(take(&first, &next[0], 2).await, exchanged);
    assert_eq!(take(&first, &next[1], 60_002).await, exchanged);
    assert_eq!((holds(&next[0]).await, holds(&next[1]).await), (false, true));
    assert_eq!(take(&next[1], &next[2], 60_003).await, exchanged);
    assert!(holds(&next[2]).await);
    // A third time, two clients have it.
    assert_eq!(take(&first, &next[3], 60_004).await, Rotation::Reused(ada.clone()));
    for pair in [&first, &next[1], &next[2], &next[3]] {
        assert!(!holds(pair).await);
    }
    assert_eq!(take(&next[2], &next[3], 60_005).await, Rotation::Unknown);
    // After a minute, or if the new pair has been used, it was not the answer that was lost.
    for (used, millis) in [(false, 60_003), (true, 3)] {
        let [first, second, third] = ["first", "second", "third"].map(|name| pair(&format!("{name} {used}")));
        let other = pair(&format!("other {used}"));
        for pair in [&first, &other] {
            assert!(fresh.store.put_tokens(&ada, &password("old"), pair, at(1)).await.expect("written"));
        }
        assert_eq!(take(&first, &second, 2).await, exchanged);
        if used {
            assert_eq!(take(&second, &third, 2).await, exchanged);
        }
        assert_eq!(take(&first, &pair("again"), millis).await, Rotation::Reused(ada.clone()), "{used}");
        assert_eq!((holds(&second).await, holds(&third).await, holds(&other).await), (false, false, true), "{used}");
    }
    // Of clients that ask at the same time, the third is one too many.
    let both = pair("both");
    assert!(fresh.store.put_tokens(&ada, &password("old"), &both, at(1)).await.expect("written"));
    let [a, b] = ["f", "g"].map(pair);
    let (one, other) = tokio::join!(take(&both, &a, 2), take(&both, &b, 2));
    assert_eq!((one, other), (exchanged.clone(), exchanged));
    assert!(holds(&a).await != holds(&b).await);
}

async fn a_new_password_leaves_no_token_of_the_old_one(fresh: Fresh) {
    let ada = user("ada");
    assert!(
        fresh
            .store
            .add_user(&ada, &password("old"), &Rights::Administrator, &Reach::All, at(1))
            .await
            .expect("written")
    );
    let before = pair("before");
    assert!(fresh.store.put_tokens(&ada, &password("old"), &before, at(1)).await.expect("written"));
    for round in 0..8 {
        let (old, new) = (password(&format!("{round}")), password(&format!("{}", round + 1)));
        assert!(fresh.store.set_password(&ada, &old, at(2)).await.expect("written"));
        let racing = pair(&format!("racing {round}"));
        let (put, set) = tokio::join!(
            fresh.store.put_tokens(&ada, &old, &racing, at(2)),
            fresh.store.set_password(&ada, &new, at(2)),
        );
        put.expect("before the new password, or refused");
        assert!(set.expect("written"));
        assert_eq!(fresh.store.token_holder(&racing.access, at(2)).await.expect("answered"), None, "round {round}");
    }
    assert_eq!(fresh.store.token_holder(&before.access, at(2)).await.expect("answered"), None);
}
