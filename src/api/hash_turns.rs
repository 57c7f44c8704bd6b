//! Turns at hashing passwords: two at a time, fairly among addresses.
//!
//! A hash takes a core for some 20 ms. Those who wait are served by [`Class`], and within a class one address after
//! another, so a client waits for one hash of each other address and not for everything that one of them asked for.

use std::{
    collections::VecDeque,
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::{address::Address, throttle::Class};
use crate::access::HashMemory;

/// The most passwords hashed at the same time. Each takes 19 MiB and a core, so a flood of sign-ins uses at most 38 MiB.
/// That memory is kept for the next ones: the allocator would keep more, one part for each thread that once hashed.
const HASHES: usize = 2;

/// The most sign-ins of one address that wait for a turn; further ones get 503. Users who have signed in from there
/// before do not count.
const WAITING: usize = 4;

/// The most sign-ins that wait for a turn in all, without those of users who have signed in from there before: each keeps
/// one of the places for connections, and waits for those before it. One more takes the place of one that would be served
/// after it, which gets 503; if there is none, it gets 503 itself.
const LINE: usize = 32;

/// The turns that are free, and who waits for one; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct HashTurns(Arc<Mutex<TurnQueue>>);

#[derive(Debug)]
struct TurnQueue {
    /// The memory of each turn that is free; the one used last is at the end.
    free: Vec<HashMemory>,
    line: Line<oneshot::Sender<HashTurn>>,
}

/// The right to hash a password, and the memory for it. Dropping it passes both to the next in line.
#[derive(Debug)]
pub(super) struct HashTurn {
    memory: HashMemory,
    /// `None` once the turn has ended.
    turns: Option<HashTurns>,
}

/// Too many sign-ins are waiting, of this address or in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineFull;

impl Default for HashTurns {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(TurnQueue { free: vec![HashMemory::default(); HASHES], line: Line::default() })))
    }
}

impl HashTurns {
    /// Waits for a turn. Dropping the future leaves the line.
    pub(super) async fn take(&self, class: Class, address: Address) -> Result<HashTurn, LineFull> {
        let receiver = {
            let mut queue = self.queue();
            if let Some(memory) = queue.free.pop() {
                return Ok(HashTurn { memory, turns: Some(self.clone()) });
            }
            queue.line.retain(|waiting| !waiting.is_closed());
            if class != Class::Familiar {
                if queue.line.of_address(address) >= WAITING {
                    return Err(LineFull);
                }
                // Dropping its sender answers the one that gives way.
                if queue.line.strangers() >= LINE && queue.line.take_last_after(class).is_none() {
                    return Err(LineFull);
                }
            }
            let (sender, receiver) = oneshot::channel();
            queue.line.push(class, address, sender);
            receiver
        };
        receiver.await.map_err(|_| LineFull)
    }

    fn queue(&self) -> MutexGuard<'_, TurnQueue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_on(self, memory: HashMemory) {
        let mut turn = HashTurn { memory, turns: Some(self.clone()) };
        let mut queue = self.queue();
        while let Some(next) = queue.line.next() {
            match next.send(turn) {
                Ok(()) => return,
                // This one has left the line in the meantime.
                Err(back) => turn = back,
            }
        }
        // No one waits. Disarm the turn, whose drop would come here again.
        turn.turns = None;
        queue.free.push(take(&mut turn.memory));
    }
}

impl HashTurn {
    /// The memory for the hash.
    pub(super) const fn memory(&mut self) -> &mut HashMemory {
        &mut self.memory
    }
}

impl Drop for HashTurn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.pass_on(take(&mut self.memory));
        }
    }
}

/// A line in which classes go first, and the addresses of a class take turns.
#[derive(Debug)]
struct Line<T>([VecDeque<(Address, VecDeque<T>)>; Class::ALL]);

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self(Default::default())
    }
}

impl<T> Line<T> {
    fn push(&mut self, class: Class, address: Address, waiting: T) {
        let addresses = &mut self.0[class as usize];
        match addresses.iter_mut().find(|(known, _)| *known == address) {
            Some((_, of_address)) => of_address.push_back(waiting),
            None => addresses.push_back((address, VecDeque::from([waiting]))),
        }
    }

    fn next(&mut self) -> Option<T> {
        let addresses = self.0.iter_mut().find(|addresses| !addresses.is_empty())?;
        let (address, mut of_address) = addresses.pop_front()?;
        let next = of_address.pop_front();
        if !of_address.is_empty() {
            addresses.push_back((address, of_address));
        }
        next
    }

    /// How many of this address wait, in every class but the first.
    fn of_address(&self, address: Address) -> usize {
        let others = self.0[Class::Clean as usize..].iter().flatten();
        others.filter(|(known, _)| *known == address).map(|(_, of_address)| of_address.len()).sum()
    }

    /// How many wait, in every class but the first.
    fn strangers(&self) -> usize {
        self.0[Class::Clean as usize..].iter().flatten().map(|(_, of_address)| of_address.len()).sum()
    }

    /// Takes out the last one of the last class, if that is served after this class.
    fn take_last_after(&mut self, class: Class) -> Option<T> {
        let later = self.0.iter_mut().skip(class as usize + 1).rev();
        let addresses = later.into_iter().find(|addresses| !addresses.is_empty())?;
        let (_, of_address) = addresses.back_mut()?;
        let last = of_address.pop_back();
        if of_address.is_empty() {
            addresses.pop_back();
        }
        last
    }

    fn retain(&mut self, mut stays: impl FnMut(&T) -> bool) {
        for addresses in &mut self.0 {
            for (_, of_address) in addresses.iter_mut() {
                of_address.retain(&mut stays);
            }
            addresses.retain(|(_, of_address)| !of_address.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn address(number: u8) -> Address {
        Address::of(std::net::Ipv4Addr::new(192, 0, 2, number).into())
    }

    #[test]
    fn classes_go_first_and_addresses_take_turns() {
        let mut line = Line::default();
        for (class, from, name) in [
            (Class::Failing, 1, "bad 1"),
            (Class::Failing, 1, "bad 2"),
            (Class::Clean, 2, "a1"),
            (Class::Clean, 2, "a2"),
            (Class::Clean, 2, "a3"),
            (Class::Clean, 3, "b1"),
            (Class::Failing, 4, "worse"),
            (Class::Neighbour, 5, "beside them"),
            (Class::Familiar, 1, "known"),
        ] {
            line.push(class, address(from), name);
        }
        assert_eq!((line.of_address(address(1)), line.of_address(address(2))), (2, 3));
        line.retain(|name| *name != "a2");
        let order: Vec<&str> = std::iter::from_fn(|| line.next()).collect();
        assert_eq!(order, ["known", "a1", "b1", "a3", "beside them", "bad 1", "worse", "bad 2"]);
    }

    #[tokio::test]
    async fn the_line_is_bounded_and_its_last_gives_way_to_one_that_goes_before_it() {
        let turns = HashTurns::default();
        let _held = [
            turns.take(Class::Clean, address(0)).await.expect("free"),
            turns.take(Class::Clean, address(0)).await.expect("free"),
        ];
        let take = |class, from| Box::pin(turns.take(class, address(from)));
        let mut waiting: Vec<_> = (1..=32).map(|from| take(Class::Neighbour, from)).collect();
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        for class in [Class::Neighbour, Class::Failing] {
            assert_eq!(take(class, 100).await.expect_err("full"), LineFull, "{class:?}");
        }
        let mut good = take(Class::Clean, 100);
        assert!(good.as_mut().now_or_never().is_none(), "it waits");
        let last = waiting.pop().expect("the last");
        assert_eq!(last.await.expect_err("it gave way"), LineFull);
        let mut known = take(Class::Familiar, 101);
        assert!(known.as_mut().now_or_never().is_none(), "without a bound");
        assert_eq!(turns.queue().line.strangers(), LINE);
    }

    #[tokio::test]
    async fn a_turn_is_never_lost_and_the_line_of_an_address_is_bounded() {
        let turns = HashTurns::default();
        let first = turns.take(Class::Clean, address(1)).await.expect("free");
        let second = turns.take(Class::Clean, address(1)).await.expect("free");
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(turns.take(Class::Clean, address(1)))).collect();
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        assert_eq!(turns.take(Class::Failing, address(1)).await.expect_err("full"), LineFull);
        // Those who leave make room, and a turn passes them by.
        drop(waiting.remove(0));
        drop(waiting.remove(0));
        let mut other = Box::pin(turns.take(Class::Clean, address(2)));
        assert!(other.as_mut().now_or_never().is_none());
        drop(first);
        let third = waiting.remove(0).await.expect("the next of the first address");
        drop(second);
        drop(other.await.expect("the other address"));
        drop((third, waiting));
        assert_eq!(turns.queue().free.len(), HASHES);
    }
}
