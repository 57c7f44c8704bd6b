//! How long a connection may go unread because there is no room for what it brings.
//!
//! Who does not read does not send either: acknowledgements and pings go out when the connection is polled. So what
//! counts is not how long one pause lasts, but the time from the first pause until something of ours has gone out. It is
//! not enough that the connection was polled in between: the client library reads whatever there is before it thinks
//! of a ping, and behind a pause there always is something.

use std::{pin::Pin, time::Duration};

use tokio::time::Sleep;

/// One connection's.
pub(super) struct Patience {
    span: Duration,
    left: Left,
}

enum Left {
    All,
    Some(Pin<Box<Sleep>>),
    None,
}

impl Patience {
    /// So long from the first pause until it is over.
    pub(super) const fn new(span: Duration) -> Self {
        Self { span, left: Left::All }
    }

    /// The connection pauses.
    pub(super) fn spend(&mut self) {
        if let Left::All = self.left {
            self.left = Left::Some(Box::pin(tokio::time::sleep(self.span)));
        }
    }

    /// Something of ours has gone out on the connection.
    pub(super) fn renew(&mut self) {
        self.left = Left::All;
    }

    /// May the connection pause no more?
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.left, Left::None)
    }

    /// Waits until it is over, for ever where nothing of it was spent. May be dropped.
    pub(super) async fn end(&mut self) {
        match &mut self.left {
            Left::All => std::future::pending().await,
            Left::Some(rest) => rest.await,
            Left::None => return,
        }
        self.left = Left::None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn is_over(patience: &mut Patience) -> bool {
        patience.end().now_or_never();
        patience.is_over()
    }

    #[tokio::test]
    async fn many_pauses_are_as_long_as_one_until_something_went_out() {
        let mut patience = Patience::new(Duration::from_secs(3600));
        patience.spend();
        let Left::Some(rest) = &patience.left else { panic!("some is spent") };
        let end = rest.deadline();
        assert!(!is_over(&mut patience));
        patience.spend();
        assert!(matches!(&patience.left, Left::Some(rest) if rest.deadline() == end));
        patience.renew();
        patience.spend();
        assert!(matches!(&patience.left, Left::Some(rest) if rest.deadline() > end));
    }

    #[tokio::test]
    async fn what_is_over_stays_over_until_something_went_out() {
        let mut patience = Patience::new(Duration::ZERO);
        assert!(!is_over(&mut patience), "nothing was spent");
        patience.spend();
        patience.end().await;
        assert!(patience.is_over());
        patience.spend();
        assert!(is_over(&mut patience));
        patience.renew();
        assert!(!is_over(&mut patience));
    }
}
