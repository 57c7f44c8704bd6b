//! The unacknowledged messages of one connection: acknowledgements go out in the order in which messages arrived.
//!
//! The protocol requires that order (MQTT 5, 4.6.0-2), and a batch may commit after a later one. A window lives as long
//! as its connection. A receipt that is spent after that has no effect, because a new connection may use the same
//! packet id for another message.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::source::Receipt;

/// Sends one acknowledgement, or drops it if the connection is gone. Must not block.
type Sender<T> = Box<dyn Fn(T) + Send + Sync>;

/// The acknowledgements that one connection still owes the broker.
pub(crate) struct AckWindow<T> {
    send: Sender<T>,
    owed: Mutex<Owed<T>>,
    abandoned: CancellationToken,
}

struct Owed<T> {
    /// The number of the first entry in `waiting`, counted from the start of the connection.
    first: u64,
    waiting: VecDeque<Waiting<T>>,
}

struct Waiting<T> {
    acknowledgement: T,
    spent: bool,
}

impl<T: Send + 'static> AckWindow<T> {
    pub(crate) fn new(send: impl Fn(T) + Send + Sync + 'static) -> Arc<Self> {
        let owed = Mutex::new(Owed { first: 0, waiting: VecDeque::new() });
        Arc::new(Self { send: Box::new(send), owed, abandoned: CancellationToken::new() })
    }

    /// The right to acknowledge the message that has just arrived.
    pub(crate) fn receipt(self: &Arc<Self>, acknowledgement: T) -> Receipt {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let nth = owed.first + owed.waiting.len() as u64;
        owed.waiting.push_back(Waiting { acknowledgement, spent: false });
        drop(owed);
        let ticket = AckTicket { window: Arc::clone(self), nth, spent: false };
        Receipt::new(move || ticket.spend())
    }

    /// Cancelled when a receipt is dropped unspent. The broker delivers again only on a new connection (MQTT 5,
    /// 4.4.0-1), and no message after that one can be acknowledged on this connection.
    pub(crate) const fn abandoned(&self) -> &CancellationToken {
        &self.abandoned
    }

    /// Whether everything is acknowledged.
    pub(crate) fn is_settled(&self) -> bool {
        self.owed(|count, _| count == 0)
    }

    /// Calls `inspect` with the number of acknowledgements owed and the oldest of them.
    pub(crate) fn owed<R>(&self, inspect: impl FnOnce(usize, Option<&T>) -> R) -> R {
        let owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        inspect(owed.waiting.len(), owed.waiting.front().map(|waiting| &waiting.acknowledgement))
    }

    fn spend(&self, nth: u64) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let index = nth.checked_sub(owed.first).and_then(|index| usize::try_from(index).ok());
        if let Some(waiting) = index.and_then(|index| owed.waiting.get_mut(index)) {
            waiting.spent = true;
        }
        // Send while holding the lock, so two threads cannot send out of order.
        while owed.waiting.front().is_some_and(|waiting| waiting.spent) {
            if let Some(waiting) = owed.waiting.pop_front() {
                owed.first += 1;
                (self.send)(waiting.acknowledgement);
            }
        }
    }
}

impl<T> fmt::Debug for AckWindow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AckWindow")
    }
}

struct AckTicket<T: Send + 'static> {
    window: Arc<AckWindow<T>>,
    nth: u64,
    spent: bool,
}

impl<T: Send + 'static> AckTicket<T> {
    fn spend(mut self) {
        self.spent = true;
        self.window.spend(self.nth);
    }
}

impl<T: Send + 'static> Drop for AckTicket<T> {
    fn drop(&mut self) {
        if !self.spent {
            self.window.abandoned.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recording() -> (Arc<AckWindow<u16>>, Arc<Mutex<Vec<u16>>>) {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&sent);
        let window = AckWindow::new(move |packet| {
            log.lock().expect("the log").push(packet);
        });
        (window, sent)
    }

    #[test]
    fn a_dropped_receipt_is_noticed_and_holds_back_later_acknowledgements() {
        let (window, sent) = recording();
        let (first, second, third) = (window.receipt(1), window.receipt(2), window.receipt(3));
        third.spend();
        first.spend();
        assert!(!window.abandoned().is_cancelled());
        drop(second);
        assert!(window.abandoned().is_cancelled());
        assert_eq!(*sent.lock().expect("the log"), [1]);
    }

    proptest! {
        #[test]
        fn acknowledgements_leave_in_order_of_arrival_whatever_commits_first(order in Just((0u16..40).collect::<Vec<_>>()).prop_shuffle()) {
            let (window, sent) = recording();
            let mut receipts: Vec<Option<Receipt>> = (0..40).map(|packet| Some(window.receipt(packet))).collect();
            for at in order {
                receipts[usize::from(at)].take().expect("spent once").spend();
                let sent = sent.lock().expect("the log");
                prop_assert!(sent.iter().copied().eq(0..u16::try_from(sent.len()).expect("few")));
            }
            prop_assert_eq!(sent.lock().expect("the log").len(), 40);
            prop_assert!(!window.abandoned().is_cancelled());
        }
    }
}
