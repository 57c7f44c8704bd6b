//! PURE. A request to come in by a pass: who wants to come in, and everything that the answer depends on.

use uuid::Uuid;

use super::{
    slots,
    usage::{Spent, Usage},
};
use crate::{
    base::{
        clock::WallTime,
        record::{BusinessId, CheckinSource},
    },
    directory::{
        Coworker, Directory,
        catalogue::{Moment, TimePass},
    },
    engine::decision::Reason,
    policy::calendar::{Calendar, PassDay},
};

/// Who wants to come in, where, when and how.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who.
    pub coworker: &'a Coworker,
    /// Where.
    pub business: BusinessId,
    /// By door or network.
    pub by: CheckinSource,
    /// When.
    pub at: WallTime,
    /// Since when they have been there; the use of a pass counts from here.
    pub from: WallTime,
    /// The pass of a visit elsewhere that this entry ended. It continues if it is valid here.
    pub continued: Option<Uuid>,
}
/// Everything that the answer to one request depends on.
pub(super) struct PassCase<'a> {
    pub(super) directory: &'a Directory,
    pub(super) calendar: &'a Calendar,
    pub(super) ask: &'a Ask<'a>,
    pub(super) day: PassDay,
    pub(super) usage: &'a Usage,
    pub(super) also: &'a [Spent],
}

impl PassCase<'_> {
    /// Whether this kind of pass could be valid for this customer here, regardless of the time.
    pub(super) fn fits(&self, kind: &TimePass) -> Result<(), Reason> {
        let coworker = self.ask.coworker;
        let member = coworker.is_member();
        let plan = || coworker.tariff_id.is_some_and(|tariff| kind.tariffs.contains(&tariff));
        if kind.archived {
            Err(Reason::PassArchived)
        } else if kind.only_for_members && !member
            || kind.only_for_contacts && member
            || !kind.tariffs.is_empty() && !plan()
        {
            Err(Reason::PassNotForCustomer)
        } else if !kind.places.cover(self.ask.business) {
            Err(Reason::PassOtherBusiness)
        } else {
            Ok(())
        }
    }

    /// Whether it is valid now, and until when.
    pub(super) fn fits_now(&self, kind: &TimePass) -> Result<Option<WallTime>, Reason> {
        let until = slots::slot_end(kind, self.calendar, self.ask.at, self.day.end)?;
        if self.ask.by == CheckinSource::NetworkActivity && !kind.allow_network_checkin {
            return Err(Reason::PassNoNetwork);
        }
        Ok(until)
    }

    /// An instant on the business's wall clock, in a form for people.
    pub(super) fn face(&self, at: WallTime) -> String {
        self.calendar.local(at).format("%Y-%m-%d %H:%M").to_string()
    }

    /// When an imported moment is over; for a date, the end of that pass day.
    pub(super) fn end_of(&self, moment: Moment) -> WallTime {
        match moment {
            Moment::Instant(at) => at,
            Moment::Date(date) => self.calendar.day_of(date).end,
        }
    }
}
