//! The marks by which a gateway notices that the database went back in time.

use crate::store::{
    marks::CommitMark,
    tests::fresh::{Fresh, contract},
};

contract!(a_mark_moves_forward_and_shows_when_the_database_went_back);

async fn a_mark_moves_forward_and_shows_when_the_database_went_back(fresh: Fresh) {
    let store = &fresh.store;
    let mark = |turn, place| CommitMark { turn, place };
    let put = async |known: CommitMark, to: CommitMark| {
        let mut batch = store.batch().await.expect("begins");
        let moved = batch.move_mark("a", known, to).await.expect("answered");
        batch.commit().await.expect("commits");
        (moved, store.mark("a").await.expect("answered"))
    };
    assert_eq!(put(mark(0, 0), mark(1, 1)).await, (false, None), "there is no mark, as in a database before the first");
    assert_eq!(store.begin_mark("a").await.expect("begins"), mark(0, 0));
    assert_eq!(put(mark(0, 0), mark(1, 10)).await, (true, Some(mark(1, 10))));
    assert_eq!(put(mark(1, 10), mark(2, 0)).await, (true, Some(mark(2, 10))), "a transaction without door messages");
    assert_eq!(put(mark(1, 10), mark(3, 11)).await, (true, Some(mark(3, 11))), "a commit whose answer was lost");
    assert_eq!(put(mark(4, 11), mark(5, 12)).await, (false, Some(mark(3, 11))), "a transaction is missing");
    assert_eq!(put(mark(3, 12), mark(5, 12)).await, (false, Some(mark(3, 11))), "messages are missing");
    assert_eq!(store.begin_mark("a").await.expect("is there"), mark(3, 11));
    assert_eq!(store.mark("b").await.expect("answered"), None);
}
