//! API users and their tokens.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    access::{Rights, Right, Role, RoleEntity, TokenKind, User},
    store::tests::{
        examples::{at, pair, password, user},
        fresh::{Fresh, contract},
    },
};

contract!(
    a_token_is_held_until_it_ends_or_its_user_goes,
    a_refresh_token_is_taken_once,
    a_new_password_leaves_no_token_of_the_old_one,
);

async fn a_token_is_held_until_it_ends_or_its_user_goes(fresh: Fresh) {
    let (ada, pair) = (user("ada"), pair("first"));
    let rights = Rights::Roles(BTreeSet::from([Role::of(RoleEntity::Checkin, Right::Read), Role::of(RoleEntity::FailedCheckin, Right::List)]));
    assert!(fresh.store.add_user(&ada, &password("old"), &rights, at(1)).await.expect("written"));
    assert!(!fresh.store.add_user(&ada, &password("new"), &Rights::Administrator, at(2)).await.expect("answered"));
    assert!(
        !fresh.store.put_tokens(&ada, &password("new"), &pair, at(3)).await.expect("answered"),
        "not this password"
    );
    assert!(fresh.store.put_tokens(&ada, &password("old"), &pair, at(3)).await.expect("written"));
    let end = at(3).plus(TokenKind::Access.lifetime());
    let holder = fresh.store.token_holder(&pair.access, end.minus(Duration::from_millis(1))).await.expect("answered");
    assert_eq!(holder, Some(User { name: ada.clone(), rights, created_on: at(1), updated_on: at(1) }));
    assert_eq!(fresh.store.token_holder(&pair.access, end).await.expect("answered"), None);
    assert!(fresh.store.set_rights(&ada, &Rights::Administrator, at(4)).await.expect("written"));
    let holder = fresh.store.token_holder(&pair.access, at(4)).await.expect("answered").expect("still held");
    assert_eq!((holder.rights, holder.updated_on), (Rights::Administrator, at(4)));
    assert!(fresh.store.remove_user(&ada).await.expect("written"));
    assert_eq!(fresh.store.token_holder(&pair.access, at(5)).await.expect("answered"), None);
    assert!(!fresh.store.remove_user(&ada).await.expect("answered"));
    assert_eq!(fresh.store.users().await.expect("answered"), vec![]);
}

async fn a_refresh_token_is_taken_once(fresh: Fresh) {
    let (ada, first, next) = (user("ada"), pair("first"), ["a", "b", "c", "d"].map(pair));
    assert!(fresh.store.add_user(&ada, &password("old"), &Rights::Administrator, at(1)).await.expect("written"));
    assert!(fresh.store.put_tokens(&ada, &password("old"), &first, at(1)).await.expect("written"));
    let take = |next| fresh.store.rotate_tokens(&first.refresh, next, at(2));
    let (a, b, c, d) = tokio::join!(take(&next[0]), take(&next[1]), take(&next[2]), take(&next[3]));
    let taken = [a, b, c, d].map(|taken| taken.expect("answered"));
    assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [&ada], "once");
    assert_eq!(
        fresh.store.rotate_tokens(&first.access, &pair("e"), at(2)).await.expect("answered"),
        None,
        "not a refresh"
    );
}

async fn a_new_password_leaves_no_token_of_the_old_one(fresh: Fresh) {
    let ada = user("ada");
    assert!(fresh.store.add_user(&ada, &password("old"), &Rights::Administrator, at(1)).await.expect("written"));
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
