//! PURE. The life of one connection to the broker, and the next attempt after it.
//!
//! ```text
//!                   Connecting            Open                    Open, shedding          Draining        Leaving
//!  accepted         Open: subscribe       –                       –                       –               –
//!  lasted           –                     clear                   clear                   –               –
//!  no room          –                     shedding                –                       –               –
//!  caught up        –                     –                       Leaving: leave          –               –
//!  receipt dropped  –                     Leaving: leave          Leaving: leave          –               –
//!  pipeline gone    –                     Draining: report it     Draining: report it     –               –
//!  stop             Ended: close intake   Draining: close intake  Draining: close intake  –               –
//!  drained          –                     –                       –                       Leaving: leave  –
//!  broken           Ended                 Ended                   Ended                   Ended           Ended
//! ```
//!
//! *Clear* clears the conditions that earlier failures raised; on a connection that is already stable, it clears the
//! loss of a session. How a broken connection ended depends on the fault and the phase:
//!
//! ```text
//!               Connecting  Open, young  Open, stable  Draining   Leaving
//!  refused      Refused     Refused      Refused       Refused    the end that it left for
//!  taken over   TakenOver   TakenOver    TakenOver     TakenOver  the end that it left for
//!  aborted      Lost        CutShort     Lost          Lost       the end that it left for
//!  other        Lost        Lost         Lost          Lost       the end that it left for
//! ```
//!
//! What follows depends on how it ended:
//!
//! ```text
//!  end          pause, before jitter      client id contested?        failures in a row  cut short in a row
//!  Setup        30 s, doubled to 5 min    no                          + 1                –
//!  Refused      30 s, doubled to 5 min    no                          + 1                –
//!  TakenOver    60 s                      yes                         + 1                –
//!  CutShort     1 s, doubled to 60 s      from the third in a row on  + 1                + 1
//!               60 s if contested
//!  Lost         1 s, doubled to 60 s      no                          + 1                0
//!  Abandoned    1 s, doubled to 60 s      no                          + 1                –
//!  Shed         none                      no                          –                  –
//!  Finished     no next attempt           no                          –                  –
//! ```
//!
//! A test visits every cell.

use std::time::Duration;

use crate::base::backoff::Backoff;

/// Pauses between attempts.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// The same after a refused login or an unreadable certificate, which a person has to fix. Brokers lock out clients
/// that try too often.
const SLOW_BACKOFF: Backoff = Backoff { first: Duration::from_secs(30), longest: Duration::from_secs(300) };

/// The pause when another client uses our id. With jitter that is at most two attempts a minute, so two gateways with
/// one id do not disconnect each other constantly.
const CONTESTED_PAUSE: Duration = Duration::from_secs(60);

/// After this many young connections in a row that the broker closed without a reason, we assume that another client
/// uses our id.
const CONTESTED_AFTER: u32 = 3;

/// A connection that has lasted this long is stable: the next failure counts as the first again.
pub(super) const STABLE: Duration = Duration::from_secs(60);

/// How long the loss of a session stays a condition, to give a person time to see it.
pub(super) const LOST_SHOWN: Duration = Duration::from_secs(3600);

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkPhase {
    /// The broker has not accepted us yet.
    Connecting,
    /// Messages arrive.
    Open {
        /// Whether it has lasted for [`STABLE`].
        stable: bool,
        /// Whether QoS 1 messages are left with the broker: all of them from the first one on, to acknowledge in order.
        shedding: bool,
    },
    /// Intake has ended; acknowledgements still go out.
    Draining,
    /// We are sending the last acknowledgements, then DISCONNECT. Holds how the connection will have ended.
    Leaving(ConnectionEnd),
    /// Over.
    Ended(ConnectionEnd),
}

/// An event in the life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkEvent {
    /// The broker accepted us (CONNACK).
    Accepted,
    /// It has lasted: for [`STABLE`] the first time, then for another [`LOST_SHOWN`] each time.
    Lasted,
    /// There was no room for a QoS 1 message.
    NoRoom,
    /// Nothing is held and everything is acknowledged.
    CaughtUp,
    /// A receipt was dropped unspent: its message has to be fetched again.
    ReceiptDropped,
    /// The pipeline has closed its end of the queue.
    PipelineGone,
    /// The daemon requests the end of intake.
    Stop,
    /// No further receipt will be spent.
    Drained,
    /// The client library reports the end of the connection.
    Broken(LinkFault),
}

/// The reason that the client library reports for the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkFault {
    /// The broker refuses our login or id, which a person has to fix.
    Refused,
    /// The broker reports that another client connected with our id.
    TakenOver,
    /// The broker closed the connection without a reason; mosquitto 2.0 does that when our id is taken over.
    Aborted,
    /// Anything that may be better in a moment.
    Other,
}

/// What to do about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkAction {
    Nothing,
    /// Subscribe to all topics.
    Subscribe,
    /// The connection is stable: forget the failures before it.
    ClearFailures,
    /// The loss of the session has been shown for long enough.
    ClearLoss,
    /// Close the queue to the pipeline.
    CloseIntake,
    /// Log that the pipeline no longer reads.
    ReportPipelineGone,
    /// Send the acknowledgements that are due, then DISCONNECT.
    Leave,
}

/// How a connection ended, as far as it matters for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionEnd {
    /// We disconnected, or had to stop before the broker accepted us.
    Finished,
    /// The certificates or options cannot be used; we did not try to connect.
    Setup,
    /// The broker refuses our login or id.
    Refused,
    /// Another client connected with our id.
    TakenOver,
    /// The broker closed a young connection without a reason.
    CutShort,
    /// Anything that may be better in a moment.
    Lost,
    /// A receipt was dropped unspent.
    Abandoned,
    /// Messages were left with the broker, and now there is room for them.
    Shed,
}

/// The first table above.
pub(super) fn step(phase: LinkPhase, event: LinkEvent) -> (LinkPhase, LinkAction) {
    use LinkAction::{ClearFailures, ClearLoss, CloseIntake, Leave, Nothing, ReportPipelineGone, Subscribe};
    use LinkPhase::{Connecting, Draining, Ended, Leaving, Open};
    let unchanged = (phase, Nothing);
    match event {
        LinkEvent::Accepted => match phase {
            Connecting => (Open { stable: false, shedding: false }, Subscribe),
            Open { .. } | Draining | Leaving(_) | Ended(_) => unchanged,
        },
        LinkEvent::Lasted => match phase {
            Open { stable: false, shedding } => (Open { stable: true, shedding }, ClearFailures),
            Open { stable: true, .. } => (phase, ClearLoss),
            Connecting | Draining | Leaving(_) | Ended(_) => unchanged,
        },
        LinkEvent::NoRoom => match phase {
            Open { stable, .. } => (Open { stable, shedding: true }, Nothing),
            Connecting | Draining | Leaving(_) | Ended(_) => unchanged,
        },
        LinkEvent::CaughtUp => match phase {
            Open { shedding: true, .. } => (Leaving(ConnectionEnd::Shed), Leave),
            Connecting | Open { shedding: false, .. } | Draining | Leaving(_) | Ended(_) => unchanged,
        },
        LinkEvent::ReceiptDropped => match phase {
            Open { .. } => (Leaving(ConnectionEnd::Abandoned), Leave),
            Connecting | Draining | Leaving(_) | Ended(_) => unchanged,
        },
        LinkEvent::PipelineGone => match phase {
            Open { .. } => (Draining, ReportPipelineGone),
            Connecting | Draining | Leaving(_) | Ended(_) => unchanged,
        },
        LinkEvent::Stop => match phase {
            Connecting => (Ended(ConnectionEnd::Finished), CloseIntake),
            Open { .. } => (Draining, CloseIntake),
            Draining | Leaving(_) | Ended(_) => unchanged,
        },
        LinkEvent::Drained => match phase {
            Draining => (Leaving(ConnectionEnd::Finished), Leave),
            Connecting | Open { .. } | Leaving(_) | Ended(_) => unchanged,
        },
        LinkEvent::Broken(fault) => (Ended(end(phase, fault)), Nothing),
    }
}

/// The second table above.
fn end(phase: LinkPhase, fault: LinkFault) -> ConnectionEnd {
    match (phase, fault) {
        (LinkPhase::Leaving(end) | LinkPhase::Ended(end), _) => end,
        (_, LinkFault::Refused) => ConnectionEnd::Refused,
        (_, LinkFault::TakenOver) => ConnectionEnd::TakenOver,
        (LinkPhase::Open { stable: false, .. }, LinkFault::Aborted) => ConnectionEnd::CutShort,
        (LinkPhase::Connecting | LinkPhase::Open { stable: true, .. } | LinkPhase::Draining, LinkFault::Aborted)
        | (_, LinkFault::Other) => ConnectionEnd::Lost,
    }
}

impl LinkPhase {
    /// Whether this event changes anything now. The connection waits only for events that do.
    pub(super) fn heeds(self, event: LinkEvent) -> bool {
        step(self, event) != (self, LinkAction::Nothing)
    }

    /// Whether messages arrive.
    pub(super) const fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Whether QoS 1 messages are left with the broker.
    pub(super) const fn is_shedding(self) -> bool {
        matches!(self, Self::Open { shedding: true, .. })
    }
}

/// What went wrong before this attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AttemptStreak {
    /// Attempts in a row that did not lead to a stable connection.
    failures: u32,
    /// Young connections in a row that the broker closed without a reason.
    cut_short: u32,
}

/// The next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    /// How long to wait, before jitter.
    pub(super) pause: Duration,
    /// Another client uses our id, or seems to.
    pub(super) is_contested: bool,
}

impl AttemptStreak {
    /// The third table above.
    pub(super) fn after(self, end: ConnectionEnd) -> (Self, Retry) {
        let cut_short = self.cut_short.saturating_add(1);
        let is_contested = match end {
            ConnectionEnd::TakenOver => true,
            ConnectionEnd::CutShort => cut_short >= CONTESTED_AFTER,
            ConnectionEnd::Finished
            | ConnectionEnd::Setup
            | ConnectionEnd::Refused
            | ConnectionEnd::Lost
            | ConnectionEnd::Abandoned
            | ConnectionEnd::Shed => false,
        };
        let pause = match end {
            ConnectionEnd::Setup | ConnectionEnd::Refused => SLOW_BACKOFF.nominal(self.failures),
            ConnectionEnd::TakenOver | ConnectionEnd::CutShort if is_contested => CONTESTED_PAUSE,
            ConnectionEnd::TakenOver | ConnectionEnd::CutShort | ConnectionEnd::Lost | ConnectionEnd::Abandoned => {
                BACKOFF.nominal(self.failures)
            }
            ConnectionEnd::Shed | ConnectionEnd::Finished => Duration::ZERO,
        };
        let failures = self.failures.saturating_add(1);
        let streak = match end {
            ConnectionEnd::CutShort => Self { failures, cut_short },
            // A broker that does not answer was unavailable itself, so no other client can have taken over our id.
            ConnectionEnd::Lost => Self { failures, cut_short: 0 },
            ConnectionEnd::Setup | ConnectionEnd::Refused | ConnectionEnd::TakenOver | ConnectionEnd::Abandoned => {
                Self { failures, ..self }
            }
            ConnectionEnd::Shed | ConnectionEnd::Finished => self,
        };
        (streak, Retry { pause, is_contested })
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectionEnd::*, LinkAction::*, LinkPhase::*, *};

    const YOUNG: LinkPhase = Open { stable: false, shedding: false };
    const LASTING: LinkPhase = Open { stable: true, shedding: false };
    const YOUNG_SHEDDING: LinkPhase = Open { stable: false, shedding: true };
    const LASTING_SHEDDING: LinkPhase = Open { stable: true, shedding: true };
    const ENDS: [ConnectionEnd; 8] = [Finished, Setup, Refused, TakenOver, CutShort, Lost, Abandoned, Shed];

    /// The cell of an event that changes nothing.
    const NONE: Option<(LinkPhase, LinkAction)> = None;

    /// The first two tables of the module documentation: a row per event, a column per phase.
    #[test]
    fn every_cell_of_a_connections_life_is_as_drawn() {
        use LinkEvent::{Accepted, Broken, CaughtUp, Drained, Lasted, NoRoom, PipelineGone, ReceiptDropped, Stop};
        let phases = [Connecting, YOUNG, LASTING, YOUNG_SHEDDING, LASTING_SHEDDING, Draining];
        let to = |phase, action| Some((phase, action));
        let ended = |end| to(Ended(end), Nothing);
        let open = |cell| [NONE, cell, cell, cell, cell, NONE];
        let table = [
            (Accepted, [to(YOUNG, Subscribe), NONE, NONE, NONE, NONE, NONE]),
            (
                Lasted,
                [
                    NONE,
                    to(LASTING, ClearFailures),
                    to(LASTING, ClearLoss),
                    to(LASTING_SHEDDING, ClearFailures),
                    to(LASTING_SHEDDING, ClearLoss),
                    NONE,
                ],
            ),
            (NoRoom, [NONE, to(YOUNG_SHEDDING, Nothing), to(LASTING_SHEDDING, Nothing), NONE, NONE, NONE]),
            (CaughtUp, [NONE, NONE, NONE, to(Leaving(Shed), Leave), to(Leaving(Shed), Leave), NONE]),
            (ReceiptDropped, open(to(Leaving(Abandoned), Leave))),
            (PipelineGone, open(to(Draining, ReportPipelineGone))),
            (Stop, {
                let drains = to(Draining, CloseIntake);
                [to(Ended(Finished), CloseIntake), drains, drains, drains, drains, NONE]
            }),
            (Drained, [NONE, NONE, NONE, NONE, NONE, to(Leaving(Finished), Leave)]),
            (Broken(LinkFault::Refused), [ended(Refused); 6]),
            (Broken(LinkFault::TakenOver), [ended(TakenOver); 6]),
            (Broken(LinkFault::Aborted), [Lost, CutShort, Lost, CutShort, Lost, Lost].map(ended)),
            (Broken(LinkFault::Other), [ended(Lost); 6]),
        ];
        for (event, cells) in table {
            for (phase, expected) in phases.into_iter().zip(cells) {
                assert_eq!(step(phase, event), expected.unwrap_or((phase, Nothing)), "{phase:?} × {event:?}");
                assert_eq!(phase.heeds(event), expected.is_some(), "{phase:?} × {event:?}");
            }
            // Once the kind of end is decided, only the end itself has an effect, and it does not change the kind.
            for end in ENDS {
                let ends = matches!(event, Broken(_));
                let leaving = if ends { Ended(end) } else { Leaving(end) };
                assert_eq!(step(Leaving(end), event), (leaving, Nothing), "leaving for {end:?} × {event:?}");
                assert_eq!(step(Ended(end), event), (Ended(end), Nothing), "ended by {end:?} × {event:?}");
            }
        }
    }

    /// The third table.
    #[test]
    fn every_end_has_its_pause_and_its_place_in_the_streak() {
        let before = AttemptStreak { failures: 3, cut_short: 1 };
        let table = [
            (Finished, 0, false, (3, 1)),
            (Setup, 240, false, (4, 1)),
            (Refused, 240, false, (4, 1)),
            (TakenOver, 60, true, (4, 1)),
            (CutShort, 8, false, (4, 2)),
            (Lost, 8, false, (4, 0)),
            (Abandoned, 8, false, (4, 1)),
            (Shed, 0, false, (3, 1)),
        ];
        assert_eq!(table.map(|(end, ..)| end), ENDS);
        for (end, seconds, is_contested, (failures, cut_short)) in table {
            let expected = Retry { pause: Duration::from_secs(seconds), is_contested };
            assert_eq!(before.after(end), (AttemptStreak { failures, cut_short }, expected), "{end:?}");
        }
        let (streak, _) = before.after(CutShort);
        let contested = Retry { pause: CONTESTED_PAUSE, is_contested: true };
        assert_eq!(streak.after(CutShort), (AttemptStreak { failures: 5, cut_short: 3 }, contested));
        let slowest = AttemptStreak { failures: u32::MAX, cut_short: u32::MAX };
        assert_eq!(slowest.after(Setup).1.pause, Duration::from_secs(300));
        assert_eq!(slowest.after(Lost).1.pause, Duration::from_secs(60));
    }
}
