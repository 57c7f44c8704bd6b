//! How long a connection may go unread because the queue is full.
//!
//! A connection that is not polled does not send either: neither acknowledgements nor pings go out. So the limit
//! applies to the time from the first pause until we have sent something, not to each pause. Polling in between is not
//! enough: the client library reads everything that has arrived before it sends a ping, and after a pause something has
//! always arrived.

use std::{pin::Pin, time::Duration};

use tokio::time::Sleep;

/// The budget of one connection.
pub(super) struct PauseBudget {
    span: Duration,
    left: Remaining,
}

enum Remaining {
    All,
    Some(Pin<Box<Sleep>>),
    None,
}

impl PauseBudget {
    /// A budget that is spent `span` after the first pause begins.
    pub(super) const fn new(span: Duration) -> Self {
        Self { span, left: Remaining::All }
    }

    /// A pause begins.
    pub(super) fn begin(&mut self) {
        if let Remaining::All = self.left {
            self.left = Remaining::Some(Box::pin(tokio::time::sleep(self.span)));
        }
    }

    /// We have sent something on the connection.
    pub(super) fn renew(&mut self) {
        self.left = Remaining::All;
    }

    /// Whether the budget is spent.
    pub(super) const fn is_spent(&self) -> bool {
        matches!(self.left, Remaining::None)
    }

    /// Waits until the budget is spent; never returns if no pause has begun. Safe to cancel.
    pub(super) async fn end(&mut self) {
        match &mut self.left {
            Remaining::All => std::future::pending().await,
            Remaining::Some(rest) => rest.await,
            Remaining::None => return,
        }
        self.left = Remaining::None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn is_spent(pause_budget: &mut PauseBudget) -> bool {
        pause_budget.end().now_or_never();
        pause_budget.is_spent()
    }

    #[tokio::test]
    async fn all_pauses_until_something_goes_out_share_one_budget() {
        let mut pause_budget = PauseBudget::new(Duration::from_secs(3600));
        pause_budget.begin();
        let Remaining::Some(rest) = &pause_budget.left else { panic!("a pause has begun") };
        let end = rest.deadline();
        assert!(!is_spent(&mut pause_budget));
        pause_budget.begin();
        assert!(matches!(&pause_budget.left, Remaining::Some(rest) if rest.deadline() == end));
        pause_budget.renew();
        pause_budget.begin();
        assert!(matches!(&pause_budget.left, Remaining::Some(rest) if rest.deadline() > end));
    }

    #[tokio::test]
    async fn a_spent_budget_stays_spent_until_something_goes_out() {
        let mut pause_budget = PauseBudget::new(Duration::ZERO);
        assert!(!is_spent(&mut pause_budget), "no pause has begun");
        pause_budget.begin();
        pause_budget.end().await;
        assert!(pause_budget.is_spent());
        pause_budget.begin();
        assert!(is_spent(&mut pause_budget));
        pause_budget.renew();
        assert!(!is_spent(&mut pause_budget));
    }
}
