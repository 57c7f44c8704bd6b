//! PURE. Whether what a person holds lets them in: limits of the plan, then their passes, then pay-as-you-go.
//!
//! The caller provides what was used before: [`Usage`] comes from the database, [`Spent`] holds the visits that are
//! being decided now. Not in this module: who the person is and whether they belong here (`engine::admission`), and the
//! life cycle of the check-in (`engine`).

mod case;
mod choice;
mod limits;
mod pass_use;
pub mod payg;
mod slots;
mod usage;

pub use case::Ask;
pub use limits::window_starts;
pub use pass_use::{Entitlement, PassEnd, PassKind, PassUse, Refused};
pub use usage::{Counted, PlanTally, PlanUsed, Shift, Spent, Usage, Used};

use case::PassCase;

use super::decision::Reason;
use crate::{
    directory::Directory,
    policy::{
        calendar::{Calendar, PassDay},
        passes::PassPolicy,
    },
};

/// Returns whether they may come in, and by which pass.
///
/// The limits of the plan are checked first and are hard, even for people with spare passes. Then follow the passes
/// that they hold, in the order of `src/docs/passes.md`, and pay-as-you-go.
///
/// # Errors
/// Why not. If several passes fail, the reason is that of the nearest miss.
pub fn entitle(
    directory: &Directory,
    policy: &PassPolicy,
    calendar: &Calendar,
    ask: &Ask<'_>,
    usage: &Usage,
    also: &[Spent],
) -> Result<Entitlement, Refused> {
    if !policy.asks(directory) {
        return Ok(Entitlement::Unchecked);
    }
    let case = PassCase { directory, calendar, ask, day: calendar.pass_day(ask.at), usage, also };
    // The limits of the plan, then their passes.
    let rest = limits::check(&case, policy)?;
    let missed = match choice::choose(&case) {
        Ok(mut found) => {
            found.end_within(&case, rest);
            return Ok(Entitlement::Pass(found));
        }
        // A person with a pass that is valid at the door is not charged for carrying a phone past it.
        Err(choice::NoPassFits { nearest: Some(missed), good_at_a_door: true }) => return Err(missed),
        Err(missed) => missed.nearest,
    };
    // None of their passes fits: try pay-as-you-go.
    let missed = match policy.pay_as_you_go.as_ref().map(|rules| payg::cheapest(&case, rules)) {
        Some(Ok(mut found)) => {
            found.end_within(&case, rest);
            return Ok(Entitlement::Pass(found));
        }
        Some(Err(also_missed)) => missed.or(also_missed),
        None => missed,
    };
    Err(missed.unwrap_or(Refused { reason: Reason::NoValidPass, detail: None }))
}

/// How long a person who is in may stay on the pass that let them in: `ask.at` is now, `ask.from` is when they came in.
///
/// # Errors
/// Why the pass is no longer valid.
pub fn lasting(
    directory: &Directory,
    policy: &PassPolicy,
    calendar: &Calendar,
    ask: &Ask<'_>,
    usage: &Usage,
    also: &[Spent],
    (pass, day): (&PassUse, PassDay),
) -> Result<PassUse, Refused> {
    if !policy.asks(directory) {
        return Ok(PassUse { ends: None, ..pass.clone() });
    }
    let case = PassCase { directory, calendar, ask, day, usage, also };
    let rest = limits::check(&case, policy)?;
    let gone = || Refused { reason: Reason::NoValidPass, detail: None };
    let mut found = match (pass.guid, &policy.pay_as_you_go) {
        (Some(guid), _) => choice::only(&case, guid).ok_or_else(gone)?,
        (None, Some(rules)) => payg::only(&case, rules, pass.time_pass).ok_or_else(gone)?,
        // Pay-as-you-go is off now, but what was agreed when they came in still applies.
        (None, None) if directory.time_pass(pass.time_pass).is_none_or(|kind| kind.archived) => return Err(gone()),
        (None, None) => return Ok(pass.clone()),
    };
    // This was settled when they came in.
    found.counts_towards_plan_limits = pass.counts_towards_plan_limits;
    found.end_within(&case, rest);
    Ok(found)
}
#[cfg(test)]
mod tests;
