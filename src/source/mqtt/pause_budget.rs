//! How long a connection may go unread because there is no room for what it brings.
//!
//! Who does not read does not send either: acknowledgements and pings go out when the connection is polled. So what
//! counts is not how long one pause lasts, but the time from the first pause until something of ours has gone out. It is
//! not enough that the connection was polled in between: the client library reads whatever there is before it thinks
//! of a ping, and behind a pause there always is something.

use std::{pin::Pin, time::Duration};

use tokio::time::Sleep;

/// One connection's.
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
    /// So long from the first pause until it is over.
    pub(super) const fn new(span: Duration) -> Self {
        Self { span, left: Remaining::All }
    }

    /// The connection pauses.
    pub(super) fn spend(&mut self) {
        if let Remaining::All = self.left {
            self.left = Remaining::Some(Box::pin(tokio::time::sleep(self.span)));
        }
    }

    /// Something of ours has gone out on the connection.
    pub(super) fn renew(&mut self) {
        self.left = Remaining::All;
    }

    /// May the connection pause no more?
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.left, Remaining::None)
    }

    /// Waits until it is over, for ever where nothing of it was spent. May be dropped.
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

    fn is_over(pause_budget: &mut PauseBudget) -> bool {
        pause_budget.end().now_or_never();
        pause_budget.is_over()
    }

    #[tokio::test]
    async fn many_pauses_are_as_long_as_one_until_something_went_out() {
        let mut pause_budget = PauseBudget::new(Duration::from_secs(3600));
        pause_budget.spend();
        let Remaining::Some(rest) = &pause_budget.left else { panic!("some is spent") };
        let end = rest.deadline();
        assert!(!is_over(&mut pause_budget));
        pause_budget.spend();
        assert!(matches!(&pause_budget.left, Remaining::Some(rest) if rest.deadline() == end));
        pause_budget.renew();
        pause_budget.spend();
        assert!(matches!(&pause_budget.left, Remaining::Some(rest) if rest.deadline() > end));
    }

    #[tokio::test]
    async fn what_is_over_stays_over_until_something_went_out() {
        let mut pause_budget = PauseBudget::new(Duration::ZERO);
        assert!(!is_over(&mut pause_budget), "nothing was spent");
        pause_budget.spend();
        pause_budget.end().await;
        assert!(pause_budget.is_over());
        pause_budget.spend();
        assert!(is_over(&mut pause_budget));
        pause_budget.renew();
        assert!(!is_over(&mut pause_budget));
    }
}
