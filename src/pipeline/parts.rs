//! PURE. Work in the parts that the database takes: what it does not take is halved, until a single thing is left.

use std::collections::{BTreeSet, VecDeque};

use crate::{base::fact::Subject, store::UnloggedPresence};

/// Work that can be halved.
pub(super) trait Halves: Sized {
    /// How many things it contains.
    fn len(&self) -> usize;

    /// Removes everything after the first `first` things, and returns it.
    fn split_off(&mut self, first: usize) -> Self;
}

impl Halves for BTreeSet<Subject> {
    fn len(&self) -> usize {
        self.len()
    }

    fn split_off(&mut self, first: usize) -> Self {
        self.iter().nth(first).copied().map_or_else(Self::new, |second| self.split_off(&second))
    }
}

impl Halves for Vec<UnloggedPresence> {
    fn len(&self) -> usize {
        self.len()
    }

    fn split_off(&mut self, first: usize) -> Self {
        self.split_off(first)
    }
}

/// The parts of a piece of work that are not done, in their order.
#[derive(Debug)]
pub(super) struct WorkParts<T> {
    waiting: VecDeque<T>,
}

impl<T: Halves> WorkParts<T> {
    /// The whole work.
    pub(super) fn of(parts: impl IntoIterator<Item = T>) -> Self {
        Self { waiting: parts.into_iter().collect() }
    }

    /// Takes the next part.
    pub(super) fn next(&mut self) -> Option<T> {
        self.waiting.pop_front()
    }

    /// Whether there is no further part.
    pub(super) fn is_last(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts a part back that has to be tried again.
    pub(super) fn again(&mut self, part: T) {
        self.waiting.push_front(part);
    }

    /// Adds a part behind the others.
    pub(super) fn add(&mut self, part: T) {
        self.waiting.push_back(part);
    }

    /// Puts both halves of a part back; returns the part if it contains a single thing.
    pub(super) fn halve(&mut self, mut part: T) -> Result<(), T> {
        let half = part.len() / 2;
        if half == 0 {
            return Err(part);
        }
        let second = part.split_off(half);
        self.waiting.push_front(second);
        self.waiting.push_front(part);
        Ok(())
    }
}
