//! PURE. How long a client has to wait after failed sign-ins.
//!
//! OWASP ASVS 5.0 (6.1.1, 6.3.1) asks for limits against guessing that do not lock out the owner of an account; NIST
//! SP 800-63B 3.2.2 recommends growing waits, and to trust addresses from which the user has signed in before. So there
//! are three counts of failures:
//!
//! * **by address**: stops one machine that tries many names and passwords;
//! * **by user, from addresses where that user has not signed in**: stops many machines that share one user's guesses;
//! * **by user and address where that user has signed in**: these pairs are *familiar*. Only their own failures count
//!   for them, so a stranger elsewhere, or a neighbour behind the same address, delays no one who was here before.
//!
//! Each failure beyond the free ones doubles the wait, from a second up to the longest. During a wait no password is
//! checked, not even the right one; otherwise guessing would go on. One failure is forgotten in each longest wait, so a client that
//! keeps guessing keeps waiting that long. A name that does not exist counts like any other, so the answer does not tell
//! which names exist.
//!
//! An attempt counts as failed from its beginning, so attempts at the same time are all counted.
//!
//! Failures also say who is served first ([`Class`]): for that, those of whole networks are counted too. One guesser with
//! many addresses cannot be told from many people by addresses alone.

use std::time::Duration;

use super::address::{Address, Caller, Network};
use crate::base::{bounded_table::BoundedTable, clock::BootTime};

/// Failed sign-ins from one address before the first wait: a person who tries several passwords does not notice.
const FREE_OF_ADDRESS: u32 = 5;

/// Failed sign-ins of one user, from addresses where they have not signed in, before the first wait. More than those of
/// one address, because only guesses from many addresses reach it.
const FREE_OF_USER: u32 = 20;

/// The longest wait for an address, in seconds: 96 guesses a day.
const LONGEST_OF_ADDRESS: u64 = 900;

/// The longest wait for guesses at one user from everywhere, in seconds: 24 guesses a day. NIST names an hour as well.
const LONGEST_OF_USER: u64 = 3600;

/// The most addresses with failures that are remembered. At the limit, the one with the fewest is forgotten.
const ADDRESSES: usize = 4096;

/// The most networks with failures that are remembered. At the limit, the one with the fewest is forgotten.
const NETWORKS: usize = 1024;

/// The most failures of a network that are counted. They only say who is served first; after an attack its neighbours
/// wait their turn for an hour, not for days.
const MOST_OF_NETWORK: u32 = 4;

/// The most user names with failures that are remembered. At the limit, the one with the fewest is forgotten.
const USERS: usize = 1024;

/// The most familiar pairs of user and address. At the limit, the one that signed in longest ago is forgotten.
const FAMILIAR: usize = 1024;

/// The most familiar addresses of one user: a valid user with many addresses does not displace the others.
const FAMILIAR_OF_USER: usize = 32;

/// A digest of a user name as it was sent.
pub(super) type UserKey = [u8; 32];

/// How soon a sign-in gets its turn: those of a lower class always go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// The user has signed in from there before.
    Familiar,
    /// An address without recent failures, in a network without any.
    Clean,
    /// An address without recent failures, in a network that has some.
    Neighbour,
    /// An address with recent failures.
    Failing,
}

impl Class {
    /// How many classes there are.
    pub(super) const ALL: usize = Self::Failing as usize + 1;
}

/// Failures, fading.
#[derive(Clone, Copy, Debug)]
struct Failures {
    number: u32,
    last: BootTime,
}

/// How failures are counted.
#[derive(Debug)]
struct WaitRule {
    /// How many are free.
    free: u32,
    /// The longest wait, in which one failure is forgotten.
    longest: Duration,
    /// More are not counted.
    most: u32,
}

const BY_ADDRESS: WaitRule =
    WaitRule { free: FREE_OF_ADDRESS, longest: Duration::from_secs(LONGEST_OF_ADDRESS), most: u32::MAX };
const BY_USER: WaitRule =
    WaitRule { free: FREE_OF_USER, longest: Duration::from_secs(LONGEST_OF_USER), most: u32::MAX };
/// Networks never wait.
const BY_NETWORK: WaitRule =
    WaitRule { free: u32::MAX, longest: Duration::from_secs(LONGEST_OF_ADDRESS), most: MOST_OF_NETWORK };

impl Failures {
    const fn none(now: BootTime) -> Self {
        Self { number: 0, last: now }
    }

    /// How many there are now.
    fn now(self, rule: &WaitRule, now: BootTime) -> u32 {
        let faded = now.since(self.last).as_secs() / rule.longest.as_secs();
        self.number.saturating_sub(u32::try_from(faded).unwrap_or(u32::MAX))
    }

    /// How much is left of the wait that the last failure began. No failure fades during it.
    fn wait(self, rule: &WaitRule, now: BootTime) -> Duration {
        let Some(beyond) = self.number.checked_sub(rule.free) else { return Duration::ZERO };
        let wait = Duration::from_secs(1u64.checked_shl(beyond).unwrap_or(u64::MAX)).min(rule.longest);
        self.last.plus(wait).since(now)
    }

    fn add(&mut self, rule: &WaitRule, now: BootTime) {
        *self = Self { number: self.now(rule, now).saturating_add(1).min(rule.most), last: now };
    }

    const fn less_one(self) -> Self {
        Self { number: self.number.saturating_sub(1), ..self }
    }
}

/// An attempt that has been counted, to be taken back if it was none.
#[derive(Clone, Copy, Debug)]
pub(super) struct SignInAttempt {
    address: Address,
    user: Option<UserKey>,
}

/// Failures by one criterion.
#[derive(Debug)]
struct FailureTable<K> {
    rule: WaitRule,
    failures: BoundedTable<K, Failures>,
}

impl<K: Copy + Ord> FailureTable<K> {
    const fn new(rule: WaitRule, most: usize) -> Self {
        Self { rule, failures: BoundedTable::new(most) }
    }

    fn number(&self, key: &K, now: BootTime) -> u32 {
        self.failures.get(key).map_or(0, |failures| failures.now(&self.rule, now))
    }

    fn wait(&self, key: &K, now: BootTime) -> Duration {
        self.failures.get(key).map_or(Duration::ZERO, |failures| failures.wait(&self.rule, now))
    }

    fn count(&mut self, key: K, now: BootTime) {
        let worth = |failures: &Failures| (failures.now(&self.rule, now), failures.last);
        self.failures.get_or_insert(key, Failures::none(now), worth).add(&self.rule, now);
    }

    /// Takes back a failure; an entry without failures ends.
    fn take_back(&mut self, key: &K) {
        if let Some(failures) = self.failures.get_mut(key) {
            *failures = failures.less_one();
            if failures.number == 0 {
                self.failures.remove(key);
            }
        }
    }
}

/// The failures of all clients.
#[derive(Debug)]
pub(super) struct Throttle {
    addresses: FailureTable<Address>,
    networks: FailureTable<Network>,
    users: FailureTable<UserKey>,
    familiar: BoundedTable<(UserKey, Address), FamiliarPair>,
}

#[derive(Debug)]
struct FamiliarPair {
    signed_in: BootTime,
    failures: Failures,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            addresses: FailureTable::new(BY_ADDRESS, ADDRESSES),
            networks: FailureTable::new(BY_NETWORK, NETWORKS),
            users: FailureTable::new(BY_USER, USERS),
            familiar: BoundedTable::new(FAMILIAR),
        }
    }
}

impl Throttle {
    /// How long this caller must wait before it may try to sign in; zero if it need not. `user` is the name of a
    /// password; a refresh token names no user.
    pub(super) fn wait(&self, user: Option<UserKey>, caller: Caller, now: BootTime) -> Duration {
        let address = caller.address();
        if let Some(user) = user
            && let Some(pair) = self.familiar.get(&(user, address))
        {
            return pair.failures.wait(&BY_ADDRESS, now);
        }
        let by_address = match caller {
            Caller::Remote(_) => self.addresses.wait(&address, now),
            // One client of a proxy would make all others wait.
            Caller::Local => Duration::ZERO,
        };
        let by_user = user.map(|user| self.users.wait(&user, now));
        by_address.max(by_user.unwrap_or_default())
    }

    /// Counts an attempt, unless the caller must still wait: then the error says how long.
    pub(super) fn begin(
        &mut self,
        user: Option<UserKey>,
        caller: Caller,
        now: BootTime,
    ) -> Result<SignInAttempt, Duration> {
        let wait = self.wait(user, caller, now);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        let address = caller.address();
        if let Some(user) = user
            && let Some(pair) = self.familiar.get_mut(&(user, address))
        {
            pair.failures.add(&BY_ADDRESS, now);
        } else {
            self.addresses.count(address, now);
            self.networks.count(address.network(), now);
            if let Some(user) = user {
                self.users.count(user, now);
            }
        }
        Ok(SignInAttempt { address, user })
    }

    /// Takes back an attempt that was not decided, because of a fault that is ours.
    pub(super) fn undecided(&mut self, attempt: SignInAttempt) {
        if let Some(user) = attempt.user
            && let Some(pair) = self.familiar.get_mut(&(user, attempt.address))
        {
            pair.failures = pair.failures.less_one();
            return;
        }
        self.addresses.take_back(&attempt.address);
        self.networks.take_back(&attempt.address.network());
        if let Some(user) = attempt.user {
            self.users.take_back(&user);
        }
    }

    /// Takes back an attempt that was right, and makes its user familiar at its address. Earlier failures of others stay
    /// counted: someone with a user of their own could otherwise clear the count of their guesses at others.
    pub(super) fn right(&mut self, attempt: SignInAttempt, now: BootTime) {
        self.undecided(attempt);
        let Some(user) = attempt.user else { return };
        let key = (user, attempt.address);
        let signed_in = |pair: &FamiliarPair| pair.signed_in;
        let of_user = (user, Address::lowest())..=(user, Address::highest());
        if !self.familiar.contains_key(&key) && self.familiar.range(of_user.clone()).count() >= FAMILIAR_OF_USER {
            self.familiar.drop_least(of_user, signed_in);
        }
        self.familiar.insert(key, FamiliarPair { signed_in: now, failures: Failures::none(now) }, signed_in);
    }

    /// How soon this caller gets its turn.
    pub(super) fn class(&self, user: UserKey, caller: Caller, now: BootTime) -> Class {
        let address = caller.address();
        if self.familiar.contains_key(&(user, address)) {
            return Class::Familiar;
        }
        // The attempt itself is already counted.
        if self.addresses.number(&address, now) > 1 {
            Class::Failing
        } else if self.networks.number(&address.network(), now) > 1 {
            Class::Neighbour
        } else {
            Class::Clean
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_duration(Duration::from_secs(seconds))
    }

    fn remote(number: u32) -> Caller {
        Caller::Remote(std::net::Ipv4Addr::from_bits(0xc633_0000 + number).into())
    }

    fn user(number: u32) -> UserKey {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        key
    }

    /// Fails once. Returns how long the next attempt has to wait.
    fn fail(throttle: &mut Throttle, user: UserKey, caller: Caller, now: BootTime) -> Duration {
        throttle.begin(Some(user), caller, now).expect("no wait");
        throttle.wait(Some(user), caller, now)
    }

    fn sign_in(throttle: &mut Throttle, user: UserKey, caller: Caller, now: BootTime) {
        let attempt = throttle.begin(Some(user), caller, now).expect("no wait");
        throttle.right(attempt, now);
    }

    /// How many guesses get through in a day, if `caller` says where each comes from.
    fn guesses_of_a_day(throttle: &mut Throttle, user: UserKey, caller: impl Fn(u64) -> Caller) -> usize {
        (0..DAY).filter(|second| throttle.begin(Some(user), caller(*second), at(*second)).is_ok()).count()
    }

    #[test]
    fn waits_double_from_a_second_to_a_quarter_of_an_hour() {
        let (mut throttle, mut now, mut waits) = (Throttle::default(), at(0), Vec::new());
        for number in 0..18 {
            // Another name each time: the address counts.
            let wait = fail(&mut throttle, user(number), remote(1), now);
            waits.push(wait.as_secs());
            now = now.plus(wait);
        }
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
        assert_eq!(throttle.wait(Some(user(99)), remote(2), now), Duration::ZERO, "another address");
        let later = now.plus(Duration::from_secs(20 * 900));
        assert_eq!(fail(&mut throttle, user(0), remote(1), later), Duration::ZERO, "forgotten");
    }

    #[test]
    fn a_day_of_guessing_is_about_a_hundred_guesses() {
        let mut throttle = Throttle::default();
        // Another name each time; the same name would wait longer.
        let name = |second: u64| Some(user(u32::try_from(second).expect("small")));
        let one_machine =
            (0..DAY).filter(|second| throttle.begin(name(*second), remote(1), at(*second)).is_ok()).count();
        assert!((90..=110).contains(&one_machine), "{one_machine}");
        let many = |second: u64| remote(u32::try_from(second % 5000).expect("small"));
        let many_machines = guesses_of_a_day(&mut Throttle::default(), user(1), many);
        assert!((40..=60).contains(&many_machines), "{many_machines}");
    }

    #[test]
    fn guesses_from_elsewhere_delay_no_one_who_has_signed_in_before() {
        let mut throttle = Throttle::default();
        sign_in(&mut throttle, user(1), remote(1), at(0));
        sign_in(&mut throttle, user(1), Caller::Local, at(0));
        let from_everywhere = guesses_of_a_day(&mut throttle, user(1), |second| {
            remote(100 + u32::try_from(second % 5000).expect("small"))
        });
        assert!(from_everywhere < 60, "{from_everywhere}");
        // A neighbour tries other names from the same address.
        for number in 2..7 {
            throttle.begin(Some(user(number)), remote(1), at(DAY)).expect("no wait");
        }
        assert!(throttle.wait(Some(user(7)), remote(1), at(DAY)) > Duration::ZERO, "the neighbour waits");
        for caller in [remote(1), Caller::Local] {
            assert_eq!(throttle.wait(Some(user(1)), caller, at(DAY)), Duration::ZERO);
            assert_eq!(throttle.class(user(1), caller, at(DAY)), Class::Familiar);
        }
        assert!(throttle.wait(Some(user(1)), remote(9999), at(DAY)) > Duration::ZERO, "an unknown address does wait");
    }

    #[test]
    fn guesses_at_a_familiar_pair_wait_as_well() {
        let mut throttle = Throttle::default();
        sign_in(&mut throttle, user(1), remote(1), at(0));
        let guesses = guesses_of_a_day(&mut throttle, user(1), |_| remote(1));
        assert!((90..=110).contains(&guesses), "{guesses}");
    }

    #[test]
    fn clients_that_cannot_be_told_apart_make_no_one_wait_but_for_their_own_name() {
        let mut throttle = Throttle::default();
        for number in 0..1000 {
            throttle.begin(Some(user(number)), Caller::Local, at(0)).expect("no wait");
        }
        assert_eq!(throttle.class(user(5000), Caller::Local, at(0)), Class::Failing);
        assert_eq!(throttle.wait(None, Caller::Local, at(0)), Duration::ZERO);
        assert!(guesses_of_a_day(&mut throttle, user(1), |_| Caller::Local) < 60);
    }

    #[test]
    fn what_was_right_or_our_own_fault_is_no_failure_and_clears_none() {
        let mut throttle = Throttle::default();
        for _ in 0..100 {
            let attempt = throttle.begin(Some(user(1)), remote(1), at(0)).expect("no wait");
            throttle.undecided(attempt);
            let attempt = throttle.begin(None, remote(1), at(0)).expect("no wait");
            throttle.right(attempt, at(0));
        }
        // A user of one's own does not help to guess at others.
        for number in 0..5 {
            throttle.begin(Some(user(2)), remote(1), at(0)).expect("no wait");
            sign_in(&mut throttle, user(1), remote(1), at(number));
        }
        assert!(throttle.wait(Some(user(2)), remote(1), at(0)) > Duration::ZERO);
    }

    #[test]
    fn who_comes_from_a_network_without_failures_is_served_before_its_neighbours() {
        let mut throttle = Throttle::default();
        let class = |throttle: &mut Throttle, caller| {
            let attempt = throttle.begin(Some(user(1)), caller, at(0)).expect("no wait");
            let class = throttle.class(user(1), caller, at(0));
            throttle.undecided(attempt);
            class
        };
        assert_eq!(class(&mut throttle, remote(1)), Class::Clean);
        for number in 0..1000 {
            throttle.begin(Some(user(number)), remote(number), at(0)).expect("no wait");
        }
        assert_eq!(class(&mut throttle, remote(999)), Class::Failing);
        assert_eq!(class(&mut throttle, remote(2000)), Class::Neighbour);
        assert_eq!(class(&mut throttle, remote(0x1_0000)), Class::Clean, "another network");
        let later = at(4 * LONGEST_OF_ADDRESS);
        assert_eq!(throttle.class(user(1), remote(2000), later), Class::Clean, "forgotten after an hour");
    }

    #[test]
    fn attempts_at_the_same_time_are_all_counted() {
        let mut throttle = Throttle::default();
        let begun = (0..64).filter(|_| throttle.begin(Some(user(1)), remote(1), at(0)).is_ok()).count();
        assert_eq!(begun, 5);
    }

    #[test]
    fn the_tables_are_bounded_and_keep_those_who_fail_most() {
        let mut throttle = Throttle::default();
        for _ in 0..5 {
            throttle.begin(Some(user(0)), remote(0), at(0)).expect("no wait");
        }
        for number in 1..4200 {
            throttle.begin(Some(user(number)), remote(number), at(0)).expect("no wait");
            sign_in(&mut throttle, user(20_000), remote(20_000 + number), at(0));
            sign_in(&mut throttle, user(20_000 + number), remote(20_000), at(0));
        }
        assert!(
            throttle.addresses.failures.len() <= ADDRESSES && throttle.users.failures.len() <= USERS,
            "{throttle:?}"
        );
        assert!(throttle.networks.failures.len() <= NETWORKS, "{throttle:?}");
        assert_eq!(throttle.familiar.len(), FAMILIAR);
        assert!(throttle.wait(Some(user(1)), remote(0), at(0)) > Duration::ZERO);
        let of_one = throttle.familiar.keys().filter(|(name, _)| *name == user(20_000)).count();
        assert!(of_one <= FAMILIAR_OF_USER, "{of_one}");
    }
}
