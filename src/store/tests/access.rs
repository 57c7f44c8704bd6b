//! API users and their tokens.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    access::{
        LONG_LIVED_PER_USER, LongLivedToken, Reach, Right, Rights, Role, RoleEntity, SignedIn, TokenDigest, TokenKind,
        TokenLimits, User,
    },
    base::record::BusinessId,
    store::{
        Rotation, TokenAdded, TokenPair,
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
    a_long_lived_token_is_held_until_it_ends_is_revoked_or_its_user_changes,
    a_user_has_some_long_lived_tokens_of_different_names,
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

/// A token of this user that was made at 10 and ends at 1000.
fn display(of: &str, name: &str) -> LongLivedToken {
    LongLivedToken {
        user: user(of),
        name: name.parse().expect("a name"),
        limits: TokenLimits { roles: None, reach: Reach::All, source: None },
        created_on: at(10),
        ends: at(20_000_000),
        last_used: None,
    }
}

async fn a_long_lived_token_is_held_until_it_ends_is_revoked_or_its_user_changes(fresh: Fresh) {
    let (store, ada, digest) = (&fresh.store, user("ada"), TokenDigest::of("display"));
    let read = Role::of(RoleEntity::Checkin, Right::Read);
    let added = store.add_long_lived_token(&display("ada", "door"), &digest).await;
    assert_eq!(added.expect("answered"), TokenAdded::NoUser);
    let both = Reach::of([BusinessId(1), BusinessId(2)]);
    assert!(store.add_user(&ada, &password("old"), &Rights::Administrator, &both, at(1)).await.expect("written"));
    let roles = Some(BTreeSet::from([read]));
    let reach = Reach::of([BusinessId(2)]);
    let source = Some("Sensor".parse().expect("a source"));
    let door = LongLivedToken { limits: TokenLimits { roles, reach: reach.clone(), source }, ..display("ada", "door") };
    assert_eq!(store.add_long_lived_token(&door, &digest).await.expect("written"), TokenAdded::Yes);
    assert_eq!(store.long_lived_tokens(Some(&ada)).await.expect("answered"), std::slice::from_ref(&door));

    let held = async |now| store.long_lived_holder(&digest, now).await.expect("answered");
    let rights = Rights::Roles(BTreeSet::from([read]));
    let signed_in = SignedIn { name: ada.clone(), rights, reach, source, token: Some(door.name.clone()) };
    let holder = held(at(19_999_999)).await.expect("not ended");
    assert_eq!((holder.signed_in, holder.is_use_unknown), (signed_in, true));
    assert_eq!(held(at(20_000_000)).await, None, "it has ended");
    assert_eq!(store.token_holder(&digest, at(20)).await.expect("answered"), None, "not a token of a pair");

    // Its use is known to the hour.
    for (used, known) in [(20, 20), (3_600_019, 20), (3_600_021, 3_600_021)] {
        store.note_token_use(&digest, at(used)).await.expect("written");
        let tokens = store.long_lived_tokens(None).await.expect("answered");
        assert_eq!(tokens[0].last_used, Some(at(known)), "{used}");
    }
    let is_unknown = async |now| held(at(now)).await.expect("held").is_use_unknown;
    assert_eq!((is_unknown(7_200_020).await, is_unknown(7_200_021).await), (false, true));

    // What the user may do no longer, the token does not allow either.
    let list = Rights::Roles(BTreeSet::from([Role::of(RoleEntity::Checkin, Right::List)]));
    assert!(store.set_rights(&ada, &list, &Reach::of([BusinessId(1)]), at(2)).await.expect("written"));
    let holder = held(at(30)).await.expect("held").signed_in;
    assert_eq!((holder.rights, holder.reach), (Rights::Roles(BTreeSet::new()), Reach::Only(BTreeSet::new())));

    assert!(store.revoke_long_lived_token(&ada, &door.name).await.expect("written"));
    assert!(!store.revoke_long_lived_token(&ada, &door.name).await.expect("answered"));
    assert_eq!(held(at(30)).await, None);
    assert_eq!(store.add_long_lived_token(&door, &digest).await.expect("written"), TokenAdded::Yes);
    assert!(store.set_password(&ada, &password("new"), at(3)).await.expect("written"));
    assert_eq!(held(at(30)).await, None, "a new password");
    assert_eq!(store.add_long_lived_token(&door, &digest).await.expect("written"), TokenAdded::Yes);
    assert!(store.remove_user(&ada).await.expect("written"));
    assert_eq!(held(at(30)).await, None, "no user");
    assert_eq!(store.long_lived_tokens(None).await.expect("answered"), vec![]);
}

async fn a_user_has_some_long_lived_tokens_of_different_names(fresh: Fresh) {
    let store = &fresh.store;
    for name in ["ada", "bob"] {
        let added = store.add_user(&user(name), &password("old"), &Rights::Administrator, &Reach::All, at(1)).await;
        assert!(added.expect("written"));
    }
    let add = async |token: &LongLivedToken| {
        let digest = TokenDigest::of(&format!("{} {} {:?}", token.user, token.name, token.created_on));
        store.add_long_lived_token(token, &digest).await.expect("answered")
    };
    for number in 0..LONG_LIVED_PER_USER {
        assert_eq!(add(&display("ada", &format!("door {number}"))).await, TokenAdded::Yes);
    }
    assert_eq!(add(&display("ada", "door 7")).await, TokenAdded::NameTaken);
    assert_eq!(add(&display("ada", "another")).await, TokenAdded::TooMany);
    assert_eq!(add(&display("bob", "door 7")).await, TokenAdded::Yes);
    // Those that have ended make room, and their names are free.
    let later = LongLivedToken { created_on: at(20_000_000), ends: at(30_000_000), ..display("ada", "door 7") };
    assert_eq!(add(&later).await, TokenAdded::Yes);
    assert_eq!(store.long_lived_tokens(Some(&user("ada"))).await.expect("answered"), [later]);
    assert_eq!(store.long_lived_tokens(None).await.expect("answered").len(), 2);
}
