//! PURE. Pay-as-you-go: which kind of pass is assigned to a person without a pass, and what their visit costs.
//!
//! Amounts are whole minor units and times are whole seconds: nothing is a fraction.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    case::PassCase,
    pass_use::{PassEnd, PassKind, PassUse, Refused},
    slots,
};
use crate::{
    base::{clock::WallTime, record::TimePassId},
    directory::catalogue::{Currency, Price, TimePass},
    engine::decision::Reason,
    policy::passes::PayAsYouGo,
};

/// The minutes of a day pass, for comparing prices.
const DAY: u32 = 1440;

/// What a visit costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The minutes charged: whole steps.
    pub minutes: u32,
    /// Their cost in minor units, before the bounds of the day.
    pub unbounded: i64,
    /// The amount charged in minor units. Together with what was charged before, it keeps the day within its bounds.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
}

/// What was charged for earlier visits of a pass day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charged {
    /// The sum before the bounds of the day.
    pub unbounded: i64,
    /// The sum that was charged.
    pub amount: i64,
    /// The kinds of pass charged: a day pass is charged once a day.
    pub kinds: BTreeSet<TimePassId>,
}

impl Charged {
    /// Adds another visit's charge.
    pub fn add(&mut self, kind: TimePassId, unbounded: i64, amount: i64) {
        self.unbounded = self.unbounded.saturating_add(unbounded);
        self.amount = self.amount.saturating_add(amount);
        self.kinds.insert(kind);
    }
}

/// What a visit costs with this kind of pass; an open visit costs its first step.
///
/// With a time pass, the minutes (in whole steps) cost their share of its price, rounded up to a minor unit; a day pass
/// costs its price once a day. The sum of the day is kept between `minimum` and `maximum`, and what was charged before
/// is subtracted.
pub fn charge(kind: &TimePass, rules: &PayAsYouGo, from: WallTime, to: Option<WallTime>, already: &Charged) -> Charge {
    let minutes = charged_minutes(rules.step, to.map_or(Duration::ZERO, |to| to.since(from)));
    let unbounded = match kind.minutes {
        Some(included) => cost(kind.price, rules.currency, minutes, included),
        None if already.kinds.contains(&kind.id) => 0,
        None => cost(kind.price, rules.currency, 1, 1),
    };
    let sum = already.unbounded.saturating_add(unbounded).max(rules.minimum);
    let sum = rules.maximum.map_or(sum, |maximum| sum.min(maximum));
    let amount = sum.saturating_sub(already.amount).max(0);
    Charge { minutes, unbounded, amount, currency: rules.currency }
}

/// The pass with the lowest price per minute of the kinds that would be assigned here and now; of equal ones, the one
/// with the smaller number.
///
/// # Errors
/// Why the kinds that would be assigned are not valid now; `None` if there are none.
pub(super) fn cheapest(case: &PassCase<'_>, rules: &PayAsYouGo) -> Result<PassUse, Option<Refused>> {
    let mut best: Option<(&TimePass, Option<WallTime>)> = None;
    let mut missed = None;
    for kind in case.directory.time_passes().filter(|kind| offered(case, rules, kind)) {
        match case.fits_now(kind) {
            Ok(until) => {
                if best.is_none_or(|(known, _)| cheaper(kind, known)) {
                    best = Some((kind, until));
                }
            }
            // They hold no pass that could be outside its hours, so the reason is that they have no pass.
            Err(why) => {
                let good = if why == Reason::PassOutsideHours {
                    slots::hours(kind, case.calendar, case.ask.at)
                } else {
                    "at a door".to_owned()
                };
                let detail = Some(format!("pay-as-you-go \"{}\" is valid {good}", kind.name).into());
                missed = missed.or(Some(Refused { reason: Reason::NoValidPass, detail }));
            }
        }
    }
    let Some((kind, until)) = best else { return Err(missed) };
    Ok(used(kind, until))
}

/// The kind with this number, if it would be assigned here and now.
pub(super) fn only(case: &PassCase<'_>, rules: &PayAsYouGo, id: TimePassId) -> Option<PassUse> {
    let kind = case.directory.time_pass(id).filter(|kind| offered(case, rules, kind))?;
    case.fits_now(kind).ok().map(|until| used(kind, until))
}

fn offered(case: &PassCase<'_>, rules: &PayAsYouGo, kind: &TimePass) -> bool {
    let member = case.ask.coworker.is_member();
    let flag = if member { kind.pay_as_you_go_for_members } else { kind.pay_as_you_go_for_contacts };
    flag && kind.currency.is_none_or(|currency| currency == rules.currency) && case.fits(kind).is_ok()
}

fn used(kind: &TimePass, until: Option<WallTime>) -> PassUse {
    PassUse {
        guid: None,
        time_pass: kind.id,
        kind: PassKind::PayAsYouGo,
        counts_towards_plan_limits: kind.counts_towards_plan_limits,
        ends: until.map(|until| (until, PassEnd::SlotEnds)),
    }
}

fn cheaper(one: &TimePass, other: &TimePass) -> bool {
    let weighed = |price: Price, minutes: Option<u32>| i128::from(price.0) * i128::from(minutes.unwrap_or(DAY).max(1));
    weighed(one.price, other.minutes) < weighed(other.price, one.minutes)
}

/// The minutes to charge: whole steps, at least one.
fn charged_minutes(step: Duration, stayed: Duration) -> u32 {
    let step = (step.as_secs() / 60).max(1);
    let steps = stayed.as_secs().div_ceil(step * 60).max(1);
    u32::try_from(steps.saturating_mul(step)).unwrap_or(u32::MAX)
}

/// The cost of `minutes` at this price for the `included` minutes, in minor units, rounded up.
fn cost(price: Price, currency: Currency, minutes: u32, included: u32) -> i64 {
    let exact = i128::from(price.0) * i128::from(currency.minor_units()) * i128::from(minutes);
    let per = i128::from(Price::UNIT) * i128::from(included.max(1));
    i64::try_from((exact + per - 1) / per).unwrap_or(i64::MAX)
}
